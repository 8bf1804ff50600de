import contextlib
import fcntl
import json
import subprocess
import sys
import threading
import time

import pytest

from one_step_trap.book import build


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder, where Snakemake is only said to have run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pretend(monkeypatch, status, then=lambda: None):
    calls = []

    def snakemake(targets, options=()):
        calls.append((list(targets), list(options)))
        then()
        return status

    monkeypatch.setattr(build, "snakemake", snakemake)
    return calls


def test_the_start_page_is_printed(folder, monkeypatch, capsys):
    def built():
        (folder / "_build/site.json").write_text(json.dumps({"start": "_build/html/index.html"}))

    calls = pretend(monkeypatch, 0, built)
    build.book()
    assert calls == [(["book"], [])]
    assert capsys.readouterr().out == f"The book is built. Start page: {folder}/_build/html/index.html\n"


def test_a_failure_says_which_build_is_still_good(folder, monkeypatch):
    pretend(monkeypatch, 1)
    with pytest.raises(SystemExit) as caught:
        build.book()
    assert caught.value.code == "make book: stopped, see the error above."
    (folder / "_build/html").mkdir()
    (folder / "_build/html/index.html").touch()
    with pytest.raises(SystemExit) as caught:
        build.book()
    assert str(caught.value.code).endswith("The last good build is still at _build/html/index.html.")


def test_a_removed_site_is_built_again(folder, monkeypatch):
    (folder / "_build").mkdir()
    stamp = folder / "_build/site.json"
    stamp.write_text("{}")
    seen = []
    pretend(monkeypatch, 1, lambda: seen.append(stamp.exists()))
    with pytest.raises(SystemExit):
        build.book()
    assert seen == [False]


def test_sweeps_by_name(folder, monkeypatch):
    calls = pretend(monkeypatch, 0)
    for study in (["02/a", "02/b"], None):
        with pytest.raises(SystemExit) as caught:
            build.sweep(study)
        assert caught.value.code == 0
    assert calls == [(["sweep"], ["--config", "study=02/a,02/b"]), (["sweep"], [])]


def test_a_second_build_waits_and_says_so(tmp_path, capsys):
    order = []

    def second():
        with build.only_one(tmp_path):
            order.append("second")

    with build.only_one(tmp_path):
        other = threading.Thread(target=second)
        other.start()
        other.join(0.2)
        assert other.is_alive()
        order.append("first")
    other.join(10)
    assert order == ["first", "second"]
    assert "another build is running in this folder; waiting for it" in capsys.readouterr().err


def test_a_build_that_broke_off_lets_go(tmp_path):
    with contextlib.suppress(RuntimeError), build.only_one(tmp_path):
        raise RuntimeError
    start = time.monotonic()
    with build.only_one(tmp_path):
        assert time.monotonic() - start < 5


def test_the_lock_is_held_as_long_as_a_child_of_a_killed_build_runs(tmp_path):
    with build.only_one(tmp_path):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"], close_fds=False)
    # Our own hold is over; the child that inherited the lock still has it.
    try:
        with (tmp_path / "lock").open("w") as stream, pytest.raises(BlockingIOError):
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        child.kill()
        child.wait()
    with (tmp_path / "lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_damaged_sources_are_named(tmp_path, capsys):
    (tmp_path / "_toc.yml").write_text("root: chapters/index\nparts: [broken")
    build.explain(tmp_path)
    assert "the sources of the book cannot be read" in capsys.readouterr().err


def test_a_page_that_was_removed_makes_the_build_incomplete(tmp_path):
    html = tmp_path / "html/index.html"
    html.parent.mkdir()
    html.touch()
    stamp = tmp_path / "site.json"
    stamp.write_text('{"pages": ["ledger"]}')
    assert not build.complete(stamp, html)
    (html.parent / "ledger.html").touch()
    assert build.complete(stamp, html)


def test_a_build_without_a_change_imports_little():
    """What runs before Snakemake can tell that nothing is to be done."""
    heavy = "{'matplotlib', 'pandas', 'papermill', 'scipy', 'torch'}"
    code = (
        f"import sys; from one_step_trap.book import build, plan, studies; print({heavy} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
