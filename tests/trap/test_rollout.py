"""Open-loop error: worlds whose error is known in closed form, plain loops, steps to one sd."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_loops import open_loop

from one_step_trap.errors import BookError
from one_step_trap.trap import rollout as r
from one_step_trap.trap.networks import Training, train
from one_step_trap.trap.worlds import Trajectories, collect, trajectories


def made(episodes, *, ended=None, dims=1, actions=1):
    """Trajectories from lists of observations; actions are 0."""
    obs = [np.asarray(e, dtype=float).reshape(len(e), dims) for e in episodes]
    return trajectories("made", obs, [np.zeros((len(o) - 1, actions)) for o in obs], ended)


def waves(episodes=8, steps=30, dims=2, seed=0):
    """Linear dynamics x' = A x + B a under random actions, a rotation that shrinks a little; returns data and truth."""
    rng = np.random.default_rng(seed)
    turn = np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    A = 0.98 * np.kron(np.eye(dims // 2), turn)
    B = 0.1 * rng.normal(size=(dims, 1))
    obs, act = [], []
    for _ in range(episodes):
        a = rng.uniform(-1, 1, (steps, 1))
        x = [rng.normal(size=dims)]
        for t in range(steps):
            x.append(A @ x[-1] + B @ a[t])
        obs.append(np.array(x))
        act.append(a)
    return trajectories("waves", obs, act), lambda x, a: x @ A.T + a @ B.T


def drifts(delta=0.1, episodes=6, steps=20, growth=1.0):
    """A world that stands still at 0 or 1, so that its sd is 1/2, and a model x -> growth x + delta."""
    data = made([[float(e % 2)] * (steps + 1) for e in range(episodes)])
    return data, lambda x, a: growth * x + delta


# --- the measure ------------------------------------------------------------------------------------------


def test_a_model_that_drifts():
    data, model = drifts()
    error = r.rollout_error(model, data, depth=10, starts=3)
    assert error.sd == pytest.approx([0.5])
    assert error.total == pytest.approx(np.tile(0.2 * np.arange(1, 11), (len(error.start), 1)))
    assert error.curve() == pytest.approx(0.2 * np.arange(1, 11))
    assert error.curve("rms") == pytest.approx(error.curve())
    assert error.one_step_error == pytest.approx(0.2)
    found = r.steps_to_one_sd(error, np.random.default_rng(0))
    assert (found.value, found.low, found.high, found.n, found.limit) == (5, 5, 5, 6, 10)
    assert str(found) == "5 [5, 5] (95%, n = 6 trajectories)"


def test_an_expansive_model():
    # x̂_h - x = delta (K^h - 1)/(K - 1) from 0, the closed form of x' = K x + delta against x' = K x.
    data = made([[0.0] * 13, [1.0] * 13, [0.0] * 13, [1.0] * 13, [0.0] * 13])
    error = r.rollout_error(lambda x, a: x + 0.01 + 0.5 * (x - np.round(x)), data, depth=8, starts=1)
    h = np.arange(1, 9)
    assert error.total[0] == pytest.approx(0.01 * (1.5**h - 1) / 0.5 / error.sd[0], rel=1e-6)


def test_the_true_model_has_no_error():
    data, truth = waves()
    error = r.rollout_error(truth, data, depth=25, starts=4)
    assert np.nanmax(error.total) < 1e-13
    assert r.steps_to_one_sd(error, np.random.default_rng(0)).censored


def test_total_is_the_root_mean_square_over_dimensions():
    # Two dimensions with sd 1 and 2; the model is off by 3 and by 8 at once: 3 sd and 4 sd.
    episodes = [[[i % 2 * 2.0, i // 2 % 2 * 4.0]] * 5 for i in range(8)]
    data = made(episodes, dims=2)
    error = r.rollout_error(lambda x, a: np.where(x < 10, x + np.array([30, 80]), x), data, depth=1)
    assert error.sd == pytest.approx([1, 2])
    assert error.error[:, 0] == pytest.approx(np.tile([30.0, 40.0], (len(error.start), 1)))
    assert error.total[:, 0] == pytest.approx(np.sqrt((900 + 1600) / 2))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 1e3), st.floats(-1e3, 1e3))
def test_units_of_the_observation_do_not_matter(seed, scale, shift):
    data, truth = waves(episodes=5, steps=12, seed=seed % 50)
    wrong = lambda x, a: truth(x, a) + 0.05  # noqa: E731
    moved = trajectories(
        "moved",
        [o[: n + 1] * scale + shift for o, n in zip(data.observations, data.lengths, strict=True)],
        [a[:n] for a, n in zip(data.actions, data.lengths, strict=True)],
    )
    there = lambda x, a: wrong((x - shift) / scale, a) * scale + shift  # noqa: E731
    one = r.rollout_error(wrong, data, depth=10, starts=2)
    two = r.rollout_error(there, moved, depth=10, starts=2)
    assert two.total == pytest.approx(one.total, rel=1e-5, abs=1e-6, nan_ok=True)


def test_vectorised_agrees_with_plain_loops_bit_for_bit(monkeypatch):
    data, _ = waves(episodes=6, steps=40)
    calls = []

    def model(x, a):
        calls.append(len(x))
        after = x + 0.1 * np.tanh(x) + 0.05 * a
        return np.where(np.abs(after) > 3, np.nan, after)  # some starts run away

    fast = r.rollout_error(model, data, depth=30, starts=5)
    batches = len(calls)
    monkeypatch.setattr(r, "open_loop", open_loop)
    slow = r.rollout_error(model, data, depth=30, starts=5)
    assert len(calls) - batches > 5 * batches
    assert np.array_equal(fast.error, slow.error, equal_nan=True)
    assert 0 < fast.diverged < 1
    assert fast.diverged == slow.diverged


def test_a_network_agrees_with_plain_loops(monkeypatch):
    data = collect("Pendulum-v1", 1_000, 0)
    network = train(data, Training(hidden=8, updates=30), seed=0)
    fast = r.rollout_error(network, data, depth=20, starts=2)
    monkeypatch.setattr(r, "open_loop", open_loop)
    slow = r.rollout_error(network, data, depth=20, starts=2)
    assert fast.total == pytest.approx(slow.total, rel=1e-8, nan_ok=True)


def test_baselines():
    # A straight line of slope 1: "last change" is right, "no change" is off by h, the mean by |t + h - mean|.
    data = made([np.arange(21.0)] * 5)
    error = r.rollout_error(lambda x, a: x + 1, data, depth=5, starts=3)
    sd, h = np.arange(21).std(), np.arange(1, 6)
    assert r.typical_curve(error.baselines["no change"], error.limit, "median") == pytest.approx(h / sd)
    later = error.start.time > 0
    assert error.baselines["last change"][later] == pytest.approx(0)
    assert error.baselines["last change"][~later] == pytest.approx(error.baselines["no change"][~later])
    t = error.start.time[:, None]
    assert error.baselines["mean"] == pytest.approx(np.abs(t + h - 10) / sd)


def test_the_mean_is_off_by_one_sd_by_definition():
    data = made([np.random.default_rng(e).normal(size=401) for e in range(40)])
    error = r.rollout_error(lambda x, a: x, data, depth=20, starts=20)
    assert r.typical_curve(error.baselines["mean"], error.limit, "rms") == pytest.approx(1, abs=0.1)
    assert r.typical_curve(error.baselines["no change"], error.limit, "rms") == pytest.approx(
        math.sqrt(2), abs=0.15
    )


def test_constant_dimensions_are_left_out_and_told():
    data = made([[[float(i), 7.0] for i in range(10)]] * 5, dims=2)
    error = r.rollout_error(lambda x, a: x + np.array([1, 100]), data, depth=4)
    assert error.ignored == (1,)
    assert np.nanmax(error.total) == pytest.approx(0)
    assert np.isnan(error.error[..., 1]).all()
    still = made([[[1.0, 7.0]] * 10] * 5, dims=2)
    with pytest.raises(BookError, match="no dimension of the observations varies"):
        r.rollout_error(lambda x, a: x, still)
    given_sd = r.rollout_error(lambda x, a: x + 1, still, depth=2, sd=[2, 0])
    assert given_sd.total == pytest.approx(np.tile([0.5, 1.0], (len(given_sd.start), 1)))


def test_divergence_is_an_infinite_error_from_there_on():
    data, _ = drifts(episodes=6, steps=12)
    seen = []

    def model(x, a):
        seen.append(x.copy())
        return np.where(x > 2.5, np.nan, x + 1)

    error = r.rollout_error(model, data, depth=6, starts=1)
    zero = error.start.trajectory % 2 == 0
    assert np.isfinite(error.total[zero][:, :3]).all()
    assert np.isinf(error.total[zero][:, 3:]).all()  # 0, 1, 2, 3, then not a number
    assert np.isinf(error.total[~zero][:, 2:]).all()
    assert error.diverged == 1
    assert not any(np.isnan(x).any() for x in seen)  # nobody is asked about a state that is no number
    assert error.curve()[-1] == math.inf
    assert r.steps_to_one_sd(error, np.random.default_rng(0)).value == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_model_that_knows_nothing(bad):
    data, _ = drifts()
    error = r.rollout_error(lambda x, a: np.full_like(x, bad), data, depth=5)
    assert np.isinf(error.total).all()
    assert error.diverged == 1
    assert error.one_step_error == math.inf


def test_a_model_that_overflows_is_silent(recwarn):
    data, _ = drifts(steps=20)
    error = r.rollout_error(lambda x, a: np.exp(x + 5) ** 9, data, depth=20)
    assert error.diverged == 1
    assert not recwarn.list


def test_a_model_cannot_alter_the_data():
    data, _ = drifts()
    before = data.observations.copy()

    def model(x, a):
        x += 1
        a += 1
        return x

    assert r.rollout_error(model, data, depth=3).curve() == pytest.approx([2, 4, 6])
    assert (data.observations == before).all()


def test_what_a_model_may_return():
    data, _ = drifts()
    ints = r.rollout_error(lambda x, a: np.zeros(x.shape, dtype=np.int32), data, depth=3)
    lists = r.rollout_error(lambda x, a: [[0] for _ in x], data, depth=3)
    assert np.array_equal(ints.error, lists.error)
    import torch

    tensors = r.rollout_error(lambda x, a: torch.zeros(x.shape), data, depth=3)
    assert np.array_equal(ints.error, tensors.error)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda x, a: x[:, :0], r"must return next observations of shape \(60?, 1\)|of shape"),
        (lambda x, a: x[0], "it returned shape"),
        (lambda x, a: x.T, "it returned shape"),
        (lambda x, a: None, "must return an array of real numbers"),
        (lambda x, a: [[1], [2, 3]], "must return an array of numbers"),
        (lambda x, a: x.astype(str), "real numbers"),
        (lambda x, a: x + 1j, "real numbers, got complex128"),
        (7, "the model must be callable"),
    ],
)
def test_models_that_are_none(model, message):
    data, _ = drifts()
    with pytest.raises(BookError, match=message) as caught:
        r.rollout_error(model, data, depth=3)
    assert "\n" not in str(caught.value)


def test_a_tensor_with_a_gradient_is_one_line():
    import torch

    data, _ = drifts()
    with pytest.raises(BookError, match="must return an array of numbers"):
        r.rollout_error(lambda x, a: torch.zeros(x.shape, requires_grad=True), data)


def broken(**changes):
    data, _ = drifts()
    fields = {"env_id": "x", "observations": data.observations, "actions": data.actions}
    fields |= {"lengths": data.lengths, "terminated": data.terminated} | changes
    return Trajectories(**fields)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: r.rollout_error(lambda x, a: x, "Pendulm-v1"), "unknown environment 'Pendulm-v1'"),
        (lambda: r.rollout_error(lambda x, a: x, 3), "must be the id of a Gymnasium environment, or Traj"),
        (lambda: r.rollout_error(lambda x, a: x, drifts()[0], depth=0), "depth must be at least 1"),
        (lambda: r.rollout_error(lambda x, a: x, drifts()[0], depth=2.5), "depth must be a whole number"),
        (lambda: r.rollout_error(lambda x, a: x, drifts()[0], starts=0), "starts must be at least 1"),
        (lambda: r.rollout_error(lambda x, a: x, drifts()[0], sd=[1, 2]), "sd must hold 1 numbers"),
        (lambda: r.rollout_error(lambda x, a: x, drifts()[0], sd=[-1]), "sd must hold 1 numbers"),
        (lambda: r.rollout_error(lambda x, a: x, drifts()[0], sd=[np.nan]), "sd holds NaN"),
        (
            lambda: r.rollout_error(lambda x, a: x, broken(observations=np.full((6, 21, 1), np.nan))),
            "NaN or infinite",
        ),
        (lambda: r.rollout_error(lambda x, a: x, broken(actions=np.zeros((6, 21, 1)))), "one step less"),
        (lambda: r.rollout_error(lambda x, a: x, broken(lengths=np.full(6, 25))), "from 1 to 20"),
        (lambda: r.rollout_error(lambda x, a: x, broken(lengths=np.full(6, 2.5))), "whole numbers"),
        (lambda: r.rollout_error(lambda x, a: x, broken(lengths=np.zeros(5, int))), "got shapes"),
        (lambda: r.rollout_error(lambda x, a: x, broken(observations="no")), "arrays of numbers"),
        (lambda: r.open_loop(lambda x, a: x, [1.0], [[[0.0]]]), r"must be \(B, D\)"),
        (lambda: r.open_loop(lambda x, a: x, [["a"]], [[[0.0]]]), "arrays of numbers"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BookError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_an_environment_by_its_id():
    options = {"transitions": 1_000, "seed": 3, "depth": 10, "policy": "held"}
    error = r.rollout_error(lambda x, a: x, "Pendulum-v1", **options)
    again = r.rollout_error(lambda x, a: x, collect("Pendulum-v1", 1_000, 3, policy="held"), depth=10)
    assert np.array_equal(error.error, again.error, equal_nan=True)
    assert error.env_id == "Pendulum-v1"


# --- starts and depths ------------------------------------------------------------------------------------


def test_starts_leave_room():
    start = r.starts_of(np.array([100, 10, 1]), np.array([True, False, True]), 20, 5)
    assert start.time[start.trajectory == 0].tolist() == [0, 20, 40, 60, 80]
    assert start.time[start.trajectory == 1].tolist() == [0, 1, 2, 4, 5]  # half of the episode is left
    assert start.time[start.trajectory == 2].tolist() == [0]
    assert start.ended[start.trajectory == 1].any() == False  # noqa: E712


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.integers(1, 40), st.integers(1, 7))
def test_every_start_has_its_depth_or_half_its_trajectory(lengths, depth, starts):
    lengths = np.array(lengths)
    start = r.starts_of(lengths, np.ones(len(lengths), bool), depth, starts)
    left = lengths[start.trajectory] - start.time
    assert (left >= np.minimum(depth, np.ceil(lengths[start.trajectory] / 2))).all()
    assert len(set(zip(start.trajectory, start.time, strict=True))) == len(start)
    assert (np.bincount(start.trajectory) <= starts).all()
    assert set(start.trajectory) == set(range(len(lengths)))


def test_depths_that_are_read():
    lengths = [4, 4, 4, 9, 9, 9, 9, 9]
    episodes = [np.arange(n + 1.0) for n in lengths]
    reached = r.rollout_error(lambda x, a: x, made(episodes, ended=[True] * 8), depth=9, starts=1)
    assert reached.reaching.tolist() == [8] * 4 + [5] * 5
    assert reached.limit == 9  # three have ended, five go on
    few = r.rollout_error(lambda x, a: x, made(episodes[:-1], ended=[True] * 7), depth=9, starts=1)
    assert few.limit == 4  # four are fewer than five
    most = r.rollout_error(
        lambda x, a: x, made([*episodes, *episodes[:3]], ended=[True] * 11), depth=9, starts=1
    )
    assert most.limit == 4  # six have ended, five go on: the longer ones are not typical
    cut = r.rollout_error(
        lambda x, a: x, made([*episodes, *episodes[:3]], ended=[False] * 11), depth=9, starts=1
    )
    assert cut.limit == 9  # nobody knows how the six that were cut would have gone on
    assert np.isnan(few.curve()[4:]).all()
    assert np.isfinite(few.curve()[:4]).all()


def test_too_few_trajectories():
    error = r.rollout_error(lambda x, a: x + 1, made([np.arange(9.0)] * 4), depth=3)
    with pytest.raises(BookError, match="at least 5 independent trajectories, got 4"):
        r.steps_to_one_sd(error, np.random.default_rng(0))


# --- steps to one sd --------------------------------------------------------------------------------------


def totals(rows):
    """Errors of one start in each of several trajectories, none of them ended."""
    total = np.array(rows, dtype=float)
    n = len(total)
    return total, r.Starts(np.arange(n), np.zeros(n, int), np.zeros(n, bool))


def test_the_median_reaches_one_where_half_of_the_starts_do():
    total, start = totals([[0, 2, 2], [0, 2, 2], [0, 0, 2], [0, 0, 0], [0, 0, 0], [0.5, 0.9, math.inf]])
    found = r.crossing(total, start, np.random.default_rng(0))
    assert found.value == 3
    assert r.first_at_least(r.typical_curve(total, 3)) == 3
    assert r.first_at_least(np.cumsum([0.1] * 12)) == 10  # ten tenths are one
    assert r.crossing(total, start, np.random.default_rng(0), threshold=3).censored
    assert r.crossing(total, start, np.random.default_rng(0), typical="rms").value == 2  # √(8/6) at depth 2
    assert r.crossing(total, start, np.random.default_rng(0), threshold=1.3, typical="rms").value == 3


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(5, 12), st.sampled_from(["median", "rms"]))
def test_crossing_agrees_with_the_curve(seed, n, typical):
    rng = np.random.default_rng(seed)
    total = np.abs(rng.normal(size=(n, 15))).cumsum(axis=1) * rng.uniform(0.02, 0.4)
    total[rng.random(n) < 0.2, 10:] = math.inf
    total, start = totals(total)
    found = r.crossing(total, start, rng, typical=typical, resamples=50)
    assert found.value == r.first_at_least(r.typical_curve(total, found.limit, typical))
    assert found.low <= found.high


def test_the_interval_is_over_trajectories_and_not_over_starts():
    # Ten trajectories cross at 10 … 19, and each is seen from many starts: that must not narrow the interval.
    def steps(copies):
        total = np.array(
            [[float(h >= 10 + e) * 2 for h in range(1, 31)] for e in range(10) for _ in range(copies)]
        )
        names = np.repeat(np.arange(10), copies)
        start = r.Starts(names, np.zeros_like(names), np.zeros(len(names), bool))
        return r.crossing(total, start, np.random.default_rng(0))

    one, many = steps(1), steps(50)
    assert (one.value, one.low, one.high, one.n) == (many.value, many.low, many.high, many.n)
    assert one.value == 14
    assert one.low < 13
    assert one.high > 16


def test_the_interval_covers():
    # Trajectories cross at geometric times; the true median start crosses at 7 (1 - .9^7 = .52).
    hits = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        cross = rng.geometric(0.1, size=25)
        total = (np.arange(1, 61) >= cross[:, None]) * 2.0
        found = r.crossing(*totals(total), rng, resamples=300)
        hits += found.low <= 7 <= found.high
    assert hits / 150 > 0.88


def test_seeds():
    found = r.median_of_steps([30, 20, 10, math.inf, 40, 50, 60, 70, 80, 90], 200)
    assert found.value == 55
    assert (found.low, found.high, found.n) == (20, 90, 10)  # second smallest, second largest
    assert found.confidence == pytest.approx(1 - 22 / 1024)
    assert found.units == "seeds"
    assert r.median_of_steps([1, math.inf], 9).censored
    few = r.median_of_steps([3, 1, 2], 9)
    assert (few.value, few.low, few.high) == (2, 1, 3)
    assert few.confidence == pytest.approx(0.75)
    assert r.median_of_steps([3], 9).confidence == 0
    for values in ([], [np.nan], [[1, 2]]):
        with pytest.raises(BookError, match="at least one number of steps"):
            r.median_of_steps(values, 9)


@pytest.mark.parametrize("n", range(6, 30))
def test_the_order_statistics_cover_and_are_the_narrowest(n):
    from scipy.stats import binom

    found = r.median_of_steps(np.arange(1, n + 1), 99)
    k = int(found.low)
    assert found.high == n + 1 - k
    assert found.confidence == pytest.approx(1 - 2 * binom.cdf(k - 1, n, 0.5))
    assert found.confidence >= 0.95 > 1 - 2 * binom.cdf(k, n, 0.5)


def test_several_models():
    errors = [r.rollout_error(drifts(d)[1], drifts()[0], depth=10) for d in (0.1, 0.05, 0.25, 0.001)]
    found = r.steps_to_one_sd(errors)
    assert found.n == 4
    assert found.value == pytest.approx(7.5)  # 5, 10, 2 and more than 10
    assert (found.low, found.high) == (2, math.inf)
    with pytest.raises(BookError, match="a sequence of them"):
        r.steps_to_one_sd([])
    with pytest.raises(BookError, match="a sequence of them"):
        r.steps_to_one_sd([1, 2])
    with pytest.raises(BookError, match="give rng"):
        r.steps_to_one_sd(errors[0])
    with pytest.raises(BookError, match="typical must be"):
        r.steps_to_one_sd(errors, typical="mean")


def test_steps_in_words_and_in_json():
    import json

    found = r.Steps(math.inf, 120.0, math.inf, 8, 200)
    assert str(found) == "more than 200 [120, more than 200] (95%, n = 8 trajectories)"
    stored = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert stored["value"] is None
    assert stored["censored"] is True
    assert stored["low"] == 120
    assert stored["limit"] == 200


def test_same_seed_same_interval():
    data, _ = waves(episodes=9)
    error = r.rollout_error(lambda x, a: x, data, depth=20)
    one, two = (r.steps_to_one_sd(error, np.random.default_rng(4)) for _ in range(2))
    assert one == two


@pytest.mark.parametrize(
    "call",
    [
        lambda: r.open_loop(None, np.zeros((1, 1)), np.zeros((1, 2, 1))),
        lambda: r.median_of_steps("x", 10),
        lambda: r.median_of_steps(3.0, 10),
        lambda: r.median_of_steps([1, 2, 3], 10, confidence=1.0),
        lambda: r.first_at_least("x"),
        lambda: r.first_at_least([1.0], math.nan),
        lambda: r.steps_to_one_sd(3),
    ],
)
def test_small_functions_check_their_input_too(call):
    with pytest.raises(BookError):
        call()
