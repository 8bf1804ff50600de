"""The affordable horizon: formula against search, the worst world against a real planner, random worlds."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from one_step_trap.core import tabular
from one_step_trap.discounting import planning
from one_step_trap.errors import BookError
from one_step_trap.trap import affordable as a
from one_step_trap.trap.plots import affordable as plots

RNG = np.random.default_rng


@pytest.mark.parametrize(
    ("eps", "simulation", "tight"), [(0.1, 3.0, 4.4), (0.01, 25.5, 41.7), (0.001, 250.5, 414.5)]
)
def test_the_numbers_of_theory(eps, simulation, tight):
    assert a.affordable_horizon(eps) == pytest.approx(simulation)
    assert a.affordable_horizon(eps, limit="lobel-parr") == pytest.approx(tight, abs=0.05)


def test_formula_and_search_agree_for_61_errors():
    table = a.verify()
    assert len(table) == 2 * 61
    assert table["gap"].max() < 1e-3  # half a step of the search
    assert table["eps_tv"].min() == pytest.approx(1e-4)


@given(st.floats(1e-3, 1), st.sampled_from(a.LIMITS), st.floats(0, 1))
def test_no_horizon_has_a_smaller_bound(eps, limit, where):
    best = a.affordable_horizon(eps, limit=limit, gamma_eval=0.999)
    other = 1000**where
    least = a.loss_bound(best, eps, gamma_eval=0.999, limit=limit)
    assert least <= a.loss_bound(other, eps, gamma_eval=0.999, limit=limit) + 1e-9


def test_where_the_formula_ends():
    for limit in a.LIMITS:
        assert a.affordable_horizon(0.5, limit=limit) == pytest.approx(1)
        assert a.affordable_horizon(0.7, limit=limit) == 1
        assert a.affordable_horizon(1, limit=limit) == 1
        assert a.search_horizon(0.7, limit=limit) == 1
        assert a.affordable_horizon(1e-6, limit=limit, gamma_eval=0.99) == pytest.approx(100)
    assert a.loss_bound(1, 0.3, gamma_eval=0.99) == pytest.approx(99)
    assert a.loss_bound(2, 0.1, gamma_eval=0.9) == pytest.approx(8 + 2 * 0.1 * 2)
    assert a.loss_bound(2, 0.1, gamma_eval=0.9, limit="lobel-parr") == pytest.approx(8 + 0.4 / 1.1)


@pytest.mark.parametrize("eps", [0.01, 0.1, 0.4])
def test_the_least_bound_in_closed_form(eps):
    H = 1000
    for limit, saved in (
        ("simulation", (1 + 2 * eps) ** 2 / (8 * eps)),
        ("lobel-parr", (math.sqrt(2) - math.sqrt(1 - eps)) ** 2 / eps),
    ):
        best = a.affordable_horizon(eps, limit=limit)
        assert a.loss_bound(best, eps, gamma_eval=0.999, limit=limit) == pytest.approx(H - saved, rel=1e-9)


# --- the worst world ---------------------------------------------------------------------------------------


def two_roads_loss(horizon, eps, gamma_eval):
    """``H (2 X(n) - 1)``: what a planner at ``horizon`` loses in the world of two roads that is worst for it."""
    n, H = a.two_roads_delay(horizon, eps), 1 / (1 - gamma_eval)
    k = math.floor(n)
    return H * (2 * gamma_eval**k * (1 - (n - k) * (1 - gamma_eval)) - 1)


@pytest.mark.parametrize("eps", [0.3, 0.1, 0.03])
@pytest.mark.parametrize("horizon", [1, 1.7, 3, 8, 20, 40])
def test_two_roads_fool_a_real_planner(eps, horizon):
    delay = a.two_roads_delay(horizon, eps)
    world, model = a.two_roads(delay + 1e-6, eps)  # a touch more, so that the roads do not tie
    assert np.abs(world.P - model.P).sum(axis=2).max() / 2 <= eps + 1e-12
    assert planning.plan(model, 1 - 1 / horizon)[0] == 1
    loss = planning.policy_value(world, planning.plan(world, 0.99), 0.99)[0]
    loss -= planning.policy_value(world, planning.plan(model, 1 - 1 / horizon), 0.99)[0]
    assert loss == pytest.approx(two_roads_loss(horizon, eps, 0.99), abs=1e-3)
    if delay > 0.01:  # with a touch less pay on the short road the planner is not fooled
        _, model = a.two_roads(delay - 1e-6, eps)
        assert planning.plan(model, 1 - 1 / horizon)[0] == 0


@given(st.floats(1e-3, 0.5), st.floats(0, 1))
def test_worst_world_below_the_bound(eps, where):
    h = 1000**where
    loss = two_roads_loss(h, eps, 0.999)
    for limit in a.LIMITS:
        assert loss <= min(a.loss_bound(h, eps, gamma_eval=0.999, limit=limit), 1000) + 1e-6


def test_worst_world_meets_the_bound_at_both_ends():
    for eps in (0.01, 0.1):
        for h in (1, 2, 1 + 1 / eps):
            bound = a.loss_bound(h, eps, gamma_eval=0.9999, limit="lobel-parr")
            assert two_roads_loss(h, eps, 0.9999) == pytest.approx(bound, rel=1e-3 if h == 2 else 1e-9)
    assert a.two_roads_delay(1.001 + 1 / 0.1, 0.1) == 0  # everything can be lost


def test_best_horizon_of_the_worst_world():
    assert a.two_roads_horizon(1e-3) * 1e-3 == pytest.approx(0.375, abs=0.002)
    u = np.linspace(0.01, 0.99, 9801)
    limit = u[np.argmax(u / (1 + u) * np.log(2 / (1 + u)))]
    assert a.two_roads_horizon(1e-4) * 1e-4 == pytest.approx(limit, rel=0.005)
    for eps in (1e-3, 0.01, 0.1):
        assert (
            a.affordable_horizon(eps)
            < a.two_roads_horizon(eps)
            < a.affordable_horizon(eps, limit="lobel-parr")
        )


# --- random worlds -------------------------------------------------------------------------------------------


SMALL = a.PlanningStudy(mdps=12, models=2, dwell=(1, 10), eps_tv=(0.3, 0.03), samples=(20,), grid=8)


@pytest.fixture(scope="module")
def losses():
    return a.run_study(SMALL, RNG(0))


def test_losses_against_the_plain_planner(losses):
    for m, child in enumerate(RNG(0).spawn(SMALL.mdps)):
        mdp, drawn = a._draw(SMALL, child)
        if m not in (0, 7):
            continue
        for i, dwell in enumerate(SMALL.dwell):
            world = tabular.MDP(a._slow(mdp.P, dwell), mdp.R)
            for j in range(len(SMALL.levels)):
                models = [tabular.MDP(P, mdp.R) for P in drawn[i][j]]
                for k, h in enumerate(SMALL.horizons):
                    loss = [planning.planning_loss(world, P, 1 - 1 / h, gamma_eval=0.999) for P in models]
                    assert losses.loss[i, j, m, k] == pytest.approx(np.mean(loss), abs=1e-7)


def test_errors_put_in_are_the_errors_found(losses):
    assert losses.tv[:, :2] == pytest.approx(np.array([[0.3, 0.03]] * 2))
    assert (losses.tv_worst >= losses.tv - 1e-12).all()
    assert losses.tv[1, 2] < losses.tv[0, 2]  # a slow world is learned to a smaller error


def test_no_loss_exceeds_its_bound(losses):
    assert losses.violations() == 0
    assert (losses.loss >= -1e-9).all()


def test_summary_and_rule(losses):
    result = a.summarise(losses, RNG(1), resamples=300)
    assert len(result.cells) == 6
    assert result.gap < a.AGREE
    assert result.verdict == ("holds" if all(cell.contains for cell in result.cells) else "holds when")
    for cell in result.cells:
        assert cell.best.low <= cell.best.value <= cell.best.high
        assert cell.best.n == 12
        assert cell.loss_best.value <= min(
            cell.loss_formula.value, cell.loss_short.value, cell.loss_long.value
        )
    frame = result.to_frame()
    assert frame["formula"].iloc[1] == pytest.approx(1 / 0.12 + 0.5)
    assert (frame["best/formula"] * frame["formula"]).tolist() == pytest.approx(frame["best"].tolist())


def test_verdict_needs_formula_and_search_to_agree(losses, monkeypatch):
    monkeypatch.setattr(a, "AGREE", 1e-9)
    assert a.summarise(losses, RNG(1), resamples=100).verdict == "does not hold"


def test_what_random_worlds_say():
    study = a.PlanningStudy(mdps=60, models=2, dwell=(1, 100), eps_tv=(0.1,), samples=(), grid=14)
    result = a.summarise(a.run_study(study, RNG(2)), RNG(3), resamples=400)
    dense, slow = result.cells
    assert dense.best.low > 2 * dense.formula  # mixing worlds: the formula is pessimistic
    assert slow.best.high < slow.formula  # slow worlds: it is not pessimistic enough
    assert slow.loss_long.low > 2 * slow.loss_formula.high
    assert result.verdict == "holds when"


def test_deterministic(losses):
    again = a.run_study(SMALL, RNG(0))
    assert (again.loss == losses.loss).all()
    more = a.run_study(
        a.PlanningStudy(mdps=14, models=2, dwell=(1, 10), eps_tv=(0.3, 0.03), samples=(20,), grid=8), RNG(0)
    )
    assert more.loss[:, :, :12] == pytest.approx(losses.loss, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1))
def test_wrong_models(seed, eps):
    rng = RNG(seed)
    P = tabular.random_mdp(rng).P
    models = a.wrong_models(P, eps, 3, rng)
    assert models.sum(axis=-1) == pytest.approx(np.ones((3, 10, 2)))
    assert np.abs(models - P).sum(axis=-1) / 2 == pytest.approx(np.full((3, 10, 2), eps))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: a.affordable_horizon(0), "above 0"),
        (lambda: a.affordable_horizon(1.5), "probability"),
        (lambda: a.affordable_horizon(0.1, limit="other"), "limit must be one of"),
        (lambda: a.affordable_horizon(0.1, limit=[1]), "limit must be one of"),
        (lambda: a.affordable_horizon(0.1, gamma_eval=1), "gamma_eval = 1"),
        (lambda: a.loss_bound(200, 0.1, gamma_eval=0.99), "between 1 and"),
        (lambda: a.loss_bound(0.5, 0.1, gamma_eval=0.99), "between 1 and"),
        (lambda: a.search_horizon(1e-9), "search further"),
        (lambda: a.search_horizon(0.1, longest=1), "longest"),
        (lambda: a.verify([]), "at least one"),
        (lambda: a.verify(0.1), "sequence"),
        (lambda: a.two_roads_delay(0.5, 0.1), "horizon"),
        (lambda: a.two_roads_horizon(0), "above 0"),
        (lambda: a.two_roads(-1, 0.1), "delay"),
        (lambda: a.PlanningStudy(mdps=1), "mdps must be at least 2"),
        (lambda: a.PlanningStudy(dwell=(0.5,)), "dwell"),
        (lambda: a.PlanningStudy(dwell=3), "sequence"),
        (lambda: a.PlanningStudy(eps_tv=()), "eps_tv"),
        (lambda: a.PlanningStudy(samples=(0,)), "samples"),
        (lambda: a.PlanningStudy(gamma_eval=0.9999999), "gamma_eval"),
        (lambda: a.PlanningStudy(gamma_eval=math.nan), "gamma_eval"),
        (lambda: a.run_study(SMALL, 3), "numpy.random.Generator"),
        (lambda: a.run_study("x", RNG(0)), "PlanningStudy"),
        (lambda: a.summarise("x", RNG(0)), "run_study"),
        (lambda: a.wrong_models(np.full((2, 1, 2), 0.5), 0.1, 1, RNG(0)), "no state is wrong"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BookError, match=message):
        call()


def test_plots(losses):
    result = a.summarise(losses, RNG(1), resamples=100)
    for learned in (False, True):
        ax = plots.plot_horizons(result, learned=learned).axes[0]
        assert len(ax.get_legend().get_texts()) == 5
        assert "total variation" in ax.get_xlabel()
    perturbed = a.Affordable(result.cells[:2], result.gap, result.verdict)
    with pytest.raises(BookError, match="no cell"):
        plots.plot_horizons(perturbed, learned=True)
