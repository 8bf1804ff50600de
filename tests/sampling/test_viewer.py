"""Texts to look at, and the piece of a page that shows them: by itself, then in a real browser."""

import itertools
import json
import re
from dataclasses import dataclass
from pathlib import Path

import chromium
import numpy as np
import pydata_sphinx_theme
import pytest
import sphinx_book_theme
from axe_playwright_python.sync_playwright import Axe
from html_parts import Parts
from hypothesis import given
from hypothesis import strategies as st

from one_step_trap.errors import BookError
from one_step_trap.pages.figures import BLUE
from one_step_trap.sampling import measures
from one_step_trap.sampling.plots import viewer
from one_step_trap.sampling.viewer_data import (
    Exhibit,
    ShownText,
    all_loops,
    exhibit,
    load_texts,
    pieces,
    repeats,
    save_texts,
    shown_text,
)

# --- pieces -----------------------------------------------------------------------------------------------


def bytes_of(vocabulary):
    """A decoder whose tokens are strings of bytes, as those of byte-level BPE."""
    return lambda ids: b"".join(vocabulary[i] for i in ids).decode("utf-8", "replace")


def test_a_character_belongs_to_the_token_that_completes_it():
    vocabulary = [b"caf", b"\xc3", b"\xa9", b" \xf0\x9f", b"\x99\x82!", b"\xc3\xa9\xc3", b"\xa9"]
    decode = bytes_of(vocabulary)
    assert pieces(decode, [0, 1, 2, 3, 4]) == ["caf", "", "é", " ", "🙂!"]
    assert pieces(decode, [5, 6]) == ["é", "é"]


def test_bytes_that_never_become_a_character_are_kept():
    vocabulary = [b"a", b"\xc3", b" b", b"\x80"]
    decode = bytes_of(vocabulary)
    assert pieces(decode, [0, 1, 2]) == ["a", "", "\ufffd b"]
    assert pieces(decode, [0, 3, 3, 1]) == ["a", "", "", "\ufffd\ufffd\ufffd"]


def pieces_reference(decode, ids):
    """Every beginning of the text decoded anew."""
    ends = [0, *(len(decode(ids[:i]).rstrip("\ufffd")) for i in range(1, len(ids))), len(decode(ids))]
    return [decode(ids)[a:b] for a, b in itertools.pairwise(ends)]


PARTS = "naïve 🙂 日本 \ufffd".encode()


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=3),
            st.tuples(st.integers(0, len(PARTS)), st.integers(1, 4)).map(lambda c: PARTS[c[0] : c[0] + c[1]]),
        ),
        min_size=1,
        max_size=24,
    )
)
def test_pieces_add_up_to_the_text(vocabulary):
    decode, ids = bytes_of(vocabulary), list(range(len(vocabulary)))
    found = pieces(decode, ids)
    assert len(found) == len(ids)
    assert "".join(found) == decode(ids)
    assert found == pieces_reference(decode, ids)


def test_a_decoder_that_drops_the_first_space():
    """As decoders after SentencePiece do: what is decoded alone differs from what is decoded after something."""
    words = ["▁the", "▁c", "at", "▁sat"]
    decode = lambda ids: "".join(words[i] for i in ids).replace("▁", " ").removeprefix(" ")  # noqa: E731
    assert pieces(decode, [0, 1, 2, 3]) == ["the", " c", "at", " sat"]


def test_a_decoder_that_skips_tokens():
    words = ["a", "<end>", " b"]
    decode = lambda ids: "".join(words[i] for i in ids).replace("<end>", "")  # noqa: E731
    assert pieces(decode, [1, 0, 1, 1, 2, 1]) == ["", "a", "", "", " b", ""]


@pytest.mark.parametrize(
    ("decode", "tokens", "message"),
    [
        (lambda ids: "".join("a ?"[i] for i in ids).replace(" ?", "?"), [0, 1, 2], "changes earlier text"),
        (lambda ids: 3, [0], "decode must return a text, got 3"),
        (str, [[1, 2]], "tokens must be those of one text"),
        (str, [0.5], "whole token ids"),
        (str, [-1], "negative"),
        (str, [], "whole token ids"),
    ],
)
def test_no_pieces_of_nonsense(decode, tokens, message):
    with pytest.raises(BookError, match=message):
        pieces(decode, tokens)


# --- repetition and loops ---------------------------------------------------------------------------------


def test_repeats_worked_by_hand():
    x = [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 9]
    assert np.flatnonzero(repeats(x)).tolist() == [8, 9]


@given(st.lists(st.integers(0, 2), min_size=4, max_size=60))
def test_the_share_so_far_is_that_of_the_text_cut_there(tokens):
    text = shown_text("x", tokens, np.zeros(len(tokens)), lambda ids: "".join("abc"[i] for i in ids))
    for count in (4, len(tokens)):
        assert text.said_before(count) == pytest.approx(measures.seq_rep(tokens[:count], 4)[0])


def test_loops_from_their_onset_to_where_they_break_off():
    rng = np.random.default_rng(0)
    plain = lambda n: rng.permutation(500)[:n] + 10  # noqa: E731
    x = np.concatenate([plain(20), np.tile([1, 2, 3], 30), [1, 7], plain(40), np.tile([4, 5], 40)])
    first, second = all_loops(x)
    assert first[0] == measures.find_loops(x).onset[0] == 20
    assert first[1] == 20 + 90 + 1  # the last 1 still follows the cycle, the 7 does not
    assert second == (len(x) - 80, len(x))
    assert all_loops(plain(200)) == ()


# --- a text, and several ----------------------------------------------------------------------------------

LENGTH = 400
ODD = [
    "</script>",
    "<b>&amp;</b>",
    "<!--",
    "\n\n",
    "\n",
    " été",
    "\u202e",
    "\x00",
    "🙂",
    '"',
    " <script>",
    "  ",
]


def made_up(rule, seed, level, loops=()):
    """A text of LENGTH tokens, odd ones among them, with a mean entropy of about ``level`` nats."""
    rng = np.random.default_rng(seed)
    words = [*(f" w{i}" for i in range(60)), *ODD]
    x = rng.integers(0, len(words), LENGTH)
    x[: len(ODD)] = np.arange(60, 60 + len(ODD))  # in the first window
    for a, b in loops:
        x[a:b] = np.resize([5, 6, 7], b - a)
    entropy = rng.gamma(4, level / 4, LENGTH)
    return ShownText(rule, tuple(words[i] for i in x), entropy, repeats(x), loops)


@pytest.fixture(scope="module")
def texts():
    return [
        made_up("pure", 1, 5),
        made_up("human", 2, 3),
        made_up("greedy+penalty=1.2", 3, 0.5, ((200, 260), (300, 400))),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rule": ""}, "must be its name"),
        ({"pieces": "abcd"}, "pieces of 'pure' must be texts"),
        ({"pieces": ("a", "b", "c", 4)}, "pieces of 'pure' must be texts"),
        ({"pieces": ()}, "pieces of 'pure' must be texts"),
        ({"pieces": None}, "pieces of 'pure' must be texts"),
        ({"entropy": np.zeros(3)}, "has 4 pieces"),
        ({"entropy": [0, 1, np.nan, 2]}, "NaN or infinite"),
        ({"entropy": np.full(4, -1.0)}, "must not be below 0 nats"),
        ({"repeats": np.zeros(4)}, "True or False"),
        ({"loops": ((0, 5),)}, "within its 4 tokens"),
        ({"loops": ((2, 4), (0, 1))}, "one after the other"),
        ({"loops": ((2, 2),)}, "one after the other"),
        ({"loops": (2, 3)}, "pairs"),
        ({"loops": ((0, 1.5),)}, "pairs"),
    ],
)
def test_a_text_whose_parts_do_not_fit(change, message):
    fine = {"rule": "pure", "pieces": tuple("abcd"), "entropy": np.zeros(4), "repeats": np.zeros(4, bool)}
    ShownText(**fine)
    with pytest.raises(BookError, match=message):
        ShownText(**{**fine, **change})


@pytest.mark.parametrize("count", [3, 5, 4.5, "4"])
def test_a_share_of_too_few_or_too_many(count):
    text = ShownText("pure", tuple("abcd"), np.zeros(4), np.zeros(4, bool))
    with pytest.raises(BookError, match="count"):
        text.said_before(count)


@dataclass
class Trace:
    rule: str
    tokens: np.ndarray
    entropy: np.ndarray


def test_an_exhibit_is_one_prompt_of_every_trace():
    rng = np.random.default_rng(0)
    x, h = rng.integers(0, 26, (2, 3, 80)), rng.uniform(0, 5, (2, 3, 80))
    decode = lambda ids: "".join(chr(97 + i) for i in ids)  # noqa: E731
    found = exhibit([Trace("pure", x[0], h[0]), Trace("human", x[1], h[1])], 2, "Once", decode, about="here")
    assert (found.about, found.prompt, [t.rule for t in found.texts]) == ("here", "Once", ["pure", "human"])
    assert "".join(found.texts[0].pieces) == decode(x[0, 2])
    np.testing.assert_array_equal(found.texts[1].entropy, h[1, 2])
    with pytest.raises(BookError, match="there is no text 3: the traces hold 3 each"):
        exhibit([Trace("pure", x[0], h[0])], 3, "Once", decode)
    with pytest.raises(BookError, match="list of Traces"):
        exhibit([x], 0, "Once", decode)


def test_an_exhibit_of_nonsense(texts):
    for bad, message in (
        ((), "texts must be a list"),
        ([texts[0], texts[0]], "each rule has one text"),
        (
            [texts[0], ShownText("human", ("a",) * 4, np.zeros(4), np.zeros(4, bool))],
            "equally long, got 4, 400",
        ),
        (["pure"], "texts must be a list of ShownText"),
    ):
        with pytest.raises(BookError, match=message):
            Exhibit("", "Once", bad)
    with pytest.raises(BookError, match="prompt must be a text"):
        Exhibit("", 3, texts)


# --- in a file --------------------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path, texts):
    path = tmp_path / "texts.json"
    save_texts(path, Exhibit("a test", "Once\nupon </script> a lone \ud800", texts))
    return path


def test_what_is_written_is_read(stored, texts):
    found = load_texts(stored)
    assert (found.about, found.prompt) == ("a test", "Once\nupon </script> a lone \ud800")
    for text, same in zip(texts, found.texts, strict=True):
        assert (same.rule, same.pieces, same.loops) == (text.rule, text.pieces, text.loops)
        np.testing.assert_array_equal(same.repeats, text.repeats)
        np.testing.assert_allclose(same.entropy, text.entropy, atol=0.005 + 1e-12)


def test_the_same_texts_make_the_same_file(stored, tmp_path):
    again = tmp_path / "again.json"
    save_texts(again, load_texts(stored))
    assert again.read_bytes() == stored.read_bytes()


def change_number(text):
    return re.sub(r'"entropy":\[(\d)', lambda m: f'"entropy":[{(int(m[1]) + 1) % 10}', text, count=1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], "no JSON"),
        (lambda text: "", "no JSON"),
        (lambda text: "[]", "its format is not"),
        (lambda text: text.replace("version 1", "version 9"), "its format is not"),
        (change_number, "SHA-256 differs"),
        (lambda text: text.replace("Once", "Twice"), "SHA-256 differs"),
    ],
)
def test_a_damaged_file_is_one_clear_error(stored, damage, message):
    text = stored.read_text()
    assert damage(text) != text
    stored.write_text(damage(text))
    with pytest.raises(BookError, match=message) as caught:
        load_texts(stored)
    assert str(caught.value).startswith(f"{stored} is damaged: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "break_it",
    [
        lambda content: content.pop("texts"),
        lambda content: content["texts"][0]["pieces"].__setitem__(0, 99_999),
        lambda content: content["texts"][0]["pieces"].__setitem__(0, -1),
        lambda content: content["texts"][0]["entropy"].pop(),
        lambda content: content["texts"][0]["repeats"].append(99_999),
        lambda content: content.update(texts=[1]),
    ],
)
def test_a_file_whose_parts_do_not_fit(stored, break_it):
    from one_step_trap.sampling import viewer_data

    whole = json.loads(stored.read_text())
    break_it(whole["content"])
    whole["sha256"] = viewer_data._sha256(whole["content"])
    stored.write_text(json.dumps(whole))
    with pytest.raises(BookError, match="do not fit together"):
        load_texts(stored)


def test_files_that_cannot_be_read_or_written(tmp_path, texts):
    with pytest.raises(BookError, match="is missing"):
        load_texts(tmp_path / "none.json")
    (tmp_path / "x.json").write_bytes(b"\xff\xfe")
    with pytest.raises(BookError, match="no JSON"):
        load_texts(tmp_path / "x.json")
    with pytest.raises(BookError, match="could not be written"):
        save_texts(tmp_path / "no" / "folder.json", Exhibit("", "x", texts))
    with pytest.raises(BookError, match="must be an Exhibit"):
        save_texts(tmp_path / "x.json", texts)


# --- what the page holds ----------------------------------------------------------------------------------


def test_ends_of_lines_and_what_cannot_be_shown():
    assert viewer.visible(["a.", "\n\n", "B\n", "c\r\nd", "\n", "", "\n", "e"]) == [
        *["a.", "¶¶\n", "B¶\n", "c¶\nd", "¶", "", "¶\n", "e"]
    ]
    assert viewer.visible(["\x00\x1f\u202ex", "\ud800"]) == ["\ufffd\ufffd\ufffdx", "\ufffd"]
    assert viewer.visible(["\n"] * 50) == ["¶"] * 49 + ["¶\n"]


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        ("pure", "pure sampling"),
        ("human", "human text"),
        ("top-p=0.95", "top-p 0.95"),
        ("greedy+penalty=1.2", "greedy, penalty 1.2"),
    ],
)
def test_a_rule_as_its_button_is_called(rule, name):
    assert viewer.label(rule) == name


def test_the_readings_are_those_of_the_window(texts):
    loopy = texts[2]
    data = viewer.page_data(texts, window=120, step=50)
    assert data["starts"] == [0, 50, 100, 150, 200, 250, 280]
    assert data["places"][-1] == "tokens 281 to 400 of 400"
    mean, share, looped = data["texts"][2]["readings"][4]
    assert mean == f"{np.mean(loopy.entropy[200:320]):.2f}"
    assert share == f"{loopy.said_before(320):.0%}" != "0%"
    assert looped == "80"  # 200 to 259 and 300 to 319
    assert data["texts"][2]["looped"] == "M200 1000H260M300 1000H400"


def test_a_window_as_long_as_the_text(texts):
    assert viewer.page_data(texts, window=LENGTH)["starts"] == [0]


def test_the_curve_is_a_running_mean_at_the_middle_of_its_tokens():
    entropy = np.concatenate([np.zeros(200), np.full(200, 4.0)])
    text = ShownText("pure", ("a",) * 400, entropy, np.zeros(400, bool))
    data = viewer.page_data([text], window=100)
    assert data["top"] == 4
    points = [tuple(map(float, p.split())) for p in data["texts"][0]["curve"][1:].split("L")]
    assert points[0] == (16, 1000)
    assert points[-1] == (384, 0)
    for x, y in points:
        assert y == pytest.approx(1000 * (1 - np.clip((x - 184) / 32, 0, 1)), abs=1)


# --- the piece of HTML ------------------------------------------------------------------------------------

ALT = 'Entropy against position: "pure" stays high, greedy falls to 0.'


def html_of(texts, **options):
    return viewer.playable_text(
        "read-texts", "Once upon\n</script><b>", texts, **{"alt_text": ALT, **options}
    )


def test_tokens_end_no_element_and_nothing_is_loaded(texts):
    html = html_of(texts)
    found = Parts(html)
    assert found.open == []
    tags = [tag for tag, _ in found.elements]
    assert tags.count("script") == 1
    assert "b" not in tags
    assert "<" not in re.search(r"data = (\{.*\});\n", found.script)[1]
    for _, attributes in found.elements:
        assert not {"src", "href"} & attributes.keys()
    assert not re.search(r"fetch|import|XMLHttp|url\(|@import|https?:", html)


def test_the_same_texts_make_the_same_html(texts):
    assert html_of(texts) == html_of(texts)


def test_names_of_the_controls_and_of_the_strip(texts):
    found = Parts(html_of(texts))
    ids = {a["id"] for _, a in found.elements if "id" in a}
    assert ids == {"read-texts", "read-texts-position"}
    radios = [a for tag, a in found.elements if tag == "input" and a["type"] == "radio"]
    assert [("checked" in a) for a in radios] == [True, False]
    (strip,) = [a for _, a in found.elements if a.get("role") == "img"]
    assert strip["aria-label"] == ALT


def test_ten_rules_of_1024_tokens_stay_below_150_kb():
    """Some thousands of different tokens in eleven texts, drawn by Zipf's law."""
    words = [f" w{i:04}" for i in range(5_000)]
    chance = 1 / (np.arange(5_000) + 3)
    many = []
    for k in range(11):
        rng = np.random.default_rng(k)
        x = rng.choice(5_000, 1024, p=chance / chance.sum())
        rule = f"top-k={k}" if k else "human"
        many.append(ShownText(rule, tuple(words[i] for i in x), rng.gamma(3, 1, 1024), repeats(x)))
    assert len({piece for text in many for piece in text.pieces}) > 2_500
    assert len(html_of(many)) < 150_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a b"}, "name must be letters"),
        ({"name": 3}, "name must be letters"),
        ({"prompt": " "}, "prompt must be a text"),
        ({"alt_text": ""}, "alt_text must be a text"),
        ({"window": 401}, "window must be at most the 400 tokens"),
        ({"window": 3}, "window must be at least 4"),
        ({"step": 0}, "step must be at least 1"),
        ({"texts": []}, "texts must be a list"),
        ({"texts": "pure"}, "texts must be a list"),
    ],
)
def test_a_page_of_nonsense(texts, change, message):
    fine = {"name": "x", "prompt": "Once", "texts": texts, "alt_text": ALT}
    with pytest.raises(BookError, match=message):
        viewer.playable_text(**{**fine, **change})


def test_a_page_needs_the_human_text_and_at_most_ten_rules(texts):
    with pytest.raises(BookError, match="and one of the rule 'human', got pure"):
        html_of([texts[0]])
    with pytest.raises(BookError, match="1 to 10 rules"):
        html_of([texts[1]])
    text = texts[0]
    many = [ShownText(f"top-k={k}", text.pieces, text.entropy, text.repeats) for k in range(1, 12)]
    with pytest.raises(BookError, match="1 to 10 rules"):
        html_of([*many, texts[1]])


# --- in a browser -----------------------------------------------------------------------------------------

CSS = [
    *(
        next(Path(theme.__file__).parent.rglob(f"static/styles/{name}.css"))
        for theme, name in (
            (pydata_sphinx_theme, "pydata-sphinx-theme"),
            (sphinx_book_theme, "sphinx-book-theme"),
        )
    ),
    Path(__file__).parents[2] / "chapters/_static/book.css",
]
PAGE = """<!doctype html><html lang="en" data-theme="THEME"><head><title>x</title>
<meta name="viewport" content="width=device-width, initial-scale=1">STYLE</head><body><main class="bd-content">
<article class="bd-article"><h1>x</h1><figure class="align-default"><div class="cell_output"><div class="output text_html">
<div class="ost-figure-box">BODY</div></div></div></figure></article></main></body></html>"""

# The contrast (WCAG) of each token with what it stands on: a translucent colour over that of the page.
CONTRASTS = """() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const under = channels(getComputedStyle(document.body).backgroundColor);
  return [...document.querySelectorAll(".ost-text .ost-words span, .ost-text .ost-key span")].map((span) => {
    const style = getComputedStyle(span), [r, g, b, a = 1] = channels(style.backgroundColor);
    const ground = light([r, g, b].map((c, i) => a * c + (1 - a) * under[i])), ink = light(channels(style.color));
    return [span.getAttribute("style"), a, (Math.max(ground, ink) + 0.05) / (Math.min(ground, ink) + 0.05)];
  });
}"""


@pytest.fixture(scope="module")
def browser():
    with chromium.opened() as opened:
        yield opened


class Opened:
    """The piece of HTML in a page of the book's style, and what went wrong or over the network there."""

    def __init__(self, browser, html, theme="light", **options):
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.page = self.context.new_page()
        self.wrong = []
        self.page.on("request", lambda request: self.wrong.append(request.url))
        self.page.on("console", lambda message: self.wrong.append(message.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        style = "".join(f"<style>{path.read_text(encoding='utf-8')}</style>" for path in CSS)
        # The fonts of the theme are not here.
        style = re.sub(r"@font-face\s*\{[^}]*\}|url\([^)]*\)", "", style)
        self.page.set_content(
            PAGE.replace("THEME", theme).replace("STYLE", style).replace("BODY", html, 1),
            wait_until="domcontentloaded",
        )

    def state(self):
        """All that a reader sees: texts with their colours, readings, curves, what is read aloud."""
        return self.page.evaluate("""() => {
          const all = (selector, see) => [...document.querySelectorAll(selector)].map(see);
          return {
            texts: all(".ost-words", (e) => e.innerHTML),
            readings: all("output", (e) => e.textContent),
            paths: all(".ost-plot path", (e) => e.getAttribute("d")),
            spoken: all("input[type=range]", (e) => e.getAttribute("aria-valuetext")),
          };
        }""")


@pytest.fixture
def opened(browser, texts):
    pages = []

    def open_page(html=None, **options):
        pages.append(Opened(browser, html or html_of(texts), **options))
        if options.get("java_script_enabled", True):
            pages[-1].page.wait_for_selector('.ost-text[data-ready="true"]')
        return pages[-1]

    yield open_page
    for page in pages:
        assert page.wrong == []  # no error, no request
        page.context.close()


browser_test = pytest.mark.browser


@browser_test
def test_python_and_the_script_write_the_same_window(opened, texts):
    """What stands in the page before its script ran, and what the script makes of it."""
    script_only_begins = html_of(texts).replace("\nshow();\n", "\n")
    assert opened(html=script_only_begins).state() == opened().state()


@browser_test
def test_without_a_script_there_is_something_to_read(opened):
    page = opened(java_script_enabled=False).page
    assert "w1" in page.locator(".ost-words").first.inner_text()
    assert not page.locator("input[type=range]").is_visible()
    assert "Without JavaScript" in page.locator(".ost-text").inner_text()


@browser_test
def test_every_token_of_the_window_is_shown_and_marked(opened, texts):
    page = opened().page
    page.locator("input[type=radio]").nth(1).check()
    page.locator("input[type=range]").fill("13")  # tokens 208 to 335
    rule, human = (page.locator(f'[data-side="{side}"] pre') for side in ("rule", "human"))
    assert rule.evaluate("e => e.textContent") == "".join(viewer.visible(texts[2].pieces)[208:336])
    assert human.evaluate("e => e.textContent") == "".join(viewer.visible(texts[1].pieces)[208:336])
    assert rule.locator("span").count() == 128
    assert rule.locator(".ost-loop").count() == (260 - 208) + (336 - 300)
    assert page.locator('output[data-signal="rule-name"]').inner_text() == "greedy, penalty 1.2"
    assert page.locator('output[data-signal="rule-loop"]').inner_text() == "88 of 128"
    tenths = rule.locator("span").evaluate_all("all => all.map(e => e.style.getPropertyValue('--e'))")
    np.testing.assert_allclose([int(e) / 10 for e in tenths], texts[2].entropy[208:336], atol=0.05 + 1e-9)


@browser_test
def test_keyboard_moves_the_window_and_changes_the_rule(opened):
    one = opened()
    page = one.page
    page.keyboard.press("Tab")  # the prompt
    page.keyboard.press("Tab")  # the rules
    first = one.state()
    page.keyboard.press("ArrowRight")
    second = one.state()
    assert second["texts"][0] != first["texts"][0]
    assert second["texts"][1] == first["texts"][1]  # the human text stays
    page.keyboard.press("Tab")  # the slider
    page.keyboard.press("ArrowRight")
    third = one.state()
    for part in ("texts", "readings", "paths", "spoken"):
        assert third[part] != second[part]
    assert third["spoken"][0].startswith("tokens 17 to 144 of 400: ")
    page.keyboard.press("ArrowLeft")
    assert one.state() == second
    page.keyboard.press("End")
    assert one.state()["spoken"][0].startswith("tokens 273 to 400 of 400: ")


@browser_test
def test_a_press_on_the_strip_moves_the_window_there(opened):
    one = opened()
    box = one.page.locator(".ost-plot").bounding_box()
    one.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 20)
    assert one.state()["spoken"][0].startswith(
        "tokens 145 to 272 of 400: "
    )  # 136 to 264, to the nearest step


@browser_test
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_token_can_be_read(opened, theme):
    page = opened(theme=theme).page
    found = page.evaluate(CONTRASTS)
    assert len(found) > 256
    assert min(contrast for *_, contrast in found) >= 4.5
    strength = {style: alpha for style, alpha, _ in found}
    assert strength["--e:0"] == 0 < strength["--e:30"] < strength["--e:60"]
    assert max(strength.values()) == strength["--e:60"]  # the scale ends there


@browser_test
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_accessible(opened, theme):
    page = opened(theme=theme).page
    options = {"resultTypes": ["violations"], "preload": False}
    options |= {"runOnly": ["color-contrast"]} if theme == "dark" else {}
    found = Axe().run(page, options=options).response["violations"]
    assert [v["help"] for v in found if v["impact"] in {"serious", "critical"}] == []


@browser_test
@pytest.mark.parametrize("width", [320, 390])
def test_on_a_phone_one_text_stands_below_the_other(opened, width):
    page = opened(viewport={"width": width, "height": 844}, is_mobile=True, has_touch=True).page
    for place in ("0", "12", "17"):
        page.locator("input[type=range]").fill(place)
        assert page.evaluate("document.documentElement.scrollWidth") == width
    boxes = [page.locator(f'[data-side="{side}"]').bounding_box() for side in ("rule", "human")]
    assert boxes[0]["x"] == boxes[1]["x"]
    assert boxes[1]["y"] >= boxes[0]["y"] + boxes[0]["height"]
    assert page.locator("input[type=range]").bounding_box()["height"] >= 24


@browser_test
def test_wide_texts_stand_side_by_side(opened):
    page = opened().page
    left, right = (page.locator(f'[data-side="{side}"]').bounding_box() for side in ("rule", "human"))
    assert left["y"] == right["y"]
    assert right["x"] > left["x"] + left["width"]


def test_the_scale_is_the_books_blue():
    assert viewer.RGB == "47 127 193"
    assert BLUE == "#2f7fc1"
