"""The study behind samp-exact: in which languages, with how much data, does one-step error compound?

**The rule, fixed before measuring** (`cells`, `verdict`). In each of 25 cells, five worlds (a language and a learner,
`WORLDS`) times five sizes of data, D is the mean over 20 seeds of KL(p_t‖q_t) at t = 1,024, divided by that at t = 1. The
error *compounds* if the 95% interval of D (percentile bootstrap over seeds; each seed has its own language and its
own data) lies above 2, and does not if it lies below 2. "The drift is compounding of one-step error" *holds* if it
compounds in every cell and *does not hold* if it compounds in none. It *holds when* the way back is slow if both kinds
occur and `exposure.predict`, which knows one-step quantities only, calls at least 90% of the decided cells right. It is
*open* otherwise.

`LEARNERS` puts six learners on one kind of language, to ask which of them recover. They are no part of the rule.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from one_step_trap.core.stats import (
    Interval,
    percentile_ends,
    percentile_interval,
)
from one_step_trap.core.validate import (
    FloatArray,
    IntArray,
    check_choice,
    check_count,
    check_kind,
    check_kinds,
    check_list,
    check_rng,
    check_table,
)
from one_step_trap.errors import BookError
from one_step_trap.sampling.exposure import STEPS, Exposure, Prediction, expose, predict
from one_step_trap.sampling.languages import Language, ergodic, off_support, sample_pairs, topics, two_books
from one_step_trap.sampling.learners import Network, add_alpha, backoff, copying, train_network

SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)  # training pairs
SEEDS = 20
RULE_RATIO, RULE_AGREEMENT = 2.0, 0.9  # of the rule above
ON_GRID = ("kl", "tv", "kl_predicted", "share_predicted", "entropy_predicted")
BY_STEP = (
    "entropy_own",
    "entropy_human",
    "entropy_gap",
    "error_own",
    "error_human",
    "accumulated",
    "excess",
)

Learner = Callable[[IntArray, np.random.Generator], FloatArray]


@dataclass(frozen=True)
class World:
    """A kind of language and a learner: ``make(rng)`` draws the one, ``learn(counts, rng)`` is the other."""

    name: str
    make: Callable[[np.random.Generator], Language]
    learn: Learner
    says: str = ""  # what theory expects, in words


def _counting(rule: Callable[[ArrayLike], FloatArray]) -> Learner:
    return lambda counts, rng: rule(counts)


def _network(**settings: Any) -> Learner:
    return lambda counts, rng: train_network(counts, rng, Network(**settings))


WORLDS = (
    World("ergodic", ergodic, _counting(add_alpha), "no drift: the model forgets within a few tokens"),
    World("slow topics", topics, _counting(add_alpha), "drift until the topic is forgotten"),
    World("off-support (returns)", off_support, _counting(add_alpha), "leaves and is back: hardly any drift"),
    World("off-support (sticky)", off_support, _counting(copying), "drift, entropy collapses: loops"),
    World(
        "two books", two_books, _counting(add_alpha), "drifts to the mix of the corpus, later with more data"
    ),
)

LEARNERS = (  # on one kind of language: what a learner does where it has no data
    World("add α", off_support, _counting(add_alpha), "returns at once; the leak fades as 1/N"),
    World("backoff", off_support, _counting(backoff), "returns at once; the leak fades as 1/N²"),
    World("copying", off_support, _counting(copying), "stays for 50 tokens"),
    World("network", off_support, _network(), "returns: an untrained input says nothing"),
    World("network (tied)", off_support, _network(tied=True), "stays: unused tokens share a cone"),
    World("network (tied, residual)", off_support, _network(tied=True, body="residual"), "stays likewise"),
)


@dataclass(frozen=True)
class Runs:
    """Exact results of many learners: lists of `Exposure` and `Prediction` by world, size of data and seed.

    ``exposures[world][pairs]`` has an entry a seed; ``predictions`` likewise, at the positions of the exposure's grid.
    """

    sizes: tuple[int, ...]
    seeds: int
    exposures: Mapping[str, Mapping[int, Sequence[Exposure]]] = field(repr=False)
    predictions: Mapping[str, Mapping[int, Sequence[Prediction]]] = field(repr=False)

    @property
    def worlds(self) -> tuple[str, ...]:
        """Names of the worlds."""
        return tuple(self.exposures)

    def stack(self, world: str, pairs: int, name: str) -> FloatArray:
        """Return the attribute ``name`` of all seeds' exposures, (seeds, …)."""
        check_choice(world, self.worlds, "world")
        if pairs not in self.sizes:
            raise BookError(f"pairs must be one of {', '.join(map(str, self.sizes))}, got {pairs}")
        return np.array([getattr(e, name) for e in self.exposures[world][pairs]])


def run(
    worlds: Sequence[World] = WORLDS,
    *,
    sizes: Sequence[int] = SIZES,
    seeds: int = SEEDS,
    steps: int = STEPS,
    seed: int = 0,
) -> Runs:
    """Return exact exposures of ``seeds`` learners in each world, for growing amounts of data.

    Each seed draws its own language and its own data; a larger set of pairs contains the smaller one. Learner k of a
    world is the same whichever other worlds, and however many seeds, are run.
    """
    chosen, amounts = check_kinds(worlds, World, "worlds"), _check_sizes(sizes)
    seeds, seed = check_count(seeds, "seeds", minimum=2), check_count(seed, "seed", minimum=0)
    exposures: dict[str, dict[int, list[Exposure]]] = {}
    predictions: dict[str, dict[int, list[Prediction]]] = {}
    for world in chosen:
        for table in (exposures, predictions):
            table[world.name] = {pairs: [] for pairs in amounts}
        for k in range(seeds):
            rng = np.random.default_rng([seed, zlib.crc32(world.name.encode()), k])
            language = world.make(rng)
            counts, before = np.zeros(language.P.shape, dtype=np.int64), 0
            for pairs in amounts:
                counts, before = counts + sample_pairs(language, pairs - before, rng), pairs
                Q = world.learn(counts, rng)
                exposure = expose(language, Q, steps)
                exposures[world.name][pairs].append(exposure)
                predictions[world.name][pairs].append(predict(language, Q, exposure.grid))
    return Runs(amounts, seeds, exposures, predictions)


def _check_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    amounts = tuple(check_count(n, "every size") for n in check_list(sizes, "sizes"))
    if any(b <= a for a, b in itertools.pairwise(amounts)):
        raise BookError("sizes must increase: each amount of data contains the one before")
    return amounts


def _resamples(seeds: int, rng: np.random.Generator, resamples: int) -> FloatArray:
    """Return weights (1 + resamples, seeds) of means: the first row takes all seeds alike, the others bootstrap them."""
    picks = check_rng(rng).multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
    return np.vstack([np.ones(seeds), picks]) / seeds


def curves(runs: Runs, name: str, rng: np.random.Generator, *, resamples: int = 1_000) -> pd.DataFrame:
    """Return means over seeds by position: columns ``world``, ``pairs``, ``t``, ``value``, ``low``, ``high``.

    ``name``: a number a position of `Exposure` (kl, tv, entropy_own, entropy_human, error_own, error_human, accumulated,
    excess, share; or entropy_gap, own minus human), or kl_predicted, share_predicted and entropy_predicted of
    `Prediction`. Those with a number at every step are thinned to the grid of the others.
    """
    check_kind(runs, Runs, "runs", made_by="run")
    name = check_choice(name, (*ON_GRID, *BY_STEP, "share"), "name")
    weights = _resamples(runs.seeds, rng, check_count(resamples, "resamples"))
    rows = []
    for world in runs.worlds:
        for pairs in runs.sizes:
            grid = runs.exposures[world][pairs][0].grid
            values = _values(runs, world, pairs, name)
            if name not in ON_GRID:
                values = values[:, grid if name == "share" else grid - 1]
            means = weights @ values  # (1 + resamples, K)
            low, high = percentile_ends(means)
            rows += [(world, pairs, *row) for row in zip(grid.tolist(), means[0], low, high, strict=True)]
    return pd.DataFrame(rows, columns=["world", "pairs", "t", "value", "low", "high"])


def _values(runs: Runs, world: str, pairs: int, name: str) -> FloatArray:
    """Return a curve of all seeds, (seeds, …), by its name in `curves`."""
    if name == "entropy_gap":
        return runs.stack(world, pairs, "entropy_own") - runs.stack(world, pairs, "entropy_human")
    if name.endswith("_predicted"):
        theory = runs.predictions[world][pairs]
        return np.array([getattr(p, name.removesuffix("_predicted")) for p in theory])
    return runs.stack(world, pairs, name)


def cells(runs: Runs, rng: np.random.Generator, *, resamples: int = 4_000) -> pd.DataFrame:
    """Return what theory predicts beside what was measured, one row a world and size of data.

    Columns: ``ratio`` D = mean KL(p_T‖q_T) / mean KL(p_1‖q_1) over seeds with its 95% interval (``low``, ``high``);
    ``predicted``, the same ratio of `predict`; ``compounds``: yes, no or undecided (the rule of this module);
    ``agrees``, whether the prediction lies on the same side of 2; means over seeds of ``kl_first`` and ``kl_last``,
    ``share`` in region 1 at T and its prediction (``share_predicted``), entropy in nats on own text at T (``entropy_last``)
    and on human text (``entropy_human``) and the predicted one (``entropy_predicted``), ``error`` (one step, human text)
    and ``excess`` (%ExAccErr over T tokens).
    """
    check_kind(runs, Runs, "runs", made_by="run")
    weights = _resamples(runs.seeds, rng, check_count(resamples, "resamples"))
    rows = []
    for world in runs.worlds:
        for pairs in runs.sizes:
            kl = runs.stack(world, pairs, "kl")
            D = percentile_interval((weights @ kl[:, -1]) / (weights @ kl[:, 0]), runs.seeds)
            theory = runs.predictions[world][pairs]
            predicted_kl = np.array([p.kl for p in theory])
            predicted = float(predicted_kl[:, -1].mean() / predicted_kl[:, 0].mean())
            compounds = "yes" if D.low > RULE_RATIO else "no" if D.high < RULE_RATIO else "undecided"
            rows.append(
                {
                    "world": world,
                    "pairs": pairs,
                    "ratio": D.value,
                    "low": D.low,
                    "high": D.high,
                    "predicted": predicted,
                    "compounds": compounds,
                    "agrees": compounds != "undecided" and (predicted > RULE_RATIO) == (compounds == "yes"),
                    "kl_first": kl[:, 0].mean(),
                    "kl_last": kl[:, -1].mean(),
                    "share": runs.stack(world, pairs, "share")[:, -1].mean(),
                    "share_predicted": np.mean([p.share[-1] for p in theory]),
                    "entropy_last": runs.stack(world, pairs, "entropy_own")[:, -1].mean(),
                    "entropy_human": runs.stack(world, pairs, "entropy_human")[:, -1].mean(),
                    "entropy_predicted": np.mean([p.entropy[-1] for p in theory]),
                    "error": runs.stack(world, pairs, "error_human").mean(),
                    "excess": runs.stack(world, pairs, "excess")[:, -1].mean(),
                }
            )
    return pd.DataFrame(rows)


def drift_ratio(table: pd.DataFrame, world: str, pairs: int, seeds: int = SEEDS) -> Interval:
    """Return the ratio D of one cell of `cells` with its interval, as the ledger records it; n is the number of ``seeds``."""
    check_table(table, ("world", "pairs", "ratio", "low", "high"), "table (of cells)")
    row = table[(table["world"] == world) & (table["pairs"] == pairs)]
    if len(row) != 1:
        raise BookError(f"the table has no cell of {world!r} with {pairs} pairs")
    ratio, low, high = (float(row.iloc[0][name]) for name in ("ratio", "low", "high"))
    return Interval(ratio, low, high, check_count(seeds, "seeds"))


def verdict(table: pd.DataFrame) -> tuple[str, str]:
    """Return the verdict on samp-exact and its condition, by the rule of this module, from the table of `cells`."""
    check_table(table, ("world", "pairs", "compounds", "agrees"), "table (of cells)")
    yes, no = (table["compounds"] == "yes"), (table["compounds"] == "no")
    if yes.all():
        return "holds", ""
    if not yes.any():
        return ("does not hold", "") if no.all() else ("open", "")
    right = float(table.loc[yes | no, "agrees"].mean())
    if not no.any() or right < RULE_AGREEMENT:
        return "open", ""
    always = [w for w in table["world"].unique() if yes[table["world"] == w].all()]
    never = [w for w in table["world"].unique() if not yes[table["world"] == w].any()]
    return (
        "holds when",
        f"where a model that has left human text is slow to return (among them {_listed(always)}), not where it forgets or "
        f"is soon back (among them {_listed(never)}); {int(yes.sum())} of {len(table)} cells compound, {int(no.sum())} do "
        f"not, and one-step rates foretell {right:.0%} of these",
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "no world at every amount of data"


def summary(table: pd.DataFrame, worlds: Sequence[World] = WORLDS) -> pd.DataFrame:
    """Return theory beside measurement, one row a world, from the table of `cells`.

    Columns: ``world``; ``theory`` in words; ``compounds`` of ``cells``: how many compound; ``right``: predictions on the
    right side of the rule; ``off_by``: the median over cells of the factor between predicted and measured KL ratio
    (1 is exact); ``entropy`` of ``moves``: in how many cells the entropy on own text at the last token moves from that
    on human text as predicted, among those where either moves by more than 1%.
    """
    check_table(table, ("world", "ratio", "predicted", "compounds", "agrees"), "table (of cells)")
    says = {world.name: world.says for world in check_kinds(worlds, World, "worlds")}
    rows = []
    for name, part in table.groupby("world", sort=False):
        factor = np.exp(np.abs(np.log(part["predicted"] / part["ratio"])))
        measured = part["entropy_last"] / part["entropy_human"] - 1
        predicted = part["entropy_predicted"] / part["entropy_human"] - 1
        moves = (measured.abs() > 0.01) | (predicted.abs() > 0.01)
        same = (np.sign(measured) == np.sign(predicted)) & moves
        rows.append(
            (
                name,
                says.get(str(name), ""),
                int((part["compounds"] == "yes").sum()),
                len(part),
                int(part["agrees"].sum()),
                float(factor.median()),
                int(same.sum()),
                int(moves.sum()),
            )
        )
    columns = ["world", "theory", "compounds", "cells", "right", "off_by", "entropy", "moves"]
    return pd.DataFrame(rows, columns=columns)


def fade(
    runs: Runs,
    world: str,
    rng: np.random.Generator,
    *,
    name: str = "share",
    resamples: int = 2_000,
) -> Interval:
    """Return the least-squares slope of ln(mean drift) over ln(pairs), with a 95% interval over seeds.

    ``name``: "share" (of region 1) or "kl", both at the last token. -1 says that ten times the data leave a tenth of the
    drift, 0 that data do not help.
    """
    check_kind(runs, Runs, "runs", made_by="run")
    check_choice(name, ("share", "kl"), "name")
    if len(runs.sizes) < 2:
        raise BookError("a rate needs at least 2 sizes of data")
    weights = _resamples(runs.seeds, rng, check_count(resamples, "resamples"))
    values = [runs.stack(world, pairs, name) for pairs in runs.sizes]
    means = np.array([weights @ v[:, -1] for v in values])  # (sizes, 1 + resamples)
    if (means <= 0).any():
        raise BookError(f"the {name} is 0 at some size of data in the world {world!r}: it has no logarithm")
    x = np.log(runs.sizes) - np.mean(np.log(runs.sizes))
    return percentile_interval(x @ np.log(means) / (x @ x), runs.seeds)
