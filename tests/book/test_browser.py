"""The built pages in a real browser: headless Chromium, served from this machine and opened as files."""

import http.server
import re
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import CHAPTERS
from playwright.sync_api import Page

from one_step_trap.trap import regimes

pytestmark = [pytest.mark.book, pytest.mark.browser]

DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
WAIT = 30_000  # milliseconds; a loaded machine is slow

# Whether the mathematics of the page has been set. (MathJax is absent where no formula is.)
MATH_IS_SET = """() => !document.querySelector('script[src*="mathjax"]')
  || (window.MathJax && MathJax.startup && MathJax.startup.promise
      && MathJax.startup.promise.then(() => true))"""

# Down the page, for what is drawn when it is seen, and back to where nothing lies below the header. At once: a key scrolls
# smoothly, and what is looked at meanwhile is looked at wherever the page happens to be.
DOWN_AND_UP = """async () => {
  const frame = () => new Promise(requestAnimationFrame);
  for (const top of [document.documentElement.scrollHeight, 0]) {
    window.scrollTo({top, behavior: "instant"});
    await frame(); await frame();
  }
}"""

LOOK = (Path(__file__).parent / "look.js").read_text(encoding="utf-8")


class Watched:
    """A page of the book that was opened, and everything that went wrong on it."""

    def __init__(self, context, url: str, home: str) -> None:
        self.errors: list[str] = []
        self.foreign: list[str] = []
        self.failed: list[str] = []
        self.home = home
        self.page: Page = context.new_page()
        self.page.set_default_timeout(WAIT)
        self.page.on("console", self.heard)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("requestfailed", lambda request: self.failed.append(f"{request.url}: {request.failure}"))
        self.page.on(
            "response", lambda r: self.failed.append(f"{r.url}: {r.status}") if r.status >= 400 else None
        )
        self.page.route("**/*", self.only_from_here)
        self.page.goto(url, wait_until="load", timeout=WAIT)
        self.page.wait_for_function(MATH_IS_SET)
        for _ in range(self.page.locator(".ost-play").count()):
            self.page.wait_for_selector('.ost-play[data-ready="true"]')
        self.page.wait_for_timeout(100)  # the page's own script looks at widths once formulas are set

    def heard(self, message) -> None:
        if message.type in {"error", "warning"}:
            self.errors.append(f"{message.type}: {message.text}")

    def only_from_here(self, route) -> None:
        if route.request.url.startswith((self.home, "data:", "blob:")):
            route.continue_()
        else:
            self.foreign.append(route.request.url)
            route.abort()

    def complaints(self) -> dict[str, list[str]]:
        found = {"errors": self.errors, "foreign": self.foreign, "failed": self.failed}
        return {kind: what for kind, what in found.items() if what}


@pytest.fixture(scope="session")
def server(built_book):
    """The address at which the book is served, on this machine only."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_) -> None:
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(built_book))
    ) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()


@pytest.fixture
def visit(browser, server):
    """Open a page of the book: ``visit(page, viewport=..., color_scheme=...)``."""
    contexts = []

    def open_page(page: str, **options) -> Watched:
        context = browser.new_context(**{"viewport": DESKTOP, "color_scheme": "light", **options})
        contexts.append(context)
        return Watched(context, f"{server}/{page}.html", server)

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def opened(browser, server):
    """Open a page as on a desk, or return it as the last test left it: for tests that do not mind."""
    pages: dict[str, Watched] = {}

    def get(page: str) -> Watched:
        if page not in pages:
            pages[page] = Watched(browser.new_context(**WAYS["light"]), f"{server}/{page}.html", server)
        return pages[page]

    return get


@dataclass(frozen=True)
class Report:
    """What was found on one page, opened in one way."""

    complaints: dict[str, list[str]]
    theme: str
    violations: list[str]
    formulas: int
    set_formulas: int
    bad_formulas: int
    prose: str
    unreachable: list[str]
    too_wide: dict[str, Any]
    texts: list[dict[str, Any]]


# On a desk in daylight, on a phone in the dark, and from a file.
WAYS: dict[str, dict[str, Any]] = {
    "light": {"viewport": DESKTOP, "color_scheme": "light"},
    "phone": {"viewport": PHONE, "color_scheme": "dark", "is_mobile": True, "has_touch": True},
    "file": {"viewport": DESKTOP, "color_scheme": "light"},
}


# The rules of axe-core for each way; None means all. A dark page differs in its colours only, a phone in what scrolls.
AXE = {"light": None, "phone": ["color-contrast", "scrollable-region-focusable", "target-size"]}


def serious(page: Page, rules: list[str] | None = None) -> list[str]:
    """What axe-core calls serious or critical."""
    # Only violations are listed, and style sheets are not fetched again: both make it quicker.
    options = {"resultTypes": ["violations"], "preload": False, **({"runOnly": rules} if rules else {})}
    page.evaluate("look.shorten()")
    response = Axe().run(page, options=options).response
    found = [v for v in response["violations"] if v["impact"] in {"serious", "critical"}]
    return [f"{v['id']}: {v['help']}: {[node['html'][:120] for node in v['nodes'][:4]]}" for v in found]


@pytest.fixture(scope="session")
def report(browser, server, built_book):
    """Return what is found on a page opened in one of ``WAYS``; each is opened once and left as it is."""
    reports: dict[tuple[str, str], Report] = {}

    def look_at(name: str, way: str) -> Report:
        home = built_book.as_uri() if way == "file" else server
        context = browser.new_context(**WAYS[way])
        watched = Watched(context, f"{home}/{name}.html", home)
        page = watched.page
        page.evaluate(LOOK)
        page.evaluate(DOWN_AND_UP)
        found = Report(
            theme=page.locator("html").get_attribute("data-theme") or "",
            formulas=page.locator("article .math").count(),
            set_formulas=page.locator("article mjx-container").count(),
            bad_formulas=page.locator("mjx-merror, [data-mjx-error]").count(),
            prose=page.evaluate("look.prose()"),
            unreachable=page.evaluate("look.unreachable()"),
            too_wide=page.evaluate("look.tooWide()"),
            texts=page.evaluate("look.figureTexts()"),
            complaints=watched.complaints(),
            violations=serious(page, AXE[way]) if way in AXE else [],  # last: it shortens the page
        )
        context.close()
        return found

    def get(name: str, way: str) -> Report:
        if (name, way) not in reports:
            reports[name, way] = look_at(name, way)
        return reports[name, way]

    return get


@pytest.mark.parametrize("way", WAYS)
def test_no_error_and_nothing_from_elsewhere(report, page, way):
    assert report(page, way).complaints == {}


@pytest.mark.parametrize("way", ["light", "file"])
def test_mathematics_is_set(report, page, way):
    found = report(page, way)
    assert found.set_formulas >= found.formulas
    assert found.bad_formulas == 0
    assert not re.search(r"\\\(|\\\[|\$\$|\\(frac|gamma|sum|mathbb|begin)\b", found.prose)


@pytest.mark.parametrize("name", [*CHAPTERS, "notation"])
def test_mathematics_is_on_the_pages_that_need_it(report, name):
    assert report(f"chapters/{name}", "light").set_formulas > 5


@pytest.mark.parametrize("way", AXE)
def test_accessible(report, page, way):
    found = report(page, way)
    assert found.theme == {"light": "light", "phone": "dark"}[way]
    assert found.violations == []


@pytest.mark.parametrize("way", AXE)
def test_the_texts_of_figures_stand_out(report, page, way):
    assert [text for text in report(page, way).texts if text["contrast"] < 3] == []


def test_the_texts_of_figures_can_be_read_on_a_phone(report, page):
    assert [text for text in report(page, "phone").texts if text["pixels"] < 8] == []


def test_nothing_is_wider_than_a_phone(report, page):
    assert report(page, "phone").too_wide == {"pixels": 0, "elements": []}


@pytest.mark.parametrize("way", ["light", "phone"])
def test_what_scrolls_can_be_reached_by_keyboard(report, page, way):
    assert report(page, way).unreachable == []


def test_the_start_page_leads_to_the_title_page(visit):
    opened = visit("index").page
    opened.wait_for_url("**/chapters/index.html")
    assert opened.locator("h1").first.inner_text().startswith("The one-step trap")


def test_search_finds_without_a_network(visit):
    watched = visit("search")
    watched.page.goto(f"{watched.home}/search.html?q=horizon")
    watched.page.wait_for_selector("#search-results li a")
    assert (
        watched.page.locator("#search-results li a").first.get_attribute("href").endswith(("html", "horizon"))
    )
    assert watched.complaints() == {}


# --- figures to play with ---------------------------------------------------------------------------------


def readings(page: Page, figure: str) -> dict[str, str]:
    """Return what a figure says in words: its outputs by signal, and the sentence of a figure that tells a story."""
    said = page.locator(f"#{figure} .ost-say").all_inner_texts()
    return {"say": " ".join(said)} | {
        output.get_attribute("data-signal"): output.inner_text()
        for output in page.locator(f"#{figure} output[data-signal]").all()
    }


def drawing(page: Page, figure: str) -> str:
    return str(page.locator(f"#{figure} svg").evaluate_all("all => all.map(svg => svg.outerHTML).join()"))


def test_each_chapter_has_a_figure_to_play_with(opened, chapter):
    assert opened(f"chapters/{chapter}").page.locator("figure .ost-play input[type=range]").count() >= 1


def test_figures_react_to_the_keyboard_and_to_the_pointer(opened, chapter):
    watched = opened(f"chapters/{chapter}")
    page = watched.page
    for figure in page.locator(".ost-play").evaluate_all("all => all.map(e => e.id)"):
        for slider in page.locator(f"#{figure} input[type=range]").all():
            slider.scroll_into_view_if_needed()
            before = readings(page, figure), drawing(page, figure)
            said = slider.get_attribute("aria-valuetext")
            slider.focus()
            for _ in range(20):
                page.keyboard.press("ArrowRight")
            page.wait_for_timeout(200)
            after = readings(page, figure), drawing(page, figure)
            assert after[0] != before[0]
            assert after[1] != before[1]
            assert said is None or slider.get_attribute("aria-valuetext") != said
            box = slider.bounding_box()
            page.mouse.click(box["x"] + 0.2 * box["width"], box["y"] + box["height"] / 2)
            page.wait_for_timeout(200)
            assert drawing(page, figure) != after[1]
    assert watched.complaints() == {}


@pytest.mark.parametrize("gamma", [0.9, 0.99, 0.999])
def test_the_discount_figure_shows_the_right_numbers(opened, gamma):
    """What the browser computes, against Python. The slider holds the logarithm of the effective horizon."""
    page = opened("chapters/02-discounting").page
    slider = page.locator('#play-discount input[data-signal="look"]')
    slider.fill({0.9: "1", 0.99: "2", 0.999: "3"}[gamma])
    page.wait_for_timeout(200)
    shown = readings(page, "play-discount")
    assert float(shown["g_text"]) == pytest.approx(gamma, abs=1e-5)
    assert float(re.sub(r"[^\d.]", "", shown["horizon_text"])) == pytest.approx(1 / (1 - gamma), rel=1e-6)
    for steps in (500, 1_000, 1_300):
        assert float(shown[f"left_{steps}"]) == pytest.approx(gamma**steps, rel=6e-3)
    half = int(re.sub(r"\D", "", shown["half_text"]))
    assert gamma**half <= 0.5 + 1e-9 < gamma ** (half - 1)
    if gamma == 0.99:
        assert (shown["left_500"], shown["half_text"], shown["horizon_text"]) == (
            "6.57e-3",
            "69 steps",
            "100 steps",
        )


def test_the_figure_begins_where_the_chapter_does(visit):
    shown = readings(visit("chapters/02-discounting").page, "play-discount")
    assert shown["left_500"] == "6.57e-3"
    assert float(shown["g_text"]) == pytest.approx(0.99)


def test_a_figure_to_play_with_is_redrawn_for_a_phone(visit):
    page = visit("chapters/02-discounting", viewport=PHONE, is_mobile=True, has_touch=True).page
    box = page.locator("#play-discount .ost-plot svg").bounding_box()
    assert 250 < box["width"] <= 390
    slider = page.locator("#play-discount input[type=range]").bounding_box()
    assert slider["height"] >= 24  # WCAG 2.5.8


@pytest.mark.parametrize("regime", ["mixing", "leak", "drift", "expansive"])
def test_the_figure_of_the_regimes_shows_the_right_numbers(opened, regime):
    """What the browser computes for each regime at an error of 0.01, against Python's closed forms."""
    page = opened("chapters/01-one-step-trap").page
    page.locator(f'#play-regimes input[type=radio][value="{regime}"]').check()
    page.locator('#play-regimes input[data-signal="look"]').fill("-2")
    page.wait_for_timeout(200)
    shown = readings(page, "play-regimes")
    error = {
        "mixing": regimes.two_state_error,
        "leak": regimes.leak_error,
        "drift": regimes.gaussian_drift_error,
        "expansive": regimes.clipped_error,
    }[regime]
    for n in (1, 10, 100, 1_000, 10_000):
        assert float(shown[f"error_{n}"]) == pytest.approx(error(0.01, [n])[0], rel=6e-3), n


# --- the theme --------------------------------------------------------------------------------------------


def test_launch_buttons_point_at_the_chapter(opened, chapter):
    links = opened(f"chapters/{chapter}").page.locator("a[href]").evaluate_all("all => all.map(a => a.href)")
    binder = [link for link in links if link.startswith("https://mybinder.org/v2/gh/")]
    colab = [link for link in links if link.startswith("https://colab.research.google.com/github/")]
    assert len(binder) == len(colab) == 1
    assert f"chapters/{chapter}.ipynb" in binder[0]
    assert "urlpath=lab/tree" in binder[0] or "labpath=" in binder[0]
    assert colab[0].endswith(f"/blob/main/chapters/{chapter}.ipynb")


def test_solutions_open_when_asked(opened, chapter):
    page = opened(f"chapters/{chapter}").page
    solution = page.locator("div.solution").first
    text = solution.locator("p:not(.admonition-title)").first
    assert not text.is_visible()
    solution.scroll_into_view_if_needed()
    solution.locator("button, .admonition-title, summary").first.click()
    text.wait_for(state="visible")


def test_the_source_of_a_figure_is_one_click_away(visit, chapter):
    page = visit(f"chapters/{chapter}").page
    link = page.locator(".ost-source a").first
    name = link.inner_text().split(".")[-1]
    link.click()
    page.wait_for_url(re.compile(r"/_modules/.*#"))
    target = page.locator(f"[id='{name}']")
    assert f"def {name}" in target.inner_text()


def test_a_page_is_printed_without_the_theme_around_it(opened, chapter):
    page = opened(f"chapters/{chapter}").page
    page.emulate_media(media="print")
    assert page.locator("h1:visible").count() == 1
    assert page.locator("article p").first.is_visible()
    assert not page.locator(".bd-sidebar-primary").first.is_visible()
    page.emulate_media(media="screen")


def test_pages_tell_a_phone_their_width(built_book, page):
    html = (built_book / f"{page}.html").read_text(encoding="utf-8")
    assert re.search(r'<meta name="viewport" content="width=device-width', html)
