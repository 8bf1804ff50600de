"""Star graphs: the task by hand, the cheat exactly, losses against loops, small trainings, verdicts, bad input."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from one_step_trap.errors import BookError
from one_step_trap.sampling import stargraph as sg
from one_step_trap.sampling.plots.stargraph import plot_learning, plot_positions, plot_star

G24 = sg.StarGraph()
SMALL = sg.Training(layers=1, width=16, heads=2, batch=8, steps=6, every=3, held_out=20, warmup=2)
families = st.tuples(st.integers(2, 5), st.integers(3, 5)).map(
    lambda dl: sg.StarGraph(*dl, 1 + dl[0] * (dl[1] - 1) + 3)
)


def by_hand() -> sg.Stars:
    """One graph: 7 → 1 → 2 → 3 (asked for) and 7 → 4 → 5 → 6, its edges in a fixed order."""
    edges = [[4, 5], [7, 1], [2, 3], [7, 4], [5, 6], [1, 2]]
    return sg.Stars(G24, np.array([7]), np.array([[[1, 2, 3], [4, 5, 6]]]), np.array([edges]))


def runs(**last: float) -> pd.DataFrame:
    """Five seeds of forward and multi-token with given accuracies at their last step: ``forward=.5`` and the like."""
    rows = []
    for arm, path in last.items():
        for seed in range(5):
            for step in (0, 100):
                for position in range(4):
                    value = 0.0 if step == 0 else path if position <= 1 else 1.0
                    rows.append((arm.replace("_", "-"), 2, seed, step, position, value, value, 1.0, 0.3))
    return pd.DataFrame(rows, columns=list(sg.COLUMNS))


class Cheater:
    """A model that knows only edges: it names the child of the token before, of several the one that is listed first."""

    family, arm = G24, "forward"

    def inputs(self, prompt, path):
        return torch.cat([prompt, path[:, :-1]], dim=1)

    def __call__(self, tokens, places):
        logits = torch.zeros(len(tokens), places, 1, 20)
        for b, row in enumerate(tokens.tolist()):
            edges = list(zip(row[0:12:2], row[1:12:2], strict=True))
            for p, token in enumerate(row[-places:]):
                child = next((v for u, v in edges if u == token), 0)
                logits[b, p, 0, child] = 9.0
        return logits

    generate = sg.Student.generate


# --- the task ---------------------------------------------------------------------------------------------


def test_prompt_and_answers_by_hand():
    star = by_hand()
    assert star.prompt()[0].tolist() == [4, 5, 7, 1, 2, 3, 7, 4, 5, 6, 1, 2, 7, 3, 20, 7]
    assert star.prompt(backwards=True)[0].tolist()[-4:] == [7, 3, 20, 3]
    assert star.path().tolist() == [[1, 2, 3]]
    assert star.path(backwards=True).tolist() == [[2, 1, 7]]
    assert star.text() == "4 5 | 7 1 | 2 3 | 7 4 | 5 6 | 1 2 / 7 3 = 7 → 1 2 3"
    assert star.text(backwards=True).endswith("/ 7 3 = 3 → 2 1 7")
    assert (G24.edges, G24.answer, G24.prompt, G24.equals, G24.dummy) == (6, 3, 16, 20, 21)


@settings(max_examples=40, deadline=None)
@given(families, st.integers(1, 6), st.booleans(), st.booleans(), st.integers(0, 10**6))
def test_drawn_graphs_are_stars_and_the_path_is_an_arm_of_them(family, groups, structured, arm_wise, seed):
    n = groups * family.degree
    stars = sg.draw(family, n, np.random.default_rng(seed), structured=structured, arm_wise=arm_wise)
    assert stars.prompt().shape == (n, family.prompt)
    for i in range(n):
        nodes = [int(stars.start[i]), *stars.arms[i].ravel().tolist()]
        assert len(set(nodes)) == 1 + family.edges
        assert 0 <= min(nodes) <= max(nodes) < family.values
        chains = [[stars.start[i], *arm] for arm in stars.arms[i]]
        expected = {(int(u), int(v)) for chain in chains for u, v in pairwise(chain)}
        assert {(int(u), int(v)) for u, v in stars.edges[i]} == expected
        assert [stars.start[i], *stars.path()[i]] in chains
        assert stars.path()[i, -1] == stars.goal[i]


def test_structured_samples_ask_for_every_arm_of_the_same_graph():
    stars = sg.draw(sg.StarGraph(3, 3), 6, np.random.default_rng(1), structured=True)
    for group in (slice(0, 3), slice(3, 6)):
        assert (stars.edges[group] == stars.edges[group][0]).all()
        assert len(set(stars.goal[group])) == 3
    assert (stars.edges[0] != stars.edges[3]).any()


def test_arm_wise_edges_stand_in_order_and_the_asked_arm_anywhere():
    stars = sg.draw(G24, 400, np.random.default_rng(2), arm_wise=True)
    arms = stars.edges.reshape(400, 2, 3, 2)
    assert (arms[:, :, 0, 0] == stars.start[:, None]).all()
    assert (arms[:, :, 1:, 0] == arms[:, :, :-1, 1]).all()
    assert (arms[:, 0, -1, 1] == stars.goal).mean() == pytest.approx(0.5, abs=0.08)
    shuffled = sg.draw(G24, 3_000, np.random.default_rng(3)).edges
    first = (shuffled[:, :, 1] == sg.draw(G24, 3_000, np.random.default_rng(3)).path()[:, :1]).argmax(1)
    assert np.bincount(first, minlength=6) == pytest.approx(np.full(6, 500), abs=100)  # 5 standard errors


def test_scores_of_the_perfect_cheat():
    cheat = sg.clever_hans(G24)
    assert cheat.forced.tolist() == [0.5, 1, 1]
    assert cheat.loss == pytest.approx(0.2310, abs=1e-4)  # ln 2 / 3
    assert cheat.path == 0.5
    for d in range(2, 6):
        for length in range(3, 6):
            assert sg.clever_hans(sg.StarGraph(d, length, 30)).path == 1 / d


def test_measuring_a_cheat_shows_the_cheat():
    held = sg.ask(G24, "forward", 400, np.random.default_rng(4))
    table = sg.measure(Cheater(), held).set_index("position")
    assert table["forced"][1] == pytest.approx(0.5, abs=0.08)
    assert table["forced"][[2, 3]].tolist() == [1, 1]
    assert table["generated"][0] == table["forced"][0] == table["forced"][1]
    assert table["connected"].tolist() == [1] * 4  # always an arm of the graph, often the wrong one
    assert table["generated"][3] == table["generated"][1]  # the wrong arm is wrong to its end


# --- the network ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", sg.ARMS)
def test_loss_against_loops_and_generation_against_forcing(arm):
    student = sg.Student(SMALL, arm, torch.Generator().manual_seed(5))
    ask = sg.ask(G24, arm, 6, np.random.default_rng(5), training=True)
    logits = student(student.inputs(ask.prompt, ask.path), 3)
    assert logits.shape == (6, 3, 3 if arm == "multi-token" else 1, 20)
    total = 0.0
    for b in range(6):
        for t in range(3):
            for k in range(min(logits.shape[2], 3 - t)):
                total -= torch.log_softmax(logits[b, t, k], 0)[ask.path[b, t + k]].item()
    assert student.loss(ask.prompt, ask.path).item() == pytest.approx(total / 18, rel=1e-5)
    # The table's greedy identity: up to the first error both read the same tokens.
    table = sg.measure(student, sg.ask(G24, arm, 50, np.random.default_rng(6)))
    assert table["forced"][0] == table["generated"][0]
    assert table["loss"][0] == pytest.approx(table["loss"][1:].mean())


def test_forced_and_generated_tokens_agree_up_to_the_first_error():
    student = sg.Student(SMALL, "forward", torch.Generator().manual_seed(7))
    prompt = sg.ask(G24, "forward", 30, np.random.default_rng(7)).prompt
    answer = student.generate(prompt)
    forced = student(student.inputs(prompt, answer), 3)[:, :, 0].argmax(-1)
    assert (forced == answer).all()  # its own answer, taken for the truth, is what it would say


def test_teacherless_training_reads_no_answer():
    student = sg.Student(SMALL, "teacherless", torch.Generator().manual_seed(8))
    ask = sg.ask(G24, "teacherless", 5, np.random.default_rng(8))
    read = student.inputs(ask.prompt, ask.path)
    assert (read[:, -2:] == G24.dummy).all()
    assert (student(read, 3)[:, :, 0].argmax(-1) == student.generate(ask.prompt)).all()


def test_training_is_deterministic_and_a_short_run_begins_a_long_one():
    torch.manual_seed(1)
    long = sg.train(SMALL, "reversed", 3).curve
    torch.manual_seed(2)
    before = torch.get_rng_state()
    pd.testing.assert_frame_equal(sg.train(SMALL, "reversed", 3, steps=3).curve, long[long["step"] <= 3])
    assert (torch.get_rng_state() == before).all()
    assert list(long.columns) == list(sg.COLUMNS)
    assert sorted(long["step"].unique()) == [0, 3, 6]
    assert sg.train(SMALL, "reversed", 4, steps=3).curve["loss"].iloc[0] != long["loss"].iloc[0]


def test_training_lowers_the_loss_and_stops_when_solved():
    training = replace(SMALL, batch=32, steps=160, every=40, held_out=50, learning_rate=1e-2)
    curve = sg.train(training, "multi-token", 0).curve
    whole = curve[curve["position"] == 0].set_index("step")["loss"]
    assert whole[160] < whole[0] - 0.5
    at_goal = curve[(curve["position"] == 3) & (curve["step"] == 160)]
    assert at_goal["forced"].item() > 0.9  # the last token stands in the prompt: learned first
    solved = sg.train(replace(training, solved=0.0), "forward", 0).curve
    assert solved["step"].max() == 40  # two measurements running


# --- reading the study ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (runs(forward=0.5, multi_token=1.0), "holds"),
        (runs(forward=0.5, multi_token=1.0, arm_wise=1.0), "holds when"),
        (runs(forward=0.5, multi_token=1.0, arm_wise=0.5), "holds"),
        (runs(forward=1.0, multi_token=1.0), "does not hold"),
        (runs(forward=0.5, multi_token=0.5), "open"),
        (runs(forward=0.3, multi_token=1.0), "open"),
        (runs(forward=0.5, forward_tied=1.0, multi_token=1.0), "open"),
    ],
)
def test_the_rule(table, expected):
    result = sg.verdict(table, np.random.default_rng(0))
    assert result.verdict == expected
    assert bool(result.condition) == (expected == "holds when")
    assert result.difference.n == result.cheats.n == 5


def test_the_numbers_of_the_verdict():
    result = sg.verdict(runs(forward=0.5, multi_token=1.0), np.random.default_rng(0))
    assert result.difference[:3] == (0.5, 0.5, 0.5)
    assert result.learned.low == pytest.approx(0.025 ** (1 / 5))  # Clopper-Pearson at 5 of 5


def test_outcomes_and_summary():
    table = runs(forward=0.5, multi_token=1.0)
    result = sg.outcomes(table).set_index(["arm", "seed"])
    assert result.loc[("forward", 0), ["first", "rest", "path"]].tolist() == [0.5, 1, 0.5]
    assert result["cheats"].groupby("arm").sum().to_dict() == {"forward": 5, "multi-token": 0}
    means = sg.summary(table, np.random.default_rng(0)).set_index("arm")
    assert means.loc["multi-token", ["n", "learned", "path", "path_low"]].tolist() == [5, 5, 1, 1]
    single = sg.summary(table[table["seed"] == 0], np.random.default_rng(0))
    assert (single["path_low"] == single["path_high"]).all()
    places = sg.by_position(table).set_index(["arm", "position"])
    assert places["forced"].loc["forward"].tolist() == [0.5, 1, 1]


def test_a_run_that_stopped_early_keeps_its_value():
    table = runs(forward=0.5, multi_token=1.0)
    table.loc[(table["arm"] == "forward") & (table["step"] == 100), "step"] = 200
    drawn = sg.curves(table).set_index(["arm", "step"])
    assert drawn.loc[("multi-token", 200), "mean"] == 1
    assert drawn.loc[("forward", 100), "mean"] == 0
    assert drawn["n"].eq(5).all()


def test_the_live_run_is_checked_against_the_stored_one():
    stored = runs(forward=0.5)
    live = stored[stored["seed"] == 0]
    assert sg.check_live(live, stored) == 0
    with pytest.raises(BookError, match="differs from what this machine computes: loss"):
        sg.check_live(live.assign(loss=live["loss"] * 1.03), stored)
    with pytest.raises(BookError, match="lacks 4 of 8"):
        sg.check_live(live, stored[stored["step"] == 0])


def test_the_study_holds_the_live_run_and_its_columns():
    assert (sg.LIVE[0], 2, sg.LIVE[1]) in sg.PARTS
    assert sg.STUDY.parts == len(sg.PARTS) == len(set(sg.PARTS))
    assert set(sg.STUDY.columns) == set(
        sg.measure(Cheater(), sg.ask(G24, "forward", 5, np.random.default_rng(0)))
    ) | {
        "arm",
        "degree",
        "seed",
        "step",
    }
    assert {arm for arm, _, _ in sg.PARTS} == set(sg.ARMS) == set(sg.ARM_WORDS)


def test_plots():
    table = runs(forward=0.5, multi_token=1.0)
    figure = plot_learning(sg.curves(table))
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["forward", "multi-token"]
    assert len(plot_positions(sg.by_position(table)).axes[0].containers) == 2
    drawn = [text.get_text() for ax in plot_star(by_hand()).axes for text in ax.texts]
    assert drawn.count("1: guess") == 1
    assert any(text.startswith("reversed:") and text.endswith("3 → 2 1 7") for text in drawn)


# --- bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sg.StarGraph(degree=1), "degree must be at least 2"),
        (lambda: sg.StarGraph(path_length=0), "path_length must be at least 1"),
        (lambda: sg.StarGraph(path_length=2), "at least 3 nodes"),
        (lambda: sg.StarGraph(5, 6, 20), "26 different nodes, more than the 20 values"),
        (lambda: sg.StarGraph(2.5), "whole number"),
        (lambda: sg.StarGraph("2"), "must be a number"),
        (lambda: sg.draw("G(2,4)", 1, np.random.default_rng(0)), "must be a StarGraph"),
        (lambda: sg.draw(G24, 0, np.random.default_rng(0)), "n must be at least 1"),
        (lambda: sg.draw(G24, 4, 0), "Generator"),
        (lambda: sg.draw(G24, 5, np.random.default_rng(0), structured=True), "multiple of it, got 5"),
        (lambda: sg.clever_hans(2), "must be a StarGraph"),
        (lambda: sg.Training(width=30, heads=4), "multiple of heads"),
        (lambda: sg.Training(learning_rate=0), "above 0"),
        (lambda: sg.Training(solved=math.nan), "finite"),
        (lambda: sg.Training(family=(2, 4)), "must be a StarGraph"),
        (lambda: sg.train(SMALL, "backward", 0), "arm must be one of forward"),
        (lambda: sg.train(SMALL, "forward", -1), "seed must be at least 0"),
        (lambda: sg.train(SMALL, "forward", 0, steps=0), "steps must be at least 1"),
        (lambda: sg.train(None, "forward", 0), "must be a Training"),
        (lambda: sg.train(replace(SMALL, batch=7), "structured", 0), "multiple of it"),
        (lambda: sg.ask(G24, ["forward"], 1, np.random.default_rng(0)), "arm must be one of"),
        (lambda: sg.run_part(len(sg.PARTS)), "below"),
        (lambda: by_hand().text(1), "below the number of graphs"),
        (lambda: sg.outcomes(pd.DataFrame({"arm": [1]})), "lacks the columns"),
        (lambda: sg.outcomes([1]), "must be a pandas.DataFrame"),
        (lambda: sg.outcomes(runs(forward=1.0).iloc[:0]), "no rows"),
        (lambda: sg.summary(runs(forward=1.0), 0), "Generator"),
        (lambda: sg.verdict(runs(forward=1.0), np.random.default_rng(0)), "five seeds"),
        (lambda: sg.curves(runs(forward=1.0), "accuracy"), "column must be"),
        (lambda: sg.curves(runs(forward=1.0), degree=3), "no rows at position 0 and degree 3"),
        (lambda: sg.by_position(runs(forward=1.0), degree=3), "no runs at degree 3"),
        (lambda: plot_learning(runs(forward=1.0)), "columns arm, step, mean"),
        (lambda: plot_positions(None), "must be a DataFrame"),
        (lambda: plot_star(G24), "must be Stars"),
        (lambda: plot_star(by_hand(), 3), "below the number"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BookError, match=message):
        call()
