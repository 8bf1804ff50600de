"""A recorded search to step through: its frames, its piece of HTML, and both in a real browser."""

import json
import re
from pathlib import Path

import chromium
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from html_parts import Parts

from one_step_trap.errors import BookError
from one_step_trap.muzero.plots.tree import playable_tree
from one_step_trap.muzero.search import SearchSettings, TabularModel, search
from one_step_trap.muzero.viewer_data import places, replay

ALT = "A tree of nine nodes: the search goes right, then left."


def recorded(simulations=8, states=12, actions=2, depth=None, legal=None):
    rng = np.random.default_rng(5)
    model = TabularModel(
        rng.normal(size=(states, actions)),
        rng.integers(states, size=(states, actions)),
        rng.dirichlet(np.ones(actions), size=states),
        rng.normal(size=states),
    )
    chosen = SearchSettings(simulations=simulations, gamma=0.5, max_depth=depth)
    found = search(model, [[0]], chosen, record=True, legal=legal)
    return found, found.recordings[0]


@pytest.fixture(scope="module")
def recording():
    return recorded()[1]


# --- frames -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [None, 1, 2])
def test_the_last_frame_is_the_result(depth):
    found, recording = recorded(depth=depth, actions=3)
    frames, where = replay(recording), places(recording)
    assert len(frames) == 1 + 3 * 8
    last = frames[-1]
    assert last.size == len(where) == 1 + sum(s.grown for s in recording.simulations)
    assert last.visits[0] == 9
    assert last.means[0] == pytest.approx(found.root_values[0])
    for node, place in enumerate(where):
        if place.parent == 0:
            assert last.visits[node] == found.visits[0, place.action]
            assert last.q[node] == pytest.approx(found.q[0, place.action])


def test_a_simulation_selects_grows_and_backs_up(recording):
    frames = replay(recording)
    assert [f.phase for f in frames[:4]] == ["start", "select", "expand", "back up"]
    for select, expand, back_up in zip(frames[1::3], frames[2::3], frames[3::3], strict=True):
        assert expand.size == select.size + 1 == back_up.size
        assert expand.path == back_up.path == (*select.path, expand.size - 1)
        changed = np.array(back_up.visits) - np.array(expand.visits)
        assert np.flatnonzero(changed).tolist() == sorted(back_up.path)


def test_nodes_do_not_lie_on_each_other(recording):
    where = places(recording)
    assert len({(place.x, place.depth) for place in where}) == len(where)
    for place in where[1:]:
        siblings = [p for p in where if p.parent == place.parent]
        assert sorted(siblings, key=lambda p: p.action) == sorted(siblings, key=lambda p: p.x)
        assert place.depth == where[place.parent].depth + 1


# --- the piece of HTML ------------------------------------------------------------------------------------


def test_names_end_no_element_and_nothing_is_loaded(recording):
    html = playable_tree("tree", recording, actions=["</script><b>", "a & b"], alt_text='say "x" <')
    found = Parts(html)
    assert found.open == []
    tags = [tag for tag, _ in found.elements]
    assert (tags.count("script"), tags.count("b")) == (1, 0)
    for _, attributes in found.elements:
        assert not {"src", "href"} & attributes.keys()
    assert not re.search(r"fetch|import|XMLHttp|url\(|@import|https?:", html)
    data = json.loads(re.search(r"frames = (\[.*\]);\nconst find", found.script)[1])
    assert len(data) == 25
    for frame in data:
        assert Parts(frame["table"]).open == []
        assert "<b>" not in frame["table"] + frame["say"]


def test_the_numbers_in_the_page(recording):
    data = json.loads(
        re.search(r"frames = (\[.*\]);\nconst find", playable_tree("t", recording, alt_text=ALT))[1]
    )
    step = recording.simulations[0].steps[0]
    table = data[1]["table"]
    chosen = re.search(r'ost-chosen.*?<th scope="row">► (\d)</th>(.*?)</tr>', table)
    cells = re.findall(r"<td>(.*?)</td>", chosen[2])
    assert int(chosen[1]) == step.action
    assert cells[:3] == [f"{recording.prior[step.action]:.2f}", "0", "–"]
    assert cells[-1] == f"{step.bonuses[step.action]:.2f}"
    assert f"{recording.simulations[0].returns[-1]:.2f}".replace("-", "−") in data[3]["table"]
    assert data[0]["texts"][0] == ["s0", "N 1", f"V {recording.value:.2f}".replace("-", "−")]
    assert data[-1]["texts"][0][1] == "N 9"


def test_a_depth_cap_and_illegal_actions_are_told():
    _, recording = recorded(depth=1, actions=3, legal=[True, False, True])
    html = playable_tree("t", recording, alt_text=ALT)
    assert "as deep as the search may go" in html
    assert "illegal" in html


def test_the_same_recording_makes_the_same_html(recording):
    assert playable_tree("t", recording, alt_text=ALT) == playable_tree("t", recorded()[1], alt_text=ALT)
    assert len(playable_tree("t", recording, alt_text=ALT)) < 60_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a b"}, "name must be letters"),
        ({"recording": None}, "recording must be one of search"),
        ({"actions": ["left"]}, "names of the 2 actions"),
        ({"actions": "lr"}, "names of the 2 actions"),
        ({"actions": ["l", ""]}, "names of the 2 actions"),
        ({"alt_text": " "}, "alt_text"),
        ({"recording": recorded(simulations=41)[1]}, "1 to 40 simulations, got 41"),
    ],
)
def test_a_page_of_nonsense(recording, change, message):
    with pytest.raises(BookError, match=message):
        playable_tree(**({"name": "t", "recording": recording, "alt_text": ALT} | change))


# --- in a browser -----------------------------------------------------------------------------------------

BOOK = (Path(__file__).parents[2] / "chapters/_static/book.css").read_text(encoding="utf-8")
COLOURS = {"light": ("#ffffff", "#222832"), "dark": ("#121212", "#ced6dd")}  # the theme's page and its text
PAGE = """<!doctype html><html lang="en" data-theme="THEME"><head><title>x</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>:root { --pst-color-background: PAPER;
--pst-color-text-base: INK; --pst-color-border: #808080; } body { background: PAPER; color: INK; font-family: sans-serif; }
BOOK</style></head><body><main class="bd-content"><h1>x</h1>BODY</main></body></html>"""


@pytest.fixture(scope="module")
def browser():
    with chromium.opened() as opened:
        yield opened


@pytest.fixture
def opened(browser, recording):
    contexts, wrong = [], []

    def open_page(theme="light", **options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: wrong.append(request.url))
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        paper, ink = COLOURS[theme]
        html = PAGE.replace("THEME", theme).replace("PAPER", paper).replace("INK", ink).replace("BOOK", BOOK)
        body = playable_tree("tree", recording, actions=["left", "right"], alt_text=ALT)
        page.set_content(html.replace("BODY", body, 1), wait_until="domcontentloaded")
        if options.get("java_script_enabled", True):
            page.wait_for_selector('.ost-tree[data-ready="true"]')
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []  # no error, no request


def visible_nodes(page):
    return page.locator("svg g:not(.ost-away) circle").count()


browser_test = pytest.mark.browser


@browser_test
def test_buttons_and_keys_step_through_the_search(opened):
    page = opened()
    back, on = (
        page.get_by_role("button", name="one step back"),
        page.get_by_role("button", name="one step on"),
    )
    assert back.is_disabled()
    assert visible_nodes(page) == 1
    on.click()
    assert page.locator(".ost-say").inner_text().startswith("Select, simulation 1 of 8")
    assert page.locator("svg .ost-select circle").count() == 1
    on.click()
    assert visible_nodes(page) == 2
    page.locator("input").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".ost-say").inner_text().startswith("Back up, simulation 1 of 8")
    assert page.locator("svg .ost-back circle").count() == 2
    assert page.locator("input").get_attribute("aria-valuetext") == "simulation 1 of 8, back up"
    page.keyboard.press("End")
    assert visible_nodes(page) == 9
    assert on.is_disabled()
    back.click()
    back.click()
    back.click()
    assert visible_nodes(page) == 8


@browser_test
def test_without_a_script_the_root_is_there(opened):
    page = opened(java_script_enabled=False)
    assert visible_nodes(page) == 1
    assert "Without JavaScript" in page.locator(".ost-tree").inner_text()
    assert not page.locator("input").is_visible()


@browser_test
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_accessible(opened, theme):
    page = opened(theme=theme)
    page.locator("input").fill("7")
    options = {"resultTypes": ["violations"], "preload": False}
    found = Axe().run(page, options=options).response["violations"]
    assert [v["help"] for v in found if v["impact"] in {"serious", "critical"}] == []
    ink = page.locator("svg g:not(.ost-away) text").first.evaluate("e => getComputedStyle(e).fill")
    assert ink == {"light": "rgb(34, 40, 50)", "dark": "rgb(206, 214, 221)"}[theme]


@browser_test
@pytest.mark.parametrize("width", [320, 390])
def test_on_a_phone(opened, width):
    page = opened(viewport={"width": width, "height": 844}, is_mobile=True, has_touch=True)
    for step in (0, 7, 24):
        page.locator("input").fill(str(step))
        assert page.evaluate("document.documentElement.scrollWidth") == width
    heights = page.locator("svg text").first.evaluate("e => e.getBoundingClientRect().height")
    assert heights >= 10
    for button in page.get_by_role("button").all():
        assert min(button.bounding_box()["height"], button.bounding_box()["width"]) >= 24
