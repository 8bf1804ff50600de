"""Can the agent still tell its actions apart? The gap between two actions against the noise of the return, by
discount.

For a state s and a discount γ let a₁, a₂ be the best and second-best actions under Q*_γ. The **gap** is
Q*_γ(s, a₁) - Q*_γ(s, a₂), and the **noise** is the standard deviation of the return of an agent that takes a₁
(or a₂) once and follows the optimal policy π*_γ from then on. Everything is exact: no simulation, only linear
algebra in batches of MDPs.

A return of action a is G(s, a) = R(s, a) + ε + γ G(S'), with ε independent noise of variance ``noise``. Its
moments are

    Q(s, a) = r(s, a) + γ Σ_{s'} P[s, a, s'] m(s')
    Var G(s, a) = noise + γ² ( Σ_{s'} P[s, a, s'] (m(s')² + σ²(s')) - (Σ_{s'} P[s, a, s'] m(s'))² ),

with m, σ² the mean and variance of the return under π*_γ
(:func:`one_step_trap.discounting.variance.return_moments`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special

from one_step_trap.core.stats import Interval, bootstrap_interval
from one_step_trap.core.tabular import chain_values
from one_step_trap.core.validate import (
    FloatArray,
    check_at_least_zero,
    check_callable,
    check_choice,
    check_count,
    check_finite,
    check_gamma,
    check_gammas,
    check_kind,
    check_list,
    check_positions,
    check_probability,
    check_real,
    check_rng,
    check_transition_matrix,
)
from one_step_trap.discounting.variance import return_moments, reward_process
from one_step_trap.errors import BookError

IntArray = NDArray[np.intp]
Method = Literal["independent", "shared", "bootstrapped"]
DEFAULT_GAMMAS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9999)


@dataclass(frozen=True)
class MDPs:
    """A batch of M finite MDPs with S states and A actions each; build it with :func:`make_mdps`."""

    name: str
    P: FloatArray  # (M, S, A, S) transition probabilities
    R: FloatArray  # (M, S, A) mean rewards
    noise: float  # variance of a reward around its mean, the same everywhere
    decisions: IntArray  # the states at which the choice is judged

    def __post_init__(self) -> None:
        check_kind(self.name, str, "name")
        P, R = check_transition_matrix(self.P), check_finite(self.R, "R")
        if P.ndim != 4 or P.shape[1] != P.shape[3]:
            raise BookError(f"P must have shape (mdps, states, actions, states), got {P.shape}")
        if R.shape != P.shape[:3]:
            raise BookError(f"R must have shape {P.shape[:3]} to fit P, got {R.shape}")
        S, A = P.shape[1:3]
        if A < 2:
            raise BookError("a choice needs at least 2 actions")
        decisions = np.unique(check_positions(self.decisions, "decisions", below=S))
        if len(decisions) == 0 or np.ndim(self.decisions) > 1:
            raise BookError(
                f"decisions must be a list of at least one state, got shape {np.shape(self.decisions)}"
            )
        noise = check_at_least_zero(self.noise, "noise")
        for name, value in (("P", P), ("R", R), ("noise", noise), ("decisions", decisions)):
            object.__setattr__(self, name, value)


def make_mdps(
    name: str, P: ArrayLike, R: ArrayLike, *, noise_sd: float = 0.0, decisions: ArrayLike = ()
) -> MDPs:
    """Return a checked batch from ``P`` (M, S, A, S) and ``R`` (M, S, A); without ``decisions`` every state
    is judged. ``decisions`` lists states, whole numbers; a mask of True and False is an error.
    """
    transitions, rewards = check_transition_matrix(P), check_finite(R, "R")
    sd, S = check_at_least_zero(noise_sd, "noise_sd"), transitions.shape[-1]
    judged = check_positions(decisions, "decisions", below=S)
    return MDPs(name, transitions, rewards, sd**2, judged if judged.size else np.arange(S))


# -- Families of MDPs ------------------------------------------------------------------------------


def mixing_mdps(
    rng: np.random.Generator,
    n: int = 300,
    *,
    states: int = 10,
    actions: int = 2,
    successors: int = 5,
    stay: float = 0.0,
    noise_sd: float = 0.17,
) -> MDPs:
    """Return random MDPs that soon forget what was done: the family of Jiang et al. 2015.

    Each pair (s, a) has ``successors`` distinct next states with weights U[0, 1], normalised; mean rewards
    are U[0, 1]. We add Gaussian reward noise of ``noise_sd`` (Jiang et al.: .1). More noise
    raises the samples needed at every γ and hardly changes how they grow with the horizon. With probability ``stay`` a
    step leaves the state as it is, which slows the whole chain by the factor 1/(1-stay).
    """
    check_rng(rng)
    M, S, A = check_count(n, "n"), check_count(states, "states"), check_count(actions, "actions", minimum=2)
    k = check_count(successors, "successors")
    lazy = check_probability(stay, "stay")
    if lazy == 1:
        raise BookError("stay must be below 1: a chain that never moves makes no choice matter later")
    if k > S:
        raise BookError(f"successors must not exceed states = {S}, got {k}")
    weights = rng.random((M, S, A, S))
    # The k largest of S independent uniforms pick a random subset of k successors.
    keep = rng.random((M, S, A, S)).argsort(-1).argsort(-1) >= S - k
    weights = np.where(keep, weights, 0.0)
    P = (1 - lazy) * weights / weights.sum(-1, keepdims=True)
    P[:, np.arange(S), :, np.arange(S)] += lazy
    name = "mixing" if lazy == 0 else f"slow mixing (×{1 / (1 - lazy):g})"
    return make_mdps(name, P, rng.random((M, S, A)), noise_sd=noise_sd)


def committing_mdps(
    rng: np.random.Generator, n: int = 300, *, states: int = 10, leave: float = 0.0, noise_sd: float = 0.17
) -> MDPs:
    """Return MDPs whose one choice lasts: in state 0 the action picks one of two separate random MDPs.

    States 1..h and h+1..2h (h = ``states`` // 2) form two worlds, each a draw of :func:`mixing_mdps` with h
    states. Action 0 leads into the first, action 1 into the second (uniformly over its states). Every later
    step leaves to state 0 with probability ``leave``: the choice lasts 1/``leave`` steps, or for ever at 0.
    Only state 0 is judged.
    """
    check_rng(rng)
    h = check_count(states, "states", minimum=4) // 2
    q = check_probability(leave, "leave")
    worlds = [mixing_mdps(rng, n, states=h, successors=min(5, h)) for _ in range(2)]
    M, S = worlds[0].P.shape[0], 2 * h + 1
    P, R = np.zeros((M, S, 2, S)), np.zeros((M, S, 2))
    for a, world in enumerate(worlds):
        inside = slice(1 + a * h, 1 + (a + 1) * h)
        P[:, 0, a, inside] = 1 / h
        P[:, inside, :, inside] = (1 - q) * world.P
        P[:, inside, :, 0] = q
        R[:, inside] = world.R
    R[:, 0] = rng.random((M, 2))
    name = "committing (for ever)" if q == 0 else f"committing ({1 / q:g} steps)"
    return make_mdps(name, P, R, noise_sd=noise_sd, decisions=[0])


def sparse_mdps(rng: np.random.Generator, n: int = 300, *, states: int = 20, noise_sd: float = 0.17) -> MDPs:
    """Return rings with one reward: +1 for acting in the goal, from where the agent is put back at a random
    state.

    The actions step left and right; each (s, a) slips, with its own probability U[0, .3], to the other side.
    All states but the goal (state 0) are judged. Near γ = 0 the goal cannot be seen: there is a noise and no
    gap.
    """
    check_rng(rng)
    M, S = check_count(n, "n"), check_count(states, "states", minimum=4)
    slip = 0.3 * rng.random((M, S, 2))
    P, s = np.zeros((M, S, 2, S)), np.arange(S)
    for a, step in enumerate((-1, 1)):
        P[:, s, a, (s + step) % S] = 1 - slip[:, :, a]
        P[:, s, a, (s - step) % S] += slip[:, :, a]
    P[:, 0] = np.r_[0.0, np.full(S - 1, 1 / (S - 1))]
    R = np.zeros((M, S, 2))
    R[:, 0] = 1.0
    return make_mdps("sparse", P, R, noise_sd=noise_sd, decisions=s[1:])


# -- Exact solution, in batches --------------------------------------------------------------------


def policy_kernel(mdps: MDPs, policy: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return P_π (M, S, S) and r_π (M, S) of a deterministic ``policy`` (M, S)."""
    M, S, A = check_kind(mdps, MDPs, "mdps", made_by="make_mdps").R.shape
    policy = check_positions(policy, "policy", below=A, shape=(M, S))
    P = np.take_along_axis(mdps.P, policy[:, :, None, None], 2)[:, :, 0]
    return P, np.take_along_axis(mdps.R, policy[:, :, None], 2)[:, :, 0]


def action_values(mdps: MDPs, policy: IntArray, gamma: float) -> tuple[FloatArray, FloatArray]:
    """Return V_π (M, S) and Q_π (M, S, A):  V = (I - γP_π)⁻¹ r_π,  Q = r + γ P V."""
    gamma = check_gamma(gamma)
    P, r = policy_kernel(mdps, policy)
    V = chain_values(P, r, gamma)
    return V, np.asarray(mdps.R + gamma * np.einsum("msat,mt->msa", mdps.P, V))


def optimal_policies(mdps: MDPs, gamma: float, *, max_iterations: int = 1_000) -> IntArray:
    """Return an optimal policy (M, S) of every MDP, by policy iteration (Howard 1960) on the whole batch at
    once.

    An action is replaced only by one better by more than 1e-10 of the largest value, so that rounding cannot
    make it cycle.
    """
    policy: IntArray = check_kind(mdps, MDPs, "mdps", made_by="make_mdps").R.argmax(-1)
    for _ in range(check_count(max_iterations, "max_iterations")):
        _, Q = action_values(mdps, policy, gamma)
        held = np.take_along_axis(Q, policy[..., None], -1)[..., 0]
        better = Q.max(-1) > held + 1e-10 * max(1.0, float(np.abs(Q).max()))
        if not better.any():
            return policy
        policy = np.where(better, Q.argmax(-1), policy)
    raise BookError(f"policy iteration did not end within {max_iterations} rounds")


def action_variances(mdps: MDPs, policy: IntArray, gamma: float) -> tuple[FloatArray, FloatArray]:
    """Return Var G(s, a) and Var[R + γ V(S')], each (M, S, A), for one action followed by ``policy``.

    The first is the noise of a full return, the second that of one step with the exact values known from
    there on.
    """
    P, r = policy_kernel(mdps, policy)
    moments = return_moments(reward_process(P, r, mdps.noise), gamma)
    mean = np.einsum("msat,mt->msa", mdps.P, moments.mean)
    # Centred on the batch's own mean first: the plain E[m²] - E[m]² would cancel at gamma near 1.
    deviation = moments.mean[:, None, None, :] - mean[..., None]  # (M, S, A, S)
    spread = gamma**2 * (mdps.P * deviation**2).sum(-1)
    carried = gamma**2 * np.einsum("msat,mt->msa", mdps.P, moments.variance)
    one_step = mdps.noise + spread
    return one_step + carried, one_step


def shared_noise_variances(
    mdps: MDPs, policy: IntArray, first: IntArray, second: IntArray, gamma: float
) -> FloatArray:
    """Return Var[G(s, first) - G(s, second)], (M, D), when both rollouts use the same random numbers (common
    random numbers).

    ``first`` and ``second`` (M, D) are actions at ``mdps.decisions``, followed by ``policy`` (M, S). Both
    rollouts draw the same uniform for each transition, turned into a next state by inverting the cumulative
    probabilities, and the same reward noise, which cancels. Once the two meet they stay together and differ
    no more. So the difference D is the return of a Markov reward process on pairs of states, with mean V(s) -
    V(x), and swapping the pair only flips its sign: it is enough to solve for the S(S-1)/2 pairs s < x,

        Var D(s,x) = u(s,x) + γ² Σ_{i<j} K[(s,x),(i,j)] Var D(i,j),   u = γ² Var[V(I) - V(J)].
    """
    P, _ = policy_kernel(mdps, policy)
    V, _ = action_values(mdps, policy, gamma)
    A, chosen = mdps.R.shape[2], (len(P), len(mdps.decisions))
    first, second = (
        check_positions(actions, name, below=A, shape=chosen)
        for actions, name in ((first, "first"), (second, "second"))
    )
    s, x = np.triu_indices(P.shape[-1], 1)
    gaps = V[:, s] - V[:, x]  # (M, pairs)
    K, u = _pair_step(P[:, s], P[:, x], gaps, gamma)
    variance = chain_values(K, u, gamma**2)[..., None]  # (M, pairs, 1)
    rows = np.arange(len(P))[:, None]
    K, u = _pair_step(mdps.P[rows, mdps.decisions, first], mdps.P[rows, mdps.decisions, second], gaps, gamma)
    return np.asarray(u + gamma**2 * (K @ variance)[..., 0])


def _pair_step(
    P1: FloatArray, P2: FloatArray, gaps: FloatArray, gamma: float
) -> tuple[FloatArray, FloatArray]:
    """Return K (M, D, pairs), the chance to move to each unordered pair, and u (M, D), for rows ``P1``,
    ``P2`` (M, D, S).
    """
    joint = overlaps(P1, P2)
    i, j = np.triu_indices(P1.shape[-1], 1)
    ahead, behind = joint[..., i, j], joint[..., j, i]
    square = np.einsum("mdp,mp->md", ahead + behind, gaps**2)
    mean = np.einsum("mdp,mp->md", ahead - behind, gaps)
    return ahead + behind, gamma**2 * np.maximum(square - mean**2, 0.0)


def overlaps(P1: FloatArray, P2: FloatArray) -> FloatArray:
    """Return (..., S, S): the chance that one shared uniform sends the row ``P1`` (..., S) to i and the row
    ``P2`` to j.

    The row sends u to the first state whose cumulative probability exceeds u, so this is the length of the
    overlap of two intervals.
    """
    P1, P2 = check_finite(P1, "P1"), check_finite(P2, "P2")
    if P1.ndim == 0 or P1.shape != P2.shape or min(P1.min(initial=0), P2.min(initial=0)) < 0:
        raise BookError(
            f"P1 and P2 must be rows of probabilities of one shape, got shapes {P1.shape} and {P2.shape}"
        )
    high1, high2 = np.cumsum(P1, -1)[..., :, None], np.cumsum(P2, -1)[..., None, :]
    low1, low2 = high1 - P1[..., :, None], high2 - P2[..., None, :]
    return np.asarray(np.clip(np.minimum(high1, high2) - np.maximum(low1, low2), 0.0, None))


# -- The measurement -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Resolution:
    """Gap, noise and samples needed, each (M, G): one number an MDP and a discount."""

    name: str
    gammas: FloatArray  # (G,)
    gap: FloatArray  # mean over the judged states, in reward
    sd: FloatArray  # root mean square over the judged states and both actions, in reward
    relative_sd: FloatArray  # sd against the mean |Q|: the noise of a value in units of the value
    samples: dict[Method, FloatArray]  # returns of each action, by how the comparison is made
    confidence: float

    @property
    def horizon(self) -> FloatArray:
        """Effective horizons 1/(1-γ), in steps, (G,)."""
        return np.asarray(1 / (1 - self.gammas))

    def growth(
        self,
        rng: np.random.Generator,
        *,
        method: Method = "independent",
        low: float = 0.9,
        high: float = 0.999,
    ) -> Interval:
        """Return the slope of ln(samples) against ln 1/(1-γ) between two discounts: median over MDPs with its
        interval.

        1: ten times the horizon costs ten times the samples. 0: it costs nothing. Below 0: looking further is
        *cheaper*.
        """
        check_rng(rng)
        i, j = self._column(low, "low"), self._column(high, "high")
        if i == j:
            raise BookError("growth is measured between two different discounts")
        check_choice(method, self.samples, "method (of those that were measured)")
        n = self.samples[method]
        for gamma, column in ((self.gammas[i], n[:, i]), (self.gammas[j], n[:, j])):
            if not (np.isfinite(column) & (column > 0)).all():
                raise BookError(
                    f"growth needs samples above 0 and finite: at gamma = {gamma:g} some MDPs have no noise or no gap"
                )
        slopes = np.log(n[:, j] / n[:, i]) / np.log(self.horizon[j] / self.horizon[i])
        return bootstrap_interval(slopes, rng, statistic=np.median)

    def _column(self, gamma: float, name: str = "gamma") -> int:
        """Return where ``gamma`` is on the grid."""
        gamma = check_real(gamma, name)
        found = np.flatnonzero(np.isclose(self.gammas, gamma, rtol=0, atol=1e-12))
        if len(found) == 0:
            raise BookError(
                f"{name} = {gamma:g} is not on the grid of this result: {', '.join(f'{g:g}' for g in self.gammas)}"
            )
        return int(found[0])

    def summary(
        self, gamma: float, rng: np.random.Generator, quantity: str = "samples_independent"
    ) -> Interval:
        """Return the median over MDPs of one quantity at one discount of the grid, with its 95% interval."""
        table = self._table()
        check_choice(quantity, table, "quantity")
        return _median(table[quantity][:, self._column(gamma)], rng)

    def _table(self) -> dict[str, FloatArray]:
        """Return every measured quantity (M, G) by its name."""
        table = {"gap": self.gap, "sd": self.sd, "relative_sd": self.relative_sd}
        return table | {f"samples_{method}": values for method, values in self.samples.items()}

    def frame(self, rng: np.random.Generator) -> pd.DataFrame:
        """Return a tidy table: one row a discount and quantity, with the median over MDPs, its interval and
        the quartiles.

        Columns: family, gamma, horizon (steps), quantity (gap, sd, relative_sd, samples_<method>), median,
        low, high (95% bootstrap over MDPs), q25, q75, n (MDPs).
        """
        check_rng(rng)
        rows: list[dict[str, Any]] = []
        for quantity, values in self._table().items():
            for gamma, horizon, column in zip(self.gammas, self.horizon, values.T, strict=True):
                interval = _median(column, rng)
                q25, q75 = np.quantile(column, [0.25, 0.75], method="nearest")  # takes infinities
                rows.append(
                    {"family": self.name, "gamma": gamma, "horizon": horizon, "quantity": quantity}
                    | {"median": interval.value, "low": interval.low, "high": interval.high}
                    | {"q25": q25, "q75": q75, "n": interval.n}
                )
        return pd.DataFrame(rows)


def _median(column: FloatArray, rng: np.random.Generator) -> Interval:
    """Return the median with its interval; infinite where most MDPs have no gap at all, whatever the
    samples.
    """
    finite = column[np.isfinite(column)]
    if 2 * len(finite) <= len(column):
        return Interval(np.inf, np.inf, np.inf, len(column))
    if len(finite) < len(column):  # order is all that a median needs: a huge number stands in for infinity
        column = np.where(np.isfinite(column), column, 1e300)
    return bootstrap_interval(column, rng, statistic=np.median, resamples=1_000)


def samples_to_resolve(gap: ArrayLike, variance: ArrayLike, *, confidence: float | None = None) -> FloatArray:
    """Return n = z² v / gap², the returns of *each* action after which their means stand z standard errors
    apart.

    ``variance`` v is that of one difference G₁ - G₂: Var G₁ + Var G₂ if the returns are independent (2 sd² if
    alike). The difference of two means of n returns has variance v/n, and the better action has the higher
    mean with probability Φ(gap / √(v/n)) by the central limit theorem; setting that to ``confidence`` in (½,
    1) gives z = Φ⁻¹(confidence). Without ``confidence``, z = 1: the gap is one standard error (84%). Not
    rounded: n below 1 says that one return is more than enough. A gap of 0 gives infinity.
    """
    g, v = check_finite(gap, "gap"), check_finite(variance, "variance")
    if len({g.shape, v.shape} - {()}) > 1:
        raise BookError(f"gap and variance must have the same shape, got {g.shape} and {v.shape}")
    if (g < 0).any() or (v < 0).any():
        raise BookError("gap and variance must be at least 0")
    z = 1.0
    if confidence is not None:
        level = check_real(confidence, "confidence")
        if not 0.5 < level < 1:
            raise BookError(f"confidence must lie in (.5, 1), got {level:g}")
        z = float(special.ndtri(level))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(g == 0, np.inf, z**2 * v / g**2))


def resolution(
    mdps: MDPs,
    gammas: ArrayLike = DEFAULT_GAMMAS,
    *,
    confidence: float | None = None,
    policy: Callable[[MDPs, float], IntArray] = optimal_policies,
    methods: tuple[Method, ...] = ("independent",),
) -> Resolution:
    """Return gap, noise and samples needed for every MDP and discount.

    Per MDP, gap = mean over judged states of Q(s, a₁) - Q(s, a₂), and the variance of a comparison is
    averaged over the same states; samples = :func:`samples_to_resolve` of those two averages. (A mean of the
    states' own ratios would not exist: gaps near 0 have positive density.) ``policy`` says what is followed
    after the first action: the optimal policy of that γ by default; pass ``lambda mdps, gamma: fixed`` for a
    fixed one.

    ``methods``: "independent" compares full returns of separate rollouts. "shared" compares full returns of
    rollouts that share their random numbers. "bootstrapped" compares R + γV(S') with V known exactly: a
    sample of the advantage.
    """
    check_kind(mdps, MDPs, "mdps", made_by="make_mdps")
    check_callable(policy, "policy")
    for method in check_list(methods, "methods"):
        check_choice(method, get_args(Method), "every one of methods")
    grid = check_gammas(gammas)
    M, G = len(mdps.P), len(grid)
    gap, sd, relative = np.empty((M, G)), np.empty((M, G)), np.empty((M, G))
    samples: dict[Method, FloatArray] = {method: np.empty((M, G)) for method in methods}
    for j, gamma in enumerate(grid):
        pi = policy(mdps, gamma)
        _, Q = action_values(mdps, pi, gamma)
        ranked = Q[:, mdps.decisions].argsort(-1, kind="stable")  # (M, D, A), worst to best
        pair = ranked[..., [-1, -2]]  # (M, D, 2): a₁ and a₂
        values = np.take_along_axis(Q[:, mdps.decisions], pair, -1)
        gap[:, j] = (values[..., 0] - values[..., 1]).mean(1)
        full, one_step = (
            np.take_along_axis(v[:, mdps.decisions], pair, -1) for v in action_variances(mdps, pi, gamma)
        )
        sd[:, j] = np.sqrt(full.mean((1, 2)))
        size = np.abs(values).mean((1, 2))
        relative[:, j] = np.divide(sd[:, j], size, out=np.full(M, np.inf), where=size > 0)
        for method in methods:
            if method == "shared":
                v = shared_noise_variances(mdps, pi, pair[..., 0], pair[..., 1], gamma).mean(1)
            else:
                v = (full if method == "independent" else one_step).sum(-1).mean(1)
            samples[method][:, j] = samples_to_resolve(gap[:, j], v, confidence=confidence)
    level = float(special.ndtr(1.0)) if confidence is None else float(confidence)
    return Resolution(mdps.name, grid, gap, sd, relative, samples, level)
