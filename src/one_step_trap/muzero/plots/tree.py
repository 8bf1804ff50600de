"""A piece of a page in which a search can be stepped through: select, expand, back up, one simulation after the other.

No kernel, no network, no library: all that is shown was worked out here, for every step, and is in the page; a script of
twenty lines only chooses. Before it runs the page shows the root.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import Any

from one_step_trap.core.validate import short_repr
from one_step_trap.errors import BookError
from one_step_trap.muzero.search import Recording, Simulation
from one_step_trap.muzero.viewer_data import MOST_SIMULATIONS, Frame, Place, places, replay
from one_step_trap.pages import static
from one_step_trap.pages.figures import BLUE, GREEN, VERMILLION

COLUMN, ROW, RADIUS, TOP = (
    74,
    104,
    19,
    30,
)  # of the drawing, in its own units: about a pixel each on a telephone


def playable_tree(
    name: str, recording: Recording, *, actions: Sequence[str] | None = None, alt_text: str
) -> str:
    """Return a recorded search to step through as a piece of HTML that works by itself.

    ``name`` becomes the element's id. ``recording``: one of ``search(..., record=True).recordings``, at most 40 simulations.
    ``actions``: what the actions are called, by default their numbers. ``alt_text`` describes the tree to who cannot see it.
    """
    if not isinstance(alt_text, str) or not alt_text.strip():
        raise BookError(f"alt_text must be a text that is not empty, got {short_repr(alt_text)}")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][\w-]*", name, flags=re.ASCII):
        raise BookError(
            f"name must be letters, digits and hyphens, as in search-tree, got {short_repr(name)}"
        )
    where, frames = places(recording), replay(recording)
    if not 1 <= len(recording.simulations) <= MOST_SIMULATIONS:
        raise BookError(f"a page shows 1 to {MOST_SIMULATIONS} simulations, got {len(recording.simulations)}")
    words = _names(actions, len(recording.prior))
    data = [_frame(frame, recording, where, words) for frame in frames]
    style = static.style("tree", BLUE=BLUE, GREEN=GREEN, VERMILLION=VERMILLION)
    rows = 2 + max(item["table"].count("<tr") for item in data)
    return (
        f'<div class="ost-play ost-tree" id="{name}" data-ready="false"><style>{style}</style>'
        "<noscript><style>.ost-tree .ost-buttons { display: none; }</style><p>Without JavaScript: the root.</p></noscript>"
        f'<label for="{name}-step">Step through the search</label><div class="ost-buttons">'
        '<button type="button" aria-label="one step back">←</button>'
        f'<input type="range" id="{name}-step" min="0" max="{len(frames) - 1}" step="1" value="0" '
        f'aria-valuetext="{escape(data[0]["at"])}" autocomplete="off">'
        '<button type="button" aria-label="one step on">→</button></div>'
        f'<p class="ost-say" aria-live="polite">{data[0]["say"]}</p>{_drawing(where, data[0], words, alt_text)}'
        f'<div class="ost-table" style="--rows: {1.6 * rows:.1f}rem" tabindex="0" role="region" '
        f'aria-label="numbers of this step">{data[0]["table"]}</div></div><script type="module">'
        f"{static.script('tree', name, data)}</script>"
    )


def _names(actions: Sequence[str] | None, count: int) -> list[str]:
    if actions is None:
        return [str(a) for a in range(count)]
    names = list(actions) if not isinstance(actions, str) else []
    if len(names) != count or not all(isinstance(name, str) and name.strip() for name in names):
        raise BookError(f"actions must be the names of the {count} actions, got {short_repr(actions)}")
    return names


# --- the drawing ------------------------------------------------------------------------------------------


def _drawing(where: Sequence[Place], first: dict[str, Any], words: Sequence[str], alt_text: str) -> str:
    """Return the whole tree as SVG, one group a node with the line to its parent; the first frame shows the root."""
    width = max(4, max(place.x for place in where) + 1) * COLUMN
    shift = (width - (max(place.x for place in where) + 1) * COLUMN) / 2 + COLUMN / 2
    height = TOP + max(place.depth for place in where) * ROW + RADIUS + 40
    spots = [(round(shift + place.x * COLUMN), TOP + place.depth * ROW) for place in where]
    groups = []
    for i, (x, y) in enumerate(spots):
        line = label = ""
        if i:
            a, b = spots[where[i].parent]
            line = f'<line x1="{a}" y1="{b}" x2="{x}" y2="{y}"></line>'
            middle = round(a + 0.62 * (x - a)), round(b + 0.62 * (y - b)) + 4
            label = f'<text x="{middle[0]}" y="{middle[1]}">{escape(words[where[i].action])}</text>'
        texts = "".join(
            f'<text x="{x}" y="{y + down}">{text}</text>'
            for down, text in zip(
                (5, RADIUS + 16, RADIUS + 31), first["texts"][i] or ["", "", ""], strict=True
            )
        )
        circle = f'<circle cx="{x}" cy="{y}" r="{RADIUS}"></circle>'
        groups.append(f'<g class="{first["kinds"][i]}">{line}{circle}{texts}{label}</g>')
    drawn = "".join(reversed(groups))  # the root last, so that nodes cover the lines to their children
    return (
        f'<div class="ost-plot" tabindex="0" role="img" aria-label="{escape(alt_text, quote=True)}">'
        f'<svg viewBox="0 0 {round(width)} {height}" style="width:{round(1.35 * width)}px;min-width:{round(0.85 * width)}px" '
        f'aria-hidden="true">{drawn}</svg></div>'
    )


# --- the steps --------------------------------------------------------------------------------------------


def _frame(
    frame: Frame, recording: Recording, where: Sequence[Place], words: Sequence[str]
) -> dict[str, Any]:
    """Return all that the page shows in one frame."""
    kind = {"start": "", "select": "ost-select", "expand": "ost-expand", "back up": "ost-back"}[frame.phase]
    marked = frame.path[-1:] if frame.phase == "expand" else frame.path if frame.phase != "start" else ()
    kinds = ["ost-away" if i >= frame.size else kind if i in marked else "" for i in range(len(where))]
    texts = [
        [f"s{i}", f"N {frame.visits[i]}", f"V {_number(frame.means[i])}" if frame.visits[i] else "V –"]
        if i < frame.size
        else None
        for i in range(len(where))
    ]
    if frame.phase == "start":
        say, table, at = _start(recording, words)
    else:
        simulation = recording.simulations[frame.simulation - 1]
        tell = {"select": _select, "expand": _expand, "back up": _back_up}[frame.phase]
        say, table = tell(frame, simulation, recording, words)
        which = f"simulation {frame.simulation} of {len(recording.simulations)}"
        at, say = f"{which}, {frame.phase}", f"<strong>{frame.phase.capitalize()}</strong>, {which}: {say}"
    return {"at": at, "say": say, "table": table, "kinds": kinds, "texts": texts}


def _start(recording: Recording, words: Sequence[str]) -> tuple[str, str, str]:
    say = (
        f"<strong>The root</strong> s0 is evaluated: v = {_number(recording.value)}. Its prior P says where to look first. "
        "In a node: its name; below: visits N and mean return V."
    )
    rows = [[escape(word), _number(p)] for word, p in zip(words, recording.prior, strict=True)]
    return say, _table(["action", "P"], rows), "the root, before the first simulation"


def _select(
    frame: Frame, simulation: Simulation, recording: Recording, words: Sequence[str]
) -> tuple[str, str]:
    head, rows = ["action", "P", "N", "Q", "Q̄", "+ bonus", "= score"], []
    for step in simulation.steps:
        rows.append([f"at s{step.node}, N = {frame.visits[step.node]}"])
        known = _children(recording, frame, step.node)
        for a, word in enumerate(words):
            child, bonus = known.get(a), step.bonuses[a]
            n, q = (frame.visits[child], _number(frame.q[child])) if child is not None else (0, "–")
            total = _number(step.values[a] + bonus) if bonus > -1e308 else "illegal"
            prior = _prior(recording, step.node)[a]
            row = [escape(word), _number(prior), str(n), q, _number(step.values[a])]
            row += [_number(bonus) if bonus > -1e308 else "–", total]
            rows.append([*row, "chosen"] if a == step.action else row)
    taken = " → ".join(escape(words[step.action]) for step in simulation.steps)
    end = (
        "where there is no node yet"
        if simulation.grown
        else f"to s{simulation.leaf}, as deep as the search may go"
    )
    return f"the highest score each time: {taken}, {end}.", _table(head, rows)


def _expand(
    frame: Frame, simulation: Simulation, recording: Recording, words: Sequence[str]
) -> tuple[str, str]:
    last = simulation.steps[-1]
    value, reward = _number(simulation.value), _number(simulation.reward)
    if not simulation.grown:
        return f"s{simulation.leaf} is as deep as the search may go; its value v = {value} counts again.", ""
    rows = [[escape(word), _number(p)] for word, p in zip(words, simulation.prior, strict=True)]
    say = (
        f"the model steps from s{last.node} by {escape(words[last.action])} to the new s{simulation.leaf}: "
        f"reward r = {reward}, value v = {value}, and a prior."
    )
    return say, _table(["action", "P"], rows)


def _back_up(
    frame: Frame, simulation: Simulation, recording: Recording, words: Sequence[str]
) -> tuple[str, str]:
    rows, path = [], frame.path
    for i, (node, G) in enumerate(zip(reversed(path), simulation.returns, strict=True)):
        if i:
            reward, below = _reward(recording, path[len(path) - i]), simulation.returns[i - 1]
            step = f"{_number(reward)} + {recording.gamma:g} · {_number(below)}"
        else:
            step = "v"
        q = _number(frame.q[node]) if node else ""
        rows.append(
            [f"s{node}", f"{step} = {_number(G)}", str(frame.visits[node]), _number(frame.means[node]), q]
        )
    say = (
        f"G = v at the leaf, r + {recording.gamma:g} G above it. N and V = mean of G are new on the path; "
        f"all Q so far: {_number(simulation.low)} to {_number(simulation.high)}."
    )
    return say, _table(["node", "G", "N", "V", "Q"], rows)


def _children(recording: Recording, frame: Frame, node: int) -> dict[int, int]:
    """Return the children of a node that exist in a frame, by action."""
    found = {}
    for simulation in recording.simulations[: frame.simulation]:
        last = simulation.steps[-1]
        if simulation.grown and last.node == node and simulation.leaf < frame.size:
            found[last.action] = simulation.leaf
    return found


def _made(recording: Recording, node: int) -> Simulation:
    return next(
        simulation for simulation in recording.simulations if simulation.grown and simulation.leaf == node
    )


def _prior(recording: Recording, node: int) -> Any:
    return recording.prior if node == 0 else _made(recording, node).prior


def _reward(recording: Recording, node: int) -> float:
    return _made(recording, node).reward


def _number(value: float) -> str:
    """Return a number with two decimals and a real minus sign; zero has none."""
    text = f"{value:.2f}" if abs(value) < 1e5 else f"{value:.2e}"
    return "0.00" if text == "-0.00" else text.replace("-", "−")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; a row of one cell is a heading, one with a cell more than the head is marked."""
    body = []
    for row in rows:
        if len(row) == 1:
            body.append(f'<tr class="ost-at"><th colspan="{len(head)}" scope="colgroup">{row[0]}</th></tr>')
            continue
        marked = ' class="ost-chosen"' if len(row) > len(head) else ""
        name = f"► {row[0]}" if marked else row[0]
        cells = "".join(f"<td>{cell}</td>" for cell in row[1 : len(head)])
        body.append(f'<tr{marked}><th scope="row">{name}</th>{cells}</tr>')
    top = "".join(f'<th scope="col">{name}</th>' for name in head)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{''.join(body)}</tbody></table>"
