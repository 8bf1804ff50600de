"""A piece of a page to read in: what each rule made of one prompt beside what a person wrote, coloured by entropy.

No kernel, no network, no library: the texts are in the page, and a script of forty lines shows a window of them. All
that is a number (readings, curves) is worked out here, once for each position of the slider; the script only
chooses. The page holds the first window of the first rule before the script runs, so that something can be read without it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from one_step_trap.core.validate import FloatArray, check_count, short_repr
from one_step_trap.errors import BookError
from one_step_trap.pages import static
from one_step_trap.pages.figures import BLUE, GREY, VERMILLION
from one_step_trap.sampling.measures import HUMAN
from one_step_trap.sampling.viewer_data import GRAM, ShownText, check_texts, numbered

WINDOW = 128  # tokens in sight
STEP = 16  # tokens that one press of an arrow key moves the window by
DARKEST = 6  # nats: the scale of colours ends here
SMOOTH = 32  # tokens: the curves are running means over as many
HEIGHT = 1000  # of the strip, in its own units
MOST_RULES = 10

# What a page cannot show, or what would reorder the text around it: control characters, marks of writing direction, surrogates.
UNSHOWN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

# The ground of a token is one blue over the colour of the page, the stronger the higher the entropy: read on white and on black
# alike (the contrast of the text stays above 4.5 at the strongest), and told apart by lightness alone.
RGB = " ".join(str(int(BLUE[i : i + 2], 16)) for i in (1, 3, 5))


def playable_text(
    name: str,
    prompt: str,
    texts: Sequence[ShownText],
    *,
    window: int = WINDOW,
    step: int = STEP,
    alt_text: str,
) -> str:
    """Return texts to read side by side as a piece of HTML that works by itself.

    ``name`` becomes the element's id. ``texts``: at most ten rules and the "human" text, all of one length; the first rule
    is shown at first. ``window``: tokens in sight; ``step``: tokens from one position of the slider to the next.
    ``alt_text`` describes the strip of entropy (curves of running means over 32 tokens, nats) to who cannot see it.
    """
    for what, value in (("prompt", prompt), ("alt_text", alt_text)):
        if not isinstance(value, str) or not value.strip():
            raise BookError(f"{what} must be a text that is not empty, got {short_repr(value)}")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][\w-]*", name, flags=re.ASCII):
        raise BookError(f"name must be letters, digits and hyphens, as in read-texts, got {short_repr(name)}")
    ordered = _human_last(texts)
    data = page_data(ordered, window, step)
    style = static.style("text", BLUE=BLUE, GREY=GREY, VERMILLION=VERMILLION, RGB=RGB, DARKEST=10 * DARKEST)
    code = static.script("text", name, data)
    return (
        f'<div class="ost-play ost-text" id="{name}" data-ready="false"><style>{style}</style>'
        "<noscript><style>.ost-text .ost-controls, .ost-text .ost-move { display: none; }</style>"
        '<p class="ost-small">Without JavaScript: the first tokens of the first rule.</p></noscript>'
        f"{_prompt(prompt)}{_choice(name, data)}{_strip(data, alt_text)}{_slider(name, data)}"
        f'<div class="ost-pair">{_pane("rule", data["texts"][0], data)}{_pane("human", data["texts"][-1], data)}</div>'
        f'{_key()}</div><script type="module">{code}</script>'
    )


def _human_last(texts: Sequence[ShownText]) -> list[ShownText]:
    checked = check_texts(texts)
    human = [text for text in checked if text.rule == HUMAN]
    rules = [text for text in checked if text.rule != HUMAN]
    if not human or not 1 <= len(rules) <= MOST_RULES:
        raise BookError(
            f"texts must be those of 1 to {MOST_RULES} rules and one of the rule {HUMAN!r}, got "
            f"{', '.join(text.rule for text in checked[:12])}"
        )
    return rules + human


# --- what the script chooses from -------------------------------------------------------------------------


def label(rule: str) -> str:
    """Return a rule as its button is called: "greedy+penalty=1.2" becomes "greedy, penalty 1.2"."""
    words = {HUMAN: "human text", "pure": "pure sampling"}
    return words.get(rule) or rule.replace("+", ", ").replace("=", " ")


def page_data(texts: Sequence[ShownText], window: int = WINDOW, step: int = STEP) -> dict[str, Any]:
    """Return what the page holds: pieces and colours of all tokens, readings for each position of the slider, curves.

    Entropy is in tenths of a nat there, for the colours; readings and curves come from the full numbers.
    """
    length = len(texts[0].pieces)
    window, step = check_count(window, "window", minimum=GRAM), check_count(step, "step")
    if window > length:
        raise BookError(f"window must be at most the {length} tokens of a text, got {window}")
    starts = [*range(0, length - window, step), length - window]
    words, rows = numbered([visible(text.pieces) for text in texts])
    curves = [_running_mean(text.entropy) for text in texts]
    top = max(1, math.ceil(max(curve.max() for curve in curves)))
    return {
        "length": length,
        "window": window,
        "step": step,
        "height": HEIGHT,
        "top": top,
        "starts": starts,
        "places": [f"tokens {a + 1:,} to {a + window:,} of {length:,}" for a in starts],
        "pieces": words,
        "texts": [
            {
                "name": label(text.rule),
                "pieces": row,
                "entropy": [round(10 * float(h)) for h in text.entropy],
                "loops": [list(loop) for loop in text.loops],
                "readings": [_readings(text, a, a + window) for a in starts],
                "curve": _path(curve, length, top),
                "looped": "".join(f"M{a} {HEIGHT}H{b}" for a, b in text.loops),
            }
            for text, row, curve in zip(texts, rows, curves, strict=True)
        ],
    }


def visible(words: Sequence[str]) -> list[str]:
    """Return the pieces of one text as they are shown: a ¶ for each end of a line, U+FFFD for what cannot be shown.

    The line ends behind the last ¶ in a row, so that a text of nothing but empty lines is no column of them.
    """
    seam = "\x1f"  # stands between pieces: it is among what cannot be shown
    text = seam.join(UNSHOWN.sub("\ufffd", word.replace("\r\n", "\n")) for word in words)
    return re.sub(rf"\n(?=({seam}*\n)?)", lambda end: "¶" if end[1] else "¶\n", text).split(seam)


def _readings(text: ShownText, start: int, end: int) -> list[str]:
    looped = sum(max(0, min(b, end) - max(a, start)) for a, b in text.loops)
    return [
        f"{text.entropy[start:end].mean():.2f}",
        f"{text.said_before(end):.0%}",
        str(looped),
    ]


def _running_mean(values: FloatArray) -> FloatArray:
    width = min(SMOOTH, len(values))
    return np.convolve(values, np.full(width, 1 / width), mode="valid")


def _path(curve: FloatArray, length: int, top: int) -> str:
    """Return the curve as an SVG path: x in tokens, each mean at the middle of its window, y from ``top`` nats down."""
    first = (length - len(curve) + 1) / 2
    at = np.unique(np.append(np.arange(0, len(curve), max(1, length // 128)), len(curve) - 1))
    return "M" + "L".join(f"{i + first:g} {HEIGHT * (1 - curve[i] / top):.0f}" for i in at)


# --- the elements -----------------------------------------------------------------------------------------


def _prompt(prompt: str) -> str:
    (text,), (flat,) = visible([prompt]), visible([" ".join(prompt.split())])
    end = flat[-80:]
    end = end[end.find(" ") + 1 :] if len(flat) > 80 else end  # begins with a whole word
    return (
        f"<details><summary><strong>The prompt</strong> ends: “… {escape(end)}”</summary>"
        f"<pre>{escape(text)}</pre></details>"
    )


def _choice(name: str, data: dict[str, Any]) -> str:
    # No restoring of the last visit's choice by the browser (autocomplete): text and buttons would differ.
    buttons = "".join(
        f'<label><input type="radio" name="{name}-rule" value="{i}"{"" if i else " checked"} autocomplete="off"> '
        f"{escape(text['name'])}</label>"
        for i, text in enumerate(data["texts"][:-1])
    )
    return (
        '<div class="ost-controls"><fieldset class="ost-choice"><legend>How the next token is chosen</legend>'
        f"{buttons}</fieldset></div>"
    )


def _strip(data: dict[str, Any], alt_text: str) -> str:
    length, top, window = data["length"], data["top"], data["window"]
    ticks = range(0, top + 1, 1 if top <= 3 else 2)
    names = "".join(f'<span style="top:{100 * (1 - h / top):.4g}%">{h}</span>' for h in ticks)
    grid = "".join(f"M0 {HEIGHT * (1 - h / top):.4g}H{length}" for h in ticks)
    rule, human = data["texts"][0], data["texts"][-1]
    paths = {
        "grid": grid,
        "window": f"M0 0H{window}V{HEIGHT}H0Z",
        "human": human["curve"],
        "line": rule["curve"],
        "looped": rule["looped"],
    }
    drawn = "".join(f'<path class="ost-{kind}" d="{d}"></path>' for kind, d in paths.items())
    places = "".join(f"<span>{round(length * i / 4):,}</span>" for i in range(5))
    return (
        f'<p class="ost-small">Entropy, nats (running mean over {min(SMOOTH, length)} tokens)</p>'
        f'<div class="ost-strip"><div class="ost-plot" role="img" aria-label="{escape(alt_text, quote=True)}">'
        f'<svg viewBox="0 0 {length} {HEIGHT}" preserveAspectRatio="none" aria-hidden="true">{drawn}</svg>'
        f'<div class="ost-ticks" aria-hidden="true">{names}</div></div>'
        f'<div class="ost-places" aria-hidden="true">{places}</div>'
        '<p class="ost-small ost-axis">tokens after the prompt</p></div>'
    )


def _slider(name: str, data: dict[str, Any]) -> str:
    rule, human = data["texts"][0], data["texts"][-1]
    says = f"{data['places'][0]}: {rule['readings'][0][0]} nats, {human['name']} {human['readings'][0][0]}"
    return (
        f'<div class="ost-move"><label for="{name}-position">Position: '
        f'<output data-signal="position" for="{name}-position">{data["places"][0]}</output></label>'
        f'<input type="range" id="{name}-position" min="0" max="{len(data["starts"]) - 1}" step="1" value="0" '
        f'aria-valuetext="{escape(says)}" autocomplete="off"></div>'
    )


def _pane(side: str, text: dict[str, Any], data: dict[str, Any]) -> str:
    mean, share, looped = text["readings"][0]
    readings = {
        "entropy": ("mean entropy here", f"{mean} nats"),
        "repeats": ("4-grams said before, so far", share),
        "loop": ("tokens in a loop here", f"{looped} of {data['window']}"),
    }
    # The slider's own text is read aloud when it moves: six numbers more would be too many (aria-live).
    rows = "".join(
        f'<dt>{what}</dt><dd><output data-signal="{side}-{signal}" aria-live="off">{value}</output></dd>'
        for signal, (what, value) in readings.items()
    )
    line = "line" if side == "rule" else "human"
    title = (
        f'<output data-signal="rule-name" aria-live="off">{escape(text["name"])}</output>'
        if side == "rule"
        else escape(text["name"])
    )
    words = "".join(_word(text, t, data["pieces"]) for t in range(data["window"]))
    return (
        f'<div class="ost-pane" data-side="{side}"><p class="ost-name">{_sample(line)}{title}</p><dl>{rows}</dl>'
        f'<pre class="ost-words">{words}</pre></div>'
    )


def _word(text: dict[str, Any], t: int, words: Sequence[str]) -> str:
    """Return one token as the script writes it, attribute by attribute."""
    looped = any(a <= t < b for a, b in text["loops"])
    word = words[text["pieces"][t]]
    rest = word.lstrip(" ")
    apart = "" if looped or not rest else word[: len(word) - len(rest)]
    tenths = text["entropy"][t]
    kind = ' class="ost-loop"' if looped else ""
    return (
        f'{apart}<span{kind} style="--e:{tenths}" title="{tenths / 10:.1f} nats">'
        f"{escape(word.removeprefix(apart), quote=False)}</span>"
    )


def _sample(line: str) -> str:
    return f'<svg viewBox="0 0 32 10" aria-hidden="true"><path class="ost-{line}" d="M0 5H32"></path></svg>'


def _key() -> str:
    scale = "".join(
        f'<span style="--e:{10 * h}">{h}{" or more" if h == DARKEST else ""}</span>'
        for h in range(DARKEST + 1)
    )
    return (
        '<div class="ost-key"><div>entropy before the token, nats: '
        f'<div class="ost-scale">{scale}</div></div>'
        f'<div><span class="ost-loop" style="--e:0">in a loop</span>, on the curves {_sample("looped")}</div>'
        "<div>¶ end of a line</div></div>"
    )
