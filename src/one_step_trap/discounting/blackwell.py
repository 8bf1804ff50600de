"""The discount from which on patience no longer changes what is best: the Blackwell discount, exactly.

A policy is *Blackwell optimal* if it is optimal for every γ close enough to 1 (Blackwell 1962); a finite MDP
always has one. The **Blackwell discount** γ_bw is the least number such that for every γ in (γ_bw, 1) the
optimal policies are exactly the Blackwell-optimal ones (Grand-Clément & Petrik 2023, arXiv 2302.00036). Above
it, a larger discount buys nothing but noise; below it, the agent solves another problem.

Why it can be computed exactly. For a policy π the value v_π(γ) = (I - γP_π)⁻¹ r_π is, state by state, a
quotient N_s(γ)/D(γ) of polynomials with D(γ) = det(I - γP_π), and D > 0 on [0, 1). So the advantage of an
action,

    A_π(s, a; γ) = r(s, a) + γ Σ_{s'} P[s, a, s'] v_π(s') - v_π(s),

has the sign of a polynomial of degree at most S on [0, 1), and its sign just below 1 can be read from its
coefficients. Policy iteration with *those* signs is policy iteration in an ordered field (Hordijk, Dekker &
Kallenberg 1985), and ends at a Blackwell-optimal π. Then γ_bw is the largest root in [0, 1) among the
advantage polynomials of π that are not identically 0.

Proof. Let c be that root (0 if there is none). On (c, 1) no such polynomial changes sign, and just below 1
all are negative, so there π is optimal and the optimal actions are those whose advantage is identically 0:
the same set for all γ in (c, 1). At c (if it is a root) π is still optimal by continuity, and so is an action
whose advantage is negative above c: the optimal set is larger than the Blackwell one. ∎

With rational data everything below is done in exact fractions. The answer is an interval of width 2⁻⁶⁰ that
is certain to hold γ_bw, and γ_bw itself where it is a fraction with a denominator up to 10⁶.

**What a float stands for.** The decimal that it is written as: 0.1 is 1/10 and 1e-9 is 1/10⁹, digit for digit
and however small. A float such as 0.3333333333333333 is that decimal too, and not 1/3. So a row of P that holds
floats may miss 1 by rounding; it is then divided by its own sum, exactly. Where that matters, write fractions:
"1/3".
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from numbers import Rational
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from one_step_trap.core.validate import (
    FloatArray,
    check_count,
    check_gamma,
    check_gammas,
    check_list,
    check_positive,
    short_repr,
)
from one_step_trap.discounting.resolution import MDPs, action_values, make_mdps, optimal_policies
from one_step_trap.errors import BookError

Polynomial = tuple[Fraction, ...]  # coefficients from the constant term up, without trailing zeros
FractionArray = NDArray[Any]  # dtype object, entries Fraction
WIDTH = Fraction(1, 2**60)
MAX_DENOMINATOR = 10**6
ROUNDING = Fraction(1, 10**6)  # a row with floats that misses 1 by more is a mistake, and not rounding
MAX_WORK = 10**9  # in states⁴ times digits: about a minute


# -- Polynomials with rational coefficients


def _check_polynomial(p: Any) -> Polynomial:
    """Return the coefficients, from the constant term up, as fractions: whole numbers would turn into floats."""
    return _trim([as_fraction(c, "a coefficient") for c in check_list(p, "the polynomial", empty=True)])


def _trim(p: list[Fraction] | Polynomial) -> Polynomial:
    """Drop zero leading coefficients; the zero polynomial is ()."""
    end = len(p)
    while end and p[end - 1] == 0:
        end -= 1
    return tuple(p[:end])


def _evaluate(p: Polynomial, x: Fraction) -> Fraction:
    total = Fraction(0)
    for coefficient in reversed(p):
        total = total * x + coefficient
    return total


def _divide(p: Polynomial, q: Polynomial) -> tuple[Polynomial, Polynomial]:
    """Return quotient and remainder of p / q."""
    rest, quotient = list(p), [Fraction(0)] * max(0, len(p) - len(q) + 1)
    for i in reversed(range(len(quotient))):
        quotient[i] = rest[i + len(q) - 1] / q[-1]
        for j, coefficient in enumerate(q):
            rest[i + j] -= quotient[i] * coefficient
    return _trim(quotient), _trim(rest)


def _derivative(p: Polynomial) -> Polynomial:
    return _trim([i * c for i, c in enumerate(p)][1:])


def _without_roots_at_one(p: Polynomial) -> tuple[Polynomial, int]:
    """Return q and k with p(x) = (x - 1)ᵏ q(x) and q(1) != 0."""
    k = 0
    while _evaluate(p, Fraction(1)) == 0:
        p, k = _divide(p, (Fraction(-1), Fraction(1)))[0], k + 1
    return p, k


def sign_near_one(p: Polynomial) -> int:
    """Return the sign (-1, 0, 1) of p(γ) for all γ < 1 close enough to 1."""
    q = _check_polynomial(p)
    if not q:
        return 0
    q, k = _without_roots_at_one(q)
    above = _evaluate(q, Fraction(1)) > 0
    return 1 if above == (k % 2 == 0) else -1


def _whole(p: Polynomial) -> tuple[int, ...]:
    """Return a positive multiple of p with whole coefficients that have no common factor: the same signs."""
    scale = math.lcm(*(c.denominator for c in p))
    numbers = [c.numerator * (scale // c.denominator) for c in p]
    common = math.gcd(*numbers) or 1
    return tuple(number // common for number in numbers)


def _sign_at(p: tuple[int, ...], x: Fraction) -> int:
    """Return the sign of p(x): that of the whole number dⁿ p(c/d), for which no fraction must be reduced."""
    total, scale = 0, 1
    for coefficient in reversed(p):
        total = total * x.numerator + coefficient * scale
        scale *= x.denominator
    return (total > 0) - (total < 0)


def _sturm_sequence(p: Polynomial) -> list[tuple[int, ...]]:
    """Return Sturm's sequence p, p', -rem(p, p'), ...: its sign changes count real roots, each once.

    Each member is given up to a positive factor. The last one is the greatest common divisor of p and p'.
    """
    sequence = [_whole(p), _whole(_derivative(p))]
    while sequence[-1]:
        rest, last = list(sequence[-2]), sequence[-1]
        while len(rest) >= len(last):  # a step of the division, times |leading coefficient|
            top, shift = rest[-1], len(rest) - len(last)
            rest = [abs(last[-1]) * c for c in rest[:-1]]
            for j, coefficient in enumerate(last[:-1]):
                rest[shift + j] -= (top if last[-1] > 0 else -top) * coefficient
        sequence.append(_whole(_trim([Fraction(-c) for c in rest])))
    return sequence[:-1]


def _sign_changes(sequence: list[tuple[int, ...]], x: Fraction) -> int:
    signs = [sign for p in sequence if (sign := _sign_at(p, x)) != 0]
    return sum(a != b for a, b in pairwise(signs))


def largest_root_below_one(p: Polynomial) -> tuple[Fraction, Fraction] | None:
    """Return (low, high) around the largest root of p in [0, 1), or None where there is none.

    By Sturm's theorem the changes of sign at a minus those at b count the different roots in (a, b], if p is
    not 0 at either end. So every bisection step is a proof, however close or multiple the roots. A rational
    root with a denominator up to 10⁶ is returned exactly (low = high).
    """
    q = _check_polynomial(p)
    if not q:
        raise BookError("the zero polynomial is 0 everywhere: it has no largest root")
    q, _ = _without_roots_at_one(q)
    sequence = _sturm_sequence(q)
    if len(sequence[-1]) > 1:  # q has multiple roots: divided by what it shares with q', it has each once
        q = _divide(q, tuple(map(Fraction, sequence[-1])))[0]
        sequence = _sturm_sequence(q)
    low, high = Fraction(0), Fraction(1)
    end = _sign_changes(sequence, high)
    if _sign_changes(sequence, low) == end:
        return (low, low) if _evaluate(q, low) == 0 else None
    while high - low > WIDTH:
        middle = (low + high) / 2
        changes = _sign_changes(sequence, middle)
        if changes > end:
            low = middle
        else:
            high, end = middle, changes
    simple = ((low + high) / 2).limit_denominator(MAX_DENOMINATOR)
    if low <= simple <= high and _evaluate(q, simple) == 0:
        return simple, simple
    return low, high


# -- Values as rational functions of the discount


def as_fraction(value: Any, name: str) -> Fraction:
    """Return a number or a text such as "1/3" as a fraction; a float as the decimal that it is written as."""
    try:
        if isinstance(value, str) and re.search(r"e[+-]?\d{5}", value.replace("_", ""), re.IGNORECASE):
            raise BookError(f"{name} has more than 9,999 digits: {short_repr(value)}")
        return Fraction(value if isinstance(value, Rational | Decimal | str) else str(float(value)))
    except (TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
        if isinstance(error, BookError):
            raise
        raise BookError(f"{name} must hold finite numbers or fractions, got {short_repr(value)}") from None


def as_fractions(values: Any, name: str) -> FractionArray:
    """Return an object array of Fractions: of whole numbers, Fractions, texts ("1/3"), or floats.

    A float counts as the decimal that it is written as (0.1 is 1/10), exactly and however small.
    """
    try:
        raw = np.asarray(values, dtype=object)
    except ValueError:
        raise BookError(f"{name} must be an array, got lists of unlike length") from None
    result = np.empty(raw.shape, dtype=object)
    for index, value in np.ndenumerate(raw):
        result[index] = as_fraction(value, name)
    return result


def _check_mdp(P: Any, R: Any) -> tuple[FractionArray, FractionArray]:
    """Return P (S, A, S) and R (S, A) as fractions; rows sum to 1 exactly (those with floats are made to)."""
    transitions, rewards = as_fractions(P, "P"), as_fractions(R, "R")
    if transitions.ndim != 3 or transitions.shape[0] != transitions.shape[2] or transitions.size == 0:
        raise BookError(f"P must have shape (states, actions, states), got {transitions.shape}")
    if rewards.shape != transitions.shape[:2]:
        raise BookError(f"R must have shape {transitions.shape[:2]} to fit P, got {rewards.shape}")
    if (transitions < 0).any():
        raise BookError("P has a negative probability")
    _make_rows_sum_to_one(transitions, np.asarray(P, dtype=object))
    _check_work(transitions, rewards)
    return transitions, rewards


def _make_rows_sum_to_one(P: FractionArray, given: FractionArray) -> None:
    """Divide rows of ``P`` that were ``given`` with floats by their sum; all other rows must sum to 1 already."""
    for index, total in np.ndenumerate(P.sum(-1)):
        exact = all(isinstance(value, Rational | Decimal | str) for value in given[index])
        if exact and total != 1:
            raise BookError(f"every row of P must sum to 1 exactly; row {index} sums to {total}")
        if abs(total - 1) > ROUNDING:
            raise BookError(
                f"every row of P must sum to 1, up to rounding; row {index} sums to {float(total):.9g}"
            )
        P[index] /= total


def _check_work(P: FractionArray, R: FractionArray) -> None:
    """Raise where the exact computation would take minutes: it grows as S⁴ times the digits of the entries."""
    S = len(P)
    bits = 0
    for row in (np.r_[P[s].ravel(), R[s]] for s in range(S)):
        bits += math.lcm(*(x.denominator for x in row)).bit_length()
        bits += max(abs(x.numerator) for x in row).bit_length()
    if S**4 * (100 + bits) > MAX_WORK:
        raise BookError(
            f"{S} states with entries of {bits * 3 // (10 * S)} digits take too long in exact fractions; "
            "use fewer states, rounder numbers, or bisect_switch"
        )


def value_polynomials(P: FractionArray, r: FractionArray) -> tuple[list[Polynomial], Polynomial]:
    """Return numerators N_s and the denominator D with v_s(γ) = N_s(γ) / D(γ), from P (S, S) and r (S,) of
    fractions.

    D(γ) = det(I - γP) and N(γ) = adj(I - γP) r, both by the recursion of Faddeev and Le Verrier: with M₁ = I
    and c₀ = 1, c_k = -tr(P M_k)/k and M_{k+1} = P M_k + c_k I give D = Σ_k c_k γᵏ and adj(I - γP) = Σ_k M_k
    γ^{k-1}.
    """
    P, r = as_fractions(P, "P"), as_fractions(r, "r")
    S = r.size
    if r.ndim != 1 or S == 0 or P.shape != (S, S):
        raise BookError(f"P must have shape (states, states) and r (states,), got {P.shape} and {r.shape}")
    eye = as_fractions(np.eye(S, dtype=int).tolist(), "I")
    M, D = eye, [Fraction(1)]
    terms = []  # terms[k] is the vector that multiplies γᵏ in N
    for k in range(1, S + 1):
        terms.append(M @ r)
        PM = P @ M
        D.append(-PM.trace() / k)
        M = PM + D[-1] * eye
    return [_trim([term[s] for term in terms]) for s in range(S)], _trim(D)


def _advantages(P: FractionArray, R: FractionArray, policy: tuple[int, ...]) -> list[list[Polynomial]]:
    S, A = R.shape
    N, D = value_polynomials(P[np.arange(S), list(policy)], R[np.arange(S), list(policy)])
    padded = [list(p) + [Fraction(0)] * (S + 1 - len(p)) for p in N]
    denominator = list(D) + [Fraction(0)] * (S + 1 - len(D))

    def advantage(s: int, a: int) -> Polynomial:
        p = [R[s, a] * d - n for d, n in zip(denominator, padded[s], strict=True)] + [Fraction(0)]
        for x in range(S):
            for i, coefficient in enumerate(padded[x]):
                p[i + 1] += P[s, a, x] * coefficient  # γ times N_x
        return _trim(p)

    return [[advantage(s, a) for a in range(A)] for s in range(S)]


@dataclass(frozen=True)
class BlackwellDiscount:
    """A Blackwell-optimal policy and where it takes over: ``low <= γ_bw <= high`` for certain."""

    policy: tuple[int, ...]  # the action of every state
    low: Fraction
    high: Fraction

    @property
    def exact(self) -> Fraction | None:
        """γ_bw as a fraction, where it was found to be one."""
        return self.low if self.low == self.high else None

    @property
    def value(self) -> float:
        """γ_bw as a float."""
        return float(self.high)


def blackwell_discount(P: Any, R: Any) -> BlackwellDiscount:
    """Return the Blackwell discount and a Blackwell-optimal policy of a small MDP with rational data.

    ``P`` (S, A, S) and ``R`` (S, A): integers, Fractions, strings such as "1/3", or floats, read as the
    decimals that they are written as (a row of ``P`` with floats is divided by its sum, which may miss 1 by
    10⁻⁶). Exact as the module's docstring says. The work grows as S⁴ times the digits of the entries: about 20
    states with floats or 40 with small whole numbers take seconds; what would take minutes is an error.
    """
    transitions, rewards = _check_mdp(P, R)
    policy = (0,) * len(rewards)
    while True:
        advantages = _advantages(transitions, rewards, policy)
        better = [
            next((a for a, p in enumerate(row) if sign_near_one(p) > 0), policy[s])
            for s, row in enumerate(advantages)
        ]
        if tuple(better) == policy:
            break
        policy = tuple(better)  # each round raises the value just below 1, so no policy returns
    roots = [largest_root_below_one(p) for row in advantages for p in row if p]
    found = [root for root in roots if root is not None]
    low = max((root[0] for root in found), default=Fraction(0))
    high = max((root[1] for root in found), default=Fraction(0))
    return BlackwellDiscount(policy, low, high)


def _in_floats(P: Any, R: Any) -> MDPs:
    """Return the MDP as a batch of one, in floats."""
    try:
        transitions, rewards = (as_fractions(x, name).astype(np.float64) for x, name in ((P, "P"), (R, "R")))
    except OverflowError:
        raise BookError("P and R must hold numbers that a float can hold, up to about 1e308") from None
    return make_mdps("one", transitions[None], rewards[None])


def bisect_switch(
    P: ArrayLike, R: ArrayLike, low: float = 0.0, high: float = 0.9999, *, width: float = 1e-12
) -> float:
    """Return a discount in [low, high] at which the policy that is optimal at ``high`` becomes optimal, by
    bisection.

    In floats, and with no guarantee that it is the *last* such discount: the optimal policy may change more
    than once (:func:`there_and_back`). An error if the policy is optimal at ``low`` already.
    """
    mdps = _in_floats(P, R)
    low, high = check_gamma(low, name="low"), check_gamma(high, name="high")
    width = check_positive(width, "width")
    policy = optimal_policies(mdps, high)

    def optimal(gamma: float) -> bool:
        V, Q = action_values(mdps, policy, gamma)
        return bool((Q.max(-1) <= V + 1e-13 * np.abs(Q).max()).all())

    if low >= high or optimal(low):
        raise BookError(
            f"the policy that is optimal at {high:g} is optimal at {low:g} too: nothing to bisect"
        )
    while high - low > width:
        middle = (low + high) / 2
        if middle in (low, high):  # no float lies between them: as narrow as it gets
            break
        if optimal(middle):
            high = middle
        else:
            low = middle
    return high


def advantage_curve(P: ArrayLike, R: ArrayLike, gammas: ArrayLike, *, state: int = 0) -> FloatArray:
    """Return Q*_γ(state, 1) - Q*_γ(state, 0) at each of ``gammas`` (G,): where it is 0, the best action
    changes.
    """
    mdps = _in_floats(P, R)
    state = check_count(state, "state", minimum=0)
    if state >= mdps.P.shape[1]:
        raise BookError(f"state must be below {mdps.P.shape[1]}, the number of states, got {state}")
    curve = []
    for gamma in check_gammas(gammas):
        _, Q = action_values(mdps, optimal_policies(mdps, gamma), gamma)
        curve.append(Q[0, state, 1] - Q[0, state, 0])
    return np.array(curve)


# -- Examples


def puterman_example() -> tuple[FractionArray, FractionArray]:
    """Return Puterman's two-state MDP (2005, section 3.1), with γ_bw = 10/11.

    In state 0, action 0 pays 5 and stays with probability ½ (else moves to state 1); action 1 pays 10 and
    moves to state 1 for sure. State 1 pays -1 for ever (its one action is listed twice). Action 0 is better
    when 11γ² - 21γ + 10 < 0, that is for γ in (10/11, 1): patience is what makes one stay out of state 1.
    """
    P = [[["1/2", "1/2"], [0, 1]], [[0, 1], [0, 1]]]
    return as_fractions(P, "P"), as_fractions([[5, 10], [-1, -1]], "R")


def there_and_back() -> tuple[FractionArray, FractionArray]:
    """Return an MDP whose optimal action changes at γ = ½ and back at γ = ⅘, so that γ_bw = ⅘.

    In state 0, action 1 ends the episode for nothing, and action 0 starts the payments 2/5, -13/10, 1, worth
    2/5 - 13/10 γ + γ² = (γ - ½)(γ - ⅘). So the right choice at γ = .4 is right for the wrong reason.
    """
    P = np.zeros((4, 2, 4), dtype=int)
    P[0, 0, 1] = P[0, 1, 3] = P[3, :, 3] = 1
    P[1, :, 2] = P[2, :, 3] = 1
    R = [["2/5", 0], ["-13/10", "-13/10"], [1, 1], [0, 0]]
    return as_fractions(P.tolist(), "P"), as_fractions(R, "R")


def waiting_example(chance: Any, bonus: Any) -> tuple[FractionArray, FractionArray]:
    """Return three states in which waiting is worth it only above γ_bw = 1 / (1 + chance x bonus).

    In state 0, action 0 takes 1 and ends; action 1 waits: with probability ``chance`` (in (0, 1]) a reward of
    1 + ``bonus`` (above 0) is ready next step. Waiting for ever is worth γ p (1+b) / (1 - γ (1-p)), which
    exceeds 1 iff γ (1 + p b) > 1. So the Blackwell discount nears 1 as the wait 1/p grows, with three states
    and rewards below 1 + b throughout: no bound below 1 holds for all MDPs of a given size.
    """
    p, b = as_fraction(chance, "chance"), as_fraction(bonus, "bonus")
    if p == 0:
        raise BookError("chance must be above 0: what never comes is not worth waiting for")
    if not (0 < p <= 1 and b > 0):
        raise BookError(f"chance must lie in (0, 1] and bonus be above 0, got {chance} and {bonus}")
    P = [[[0, 0, 1], [1 - p, p, 0]], [[0, 0, 1]] * 2, [[0, 0, 1]] * 2]
    return as_fractions(P, "P"), as_fractions([[1, 0], [1 + b] * 2, [0, 0]], "R")
