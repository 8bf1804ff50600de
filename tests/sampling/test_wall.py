"""The data wall: one cell trained, the rule on made-up surfaces, laws that are found again, repetition by hand, bad input."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from one_step_trap.errors import BookError
from one_step_trap.sampling import bpe, wall
from one_step_trap.sampling.plots.wall import (
    plot_baselines,
    plot_repetition,
    plot_steps,
    plot_surface,
    short,
)
from one_step_trap.sampling.pretraining import Architecture, build
from one_step_trap.sampling.texts import Document, Passage

TINY = Architecture(8, 1, 2, context=16, vocabulary=280)
LARGER = Architecture(16, 1, 2, context=16, vocabulary=280)
SETTINGS = wall.Settings(
    models=(TINY, LARGER),
    sizes=(64, 256),
    seeds=(2, 1),
    batch=4,
    validation=6,
    first=2,
    warmup=2,
    budget=6_400,
)
SENTENCES = (
    "The ship lay in the harbour. The old man went down to the quay and looked out to sea, as he did. "
)


@pytest.fixture(scope="module")
def data():
    text = SENTENCES * 40
    tokenizer = bpe.train([text], 280)
    passages = [Passage("p", "c", SENTENCES), Passage("q", "d", "The sea lay in the ship.")]
    return wall.make_corpus([Document("a", "c", text)], passages, tokenizer, context=16, validation=6)


@pytest.fixture(scope="module")
def rows(data):
    return wall.cell_rows(TINY, 64, 1, data, SETTINGS)


def table(loss, models=(10, 40, 160), sizes=(100, 400, 1_600), seeds=2, spread=0.0):
    """A table of the study whose test loss of 30 passages is ``loss(N, D)`` bits per byte, plus noise by seed."""
    rng = np.random.default_rng(0)
    found = []
    for N, D, seed in itertools.product(models, sizes, range(seeds)):
        shift = spread * rng.normal()
        for p in range(30):
            size = 100 + p
            found.append(
                (N, 5, D, seed, "test", f"c/{p}", 4 * D, size, size * (loss(N, D) + shift + 0.01 * p), True)
            )
    return pd.DataFrame(found, columns=list(wall.COLUMNS))


# --- the data ---------------------------------------------------------------------------------------------


def test_windows_share_one_token_and_none_is_in_both_sets(data):
    everything = np.concatenate([data.windows, data.validation])
    stream = bpe.stream(data.tokenizer, [SENTENCES * 40])
    assert len(data.validation) == 6
    assert len(everything) == (len(stream) - 1) // 16
    wanted = {tuple(stream[i * 16 : i * 16 + 17]) for i in range(len(everything))}
    assert {tuple(row) for row in everything} == wanted


def test_the_smaller_data_set_of_a_seed_is_part_of_the_larger(data):
    small, large = data.subset(64, 3), data.subset(256, 3)
    assert small.shape == (4, 17)
    assert (large[:4] == small).all()
    assert not (data.subset(64, 4) == small).all()


# --- one cell ---------------------------------------------------------------------------------------------


def test_the_average_weighs_late_weights_more_and_adds_up_to_one():
    # unrolled: the weight of step t in the average of T steps
    T = 50
    shares = np.zeros(T)
    for t in range(T):
        c = wall.average_weight(t)
        shares *= 1 - c
        shares[t] += c
    assert wall.average_weight(0) == 1
    assert shares.sum() == pytest.approx(1)
    assert (np.diff(shares) > 0).all()
    mean_age = ((T - 1 - np.arange(T)) * shares).sum()
    assert mean_age == pytest.approx((T - 1) / 10, abs=0.5)  # about T/(η+2)


def test_batches_go_through_all_windows_before_they_repeat():
    windows = torch.arange(6)[:, None]
    batches = [wall._batch(windows, 4, update, 0).ravel().tolist() for update in range(3)]
    seen = list(itertools.chain(*batches))
    assert sorted(seen[:6]) == sorted(seen[6:]) == list(range(6))


def test_a_cell_stops_early_and_keeps_its_best_weights(data):
    lengths = bpe.byte_lengths(data.tokenizer)
    other = np.random.default_rng(0).integers(1, 280, (6, 17))  # nothing that the training text could teach
    settings = replace(SETTINGS, learning_rate=0.05, embedding_rate=0.05)
    cell = wall.train_cell(TINY, data.subset(64, 0), other, lengths, 0, settings)
    assert cell.stopped
    assert cell.seen[-1] < settings.budget
    assert cell.best == len(cell.bits) - 1 - settings.patience
    size = lengths[other[:, 1:]].sum()
    again = wall._total_loss(cell.model, torch.from_numpy(other)) / math.log(2) / size
    assert again == pytest.approx(cell.bits[cell.best])
    assert (np.diff(cell.seen) > 0).all()


def test_a_cell_that_still_improves_ends_at_the_budget(data):
    lengths = bpe.byte_lengths(data.tokenizer)
    settings = replace(SETTINGS, budget=1_280)
    cell = wall.train_cell(TINY, data.subset(256, 0), data.validation, lengths, 0, settings)
    assert not cell.stopped
    assert cell.seen[-1] == 1_280
    assert cell.bits[-1] < cell.bits[0]


def test_the_rows_of_a_cell_are_the_same_each_time(data, rows):
    again = wall.cell_rows(TINY, 64, 1, data, SETTINGS)
    pd.testing.assert_frame_equal(rows, again)
    assert list(rows.columns) == list(wall.COLUMNS)
    assert not rows.duplicated(["parameters", "tokens", "seed", "measure", "passage", "seen"]).any()
    test = rows[rows["measure"] == "test"]
    assert test["passage"].tolist() == ["c/p", "d/q"]
    assert test["bytes"].tolist() == [len(SENTENCES), 24]
    looks = rows[rows["measure"] == "validation"]
    assert test["seen"].iloc[0] == looks["seen"].loc[looks["bits"].idxmin()]
    assert (rows["parameters"] == TINY.parameters).all()


def test_training_helps_on_the_test_passages(data, rows):
    from one_step_trap.sampling.pretraining import code_lengths

    before = code_lengths(build(TINY, 1), data.tokenizer, data.passages, context=16)
    trained = rows[rows["measure"] == "test"]
    assert trained["bits"].sum() < before["bits"].sum()


def test_a_cell_trained_again_is_held_against_the_stored_one(rows):
    stored = pd.concat([rows, rows.assign(seed=9)], ignore_index=True)
    now, then = wall.check_cell(stored, rows)
    assert now == then > 0
    with pytest.raises(BookError, match="comes to"):
        wall.check_cell(stored.assign(bits=stored["bits"] * 1.1), rows)
    with pytest.raises(BookError, match="has no cell"):
        wall.check_cell(stored, rows.assign(seed=5))
    with pytest.raises(BookError, match="one cell"):
        wall.check_cell(stored, stored)


def test_the_study_has_each_cell_once_and_the_first_seed_first():
    plan = wall.cells(SETTINGS)
    assert [(model.width, size, seed) for model, size, seed in plan] == [
        (8, 64, 0),
        (16, 64, 0),
        (8, 256, 0),
        (16, 256, 0),
        (8, 64, 1),
        (16, 64, 1),
    ]
    assert wall.STUDY.parts == len(wall.cells()) == sum(4 * n for n in wall.FULL.seeds)
    assert wall.cells()[0] == (wall.FULL.models[0], wall.FULL.sizes[0], 0)


# --- the rule ---------------------------------------------------------------------------------------------


def test_the_surface_has_the_losses_that_were_put_in():
    losses = wall.surface(table(lambda N, D: 2 + 1 / N + 10 / D), np.random.default_rng(0))
    assert len(losses) == 9
    row = losses[(losses["parameters"] == 40) & (losses["tokens"] == 400)].iloc[0]
    p = np.arange(30)
    by_hand = 2 + 1 / 40 + 10 / 400 + (0.01 * p * (100 + p)).sum() / (100 + p).sum()
    assert row["bits_per_byte"] == pytest.approx(by_hand)
    assert row["low"] < by_hand < row["high"]
    assert row["epochs"] == 4
    assert row["seeds"] == 2
    assert row["stopped"]


def test_a_gain_without_noise_is_exact():
    gains = wall.steps(
        table(lambda N, D: 2 - 0.1 * math.log(N) - 0.2 * math.log(D)), np.random.default_rng(0)
    )
    quadruple = gains[gains["step"] == "parameters"]
    assert quadruple["gain"].to_numpy() == pytest.approx(0.1 * math.log(4))
    assert quadruple["low"].to_numpy() == pytest.approx(0.1 * math.log(4))
    assert gains[gains["step"] == "data"]["gain"].to_numpy() == pytest.approx(0.2 * math.log(4))
    assert len(quadruple) == 2 * 3
    assert gains["helps"].all()


def test_the_gain_between_any_two_cells_is_the_difference_of_their_losses():
    runs = table(lambda N, D: 2 - 0.02 * math.log(N) - 0.1 * math.log(D))
    rng = np.random.default_rng(0)
    found = wall.gain(runs, (10, 100), (160, 1_600), rng)
    assert found.value == pytest.approx(0.12 * math.log(16), abs=1e-3)
    assert found.n == 2
    assert wall.gain(runs, (160, 1_600), (10, 100), rng).value == pytest.approx(-found.value)
    with pytest.raises(BookError, match=r"no cell of \(20, 100\)"):
        wall.gain(runs, (20, 100), (40, 100), rng)


def test_noise_between_seeds_widens_the_interval():
    quiet, loud = (
        wall.steps(table(lambda N, D: 2 - 0.02 * math.log(N), spread=s, seeds=3), np.random.default_rng(0))
        for s in (0.0, 0.05)
    )
    width = [float((g["high"] - g["low"]).mean()) for g in (quiet, loud)]
    assert width[0] < 1e-9
    assert width[1] > 0.02


def test_a_wall_that_moves_with_the_data_is_found():
    # parameters help only while N < D / 10; data always helps
    def loss(N, D):
        return 3 - 0.1 * math.log(min(N, D / 10)) - 0.05 * math.log(D)

    found = wall.walls(wall.steps(table(loss), np.random.default_rng(0)))
    assert found["tokens"].tolist() == [100, 400]
    assert found["wall"].tolist() == [10, 40]
    assert wall.verdict(found) == "holds"
    assert found["gain_parameters"].to_numpy() == pytest.approx(0)


@pytest.mark.parametrize(
    ("loss", "verdict"),
    [
        (lambda N, D: 3 - 0.1 * math.log(N) - 0.1 * math.log(D), "does not hold"),  # everything always helps
        (lambda N, D: 3 - 0.1 * math.log(N), "does not hold"),  # data never helps
        (lambda N, D: 3.0, "does not hold"),  # nothing helps: no wall of the data
        (lambda N, D: 3 + 0.1 * math.log(N) - 0.1 * math.log(D), "holds"),  # more parameters harm
        (lambda N, D: 3 - 0.1 * math.log(D) - (0.1 * math.log(N) if D >= 400 else 0), "holds in part"),
        (lambda N, D: 3 - 0.006 * math.log(N) - 0.1 * math.log(D), "holds"),  # helps by less than CLEAR
    ],
)
def test_the_verdict_follows_the_rule(loss, verdict):
    assert wall.verdict(wall.walls(wall.steps(table(loss), np.random.default_rng(0)))) == verdict


def test_steps_compare_the_seeds_that_both_cells_have():
    runs = table(lambda N, D: 2 - 0.1 * math.log(D), seeds=3)
    runs = runs[(runs["tokens"] < 1_600) | (runs["seed"] == 0)]
    gains = wall.steps(runs, np.random.default_rng(0))
    last = gains[(gains["step"] == "data") & (gains["to"] == 1_600)]
    assert (last["seeds"] == 1).all()
    assert last["gain"].to_numpy() == pytest.approx(0.1 * math.log(4))


# --- laws -------------------------------------------------------------------------------------------------


def grid(loss):
    cells = list(itertools.product((1e4, 5e4, 2e5, 8e5), (4e3, 1.6e4, 6.4e4, 2.6e5, 1e6)))
    return pd.DataFrame(
        [(N, D, loss(N, D)) for N, D in cells], columns=["parameters", "tokens", "bits_per_byte"]
    )


def test_the_law_of_hoffmann_is_found_again():
    losses = grid(lambda N, D: 1.2 + 6 / N**0.35 + 40 / D**0.4)
    law = wall.fit(losses)
    assert law.rms < 1e-6
    assert law.constants["alpha"] == pytest.approx(0.35, rel=1e-3)
    assert law.constants["beta"] == pytest.approx(0.4, rel=1e-3)
    assert law.constants["E"] == pytest.approx(1.2, rel=1e-3)
    assert law(8e5, 1e6) == pytest.approx(1.2 + 6 / 8e5**0.35 + 40 / 1e6**0.4)
    assert wall.extrapolation(losses, "Hoffmann") < 1e-4


def test_the_law_of_kaplan_is_found_again():
    losses = grid(lambda N, D: ((1e6 / N) ** (0.08 / 0.1) + 1e8 / D) ** 0.1)
    law = wall.fit(losses, "Kaplan")
    assert law.rms < 1e-6
    assert law.constants["alpha_N"] == pytest.approx(0.08, rel=1e-2)
    assert law.constants["alpha_D"] == pytest.approx(0.1, rel=1e-2)


def test_a_law_that_is_not_true_has_residuals():
    losses = grid(lambda N, D: 2 + (0.3 if N == 2e5 else 0.0) + 30 / D**0.4)
    assert wall.fit(losses).rms > 0.05


# --- repetition -------------------------------------------------------------------------------------------


def test_repetition_by_hand():
    # new text: 4 bits per byte less 1 for every doubling after 100 tokens; the small set stops improving at 400
    def look(D, seed, seen):
        bits = 4 - math.log2(min(seen, 400 if D == 100 else 1e9) / 100)
        return (10, 5, D, seed, "validation", "all", seen, 8, 8 * bits, True)

    curves = [
        look(D, seed, seen) for D in (100, 1_600) for seed in (0, 1) for seen in (100, 200, 400, 800, 1_600)
    ]
    tested = [(10, 5, D, 0, "test", "c/p", 400, 8, 20.0, True) for D in (100, 1_600)]
    found = wall.repetition(pd.DataFrame(curves + tested, columns=list(wall.COLUMNS)))
    assert found["epochs"].tolist() == [1, 2, 4, 8, 16]
    assert found["excess"].to_numpy() == pytest.approx([0, 0, 0, 1, 2])
    assert (found["seeds"] == 2).all()


# --- plots and bad input ----------------------------------------------------------------------------------


def test_figures_show_what_they_are_given():
    runs = table(lambda N, D: 3 - 0.1 * math.log(min(N, D / 10)) - 0.05 * math.log(D))
    rng = np.random.default_rng(0)
    losses, gains = wall.surface(runs, rng), wall.steps(runs, rng)
    figure = plot_surface(losses, wall.walls(gains))
    (ax,) = figure.axes
    rings = [line for line in ax.lines if line.get_markersize() == 15]
    assert [ring.get_xdata()[0] for ring in rings] == [10, 40]
    assert len(ax.containers) == 3
    left, right = plot_steps(gains).axes
    assert len(left.containers) == len(right.containers) == 3
    excess = pd.DataFrame(
        {
            "parameters": 10,
            "tokens": [100, 100],
            "epochs": [1.0, 4.0],
            "excess": [0.0, 0.1],
            "low": 0.0,
            "high": 0.1,
        }
    )
    assert plot_repetition(excess, 10).axes[0].containers[0].lines[0].get_ydata().tolist() == [0, 0.1]
    bars = pd.DataFrame(
        {
            "name": ["zlib", "our base model"],
            "bits_per_byte": [3.0, 1.5],
            "low": [3.0, 1.4],
            "high": [3.0, 1.6],
        }
    )
    ax = plot_baselines(bars).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["zlib", "our base model"]


@pytest.mark.parametrize(
    ("number", "text"),
    [(791_680, "792k"), (4_096, "4.1k"), (1_048_576, "1M"), (65_536, "66k"), (12, "12"), (1.5e6, "1.5M")],
)
def test_short_numbers(number, text):
    assert short(number) == text


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: wall.Settings(models=(TINY,)), "at least two Architectures"),
        (lambda d: replace(SETTINGS, models=(LARGER, TINY)), "must grow in parameters"),
        (lambda d: replace(SETTINGS, models=(TINY, replace(LARGER, context=8))), "the same context"),
        (lambda d: replace(SETTINGS, sizes=(256, 64)), "at least two that grow"),
        (lambda d: replace(SETTINGS, sizes=(8, 64)), "size must be at least 16"),
        (lambda d: replace(SETTINGS, seeds=(1, 2)), "none larger than the one before"),
        (lambda d: replace(SETTINGS, seeds=(1,)), "one number a size"),
        (lambda d: replace(SETTINGS, growth=1.0), "growth must be above 1"),
        (lambda d: replace(SETTINGS, learning_rate=float("nan")), "finite number"),
        (lambda d: d.subset(8, 0), "size must lie in"),
        (lambda d: d.subset(10**9, 0), "size must lie in"),
        (lambda d: d.subset(64, -1), "seed must be at least 0"),
        (lambda d: wall.run_part(10_000), "part must be below"),
        (lambda d: wall.run_part(-1), "part must be at least 0"),
        (lambda d: wall.surface(pd.DataFrame(), np.random.default_rng(0)), "must have the columns"),
        (lambda d: wall.surface(table(lambda N, D: 2.0), 0), "numpy.random.Generator"),
        (lambda d: wall.verdict(pd.DataFrame({"wall": []})), "the rule cannot be applied"),
        (lambda d: wall.fit(grid(lambda N, D: 2.0), "Newton"), "must be one of Hoffmann, Kaplan"),
        (lambda d: wall.fit(grid(lambda N, D: 2.0)[:4]), "too few"),
        (lambda d: plot_repetition(pd.DataFrame({"parameters": [1]}), 2), "no model of 2 parameters"),
        (
            lambda d: wall.make_corpus(
                [Document("a", "c", "short")], d.passages, d.tokenizer, context=16, validation=6
            ),
            "not enough to set 6 aside",
        ),
    ],
)
def test_bad_input_is_one_clear_error(data, call, message):
    with pytest.raises(BookError, match=message) as error:
        call(data)
    assert "\n" not in str(error.value)


def test_a_table_without_tests_or_with_holes_is_an_error(rows):
    rng = np.random.default_rng(0)
    with pytest.raises(BookError, match="no test rows"):
        wall.surface(rows[rows["measure"] == "validation"], rng)
    holes = table(lambda N, D: 2.0).drop(index=3)
    with pytest.raises(BookError, match="lacks passages"):
        wall.steps(holes, rng)
