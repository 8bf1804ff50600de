"""How long a text lasts before it loops: survival curves of the first loop, and the median number of tokens.

A text that has not looped when the run ends may loop later: its time is *right-censored* at the number of tokens drawn.
The curve is the product-limit estimate of Kaplan & Meier (1958), computed by ``scipy.stats.ecdf``.

The event is that a loop *is established* (``loop_seen`` of the table), not that it begins: whether it has happened by
token t depends on the first t tokens alone, so nothing is missed before the end of the run, and a short run and a long
one agree where both go.

**Bands** are bootstrapped over prompts with all seeds of a prompt kept together. Greenwood's formula, which SciPy offers,
takes all texts as independent: three seeds of one prompt are not. Where no text (or every text) has looped, a
bootstrap has no width, and the exact binomial interval over prompts (Clopper & Pearson 1934) takes its place.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from one_step_trap.core.stats import Interval, proportion_interval, readable
from one_step_trap.core.validate import (
    FloatArray,
    IntArray,
    check_count,
    check_finite,
    check_rng,
    short_repr,
)
from one_step_trap.errors import BookError
from one_step_trap.sampling.drift import check_rows, cluster_bootstrap, cube


@dataclass(frozen=True)
class Time:
    """A number of tokens with its 95% interval; None stands for "later than the run"."""

    value: float | None
    low: float | None
    high: float | None
    steps: int
    n: int

    def __str__(self) -> str:
        words = [
            f"more than {self.steps:,}" if x is None else readable(x)
            for x in (self.value, self.low, self.high)
        ]
        value = "not reached" if self.value is None else words[0]
        return f"{value} [{words[1]}, {words[2]}] (n = {self.n:,})"


@dataclass(frozen=True)
class Survival:
    """A survival curve: ``share`` of texts without a loop after ``tokens`` (T,) tokens, with its band.

    ``median``: tokens until half of the texts loop. ``mean``: restricted mean, the tokens without a loop out of
    the first ``steps``.
    """

    rule: str
    tokens: IntArray
    share: FloatArray
    low: FloatArray
    high: FloatArray
    steps: int
    n: int
    median: Time
    mean: Interval


def kaplan_meier(times: ArrayLike, looped: ArrayLike, at: ArrayLike) -> FloatArray:
    """Return the share of texts without a loop after ``at`` (T,) tokens.

        S(t) = ∏ over event times u <= t of (1 - d_u/n_u)

    ``times`` (N,) tokens until the loop, or until the run ended; ``looped`` (N,) which of the two; d_u texts loop at u, of n_u
    still without a loop. By ``scipy.stats.ecdf``.
    """
    t, event, grid = check_finite(times, "times"), _events(looped), check_finite(at, "at")
    if t.ndim != 1 or event.shape != t.shape or not len(t) or t.min() <= 0 or grid.ndim != 1:
        raise BookError(
            f"times must be a vector of numbers above 0 and looped one of the same length, got {t.shape} and {event.shape}"
        )
    if not event.any():  # SciPy has no curve without an event
        return np.ones(len(grid))
    data = stats.CensoredData.right_censored(t, ~event)
    return np.asarray(stats.ecdf(data).sf.evaluate(grid))


def _events(looped: ArrayLike) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    events = np.asarray(looped)
    if events.dtype != bool:
        raise BookError(f"looped must hold True and False, got {short_repr(looped)}")
    return events


def survival(
    seen: ArrayLike,
    steps: int,
    rng: np.random.Generator,
    *,
    rule: str = "",
    resamples: int = 2_000,
    points: int = 257,
) -> Survival:
    """Return the survival curve of one rule.

    ``seen`` (prompts, seeds) or (prompts,): tokens after which a loop was established, 0 for none within ``steps``.
    The curve is given at ``points`` evenly spaced numbers of tokens from 0 to ``steps`` (at every token if there are fewer).
    """
    x = check_finite(seen, "seen")
    x = x[:, None] if x.ndim == 1 else x
    check_rng(rng)
    steps, resamples = check_count(steps, "steps"), check_count(resamples, "resamples")
    if x.ndim != 2 or len(x) < 2 or not x.shape[1] or x.min() < 0 or x.max() > steps:
        raise BookError(
            f"seen must have shape (prompts, seeds), at least 2 prompts, numbers from 0 to {steps}, got {x.shape}"
        )
    grid = np.unique(np.linspace(0, steps, check_count(points, "points", minimum=2)).round().astype(np.int64))
    event = x > 0
    times = np.where(event, x, steps)
    share = kaplan_meier(times.ravel(), event.ravel(), grid)
    draws = rng.multinomial(
        len(x), np.full(len(x), 1 / len(x)), size=resamples
    )  # (R, P): how often each prompt
    resampled = weighted_survival(times, event, draws, grid)  # (R, T)
    low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
    low, high = _widen(share, low, high, len(x))
    low[0] = 1  # before the first token there is nothing to loop
    return Survival(
        rule=rule,
        tokens=grid,
        share=share,
        low=low,
        high=high,
        steps=steps,
        n=len(x),
        median=_median(times, event, draws, steps),
        mean=cluster_bootstrap(times, rng, resamples=resamples),
    )


def weighted_survival(times: FloatArray, event: ArrayLike, draws: ArrayLike, at: ArrayLike) -> FloatArray:
    """Return Kaplan-Meier curves with prompts counted ``draws`` (R, P) times, at ``at`` (T,): shape (R, T).

    The same estimate as ``kaplan_meier`` on resampled data, for all resamples at once. ``times``, ``event``: (P, K).
    """
    t, hit, w, grid = np.asarray(times), np.asarray(event), np.asarray(draws), np.asarray(at)
    when = np.unique(t[hit])  # (U,)
    if not len(when):
        return np.ones((len(w), len(grid)))
    dying = ((t[..., None] == when) & hit[..., None]).sum(1)  # (P, U)
    at_risk = (t[..., None] >= when).sum(1)
    d, n = w @ dying, w @ at_risk  # (R, U)
    curve = np.cumprod(1 - d / np.maximum(n, 1), axis=1)
    curve = np.concatenate([np.ones((len(w), 1)), curve], axis=1)
    return np.asarray(curve[:, np.searchsorted(when, grid, side="right")])


def _widen(
    share: FloatArray, low: FloatArray, high: FloatArray, prompts: int
) -> tuple[FloatArray, FloatArray]:
    """Return the band with the exact binomial interval where all texts agree."""
    none, all_ = proportion_interval(prompts, prompts), proportion_interval(0, prompts)
    low = np.where(share == 1, none.low, low)
    return low, np.where(share == 0, all_.high, high)


def _median(times: FloatArray, event: ArrayLike, draws: ArrayLike, steps: int) -> Time:
    """Return the smallest t with S(t) <= 1/2 and its percentile interval; later than the run is None."""
    hit = np.asarray(event)
    when = np.unique(np.r_[times[hit], steps]).astype(np.int64)
    weights = np.vstack([np.ones((1, len(times)), np.int64), np.asarray(draws)])
    curves = weighted_survival(times, hit, weights, when) <= 0.5 + 1e-12
    medians = np.where(curves.any(1), when[curves.argmax(1)], np.inf)
    low, high = np.quantile(
        medians[1:], [0.025, 0.975], method="inverted_cdf"
    )  # no mean of a number and never
    value, low, high = (None if np.isinf(m) else float(m) for m in (medians[0], low, high))
    return Time(value, low, high, steps, len(times))


def survivals(
    table: pd.DataFrame,
    rng: np.random.Generator,
    *,
    rules: Sequence[str] | None = None,
    resamples: int = 2_000,
) -> dict[str, Survival]:
    """Return the survival curve of each rule of a table of texts (made by ``drift.rows``)."""
    frame = check_rows(table)
    steps = int(frame["steps"].iloc[0])
    names = list(frame["rule"].unique()) if rules is None else list(rules)
    return {
        rule: survival(cube(frame, rule, ["loop_seen"])[..., 0], steps, rng, rule=rule, resamples=resamples)
        for rule in names
    }


def survival_table(
    curves: dict[str, Survival], *, by: Sequence[int] = (128, 256, 512, 1_024)
) -> pd.DataFrame:
    """Return one row a rule: median, restricted mean, and the share of looped texts after ``by`` tokens (within the run)."""
    records = []
    for rule, curve in curves.items():
        if not isinstance(curve, Survival):
            raise BookError(f"curves must map names of rules to Survival, got {short_repr(curve)}")
        record = {"rule": rule, "median": _bare(curve.median), "mean": _bare(curve.mean)}
        for tokens in by:
            if check_count(tokens, "by") <= curve.steps:
                i = int(np.searchsorted(curve.tokens, tokens, side="right")) - 1
                record[f"looped by {tokens:,}"] = (
                    f"{1 - curve.share[i]:.2f} [{1 - curve.high[i]:.2f}, {1 - curve.low[i]:.2f}]"
                )
        records.append(record)
    return pd.DataFrame(records)


def _bare(estimate: Any) -> str:
    """Return an estimate with its interval, if that says more, and without its n, which is the same in the whole table."""
    return re.sub(r" \[(more than [\d,]+), \1\]", "", str(estimate).partition(" (n = ")[0])
