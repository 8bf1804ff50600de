import os
import subprocess
import sys

import needs
import pytest

PLAYWRIGHT = "python -m playwright install --no-shell chromium"
APT = ["apt-get update -qq", "apt-get install -y -qq --no-install-recommends chromium"]


class Machine:
    """A machine with nothing on it but the programs that are put there; it keeps a log of those that ran."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.monkeypatch = folder, monkeypatch
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.delenv("CHROMIUM", raising=False)
        monkeypatch.setattr(needs, "CHROMIUM_ON_MACOS", ())
        monkeypatch.setattr(sys, "executable", self.has("python", asked="/nowhere"))
        monkeypatch.setattr(needs, "LIBRARIES", (sys.executable, *needs.LIBRARIES[1:]))
        self.kind("linux", root=True)

    def kind(self, system, root):
        self.monkeypatch.setattr(sys, "platform", system)
        self.monkeypatch.setattr(os, "geteuid", lambda: 0 if root else 1000)

    def has(self, name, *, fails=False, brings=None, asked=None):
        """Put a program there: it may fail, leave a browser of some name, or say where Playwright keeps its own."""
        path = self.folder / name
        answer = f'[ "$1" = -c ] && {{ echo "{asked}"; exit 0; }}' if asked else ""
        # A package list is only read anew: the browser comes with the second command.
        made = (
            f'[ "$2" = -qq ] || {{ echo "#!/bin/sh" > {brings}; /bin/chmod +x {brings}; }}' if brings else ""
        )
        log = f'echo "{name} $*" >> {self.folder}/log'
        path.write_text(f"#!/bin/sh\n{answer}\n{log}\n{made}\nexit {int(fails)}\n")
        path.chmod(0o755)
        return str(path)

    def sudo(self, *, asks_password):
        path = self.folder / "sudo"
        path.write_text(f'#!/bin/sh\necho "sudo $*" >> {self.folder}/log\nshift\n')
        path.open("a").write("exit 1\n" if asks_password else 'exec "$@"\n')
        path.chmod(0o755)
        self.has("true")

    def log(self):
        path = self.folder / "log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.replace(f"{self.folder}/", "") for line in lines if "--version" not in line]


@pytest.fixture
def machine(monkeypatch, tmp_path):
    return Machine(tmp_path, monkeypatch)


@pytest.mark.parametrize("name", needs.CHROMIUM_NAMES)
def test_where_a_browser_is_nothing_is_tried(machine, name, capsys):
    machine.has("apt-get")
    machine.has("git")
    path = machine.has(name)
    assert needs.find_chromium() == path
    assert needs.main() == 0
    assert machine.log() == []
    assert capsys.readouterr() == ("", "")


def test_playwrights_download_comes_first_and_the_next_run_finds_it(machine, capsys):
    machine.has("git")
    machine.has("apt-get", brings=machine.folder / "chromium")
    own = machine.folder / "cache/chrome"
    own.parent.mkdir()
    machine.has("python", brings=own, asked=own)
    assert needs.main() == 0
    assert machine.log() == [PLAYWRIGHT]
    assert f"trying Playwright's own download ...\n  installed: {own}\n" in capsys.readouterr().out
    assert needs.main() == 0
    assert machine.log() == [PLAYWRIGHT]
    assert capsys.readouterr() == ("", "")


def test_then_the_systems_package_manager(machine, capsys):
    machine.has("git")
    machine.has("python", fails=True, asked="/nowhere")
    machine.has("apt-get", brings=machine.folder / "chromium")
    assert needs.main() == 0
    assert machine.log() == [PLAYWRIGHT, *APT]
    assert capsys.readouterr().out.splitlines() == [
        "make test needs a browser and finds none; trying Playwright's own download ...",
        "  without success",
        "make test needs a browser and finds none; trying apt-get ...",
        f"  installed: {machine.folder}/chromium",
    ]


@pytest.mark.parametrize(
    ("manager", "command"),
    [
        ("dnf", "dnf install -y chromium"),
        ("pacman", "pacman -Sy --noconfirm chromium"),
        ("apk", "apk add chromium"),
        ("zypper", "zypper install --no-confirm chromium"),
    ],
)
def test_other_systems_have_other_managers(machine, manager, command):
    machine.has("python", fails=True, asked="/nowhere")
    machine.has(manager, brings=machine.folder / "chromium")
    assert needs.install_chromium()
    assert machine.log() == [PLAYWRIGHT, command]


def test_with_sudo_where_it_takes_no_password(machine):
    machine.kind("linux", root=False)
    machine.has("python", fails=True, asked="/nowhere")
    machine.has("dnf", brings=machine.folder / "chromium")
    machine.sudo(asks_password=False)
    assert needs.install_chromium()
    assert [line for line in machine.log() if line.startswith("sudo")] == [
        "sudo -n true",
        "sudo -n dnf install -y chromium",
    ]


@pytest.mark.parametrize("sudo", [True, False])
def test_without_the_right_to_install_it_names_the_command(machine, sudo, capsys):
    machine.kind("linux", root=False)
    machine.has("git")
    machine.has("python", fails=True, asked="/nowhere")
    machine.has("apt-get")
    if sudo:
        machine.sudo(asks_password=True)
    assert needs.main() == 1
    assert machine.log() == [PLAYWRIGHT, *(["sudo -n true"] if sudo else [])]
    assert capsys.readouterr().err == (
        "make test needs: a browser is missing; install one: sudo apt-get install chromium"
        " (or set CHROMIUM to the path of a Chromium or Chrome)\n"
    )


def test_when_every_way_fails_it_names_the_command(machine, capsys):
    machine.has("git")
    machine.has("python", fails=True, asked="/nowhere")
    machine.has("dnf")  # all went well, it says, but there is no browser
    machine.has("zypper", fails=True)
    assert needs.main() == 1
    assert len(machine.log()) == 3
    assert "install one: sudo dnf install chromium (or" in capsys.readouterr().err


def test_a_browser_that_does_not_start_is_none(machine, capsys):
    """Ubuntu's chromium-browser only names another package; Playwright's browser may lack libraries of the system."""
    own = machine.folder / "cache/chrome"
    own.parent.mkdir()
    machine.has("cache/chrome", fails=True)
    machine.has("chromium-browser", fails=True)
    machine.has("python", asked=own)
    assert not needs.install_chromium()
    assert machine.log() == [PLAYWRIGHT, "python -m playwright install-deps chromium"]
    assert needs.how_to_install("chromium") == f"sudo {sys.executable} -m playwright install-deps chromium"


def test_on_macos_it_is_brew(machine, capsys):
    machine.kind("darwin", root=False)
    machine.has("python", fails=True, asked="/nowhere")
    machine.has("brew", fails=True)
    assert needs.main() == 1
    assert machine.log() == [PLAYWRIGHT, "brew install --cask chromium"]
    git, browser = capsys.readouterr().err.splitlines()
    assert git == "make test needs: git is missing; install it: brew install git"
    assert "install one: brew install --cask chromium (or" in browser


def test_the_variable_decides(machine):
    machine.has("git")
    machine.has("chromium")
    mine = machine.has("mine")
    machine.monkeypatch.setenv("CHROMIUM", mine)
    assert needs.find_chromium() == mine
    machine.monkeypatch.setenv("CHROMIUM", "/nowhere/chrome")
    assert needs.missing() == [
        "CHROMIUM=/nowhere/chrome is not a browser; set it to the path of a Chromium or Chrome, or unset it"
    ]
    assert machine.log() == []


def test_a_command_that_hangs_or_is_not_there_is_given_up():
    assert needs.run("sleep", "30", seconds=0.1) is None
    assert needs.run("no-such-program") is None


def test_it_runs_with_nothing_installed(root):
    """-S -E: no site-packages, so an import of anything of ours would fail."""
    run = subprocess.run(
        [sys.executable, "-S", "-E", str(root / "tests/needs.py")],
        env={"PATH": os.environ["PATH"], "CHROMIUM": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
