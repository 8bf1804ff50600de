"""The browser of the tests: the one that ``needs.py`` finds, headless, driven by Playwright."""

from collections.abc import Iterator
from contextlib import contextmanager

from needs import find_chromium
from playwright.sync_api import Browser, sync_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]


@contextmanager
def opened() -> Iterator[Browser]:
    """Open the browser; only one may be open at a time in a process."""
    program = find_chromium()
    assert program, "no browser: run `python tests/needs.py` to see what installs it"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield chromium
        chromium.close()
