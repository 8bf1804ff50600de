"""Exact n-step errors: hand-worked chains, the fast path against plain loops, distances, the bound, growth laws."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, stats

from one_step_trap.core import tabular
from one_step_trap.errors import BookError
from one_step_trap.trap import chains as c


def random_pair(seed: int, states: int, mix: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    P, Q = rng.dirichlet(np.full(states, 0.7), (2, states))
    return P, (1 - mix) * P + mix * Q


TWO = [[0.9, 0.1], [0.0, 1.0]]
TWO_HAT = [[0.8, 0.2], [0.0, 1.0]]


def test_two_steps_by_hand():
    curve = c.n_step_error(TWO, TWO_HAT, [1, 2], start=0, positions=[0, 10])
    assert curve.tv == pytest.approx([0.1, 0.81 - 0.64])
    assert curve.w1 == pytest.approx([1, 1.7])
    kl = [0.9 * math.log(9 / 8) + 0.1 * math.log(1 / 2), 0.81 * math.log(81 / 64) + 0.19 * math.log(19 / 36)]
    assert curve.kl == pytest.approx(kl)
    assert curve.at(2) == pytest.approx(0.17)
    assert curve.ratio() == pytest.approx([1, 1.7])


def test_the_worst_start_is_taken_for_every_metric():
    curve = c.n_step_error(TWO, TWO_HAT, [1, 5])
    assert curve.tv == pytest.approx(c.n_step_error(TWO, TWO_HAT, [1, 5], start=0).tv)
    assert c.n_step_error(TWO, TWO_HAT, [1, 5], start=1).tv == pytest.approx([0, 0])
    half = c.n_step_error(TWO, TWO_HAT, [1, 5], start=[0.5, 0.5])
    assert half.tv == pytest.approx(curve.tv / 2)
    both = c.n_step_error(TWO, TWO_HAT, [1, 5], start=[[0.5, 0.5], [0.0, 1.0]])
    assert both.tv == pytest.approx(half.tv)


def test_kl_is_infinite_where_the_model_excludes_what_happens():
    never = np.eye(2)
    leaks = [[0.99, 0.01], [0.0, 1.0]]
    assert np.isinf(c.n_step_error(leaks, never, [1, 10], start=0).kl).all()
    other = c.n_step_error(never, leaks, [1, 10, 10_000], start=0)
    assert other.kl == pytest.approx(-math.log(0.99) * np.array([1, 10, 10_000]))


def test_kl_stays_finite_where_a_probability_only_rounds_to_zero():
    """0.9^10,000 is 1e-458: not a number of the machine, and not impossible either."""
    curve = c.n_step_error(np.eye(2), [[0.9, 0.1], [0.0, 1.0]], [10_000], start=0)
    assert 700 < curve.kl[0] < math.inf


def test_distances_by_hand():
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.25, 0.5])
    assert tabular.total_variation(p, q) == 0.5
    assert tabular.kl_divergence(p, q) == pytest.approx(math.log(2))
    assert tabular.kl_divergence(q, p) == math.inf
    # 1/4 moves from 0 to 3, 1/4 from 1 to 3.
    assert tabular.wasserstein(p, q, np.array([0.0, 1.0, 3.0])) == pytest.approx(0.25 * 3 + 0.25 * 2)


def test_wasserstein_against_scipy():
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(8), 2)
    x = np.sort(rng.normal(size=8))
    assert tabular.wasserstein(p, q, x) == pytest.approx(stats.wasserstein_distance(x, x, p, q))


def step_by_step(P, P_hat, steps, start, x):
    """What `n_step_error` returns for one pair of chains, by plain loops: rows (TV, KL, W₁), one an n of ``steps``."""
    p = q = np.eye(len(P)) if start is None else np.eye(len(P))[[start]] if np.ndim(start) == 0 else start
    rows = []
    for n in range(1, steps[-1] + 1):
        p, q = p @ P, q @ P_hat
        if n in steps:
            pairs = list(zip(p, q, strict=True))
            tv = max(0.5 * sum(abs(a - b)) for a, b in pairs)
            kl = max(sum(a * np.log(a / b)) for a, b in pairs)
            w1 = max(
                sum(abs(sum((a - b)[: i + 1])) * (x[i + 1] - x[i]) for i in range(len(P) - 1))
                for a, b in pairs
            )
            rows.append((tv, kl, w1))
    return np.array(rows)


@pytest.mark.parametrize("start", [None, 1, [[0.2, 0.3, 0.1, 0.4], [1, 0, 0, 0]]])
@pytest.mark.parametrize("method", ["squaring", "loop", "auto"])
def test_the_fast_paths_agree_with_plain_loops(method, start):
    P, P_hat = random_pair(1, 4)
    steps, x = [1, 2, 3, 7, 40, 131], [0, 1, 5, 6]
    fast = c.n_step_error(P, P_hat, steps, start=start, positions=x, method=method)
    slow = step_by_step(P, P_hat, steps, start, x)
    for metric, column in zip(("tv", "kl", "w1"), slow.T, strict=True):
        assert fast.of(metric) == pytest.approx(column, abs=1e-13, rel=1e-9)


def test_sparse_matrices_agree_with_dense_ones():
    P, P_hat = random_pair(2, 5)
    dense = c.n_step_error(P, P_hat, [1, 9, 100])
    thin = c.n_step_error(sparse.csr_array(P), sparse.csr_array(P_hat), [1, 9, 100])
    mixed = c.n_step_error(sparse.csr_matrix(P), P_hat, [1, 9, 100], method="squaring")
    for other in (thin, mixed):
        assert other.tv == pytest.approx(dense.tv, abs=1e-14)
        assert other.kl == pytest.approx(dense.kl, abs=1e-14)


def test_a_batch_agrees_with_its_chains():
    pairs = [random_pair(seed, 4) for seed in range(6)]
    P, P_hat = (np.reshape([pair[i] for pair in pairs], (2, 3, 4, 4)) for i in (0, 1))
    batch = c.n_step_error(P, P_hat, [1, 5, 77])
    assert batch.tv.shape == (2, 3, 3)
    for k, pair in enumerate(pairs):
        alone = c.n_step_error(*pair, [1, 5, 77])
        assert batch.w1[k // 3, k % 3] == pytest.approx(alone.w1, abs=1e-13)
    assert batch.at(77, "w1").shape == (2, 3)


def test_long_propagation_keeps_distributions():
    P, _ = random_pair(3, 12)
    for method in ("squaring", "loop"):
        p = c.distributions(P, np.eye(12), [1, 10_000], method=method)
        assert p.shape == (2, 12, 12)
        assert np.abs(p.sum(axis=-1) - 1).max() < 1e-13
        assert p[1] == pytest.approx(np.tile(tabular.stationary(P), (12, 1)), abs=1e-14)


def test_rows_that_sum_to_one_only_roughly_do_not_drift():
    P = np.array([[0.5, 0.5 - 5e-9], [0.5, 0.5]])
    assert c.distributions(P, 0, [10_000])[0, 0] == pytest.approx([0.5, 0.5], abs=1e-8)


def test_the_same_twice():
    P, P_hat = random_pair(4, 6)
    assert (c.n_step_error(P, P_hat).tv == c.n_step_error(P, P_hat).tv).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6), st.floats(0.01, 1))
def test_identities_of_every_pair(seed, states, mix):
    P, P_hat = random_pair(seed, states, mix)
    steps = np.array([1, 2, 3, 10, 50])
    curve = c.n_step_error(P, P_hat, steps)
    eps = curve.tv[0]
    assert eps == pytest.approx(tabular.total_variation(P, P_hat).max())
    assert (curve.tv <= np.minimum(1, eps * steps) + 1e-12).all()  # TV never stretches
    kappa = float(min(tabular.dobrushin(P), tabular.dobrushin(P_hat)))
    assert (curve.tv <= c.geometric_bound(eps, kappa, steps) + 1e-12).all()
    assert (curve.tv <= np.sqrt(curve.kl / 2) + 1e-9).all()  # Pinsker
    assert (curve.w1 <= (states - 1) * curve.tv + 1e-12).all()
    assert (curve.w1 >= curve.tv - 1e-12).all()  # places at least 1 apart
    swapped = c.n_step_error(P_hat, P, steps)
    assert swapped.tv == pytest.approx(curve.tv, abs=1e-13)
    same = c.n_step_error(P, P, steps)
    assert same.tv.max() == same.kl.max() == same.w1.max() == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_no_start_is_worse_than_the_worst_state(seed):
    P, P_hat = random_pair(seed, 5)
    mixtures = np.random.default_rng(seed).dirichlet(np.ones(5), 20)
    worst, some = (c.n_step_error(P, P_hat, [1, 4, 20], start=s) for s in (None, mixtures))
    for metric in ("tv", "kl", "w1"):
        assert (some.of(metric) <= worst.of(metric) + 1e-13).all()


def test_dobrushin_by_hand_and_as_contraction():
    assert tabular.dobrushin([[0.9, 0.1], [0.2, 0.8]]) == pytest.approx(0.7)
    assert tabular.dobrushin(np.eye(3)) == 1
    assert tabular.dobrushin(np.full((3, 3), 1 / 3)) == 0
    P, _ = random_pair(5, 6)
    p, q = np.random.default_rng(0).dirichlet(np.ones(6), (2, 500))
    assert (
        tabular.total_variation(p @ P, q @ P) <= tabular.dobrushin(P) * tabular.total_variation(p, q) + 1e-13
    ).all()
    assert tabular.dobrushin(np.stack([P, P[::-1]])).shape == (2,)


def test_geometric_bound_by_hand():
    assert c.geometric_bound(0.1, 2, [1, 2, 3]) == pytest.approx([0.1, 0.3, 0.7])
    assert c.geometric_bound(0.1, 0.5, [1, 2, 3]) == pytest.approx([0.1, 0.15, 0.175])
    assert c.geometric_bound(0.1, 1, [1, 7]) == pytest.approx([0.1, 0.7])
    assert c.geometric_bound(0.1, 0, [1, 7]) == pytest.approx([0.1, 0.1])
    assert c.geometric_bound(0.001, 1 - 1e-12, [1_000]) == pytest.approx([1], rel=1e-8)
    assert c.geometric_bound(0.1, 2, [5_000]) == math.inf
    assert c.geometric_bound(0, 2, [5_000]) == 0


def test_the_error_far_ahead_is_that_of_the_stationary_distributions():
    P, P_hat = random_pair(6, 7)
    far = c.n_step_error(P, P_hat, [1, 1_000]).tv[1]
    assert far == pytest.approx(
        tabular.total_variation(tabular.stationary(P), tabular.stationary(P_hat)), abs=1e-14
    )
    assert tabular.stationary([[0.5, 0.5], [0.25, 0.75]]) == pytest.approx([1 / 3, 2 / 3])


def test_log_steps():
    steps = c.log_steps()
    assert {1, 10, 100, 1_000, 10_000} <= set(steps.tolist())
    assert (np.diff(steps) > 0).all()
    assert steps[0] == 1
    assert steps[-1] == 10_000
    assert c.log_steps(37)[-1] == 37
    assert c.log_steps(1).tolist() == [1]


@pytest.mark.parametrize(
    ("error", "law"),
    [
        (lambda n: 0.001 * n, "n^1.00"),
        (lambda n: 0.001 * np.sqrt(n), "n^0.50"),
        (lambda n: np.minimum(1, 1e-6 * 1.5 ** np.minimum(n, 1_000)), "1.50^n"),
        (lambda n: 0.1 / n, "fades"),
        (lambda n: 0.1 * (1 - 0.5**n), "bounded"),
    ],
)
def test_growth_names_the_law(error, law):
    n = c.log_steps(10_000)
    found = c.growth(n, error(n))
    assert found.law == law
    assert found.compounds == (law not in ("fades", "bounded"))
    assert found.final == pytest.approx(error(n)[-1] / error(n)[0])


def test_steps_until():
    n = np.arange(1, 101)
    assert c.steps_until(n, 1 - 0.9**n, 0.5) == 7  # ln 0.5 / ln 0.9 = 6.6
    assert c.steps_until(n, 0.1 / n, 0.5) == math.inf
    tenths = np.cumsum(np.full(100, 0.1))  # 0.7999... and 0.9999... after 8 and 10 steps
    assert [c.steps_until(n, tenths, level) for level in (0.3, 0.8, 1)] == [3, 8, 10]


def test_ten_times_is_compounded_whatever_the_last_bit():
    n = c.log_steps(10_000)
    bound = c.geometric_bound(
        0.001, 0.9, n
    )  # up to 1/(1 - 0.9) = 10.000000000000002 times, as floats have it
    for off in (-2e-15, 0, 2e-15):
        assert c.growth(n, np.where(n > 1, bound * (1 + off), bound)).compounds
    assert not c.growth(n, c.geometric_bound(0.001, 0.8999999, n)).compounds


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: c.n_step_error([[0.5, 0.6], [0, 1]], np.eye(2)), "row 0 sums to 1.1"),
        (lambda: c.n_step_error(np.eye(2), [[1.5, -0.5], [0, 1]]), "P_hat has a negative"),
        (lambda: c.n_step_error(np.eye(2), np.eye(3)), "same shape"),
        (lambda: c.n_step_error([[np.nan, 1], [0, 1]], np.eye(2)), "P holds NaN"),
        (lambda: c.n_step_error("P", np.eye(2)), "P must be an array of numbers"),
        (lambda: c.n_step_error(np.ones((2, 3)) / 3, np.ones((2, 3)) / 3), "same states|states, states"),
        (lambda: c.n_step_error(np.full((2, 2, 3), 1 / 3), np.full((2, 2, 3), 1 / 3)), "states"),
        (lambda: c.n_step_error(np.eye(2), np.eye(2), [0, 1]), "at least 1"),
        (lambda: c.n_step_error(np.eye(2), np.eye(2), [1, 1]), "increasing"),
        (lambda: c.n_step_error(np.eye(2), np.eye(2), [1.5]), "whole"),
        (lambda: c.n_step_error(np.eye(2), np.eye(2), []), "list of whole numbers"),
        (lambda: c.n_step_error(np.eye(2), np.eye(2), [1e12]), "must not exceed"),
        (lambda: c.n_step_error(np.eye(2), np.eye(2), start=2), "state below 2"),
        (lambda: c.n_step_error(np.eye(2), np.eye(2), start="left"), "start must be a number"),
        (lambda: c.n_step_error(np.eye(2), np.eye(2), start=[0.5, 0.6]), "sum to 1"),
        (lambda: c.n_step_error(np.eye(2), np.eye(2), start=[1, 0, 0]), "over 2 states"),
        (lambda: c.n_step_error(np.eye(2), np.eye(2), start=[[1], [0, 1]]), "array of numbers"),
        (lambda: c.n_step_error(np.eye(2), np.eye(2), positions=[1, 0]), "2 increasing numbers"),
        (lambda: c.n_step_error(np.eye(2), np.eye(2), positions=[1, 2, 3]), "2 increasing numbers"),
        (lambda: c.n_step_error(np.eye(2), np.eye(2), method="magic"), "method must be one of"),
        (
            lambda: c.n_step_error(np.stack([np.eye(2)] * 2), np.stack([np.eye(2)] * 2), method="loop"),
            "batch",
        ),
        (lambda: c.n_step_error(sparse.eye_array(6_000), sparse.eye_array(6_000)), "does not fit in memory"),
        (lambda: c.n_step_error(sparse.csr_array([[0.5, 0.4], [0, 1]]), np.eye(2)), "row 0 sums to 0.9"),
        (lambda: c.distributions(np.stack([np.eye(2)] * 2), 0, [1]), "one chain at a time"),
        (lambda: tabular.dobrushin(sparse.eye_array(2)), "dense"),
        (lambda: tabular.stationary(np.eye(2)), "more than one stationary"),
        (lambda: c.geometric_bound(-0.1, 1, [1]), "at least 0"),
        (lambda: c.growth([1, 2], [0.1]), "one error for each step"),
        (lambda: c.growth([2, 3], [0.1, 0.2]), "from n = 1"),
        (lambda: c.growth([1, 2], [0, 0.2]), "above 0 at n = 1"),
        (lambda: c.steps_until([1, 2], [0.1], 0.5), "one error for each step"),
        (lambda: c.log_steps(0), "longest must be at least 1"),
        (lambda: c.n_step_error(TWO, TWO_HAT, [1]).at(2), "not among the steps"),
        (lambda: c.n_step_error(TWO, TWO_HAT, [1]).of("l1"), "metric must be one of"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BookError, match=message):
        call()


@pytest.mark.parametrize("P", [np.zeros((0, 0)), np.eye(2) + 0j, np.ones((2, 3)) / 3])
def test_empty_and_complex_matrices_are_told(P):
    with pytest.raises(BookError, match=r"at least one state|real numbers|same states"):
        c.n_step_error(P, P)
