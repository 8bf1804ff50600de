"""What the tests need from the machine, seen to before anything else runs. It needs no package itself.

``python tests/needs.py`` finds a browser or installs one, and says how. What it cannot get is one line with the command
that installs it, and exit status 1.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

CHROMIUM_NAMES = (
    *("chromium", "chromium-browser", "chromium-freeworld", "ungoogled-chromium"),
    *("google-chrome", "google-chrome-stable", "chrome", "microsoft-edge", "microsoft-edge-stable"),
)
CHROMIUM_ON_MACOS = tuple(
    f"{home}/Applications/{name}.app/Contents/MacOS/{name}"
    for home in ("", str(Path.home()))
    for name in ("Chromium", "Google Chrome", "Google Chrome for Testing", "Microsoft Edge")
)
PLAYWRIGHT = ("-m", "playwright")
LIBRARIES = (sys.executable, *PLAYWRIGHT, "install-deps", "chromium")
BREW = "install --cask chromium"
ASK_PLAYWRIGHT = """
from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    print(playwright.chromium.executable_path)
"""
# The system's package managers: how each installs a package, and what keeps it from asking.
MANAGERS = {
    "apt-get": ("install", "-y -qq --no-install-recommends"),
    "dnf": ("install", "-y"),
    "pacman": ("-Sy", "--noconfirm"),
    "apk": ("add", ""),
    "zypper": ("install", "--no-confirm"),
}


def run(*command: str, seconds: float = 900) -> str | None:
    """Return what a command printed, or None if it failed, hung, or does not exist. It cannot ask anything."""
    # Where nothing answers, Playwright would wait half a minute for each of its tries.
    environment = {**os.environ, "PLAYWRIGHT_DOWNLOAD_CONNECTION_TIMEOUT": "5000"}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            env=environment,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def works(program: str) -> bool:
    """Tell whether a browser starts. Some only name the package that they lack; Playwright's may lack libraries."""
    return run(program, "--version", seconds=60) is not None


def playwrights_own() -> str | None:
    """Return where Playwright keeps its browser, if it has downloaded one."""
    path = (run(sys.executable, "-c", ASK_PLAYWRIGHT, seconds=60) or "").strip()
    return path if os.path.exists(path) else None


def find_chromium() -> str | None:
    """Return the path of a Chromium, or None. ``$CHROMIUM``, where it is set, is the only place looked at."""
    asked = os.environ.get("CHROMIUM")
    names = (asked,) if asked else (*CHROMIUM_NAMES, *CHROMIUM_ON_MACOS)
    found = next((path for path in map(shutil.which, names) if path and works(path)), None)
    if found or asked:
        return found
    own = playwrights_own()
    return own if own and works(own) else None


def as_root() -> list[str] | None:
    """Return what goes before a command that only root may give, or None where that takes a password."""
    if os.geteuid() == 0:
        return []
    return ["sudo", "-n"] if run("sudo", "-n", "true") is not None else None


def ways() -> Iterator[tuple[str, list[list[str]]]]:
    """Yield each way to a browser that this machine has, best first: what it is, and its commands."""
    yield "Playwright's own download", [[sys.executable, *PLAYWRIGHT, "install", "--no-shell", "chromium"]]
    if sys.platform == "darwin":
        if shutil.which("brew"):
            yield "brew", [["brew", *BREW.split()]]
        return
    root = as_root()
    if root is None:
        return
    for manager, (verb, flags) in MANAGERS.items():
        if shutil.which(manager):
            refresh = [[*root, manager, "update", "-qq"]] if manager == "apt-get" else []
            yield manager, [*refresh, [*root, manager, verb, *flags.split(), "chromium"]]
    if playwrights_own():
        yield "what Playwright's browser lacks of the system", [[*root, *LIBRARIES]]


def install_chromium() -> bool:
    """Try each way until a browser works; say what is done."""
    for what, commands in ways():
        print(f"make test needs a browser and finds none; trying {what} ...", flush=True)
        if all(run(*command) is not None for command in commands) and (found := find_chromium()):
            print(f"  installed: {found}", flush=True)
            return True
        print("  without success", flush=True)
    return False


def how_to_install(package: str) -> str:
    """Return the command that installs ``package`` on this kind of machine."""
    browser = package == "chromium"
    if sys.platform == "darwin":
        return f"brew {BREW}" if browser else f"brew install {package}"
    if browser and playwrights_own():
        return f"sudo {' '.join(LIBRARIES)}"
    manager = next(filter(shutil.which, MANAGERS), "apt-get")
    return f"sudo {manager} {MANAGERS[manager][0]} {package}"


def missing() -> list[str]:
    """Return one line for each thing that is not here and cannot be installed from here."""
    lines = []
    if not shutil.which("git"):
        lines.append(f"git is missing; install it: {how_to_install('git')}")
    asked, found = os.environ.get("CHROMIUM"), find_chromium()
    if asked and not found:
        lines.append(
            f"CHROMIUM={asked} is not a browser; set it to the path of a Chromium or Chrome, or unset it"
        )
    elif not found and not install_chromium():
        lines.append(
            f"a browser is missing; install one: {how_to_install('chromium')}"
            " (or set CHROMIUM to the path of a Chromium or Chrome)"
        )
    return lines


def main() -> int:
    """Print what is missing; return the exit status."""
    lines = missing()
    for line in lines:
        print(f"make test needs: {line}", file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
