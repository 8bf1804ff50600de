"""The book's style sheet by itself, in headless Chromium: on paper, and in a window of 320 pixels."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

CSS = Path(__file__).parents[2] / "chapters/_static/book.css"
NAME = "one_step_trap.discounting.planning.estimate_model_from_all_trajectories"
# What the theme says that matters here: its colours in dark mode, and code that does not break.
THEME = """
html[data-theme="dark"] { --pst-color-background: #121212; --pst-color-text-base: #ced6dd; --pst-color-surface: #29313d;
  --pst-color-text-muted: #9ca4af; --pst-color-inline-code: #f3c7ee; --pst-color-primary: #528fe4; color-scheme: dark; }
html[data-theme="dark"] .highlight pre, html[data-theme="dark"] .highlight .k { color: #f8f8f2; background: #2b2b2b; }
:is(html, body)[data-theme="dark"] { --light: ; --dark: initial; }
:root { --source: var(--light, #f7f7f7) var(--dark, #505050); }
body { margin: 0; background: var(--pst-color-background); color: var(--pst-color-text-base); }
code { color: var(--pst-color-inline-code); background: var(--pst-color-surface); }
a { color: var(--pst-color-primary); }
.cell_input { background: var(--source); }
.pre { white-space: nowrap; }
pre { overflow: auto; }
"""
PAGE = f"""<!doctype html><html data-theme="dark"><head><style>{THEME}</style><style>%s</style></head>
<body><main class="bd-content"><h1>Source code for {NAME}</h1>
<p>Text and <code class="literal"><span class="pre">{NAME}("mine",</span> <span class="pre">P[None])</span></code>,
<a href="#x">a link</a>, <span class="ost-small">small</span>.</p>
<div class="cell_input"><div class="highlight"><pre><span class="k">import</span> {NAME} as   m</pre></div></div>
<table class="indextable genindextable"><tr><td style="width: 33%%"><ul><li><a href="#x">{NAME}() (in module)</a></li></ul></td>
<td style="width: 33%%"><ul><li><a href="#x">{NAME}() (in module)</a></li></ul></td></tr></table>
</main></body></html>"""

# The relative luminance (WCAG) of the text and of what it stands on, for each element with text of its own.
LUMINANCES = """() => {
  const channels = (color) => color.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => {
    const color = channels(getComputedStyle(e).backgroundColor);
    return color.length > 3 && color[3] === 0 ? (e.parentElement ? ground(e.parentElement) : [255, 255, 255]) : color;
  };
  return [...document.querySelectorAll("main *")]
    .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()))
    .map((e) => [e.tagName, luminance(channels(getComputedStyle(e).color)), luminance(ground(e))]);
}"""


@pytest.fixture(scope="module")
def sheet(browser):
    sheet = browser.new_page(viewport={"width": 320, "height": 800}, color_scheme="dark")
    sheet.set_content(PAGE % CSS.read_text(encoding="utf-8"))
    yield sheet
    sheet.close()


def test_on_paper_a_dark_page_is_light(sheet):
    on_screen = sheet.evaluate(LUMINANCES)
    sheet.emulate_media(media="print")
    on_paper = sheet.evaluate(LUMINANCES)
    sheet.emulate_media(media="screen")
    assert len(on_paper) == len(on_screen) >= 8
    for tag, ink, ground in on_screen:
        assert ground < 0.1 < ink, tag
    for tag, ink, ground in on_paper:
        assert ground > 0.85, tag
        assert (ground + 0.05) / (ink + 0.05) >= 4.5, tag  # the contrast that WCAG asks of text
    assert sheet.evaluate(LUMINANCES) == on_screen  # and the screen is as it was


def test_at_320_pixels_nothing_scrolls_the_page_sideways(sheet):
    assert sheet.evaluate("document.documentElement.scrollWidth") == 320
    widths = sheet.locator("td").evaluate_all("cells => cells.map(c => c.getBoundingClientRect().width)")
    assert all(250 < width <= 320 for width in widths)  # one below the other
    assert sheet.locator("p code").bounding_box()["height"] > 30  # broken into lines
    assert (
        sheet.locator("pre").evaluate("e => getComputedStyle(e).whiteSpace").startswith("pre")
    )  # code is not


def test_in_a_wide_window_the_index_has_two_columns(sheet):
    sheet.set_viewport_size({"width": 1200, "height": 800})
    first, second = sheet.locator("td").evaluate_all("cells => cells.map(c => c.getBoundingClientRect().top)")
    sheet.set_viewport_size({"width": 320, "height": 800})
    assert first == second
