import os
import re
import shutil
import subprocess

import pytest
import yaml
from notebooks import notebook

from one_step_trap.book import site
from one_step_trap.book.machine import machine
from one_step_trap.errors import BookError


@pytest.fixture
def book(tmp_path):
    """A book of one page and one chapter that was executed elsewhere."""
    (tmp_path / "chapters/_static").mkdir(parents=True)
    (tmp_path / "chapters/index.md").write_text("# Title\n")
    (tmp_path / "chapters/_static/book.css").write_text("p {}\n")
    notebook(tmp_path / "chapters/90-alpha.ipynb", "x = 1")
    notebook(tmp_path / "chapters/91-draft.ipynb", "not = 'in the book'")
    notebook(tmp_path / "executed/90-alpha.ipynb", "x = 1  # executed")
    toc = {"format": "jb-book", "root": "chapters/index", "chapters": [{"file": "chapters/90-alpha"}]}
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump(toc))
    config = {"title": "Größe", "execute": {"execute_notebooks": "force", "timeout": 900}}
    (tmp_path / "_config.yml").write_text(yaml.safe_dump(config))
    return tmp_path


def html(folder, text):
    """A built site of one page."""
    (folder / "chapters").mkdir(parents=True, exist_ok=True)
    (folder / "index.html").write_text(text)
    return folder


def test_the_staged_book_has_executed_chapters_and_execution_off(book):
    folder = book / "_build/book"
    (folder / "_build").mkdir(parents=True)
    (folder / "_build/stale").touch()
    site.stage(book, book / "executed", folder)
    assert "# executed" in (folder / "chapters/90-alpha.ipynb").read_text()
    assert not (folder / "chapters/91-draft.ipynb").exists()
    assert (folder / "chapters/_static/book.css").exists()
    assert not (folder / "_build").exists()  # no doctree of an earlier, failed build
    config = yaml.safe_load((folder / "_config.yml").read_text())
    assert config == {"title": "Größe", "execute": {"execute_notebooks": "off", "timeout": 900}}
    original = yaml.safe_load((book / "_config.yml").read_text())
    assert original["execute"]["execute_notebooks"] == "force"


def test_every_page_must_be_there(book):
    built = html(book / "html", "start")
    (built / "chapters/index.html").touch()
    with pytest.raises(BookError, match=r"the build lacks pages: chapters/90-alpha$"):
        site.check_pages(book, built)
    (built / "chapters/90-alpha.html").touch()
    site.check_pages(book, built)
    (built / "index.html").unlink()
    with pytest.raises(BookError, match=r"the build lacks pages: index\.html"):
        site.check_pages(book, built)


def test_publishing_replaces_the_link(tmp_path):
    target = tmp_path / "_build/html"
    site.publish(html(tmp_path / "a", "first"), target)
    first = target.resolve()
    assert target.is_symlink()
    assert not os.path.isabs(os.readlink(target))  # the folder of the book may be moved
    assert (target / "index.html").read_text() == "first"
    site.publish(html(tmp_path / "b", "second"), target)
    assert (target / "index.html").read_text() == "second"
    assert target.resolve() != first
    assert [path.name for path in (tmp_path / "_build/sites").iterdir()] == [target.resolve().name]


def test_publishing_over_a_build_by_hand(tmp_path):
    target = tmp_path / "_build/html"
    html(target, "by hand")
    site.publish(html(tmp_path / "a", "ours"), target)
    assert target.is_symlink()
    assert (target / "index.html").read_text() == "ours"


@pytest.mark.parametrize("step", ["copytree", "replace", "symlink", "rmtree"])
def test_killed_while_publishing(tmp_path, monkeypatch, step):
    """Whichever step is cut short: the whole old site or the whole new one is served; the next one works."""
    target = tmp_path / "_build/html"
    site.publish(html(tmp_path / "a", "old"), target)

    def killed(*arguments, **_):
        if step == "copytree":  # half of the files are there
            html(tmp_path / "_build/sites/new", "half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        owner = {"copytree": shutil, "replace": os, "symlink": site.Path, "rmtree": shutil}[step]
        patch.setattr(owner, {"symlink": "symlink_to"}.get(step, step), killed)
        with pytest.raises(KeyboardInterrupt):
            site.publish(html(tmp_path / "b", "new"), target)
    assert (target / "index.html").read_text() in {"old", "new"}
    site.publish(html(tmp_path / "c", "newer"), target)
    assert (target / "index.html").read_text() == "newer"
    assert len(list((tmp_path / "_build/sites").iterdir())) == 1


def test_a_build_that_fails_publishes_nothing(book, monkeypatch):
    target = book / "_build/html"
    site.publish(html(book / "a", "the last good one"), target)
    benchmarks = book / "benchmarks"
    benchmarks.mkdir()
    (benchmarks / "90-alpha.tsv").write_text("s\tmax_rss\n8.41\tNA\n")
    monkeypatch.chdir(book)
    for fault in ("exit 3", "echo 'x.md:1: WARNING: document is odd'", "true"):  # the last one builds no page
        program = book / "bin/python"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{fault}\n")
        program.chmod(0o755)
        monkeypatch.setattr(site.sys, "executable", str(program))
        with pytest.raises(SystemExit, match=r"^error: "):
            site.main(
                book / "executed",
                benchmarks,
                target,
                book / "_build/site.json",
                book / "_build/logs/site.log",
            )
        assert (target / "index.html").read_text() == "the last good one"
        assert not (book / "_build/site.json").exists()


def test_the_record_of_the_build(book, tmp_path):
    benchmarks = tmp_path / "benchmarks"
    benchmarks.mkdir()
    (benchmarks / "90-alpha.tsv").write_text("s\th:m:s\tmax_rss\n8.4123\t0:00:08\t-\n")
    record = site.status(book, benchmarks)
    assert record["chapters"] == [{"chapter": "90-alpha", "seconds": 8.4, "memory_mb": None}]
    assert record["commit"] == "not in a git repository"
    assert set(record["versions"]) == set(site.SHOWN_PACKAGES)
    assert record["machine"] == machine()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with one commit, of one file."""
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "x").write_text("1")
    for arguments in (["init", "-q"], ["add", "x"], ["commit", "-q", "-m", "one"]):
        who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True)
    return folder


def test_the_commit_says_when_files_differ_from_it(repository):
    clean = site.commit(repository)
    assert re.fullmatch("[0-9a-f]{10}", clean)
    (repository / "x").write_text("2")
    assert site.commit(repository) == f"{clean} with changes"


def test_the_commit_is_that_of_our_own_repository(repository, tmp_path, monkeypatch):
    """Not of one around a copy of the book, nor of one that the environment names (as git does while it runs a hook)."""
    (repository / "book").mkdir()
    assert site.commit(repository / "book") == "not in a git repository"
    monkeypatch.setenv("GIT_DIR", str(repository / ".git"))
    assert site.commit(tmp_path) == "not in a git repository"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away")
def test_a_repository_of_another_owner_has_a_commit_too(repository):
    """As a container sees a folder that is mounted from outside."""
    mine = site.commit(repository)
    for path in (repository, *repository.rglob("*")):
        os.chown(path, 65534, 65534)
    assert site.commit(repository) == mine


def test_without_a_commit_or_without_git_there_is_none_to_name(repository, tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q", str(tmp_path / "new")], check=True)
    assert site.commit(tmp_path / "new") == "not in a git repository"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert site.commit(repository) == "unknown, as git is not installed"
