"""Linear systems: closed forms against hand calculation, simulation and theory; fast against plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from one_step_trap.errors import BookError
from one_step_trap.trap import linear as lin
from one_step_trap.trap.plots.misspecified import plot_linear_ratio


def random_system(seed: int, D: int = 3) -> lin.LinearSystem:
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(D, D))
    A *= 0.9 / np.abs(np.linalg.eigvals(A)).max()
    root = rng.normal(size=(D, D))
    return lin.linear_system(A, noise=root @ root.T + 0.1 * np.eye(D))


# --- endless data -----------------------------------------------------------------------------------------


def test_scalar_covariances():
    system = lin.linear_system(0.8, noise=2.0)
    assert lin.state_covariance(system)[0, 0] == pytest.approx(2 / (1 - 0.64))
    assert lin.best_forecast(system, 3)[0, 0] == pytest.approx(0.8**3)
    assert lin.bias(system, 7) == pytest.approx(0, abs=1e-20)


def test_the_oscillator_swings_and_the_iterated_forecast_does_not():
    system, gamma_0 = lin.oscillator(0.5, damping=0.9), 1 / (1 - 0.81)
    for n in (1, 4, 7):
        direct, iterated = 0.9**n * np.cos(0.5 * n), (0.9 * np.cos(0.5)) ** n
        assert lin.best_forecast(system, n)[0, 0] == pytest.approx(direct)
        assert lin.bias(system, n) == pytest.approx((iterated - direct) ** 2 * gamma_0)
    assert lin.bias(lin.oscillator(0.5, seen=True), 4) == pytest.approx(0, abs=1e-20)
    assert lin.bias(lin.oscillator(0.0), 4) == pytest.approx(0, abs=1e-20)  # turn 0: well specified


@pytest.mark.parametrize("a", [-0.6, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("n", [1, 2, 6])
def test_scalar_ratio_by_its_sums(a, n):
    noise = {k: sum(a ** (j + k) * a**j for j in range(n - k)) for k in range(n)}  # E[e_{t+k} e_t] at Σ = 1
    direct = noise[0] + 2 * sum(a**k * noise[k] for k in range(1, n))
    iterated = sum(a**i * a**j * a ** (n - 1 - i) * a ** (n - 1 - j) for i in range(n) for j in range(n))
    assert lin.scalar_ratio(a, n) == pytest.approx(direct / iterated)
    assert lin.scalar_ratio(a, n) >= 1 - 1e-12


def test_scalar_ratio_near_a_unit_root_and_far_from_it():
    assert lin.scalar_ratio(0.9999, 10) == pytest.approx(1, abs=0.01)  # near a unit root both are alike
    ratios = [lin.scalar_ratio(a, 5) for a in (0.9, 0.7, 0.5, 0.3)]
    assert (np.diff(ratios) > 0).all()  # the more stable the system, the more direct estimation costs


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_seen_systems_have_no_bias(seed, n):
    system = random_system(seed)
    assert lin.bias(system, n) == pytest.approx(0, abs=1e-9 * np.trace(lin.autocovariance(system, 0)))


# --- data and models --------------------------------------------------------------------------------------


def simulated(system: lin.LinearSystem, transitions: int, rng: np.random.Generator) -> np.ndarray:
    """What `simulate` returns for one generator, (transitions + 1, P), one step at a time."""
    draws = rng.standard_normal((transitions + 1, len(system.A)))
    x = np.linalg.cholesky(lin.state_covariance(system)) @ draws[0]
    seen = [system.C @ x]
    for draw in draws[1:]:
        x = system.A @ x + np.linalg.cholesky(system.noise) @ draw
        seen.append(system.C @ x)
    return np.array(seen)


def fitted(stream: np.ndarray, n: int) -> np.ndarray:
    return np.linalg.lstsq(stream[:-n], stream[n:], rcond=None)[0].T


def test_fast_simulation_and_fits_agree_with_the_readable_ones():
    system = lin.linear_system(random_system(5).A, C=[[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    c = lin.compare_linear(system, n_step=(1, 3), sizes=(20, 100), seeds=2, seed=6)
    for i, child in enumerate(np.random.SeedSequence(6).spawn(2)):
        stream = simulated(system, 100, np.random.default_rng(child))
        for b, size in enumerate((20, 100)):
            one_step = fitted(stream[: size + 1], 1)
            for j, n in enumerate((1, 3)):
                best, gamma_0 = lin.best_forecast(system, n), lin.autocovariance(system, 0)
                iterated = np.linalg.matrix_power(one_step, n) - best
                direct = fitted(stream[: size + 1], n) - best
                assert c.iterated[i, b, j] == pytest.approx(np.trace(iterated @ gamma_0 @ iterated.T))
                assert c.direct[i, b, j] == pytest.approx(np.trace(direct @ gamma_0 @ direct.T))


def test_streams_are_stationary_and_deterministic():
    system = random_system(7, D=2)
    rngs = [np.random.default_rng(s) for s in range(400)]
    first = lin.simulate(system, 3, rngs)
    assert (first == lin.simulate(system, 3, [np.random.default_rng(s) for s in range(400)])).all()
    for t in (0, 3):
        spread = np.cov(first[:, t].T)
        assert spread == pytest.approx(lin.state_covariance(system), rel=0.35)


def test_measured_ratio_against_theory():
    table = lin.scalar_check(a=(0.5, 0.8), n_steps=(2, 5), size=4_000, seeds=150)
    # four 95% intervals: most must hold the closed form, and all must be near it
    inside = (table["low"] <= table["theory"]) & (table["theory"] <= table["high"])
    assert inside.sum() >= 3
    assert table["ratio"].to_numpy() == pytest.approx(table["theory"].to_numpy(), rel=0.35)


def test_both_regimes():
    rng = np.random.default_rng(0)
    seen = lin.compare_linear(lin.linear_system(0.6), n_step=5, sizes=(300, 3_000), seeds=40)
    assert seen.ratio(3_000, 5, rng).low > 1
    hidden = lin.compare_linear(lin.oscillator(0.2), n_step=5, sizes=(300, 3_000), seeds=40)
    assert hidden.ratio(3_000, 5, rng).high < 0.1
    assert hidden.errors(3_000, 5, rng)[0].value == pytest.approx(hidden.bias[0], rel=0.1)
    assert hidden.ratio(300, 5, rng).high < 1  # ahead at every size


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lin.linear_system(1.0), "stable"),
        (lambda: lin.linear_system([[0.5, 0.1]]), "square"),
        (lambda: lin.linear_system(np.eye(2) / 2, C=[[1.0, 0, 0]]), "C must have shape"),
        (lambda: lin.linear_system(np.eye(2) / 2, C=[[1.0, 0], [2.0, 0]]), "independent rows"),
        (lambda: lin.linear_system(0.5, noise=-1), "positive definite"),
        (lambda: lin.linear_system(np.nan), "NaN"),
        (lambda: lin.oscillator(0.1, damping=1.0), "damping"),
        (lambda: lin.scalar_ratio(0, 2), "between 0 and 1"),
        (lambda: lin.bias(0.5, 2), "LinearSystem"),
        (lambda: lin.compare_linear(lin.linear_system(0.5), sizes=[5]), "at least 6"),
        (lambda: lin.simulate(lin.linear_system(0.5), 5, [3]), "Generator"),
        (lambda: lin.simulate(lin.linear_system(0.5), 10**8, [np.random.default_rng(0)]), "use fewer"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BookError, match=message):
        call()


def test_plot():
    table = lin.scalar_check(a=(0.5, 0.9), n_steps=(2,), size=200, seeds=5)
    a = np.linspace(0.4, 0.95, 5)
    figure = plot_linear_ratio(table, {2: (a, [lin.scalar_ratio(x, 2) for x in a])})
    assert len(figure.axes[0].get_legend().get_texts()) == 2


@pytest.mark.parametrize(
    "call",
    [
        lambda: lin.linear_system(np.zeros((0, 0))),
        lambda: lin.simulate(lin.linear_system(0.5), 10, []),
        lambda: lin.simulate(lin.linear_system(0.5), 10, 3),
    ],
)
def test_small_functions_check_their_input_too(call):
    with pytest.raises(BookError):
        call()
