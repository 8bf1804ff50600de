"""What a deterministic latent model learns of a world with chance in it, and where planning in it must fail.

MuZero unrolls K steps from an encoded state: s_0 → z_0, then z_k = g(z_{k-1}, a_k). Nothing that happens on the way
is shown to it, so its prediction at depth k can only be a function of s_0 and the actions a_1 … a_k. Squared errors
then have one best answer, the conditional mean over the data of the policy b that acted,

    ``r_k(s_0, a_1…a_k) = E_b[R(s_{k-1}, a_k) | s_0, a_1…a_k]``,   ``v_k(s_0, a_1…a_k) = E_b[V(s_k) | s_0, a_1…a_k]``.

Two things can go wrong with a plan, the best action sequence in such a model.

1. **It is blind.** If the actions in the data tell nothing of chance (they were drawn at random), the means are those
   of acting open-loop, and ``max E ≤ E max``: what can be seen on the way is worth nothing to the plan.
2. **It believes that it can choose its luck.** If b looked and acted on what it saw, its later actions are *evidence*
   of what it saw. "Flip the coin, then collect the prize" was only ever done after winning, so that the model
   predicts the prize. Averaged over the actions that b would take, the predictions are right; their maximum is above.
   Such a model is confounded (Rezende et al. 2020, arXiv 2002.02836).

Everything here is exact: conditional means over all action sequences by propagation of distributions (`unroll`),
plans by enumeration, values by linear equations. Jiang 2024 (arXiv 2404.09946) gives counter-examples for this loss;
the two worlds below (`coin`, `lottery`) are our own smallest ones.

**The rule, fixed before measuring** (``RULE``, `verdict`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from one_step_trap.core.tabular import MDP, TIE, toy_text
from one_step_trap.core.validate import (
    FloatArray,
    check_count,
    check_finite,
    check_gamma,
    check_kind,
    check_probability,
    check_real,
    check_table,
)
from one_step_trap.errors import BookError
from one_step_trap.muzero.search import SearchSettings, TabularModel, search

RULE = (
    "In each of three worlds (coin, lottery, slippery FrozenLake) an agent looks at every state, plans depth steps ahead "
    "in the exact minimiser of the K-step loss (K = depth), and takes the first action of the best plan. The model fails "
    "there if, for data of random actions or for the fixed point of its own data, at some depth of 2 or more the agent "
    "loses more than 5% of the optimal value of the start. The claim holds if it fails in all three worlds, holds "
    "conditionally if in one or two, and does not hold if in none. Depth 1 and a planner that may look on the way are "
    "printed beside it and are no part of the rule."
)
"""The rule for mu-stochastic, written before the first run of `failures`.

One thing had to be added after it: in FrozenLake the agent's own data have no fixed point at depths of 2 and more, the
rounds go in a cycle. The mean over the last half of the rounds stands for it; the outcome is the same with the last round.
"""
FAILS = 0.05

Data = Literal["random", "own"]
MAX_ENTRIES = 20_000_000  # numbers in one array of beliefs: 160 MB


# --- worlds ------------------------------------------------------------------------------------------------------


def _gamble(q: float, safe: float, payoffs: ArrayLike) -> MDP:
    """Return a world of four states: start, heads, tails, end. Action 0 at the start is safe, action 1 flips."""
    P, R = np.zeros((4, 2, 4)), np.zeros((4, 2))
    P[0, 0, 3] = P[3, :, 3] = P[1, :, 3] = P[2, :, 3] = 1.0
    P[0, 1, 1], P[0, 1, 2] = q, 1 - q
    R[0, 0] = safe
    R[1:3] = payoffs
    return MDP(P, R)


def coin(q: float = 0.5, safe: float = 0.6) -> MDP:
    """Return a coin that is flipped and then called, in sight: worth ``γ`` to who looks, ``γ max(q, 1-q)`` to who does not.

    State 0: action 0 pays ``safe`` and ends, action 1 flips. Heads (state 1, probability q): action 0 pays 1, action 1
    nothing. Tails (state 2): the other way round. With γ max(q, 1-q) < safe < γ a blind planner never flips.
    """
    return _gamble(check_probability(q, "q"), check_real(safe, "safe"), [[1.0, 0.0], [0.0, 1.0]])


def lottery(q: float = 0.5, safe: float = 0.7, fine: float = 1.0) -> MDP:
    """Return a lottery: who wins (probability q) collects 1 by action 0; who lost and tries to collect pays ``fine``.

    Action 1 walks away with nothing. The lottery is worth ``γ q``. An agent that collects when it has won sees action
    0 follow only wins, and a deterministic model trained on it predicts the prize: with γ q < safe < γ it gambles.
    """
    fine = check_real(fine, "fine")
    if fine < 0:
        raise BookError(f"fine is what is paid, at least 0, got {fine:g}")
    return _gamble(check_probability(q, "q"), check_real(safe, "safe"), [[1.0, 0.0], [-fine, 0.0]])


def worlds() -> dict[str, MDP]:
    """Return the three worlds of the rule; each starts in state 0."""
    return {"coin": coin(), "lottery": lottery(), "FrozenLake": toy_text("FrozenLake-v1").mdp}


# --- policies and values -------------------------------------------------------------------------------------------


def check_policy(policy: ArrayLike, mdp: MDP, name: str = "policy") -> FloatArray:
    """Return a policy of shape (S, A), probabilities of the actions in each state."""
    shape = check_kind(mdp, MDP, "mdp").R.shape
    result = check_finite(policy, name)
    if result.shape != shape:
        raise BookError(
            f"{name} must have shape {shape}, a probability for each state and action, got {result.shape}"
        )
    if result.min() < 0 or np.abs(result.sum(1) - 1).max() > 1e-8:
        raise BookError(f"every row of {name} must be probabilities that sum to 1")
    return result


def uniform_policy(mdp: MDP) -> FloatArray:
    """Return the policy that draws every action alike, (S, A)."""
    S, A = check_kind(mdp, MDP, "mdp").R.shape
    return np.full((S, A), 1 / A)


def greedy(Q: ArrayLike) -> FloatArray:
    """Return the policy (S, A) that takes the best action of Q (S, A); among equally good ones, the first."""
    q = check_finite(Q, "Q")
    if q.ndim != 2 or not q.size:
        raise BookError(f"Q must have shape (states, actions), got {q.shape}")
    first = (q >= q.max(1, keepdims=True) - TIE).argmax(1)
    return np.asarray(np.eye(q.shape[1])[first])


def epsilon_soft(policy: ArrayLike, mdp: MDP, exploration: float) -> FloatArray:
    """Return ``(1-ε) π + ε/A``: the policy, and with probability ε any action alike."""
    eps = check_probability(exploration, "exploration")
    return (1 - eps) * check_policy(policy, mdp) + eps * uniform_policy(mdp)


def value(mdp: MDP, policy: ArrayLike, gamma: float) -> FloatArray:
    """Return V^π (S,), the solution of ``V = R_π + γ P_π V``, of a policy (S, A) that may be random."""
    pi, gamma = check_policy(policy, mdp), check_gamma(gamma)
    P_pi = np.einsum("sa,sat->st", pi, mdp.P)
    return np.asarray(np.linalg.solve(np.eye(len(pi)) - gamma * P_pi, (pi * mdp.R).sum(1)))


def action_values(mdp: MDP, V: ArrayLike, gamma: float) -> FloatArray:
    """Return ``Q(s, a) = R(s, a) + γ Σ P(s'|s, a) V(s')``, (S, A)."""
    v = check_finite(V, "V")
    if v.shape != check_kind(mdp, MDP, "mdp").R.shape[:1]:
        raise BookError(f"V must have one entry for each of the {len(mdp.R)} states, got shape {v.shape}")
    return mdp.R + check_gamma(gamma) * mdp.P @ v


def optimal(mdp: MDP, gamma: float) -> tuple[FloatArray, FloatArray]:
    """Return an optimal policy (S, A) and V* (S,), by policy iteration."""
    policy = uniform_policy(mdp)
    while True:
        V = value(mdp, policy, gamma)
        better = greedy(action_values(mdp, V, gamma))
        if np.abs(value(mdp, better, gamma) - V).max() < TIE:
            return better, V
        policy = better


def look_ahead(mdp: MDP, V: ArrayLike, gamma: float, depth: int) -> FloatArray:
    """Return Q (S, A) of a planner that sees every state on the way: ``depth`` steps of value iteration from V.

    ``V_0 = V``, ``Q_d = R + γ P V_{d-1}``, ``V_d = max_a Q_d``.
    """
    V = check_finite(V, "V")
    for _ in range(check_count(depth, "depth")):
        Q = action_values(mdp, V, gamma)
        V = Q.max(1)
    return Q


# --- what the loss asks for ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unrolled:
    """The exact minimiser of the K-step loss, from every state and after every sequence of at most ``depth`` actions.

    Entry k-1 of each tuple belongs to depth k and has shape (S, Aᵏ); a sequence a_1…a_k is the number that has these
    digits to the base A, a_1 first. ``rewards``: r_k. ``values``: v_k. ``probability``: how likely b is to go on with
    a_2…a_k after a_1 (1 at k = 1). Where it is 0 the data say nothing, and r_k and v_k are set to 0.
    """

    actions: int
    gamma: float
    rewards: tuple[FloatArray, ...]
    values: tuple[FloatArray, ...]
    probability: tuple[FloatArray, ...]

    @property
    def depth(self) -> int:
        """The depth K."""
        return len(self.rewards)

    def returns(self, depth: int | None = None) -> FloatArray:
        """Return ``G(s, a_1…a_D) = Σ_{k≤D} γ^{k-1} r_k + γ^D v_D``, (S, A^D), for D = ``depth`` (default: all)."""
        D = self.depth if depth is None else check_count(depth, "depth")
        if self.depth < D:
            raise BookError(f"this model was unrolled {self.depth} steps; depth {D} is beyond")
        G = self.gamma**D * self.values[D - 1]
        for k in range(1, D + 1):
            G = G + self.gamma ** (k - 1) * np.repeat(self.rewards[k - 1], self.actions ** (D - k), axis=1)
        return G

    def plan(self, depth: int | None = None) -> FloatArray:
        """Return Q (S, A): the best return of a sequence that begins with a, among those that the data contain."""
        G = self.returns(depth)
        D = self.depth if depth is None else depth
        seen = self.probability[D - 1] > 0
        return np.asarray(np.where(seen, G, -math.inf).reshape(len(G), self.actions, -1).max(2))


def unroll(
    mdp: MDP, data_policy: ArrayLike, gamma: float, depth: int, *, value_policy: ArrayLike | None = None
) -> Unrolled:
    """Return what a deterministic latent model with enough capacity learns of data of ``data_policy`` (S, A).

    The belief after s_0, a_1…a_k, not normalised, is ``W_k(s') = Σ_s W_{k-1}(s) b(a_k|s) P(s'|s, a_k)``; b(a_1|s_0)
    is left out, since s_0 is known. ``value_policy`` is the policy whose value the targets hold (default: that of the
    data; reanalysed targets are of a newer one). For open-loop means, pass `uniform_policy` as ``data_policy``.
    Memory grows with Aᴷ.
    """
    b, gamma, depth = (
        check_policy(data_policy, mdp, "data_policy"),
        check_gamma(gamma),
        check_count(depth, "depth"),
    )
    V = value(mdp, b if value_policy is None else check_policy(value_policy, mdp, "value_policy"), gamma)
    S, A = mdp.R.shape
    if S * S * A**depth > MAX_ENTRIES:
        raise BookError(
            f"{A} actions, {depth} steps and {S} states make too many sequences: use a smaller depth"
        )
    rewards, values, probability = [], [], []
    W = np.eye(S)[:, None, :]  # (S roots, sequences, S)
    for k in range(depth):
        weight = b.T if k else np.ones((A, S))  # the first action is no evidence: s_0 is known
        acted = W[:, :, None, :] * weight  # (S, n, A, S): the state, and the action taken in it
        p = acted.sum(3)  # (S, n, A)
        r = _ratio(np.einsum("rnas,sa->rna", acted, mdp.R), p)
        W = np.einsum("rnas,sat->rnat", acted, mdp.P).reshape(S, -1, S)
        p = p.reshape(S, -1)
        rewards.append(r.reshape(S, -1))
        values.append(_ratio(W @ V, p))
        probability.append(p)
    return Unrolled(A, gamma, tuple(rewards), tuple(values), tuple(probability))


def _ratio(top: FloatArray, bottom: FloatArray) -> FloatArray:
    """Return top/bottom, and 0 where the data never go."""
    return np.asarray(np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0))


# --- belief in one's luck -------------------------------------------------------------------------------


def evidence_curve(mdp: MDP, gamma: float = 0.99, *, points: int = 21, first: int = 1) -> pd.DataFrame:
    """Return what a two-step model believes of action ``first`` at the start, against how much its data look.

    Data: random actions, except for a ``share`` of steps that take the optimal one. Columns: share, believed (best plan
    in the model that was learned), open_loop (of the best sequence), closed_loop (of who looks), own (Q^b).
    """
    best, _ = optimal(mdp, gamma)
    first = check_count(first, "first", minimum=0)
    if first >= mdp.R.shape[1]:
        raise BookError(f"first must be an action, 0 … {mdp.R.shape[1] - 1}, got {first}")
    rows = []
    for share in np.linspace(0, 1, check_count(points, "points", minimum=2)):
        b = epsilon_soft(best, mdp, 1 - share)
        V = value(mdp, b, gamma)
        blind = unroll(mdp, uniform_policy(mdp), gamma, 2, value_policy=b).plan()
        rows.append(
            (
                float(share),
                float(unroll(mdp, b, gamma, 2).plan()[0, first]),
                float(blind[0, first]),
                float(look_ahead(mdp, V, gamma, 2)[0, first]),
                float(action_values(mdp, V, gamma)[0, first]),
            )
        )
    return pd.DataFrame(rows, columns=["share", "believed", "open_loop", "closed_loop", "own"])


# --- the agent -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Improvement:
    """Idealised MuZero, round by round: no error of learning, of search or of sampling is left.

    ``policies`` (rounds, S, A) greedy policies; ``believed`` and ``true`` (rounds,), values of the start.
    """

    policies: FloatArray
    believed: FloatArray
    true: FloatArray

    @property
    def settling(self) -> FloatArray:
        """What was believed in the last half of the rounds: one number if they settled, a cycle or a quarrel if not."""
        return np.asarray(self.believed[len(self.believed) // 2 :])

    @property
    def settling_true(self) -> FloatArray:
        """The true values of the last half of the rounds."""
        return np.asarray(self.true[len(self.true) // 2 :])


def improve(
    mdp: MDP,
    gamma: float,
    depth: int,
    *,
    exploration: float = 0.1,
    rounds: int = 30,
    start: int = 0,
    looks: bool = False,
) -> Improvement:
    """Return the rounds of policy improvement with a deterministic model of the agent's own data.

    Round i: act by b_i, learn the exact minimiser from b_i's data (`unroll`), plan ``depth`` steps, and let b_{i+1} take
    the first action of the best plan, or with probability ``exploration`` any. b_0 is uniform. With ``looks`` the plan
    may depend on the states on the way (`look_ahead`), as with a model that has chance in it.
    """
    eps, rounds = check_probability(exploration, "exploration"), check_count(rounds, "rounds")
    if eps == 0:
        raise BookError(
            "exploration must be above 0: without it the model knows nothing of actions not taken"
        )
    start, b = _check_start(start, mdp), uniform_policy(mdp)
    policies, believed, true = [], [], []
    for _ in range(rounds):
        Q = (
            look_ahead(mdp, value(mdp, b, gamma), gamma, depth)
            if looks
            else unroll(mdp, b, gamma, depth).plan()
        )
        pi = greedy(Q)
        policies.append(pi)
        believed.append(float(Q[start].max()))
        true.append(float(value(mdp, pi, gamma)[start]))
        b = epsilon_soft(pi, mdp, eps)
    return Improvement(np.array(policies), np.array(believed), np.array(true))


def failures(
    gamma: float = 0.99, depths: Sequence[int] = (1, 2, 3, 4), *, exploration: float = 0.1, rounds: int = 30
) -> pd.DataFrame:
    """Return, for the three worlds, what an agent loses that plans in the minimiser of the K-step loss.

    Columns: world, data, depth, believed, true, optimal (values of the start), lost (share of the optimal value).
    Data: "random": actions drawn alike, values of the optimal policy, the best that random data allow. "own": mean over
    the last half of ``rounds`` rounds of `improve`. "looks": the same with a planner that looks on the way.
    """
    records = []
    for name, mdp in worlds().items():
        best, V = optimal(mdp, gamma)
        for depth in [check_count(d, "every depth") for d in depths]:
            blind = unroll(mdp, uniform_policy(mdp), gamma, depth, value_policy=best).plan()
            own = improve(mdp, gamma, depth, exploration=exploration, rounds=rounds)
            looks = improve(mdp, gamma, depth, exploration=exploration, rounds=rounds, looks=True)
            for data, believed, true in (
                ("random", blind[0].max(), value(mdp, greedy(blind), gamma)[0]),
                ("own", own.settling.mean(), own.settling_true.mean()),
                ("looks", looks.settling.mean(), looks.settling_true.mean()),
            ):
                records.append((name, data, depth, float(believed), float(true), float(V[0])))
    table = pd.DataFrame(records, columns=["world", "data", "depth", "believed", "true", "optimal"])
    table["lost"] = (1 - table["true"] / table["optimal"]).clip(lower=0)  # rounding must not look like a gain
    return table


def searchable(
    mdp: MDP, policy: ArrayLike, gamma: float, depth: int, *, root: int = 0, prior: ArrayLike | None = None
) -> TabularModel:
    """Return the exact minimiser as the three functions that MuZero's search needs, from one state of the world.

    Its latents are the sequences of at most ``depth`` actions: number 0 is the encoded root, and after it come those
    of length 1, 2, … in the order of `Unrolled`. Policy head: by default the best answer to cross-entropy too, how likely
    b takes each action after the sequence; or ``prior`` (A,) everywhere. Search it to ``max_depth`` = depth at most.
    """
    b, root = check_policy(policy, mdp), _check_start(root, mdp)
    tree, A = unroll(mdp, b, gamma, depth), mdp.R.shape[1]
    sizes = [A**k for k in range(tree.depth + 1)]
    first = np.concatenate([[0], np.cumsum(sizes)])  # where the sequences of each length begin
    rewards, after = np.zeros((first[-1], A)), np.zeros((first[-1], A), dtype=np.int64)
    values, priors = np.empty(first[-1]), np.full((first[-1], A), 1 / A)
    values[0], priors[0] = value(mdp, b, gamma)[root], b[root]
    for k in range(tree.depth):
        here, p = slice(first[k], first[k + 1]), tree.probability[k][root].reshape(-1, A)
        rewards[here] = tree.rewards[k][root].reshape(-1, A)
        after[here] = first[k + 1] + np.arange(sizes[k + 1]).reshape(-1, A)
        values[first[k + 1] : first[k + 2]] = tree.values[k][root]
        if k:
            total = p.sum(1, keepdims=True)
            priors[here] = np.where(total > 0, _ratio(p, np.broadcast_to(total, p.shape)), 1 / A)
    if prior is not None:
        priors[:] = check_finite(prior, "prior")
    return TabularModel(rewards, after, priors, values)


def search_beliefs(
    mdp: MDP,
    policy: ArrayLike,
    gamma: float,
    depth: int,
    simulations: Sequence[int] = (5, 10, 20, 50, 100, 200, 400, 800),
    *,
    root: int = 0,
) -> pd.DataFrame:
    """Return what MuZero's own search believes and does in the exact minimiser, against its number of simulations.

    Two priors: "policy" (the model's own head) and "uniform". Columns: prior, simulations, action (most visited), q (its
    value in the tree), plan (the best plan's value, where search goes with many simulations).
    """
    A = check_kind(mdp, MDP, "mdp").R.shape[1]
    best = float(unroll(mdp, policy, gamma, depth).plan()[_check_start(root, mdp)].max())
    rows = []
    for name, prior in (("policy", None), ("uniform", np.full(A, 1 / A))):
        model = searchable(mdp, policy, gamma, depth, root=root, prior=prior)
        for n in [check_count(n, "every number of simulations") for n in simulations]:
            settings = SearchSettings(simulations=n, gamma=gamma, max_depth=depth)
            found = search(model, np.zeros((1, 1)), settings, backend="reference")
            a = int(found.visits[0].argmax())
            rows.append((name, n, a, float(found.q[0, a]), best))
    return pd.DataFrame(rows, columns=["prior", "simulations", "action", "q", "plan"])


def improve_by_search(
    mdp: MDP,
    gamma: float,
    depth: int,
    *,
    simulations: int = 50,
    exploration: float = 0.1,
    rounds: int = 20,
    start: int = 0,
) -> Improvement:
    """Return the rounds of `improve` with MuZero's own search in place of the best plan, still without errors of learning.

    Each round searches every state in the exact minimiser of the last round's data, with the policy of those data as
    the prior; b_{i+1} draws actions by their shares of the visits, or with probability ``exploration`` any. ``policies``
    are the most visited actions. Not part of the rule: it shows how much of the failure the prior takes away.
    """
    eps, rounds = check_probability(exploration, "exploration"), check_count(rounds, "rounds")
    if eps == 0:
        raise BookError(
            "exploration must be above 0: without it the model knows nothing of actions not taken"
        )
    settings = SearchSettings(
        simulations=simulations, gamma=check_gamma(gamma), max_depth=check_count(depth, "depth")
    )
    start, b = _check_start(start, mdp), uniform_policy(mdp)
    policies, believed, true = [], [], []
    for _ in range(rounds):
        found = [
            search(searchable(mdp, b, gamma, depth, root=s), np.zeros((1, 1)), settings, backend="reference")
            for s in range(len(mdp.R))
        ]
        shares = np.array([one.policy[0] for one in found], dtype=np.float64)
        pi = greedy(shares)
        policies.append(pi)
        believed.append(float(found[start].root_values[0]))
        true.append(float(value(mdp, pi, gamma)[start]))
        b = epsilon_soft(shares / shares.sum(1, keepdims=True), mdp, eps)
    return Improvement(np.array(policies), np.array(believed), np.array(true))


def search_failures(
    gamma: float = 0.99,
    depths: Sequence[int] = (1, 2, 3, 4),
    *,
    simulations: int = 50,
    exploration: float = 0.1,
    rounds: int = 14,
) -> pd.DataFrame:
    """Return what `improve_by_search` loses in the three worlds: columns as `failures`, data "search".

    True and believed values are means over the last half of the rounds.
    """
    records = []
    for name, mdp in worlds().items():
        best = float(optimal(mdp, gamma)[1][0])
        for depth in depths:
            run = improve_by_search(
                mdp, gamma, depth, simulations=simulations, exploration=exploration, rounds=rounds
            )
            records.append((name, "search", depth, run.settling.mean(), run.settling_true.mean(), best))
    table = pd.DataFrame(records, columns=["world", "data", "depth", "believed", "true", "optimal"])
    table["lost"] = (1 - table["true"] / table["optimal"]).clip(lower=0)  # rounding must not look like a gain
    return table


class Outcome(NamedTuple):
    """The verdict by ``RULE`` and the worlds in which the deterministic model fails."""

    kind: str
    failing: tuple[str, ...]


def verdict(table: pd.DataFrame) -> Outcome:
    """Apply ``RULE`` to a table of `failures`; kind is "holds", "holds when" or "does not hold"."""
    check_table(table, ("world", "data", "depth", "lost"), "table")
    judged = table[table["data"].isin(get_args(Data)) & (table["depth"] >= 2)]
    if judged.empty:
        raise BookError("the rule needs depths of 2 or more")
    worst = judged.groupby("world", sort=False)["lost"].max()
    failing = tuple(str(name) for name in worst.index[worst > FAILS])
    kind = "holds" if len(failing) == len(worst) else "holds when" if failing else "does not hold"
    return Outcome(kind, failing)


def _check_start(start: Any, mdp: MDP) -> int:
    """Return a state of the world."""
    state = check_count(start, "start", minimum=0)
    if state >= len(check_kind(mdp, MDP, "mdp").R):
        raise BookError(f"start must be a state, 0 … {len(mdp.R) - 1}, got {state}")
    return state
