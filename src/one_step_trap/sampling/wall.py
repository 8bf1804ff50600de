"""The data wall: what more parameters buy a language model, and what more text does.

"Supervised learning is only partially scalable: it is limited by its data set." Here small models (`pretraining`) of N
parameters are trained on D different tokens of the chapter's prose, for as long as it helps, and the held-out passages say how
many bits per byte they need. Two steps are compared everywhere on the grid: four times the parameters at the same data, and
four times the data at the same parameters.

**Training.** Windows of 128 tokens, drawn from all training documents; a smaller data set of a seed is part of its larger
ones. Muon and AdamW with a constant learning rate, and the loss is that of an average of the weights, w̄ ← w̄ +
(η+1)/(t+η)(w - w̄) with η = 8 (polynomial decay: Shamir & Zhang 2013, arXiv 1212.1824), which stands in for a falling
learning rate when nobody knows beforehand how long the training will be. Training stops early: when the averaged weights
have not improved on a validation set (training text that is set aside, never the test passages) in two looks, a look
whenever the tokens seen have grown by a quarter. The weights that were best on the validation set are the ones tested. Who
reaches ``budget`` tokens first is marked as limited by computing time and not by data.

**The rule, fixed before the runs** (`walls`, `verdict`). A step *helps* if the lower end of the 95% interval of what it
gains on the test passages lies above ``CLEAR`` = .01 bits per byte (half a percent of the loss). The wall at data size D is
the smallest N of the grid from which four times the parameters do not help although four times the data do. The claim
*holds* if there is a wall at every D but the largest, *holds in part* if there is one at some of them, and *does not hold*
if there is none. The intervals bootstrap the test passages, and the seeds where there are several.

Parameters are counted without the embedding, as Kaplan et al. (2020, arXiv 2001.08361) do. Weight decay is the usual .1:
Kim et al. (2025, arXiv 2509.14786) find that thirty times as much moves the wall, since it is regularisation that decides
what a model too large for its data does.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.optimize import least_squares
from torch import Tensor

from one_step_trap.core.stats import Interval, percentile_interval
from one_step_trap.core.threads import one_thread
from one_step_trap.core.validate import (
    FloatArray,
    check_count,
    check_positive,
    check_rng,
    short_repr,
)
from one_step_trap.errors import BookError
from one_step_trap.sampling import bpe, texts
from one_step_trap.sampling.bpe import IntArray
from one_step_trap.sampling.pretraining import (
    BITS,
    Architecture,
    Optimisers,
    Phase,
    Training,
    build,
    code_lengths,
    update_once,
    window_losses,
)
from one_step_trap.study import Study

CLEAR = 0.01
"""Bits per byte that a step must gain for certain to count as helping."""


# --- settings ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """What the study varies (``models``, ``sizes`` in tokens, ``seeds`` of each size) and how each cell is trained.

    ``batch`` windows an update; rates rise over ``warmup`` updates and stay; a look at the validation set (``validation``
    windows) whenever the tokens seen have grown by the factor ``growth``, at first after ``first`` updates; ``patience`` looks
    without improvement end the training, and so do ``budget`` tokens.
    """

    models: tuple[Architecture, ...] = (
        Architecture(32, 1, 2, context=128),
        Architecture(48, 2, 2, context=128),
        Architecture(80, 3, 4, context=128),
        Architecture(128, 4, 4, context=128),
    )
    sizes: tuple[int, ...] = (4_096, 16_384, 65_536, 262_144, 1_048_576)
    seeds: tuple[int, ...] = (3, 3, 3, 2, 1)
    batch: int = 8
    learning_rate: float = 0.006
    embedding_rate: float = 0.006
    warmup: int = 20
    validation: int = 128
    first: int = 16
    growth: float = 1.25
    patience: int = 2
    budget: int = 3_000_000

    def __post_init__(self) -> None:
        models, sizes, seeds = (tuple(getattr(self, name)) for name in ("models", "sizes", "seeds"))
        if len(models) < 2 or not all(isinstance(model, Architecture) for model in models):
            raise BookError("models must be at least two Architectures")
        if len({model.context for model in models}) > 1:
            raise BookError("all models must have the same context")
        parameters = [model.parameters for model in models]
        if sorted(set(parameters)) != parameters:
            raise BookError(f"models must grow in parameters, got {parameters}")
        sizes = tuple(check_count(size, "a size", minimum=models[0].context) for size in sizes)
        if sorted(set(sizes)) != list(sizes) or len(sizes) < 2:
            raise BookError(f"sizes must be at least two that grow, got {sizes}")
        seeds = tuple(check_count(n, "a number of seeds") for n in seeds)
        if len(seeds) != len(sizes) or any(a < b for a, b in itertools.pairwise(seeds)):
            raise BookError("seeds must hold one number a size, none larger than the one before")
        for name, value in (("models", models), ("sizes", sizes), ("seeds", seeds)):
            object.__setattr__(self, name, value)
        for name in ("batch", "warmup", "validation", "first", "patience", "budget"):
            object.__setattr__(self, name, check_count(getattr(self, name), name))
        for name in ("learning_rate", "embedding_rate", "growth"):
            object.__setattr__(self, name, check_positive(getattr(self, name), name))
        if self.growth <= 1:
            raise BookError(f"growth must be above 1, got {self.growth:g}")

    @property
    def context(self) -> int:
        """Tokens in a window."""
        return self.models[0].context


FULL = Settings()


# --- data -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corpus:
    """The training text as windows (n, context + 1) and (m, context + 1) set aside, and what is needed to test."""

    windows: IntArray
    validation: IntArray
    tokenizer: Any
    passages: tuple[texts.Passage, ...]

    def subset(self, size: int, seed: int) -> IntArray:
        """Return the windows of a data set of about ``size`` tokens; those of a seed are nested."""
        context = self.windows.shape[1] - 1
        count = check_count(size, "size") // context
        if not 1 <= count <= len(self.windows):
            raise BookError(f"size must lie in {context} … {len(self.windows) * context} tokens, got {size}")
        order = np.random.default_rng([check_count(seed, "seed", minimum=0), 1]).permutation(
            len(self.windows)
        )
        return self.windows[order[:count]]


def make_corpus(
    documents: Sequence[texts.Document],
    passages: Sequence[texts.Passage],
    tokenizer: Any,
    *,
    context: int,
    validation: int,
) -> Corpus:
    """Cut documents into windows that share one token with their neighbours, and set ``validation`` of them aside."""
    stream = bpe.stream(tokenizer, [document.text for document in documents])
    count = (len(stream) - 1) // context
    if count <= validation:
        raise BookError(f"the documents give {count} windows: not enough to set {validation} aside")
    starts = np.random.default_rng(0).permutation(count) * context
    rows = stream[starts[:, None] + np.arange(context + 1)]  # (count, context + 1)
    return Corpus(rows[validation:], rows[:validation], tokenizer, tuple(passages))


@cache
def corpus(
    folder: str | None = None, context: int = FULL.context, validation: int = FULL.validation
) -> Corpus:
    """Return the corpus of the study. ``folder`` holds its tokenizer; without one it is trained anew, to the same."""
    documents, passages = texts.split()
    tokenizer = bpe.train([d.text for d in documents]) if folder is None else bpe.load(Path(folder))
    return make_corpus(documents, passages, tokenizer, context=context, validation=validation)


# --- one cell ---------------------------------------------------------------------------------------------


def average_weight(update: int, eta: float = 8.0) -> float:
    """Return the weight of the newest parameters in the average, (η+1)/(t+η) with t = ``update`` + 1: 1 at the start."""
    return (eta + 1) / (update + 1 + eta)


@dataclass(frozen=True)
class Cell:
    """A trained cell: the averaged model that was best on the validation set, and all looks at that set.

    ``seen`` (looks,) tokens trained on, ``bits`` (looks,) bits per byte of the validation set, ``stopped``: whether the early
    stop ended the training (and not the budget).
    """

    model: Any
    seen: IntArray
    bits: FloatArray
    stopped: bool

    @property
    def best(self) -> int:
        """Index of the best look."""
        return int(np.argmin(self.bits))


def train_cell(
    architecture: Architecture,
    windows: IntArray,
    validation: IntArray,
    byte_lengths: IntArray,
    seed: int,
    settings: Settings = FULL,
    *,
    half: bool = True,
) -> Cell:
    """Train a model on ``windows`` (n, context + 1) until the validation loss stops falling; see the top of this module.

    ``half``: products in bfloat16.
    """
    training = Training(
        (Phase(settings.budget, settings.context, settings.batch),),
        learning_rate=settings.learning_rate,
        embedding_rate=settings.embedding_rate,
        half=half,
    )
    model = build(architecture, seed)
    mean, best = copy.deepcopy(model), copy.deepcopy(model)
    optimisers = Optimisers.of(model, training)
    rows = torch.from_numpy(np.asarray(windows, dtype=np.int64))
    held = torch.from_numpy(np.asarray(validation, dtype=np.int64))
    size = int(byte_lengths[validation[:, 1:]].sum())
    seen: list[int] = []
    bits: list[float] = []
    look, update, stopped = settings.first, 0, False
    with one_thread():
        while not stopped and update < training.updates:
            share = min(1.0, (update + 1) / settings.warmup)
            update_once(model, optimisers, _batch(rows, settings.batch, update, seed), training, share)
            _lerp(mean, model, average_weight(update))
            update += 1
            if update < look and update < training.updates:
                continue
            look = max(look + 1, math.ceil(look * settings.growth))
            seen.append(update * settings.batch * settings.context)
            bits.append(BITS * _total_loss(mean, held, half) / size)
            if bits[-1] == min(bits):
                _lerp(best, mean, 1.0)
            stopped = len(bits) - 1 - int(np.argmin(bits)) >= settings.patience
    best.train(False)
    return Cell(best, np.array(seen), np.array(bits), stopped)


def _batch(rows: Tensor, batch: int, update: int, seed: int) -> Tensor:
    """Return the windows of an update: every epoch is a new order of all of them."""
    numbers = np.arange(update * batch, (update + 1) * batch)
    orders = {
        int(epoch): np.random.default_rng([seed, 2, int(epoch)]).permutation(len(rows))
        for epoch in np.unique(numbers // len(rows))
    }
    return rows[[int(orders[int(i // len(rows))][i % len(rows)]) for i in numbers]]


def _lerp(target: Any, source: Any, weight: float) -> None:
    """Move the parameters of ``target`` towards those of ``source``."""
    with torch.no_grad():
        torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), weight)


def _total_loss(model: Any, windows: Tensor, half: bool = True) -> float:
    """Return the loss of all windows, in nats."""
    return sum(float(window_losses(model, part, half=half).sum()) for part in torch.split(windows, 32))


def cell_rows(
    architecture: Architecture,
    size: int,
    seed: int,
    data: Corpus,
    settings: Settings = FULL,
    *,
    half: bool = True,
) -> pd.DataFrame:
    """Train one cell and return its rows: a row a look at the validation set, and a row a test passage."""
    windows = data.subset(size, seed)
    lengths = bpe.byte_lengths(data.tokenizer)
    cell = train_cell(architecture, windows, data.validation, lengths, seed, settings, half=half)
    size_held = int(lengths[data.validation[:, 1:]].sum())
    looks = pd.DataFrame(
        {
            "measure": "validation",
            "passage": "all",
            "seen": cell.seen,
            "bytes": size_held,
            "bits": cell.bits * size_held,
        }
    )
    test = code_lengths(cell.model, data.tokenizer, data.passages, context=settings.context, half=half)
    passages = pd.DataFrame(
        {
            "measure": "test",
            "passage": test["collection"] + "/" + test["id"],
            "seen": cell.seen[cell.best],
            "bytes": test["bytes"],
            "bits": test["bits"],
        }
    )
    rows = pd.concat([looks, passages], ignore_index=True)
    rows["bits"] = rows["bits"].round(3)
    head = {
        "parameters": architecture.parameters,
        "embedding": architecture.embedding,
        "tokens": size,
        "seed": seed,
    }
    return rows.assign(**head, stopped=cell.stopped)[list(COLUMNS)]


# --- the study --------------------------------------------------------------------------------------------

COLUMNS = {
    "parameters": "parameters of the model without the embedding, N",
    "embedding": "parameters of the embedding, which is also the output layer",
    "tokens": "different tokens in the training set, D",
    "seed": "seed of the data set, the initial weights and the order of the windows",
    "measure": "validation (a look at the validation set in training) or test (a held-out passage)",
    "passage": "collection and name of the passage; all for the validation set",
    "seen": "tokens trained on when this was measured, repetitions counted",
    "bytes": "bytes of text coded",
    "bits": "bits that they take with the model's probabilities",
    "stopped": "whether early stopping ended the training; false if it ran into the budget of tokens",
}


def cells(settings: Settings = FULL) -> list[tuple[Architecture, int, int]]:
    """Return all (model, data size, seed), the first seed of all first."""
    return [
        (model, size, seed)
        for seed in range(max(settings.seeds))
        for size, seeds in zip(settings.sizes, settings.seeds, strict=True)
        for model in settings.models
        if seed < seeds
    ]


def run_part(part: int) -> pd.DataFrame:
    """Return one part of the study: one cell of `cells`."""
    plan = cells()
    if check_count(part, "part", minimum=0) >= len(plan):
        raise BookError(f"part must be below {len(plan)}, got {part}")
    model, size, seed = plan[int(part)]
    return cell_rows(model, size, seed, corpus())


STUDY = Study(
    name="03-sampling-divergence/data-wall",
    keys=("parameters", "tokens", "seed", "measure", "passage", "seen"),
    title="The data wall: held-out bits per byte of small language models by parameters, data and seed",
    parts=len(cells()),
    run=run_part,
    settings=asdict(FULL),
    columns=COLUMNS,
)


SLICE_TOLERANCE = 0.03
"""Bits per byte by which a cell trained with other rounding may differ: a third of what seeds differ by at most."""


def smallest_cell(folder: str | Path | None = None) -> pd.DataFrame:
    """Train the smallest cell of the study again and return its rows, to be held against the stored ones.

    In single precision, which a processor without products in bfloat16 has six times as fast, and which changes the result by
    far less than ``SLICE_TOLERANCE``.
    """
    text = corpus(None if folder is None else str(folder))
    return cell_rows(FULL.models[0], FULL.sizes[0], 0, text, half=False)


def check_cell(
    stored: pd.DataFrame, rows: pd.DataFrame, *, atol: float = SLICE_TOLERANCE
) -> tuple[float, float]:
    """Return the test bits per byte of a cell trained again and of its stored rows; too large a difference is an error.

    ``rows`` is one cell as `cell_rows` gives it. Processors round products differently, and hundreds of updates make
    more of it, so that the comparison is one of results and not of digits.
    """
    cell = ["parameters", "tokens", "seed"]
    again = check_rows(rows)
    if len(again[cell].drop_duplicates()) != 1:
        raise BookError("rows must be those of one cell")
    N, D, seed = (int(again[name].iloc[0]) for name in cell)
    old = check_rows(stored)
    old = old[(old["parameters"] == N) & (old["tokens"] == D) & (old["seed"] == seed)]
    values = []
    for some in (again, old):
        test = some[some["measure"] == "test"]
        if not len(test):
            raise BookError(
                f"the stored table has no cell of {N} parameters, {D} tokens, seed {seed}: run `make sweep`"
            )
        values.append(float(test["bits"].sum() / test["bytes"].sum()))
    if abs(values[0] - values[1]) > check_positive(atol, "atol"):
        raise BookError(
            f"the cell of {N} parameters and {D} tokens comes to {values[0]:.3f} bits per byte, stored {values[1]:.3f}: "
            "compute the table anew with `make sweep`"
        )
    return values[0], values[1]


# --- what the table says ----------------------------------------------------------------------------------


def check_rows(table: Any) -> pd.DataFrame:
    """Return the table if it has the columns of the study and at least one tested cell."""
    if not isinstance(table, pd.DataFrame) or not set(COLUMNS) <= set(table.columns):
        raise BookError(f"the table must have the columns {', '.join(COLUMNS)}")
    if not (table["measure"] == "test").any():
        raise BookError("the table holds no test rows")
    return table


@dataclass(frozen=True)
class _Tests:
    """Test bits of a cell: ``bits`` (seeds, passages) and ``bytes`` (passages,), with the numbers of the ``seeds``."""

    seeds: tuple[int, ...]
    bits: FloatArray
    bytes: FloatArray


def _tests(table: pd.DataFrame) -> dict[tuple[int, int], _Tests]:
    """Return the test bits of each (parameters, tokens)."""
    rows = check_rows(table)
    rows = rows[rows["measure"] == "test"]
    found = {}
    for (N, D), cell in rows.groupby(["parameters", "tokens"]):
        wide = cell.pivot(index="seed", columns="passage", values="bits")
        if wide.isna().to_numpy().any():
            raise BookError(f"the cell of {N} parameters and {D} tokens lacks passages for some seeds")
        size = cell.drop_duplicates("passage").set_index("passage")["bytes"][wide.columns]
        found[int(N), int(D)] = _Tests(
            tuple(int(seed) for seed in wide.index), wide.to_numpy(float), size.to_numpy(float)
        )
    return found


def nested_interval(
    bits: FloatArray, size: FloatArray, rng: np.random.Generator, *, resamples: int = 4_000
) -> tuple[float, float, float]:
    """Return Σ bits / Σ bytes, mean over seeds, and its 95% interval over passages and seeds.

    ``bits`` (seeds, passages), ``size`` (passages,). Passages and seeds are drawn with replacement, each passage for
    all seeds at once, because they read the same passages. With one seed the interval is one over passages alone.
    """
    seeds, passages = bits.shape
    check_rng(rng)
    resamples = check_count(resamples, "resamples")
    by_passage = rng.multinomial(passages, np.full(passages, 1 / passages), size=resamples)  # (R, passages)
    by_seed = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds  # (R, seeds)
    values = ((by_passage @ bits.T) * by_seed).sum(1) / (by_passage @ size)
    return percentile_interval(np.r_[bits.mean(0).sum() / size.sum(), values], seeds)[:3]


def surface(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return the loss surface, one row a cell: test bits per byte with a 95% interval over passages and seeds.

    Columns: ``parameters``, ``tokens``, ``seeds``, ``bits_per_byte``, ``low``, ``high``, ``epochs`` (passes over the data
    at the best look, mean over seeds) and ``stopped`` (whether early stopping ended all trainings).
    """
    tests = _tests(table)
    rows = []
    for (N, D), cell in tests.items():
        value, low, high = nested_interval(cell.bits, cell.bytes, rng)
        own = table[(table["parameters"] == N) & (table["tokens"] == D) & (table["measure"] == "test")]
        epochs = float(own.groupby("seed")["seen"].first().mean() / D)
        rows.append((N, D, len(cell.seeds), value, low, high, epochs, bool(own["stopped"].all())))
    names = ["parameters", "tokens", "seeds", "bits_per_byte", "low", "high", "epochs", "stopped"]
    return pd.DataFrame(rows, columns=names).sort_values(["tokens", "parameters"], ignore_index=True)


def steps(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return what each step on the grid gains on the test passages, in bits per byte, with a 95% interval.

    A step goes from (``parameters``, ``tokens``) to the next larger model (``step`` = parameters) or to the next larger
    data set (``step`` = data), ``to`` so many. ``gain`` is the loss before less the loss after, over the seeds that both
    have; ``helps``: ``low`` > `CLEAR`.
    """
    tests = _tests(table)
    models = sorted({N for N, _ in tests})
    sizes = sorted({D for _, D in tests})
    rows = []
    for (N, D), here in sorted(tests.items()):
        larger = [M for M in models if N < M]
        more = [size for size in sizes if size > D]
        for step, there in (("parameters", (larger[:1] or [0])[0]), ("data", (more[:1] or [0])[0])):
            other = tests.get((there, D) if step == "parameters" else (N, there))
            if other is None:
                continue
            found = _gain(here, other, rng)
            if found.n:
                rows.append((N, D, step, there, *found, found.low > CLEAR))
    names = ["parameters", "tokens", "step", "to", "gain", "low", "high", "seeds", "helps"]
    return pd.DataFrame(rows, columns=names)


def _gain(before: _Tests, after: _Tests, rng: np.random.Generator) -> Interval:
    """Return bits per byte saved between two cells, over the n seeds that both have (n = 0 if there is none)."""
    common = [seed for seed in before.seeds if seed in after.seeds]
    if not common:
        return Interval(0.0, 0.0, 0.0, 0)
    bits = [cell.bits[[cell.seeds.index(seed) for seed in common]] for cell in (before, after)]
    return Interval(*nested_interval(bits[0] - bits[1], before.bytes, rng), len(common))


def gain(
    table: pd.DataFrame, before: tuple[int, int], after: tuple[int, int], rng: np.random.Generator
) -> Interval:
    """Return what going from one cell (parameters, tokens) to another gains on the test passages, in bits per byte.

    The interval is over passages and seeds, n the number of seeds that both cells have; a cell that the table lacks is an
    error.
    """
    tests = _tests(table)
    for cell in (before, after):
        if cell not in tests:
            raise BookError(f"the table has no cell of {short_repr(cell)} (parameters, tokens)")
    found = _gain(tests[before], tests[after], check_rng(rng))
    if not found.n:
        raise BookError(f"the cells {before} and {after} have no seed in common")
    return found


def walls(gains: pd.DataFrame) -> pd.DataFrame:
    """Return where the wall stands at each data size but the largest: the rule at the top of this module.

    ``gains`` as `steps` gives them. Columns: ``tokens``, ``wall`` (parameters; 0 where there is none on the grid), and of
    the step from there (from the last model but one where there is no wall) ``gain_parameters`` and ``gain_data``.
    """
    by = {
        (int(row.parameters), int(row.tokens), str(row.step)): (float(row.gain), bool(row.helps))
        for row in gains.itertuples()
    }
    rows = []
    for D in sorted({D for _, D, step in by if step == "data"}):
        both = sorted(
            N for N, size, step in by if size == D and step == "parameters" and (N, D, "data") in by
        )
        if not both:
            continue
        at = [N for N in both if not by[N, D, "parameters"][1] and by[N, D, "data"][1]]
        N = at[0] if at else both[-1]
        rows.append((D, at[0] if at else 0, by[N, D, "parameters"][0], by[N, D, "data"][0]))
    return pd.DataFrame(rows, columns=["tokens", "wall", "gain_parameters", "gain_data"])


def verdict(found: pd.DataFrame) -> str:
    """Return "holds", "holds in part" or "does not hold" by the rule at the top of this module; ``found`` from `walls`."""
    there = found["wall"] > 0
    if not len(found):
        raise BookError("the table has no data size with a larger one beside it: the rule cannot be applied")
    return "holds" if there.all() else "holds in part" if there.any() else "does not hold"


# --- laws -------------------------------------------------------------------------------------------------


def hoffmann(N: FloatArray, D: FloatArray, theta: FloatArray) -> FloatArray:
    """Return E + A/N^α + B/D^β (Hoffmann et al. 2022, arXiv 2203.15556, eq. 2); θ = (ln E, ln A, ln B, ln α, ln β)."""
    E, A, B, alpha, beta = np.exp(theta)
    return np.asarray(E + A / N**alpha + B / D**beta)


def kaplan(N: FloatArray, D: FloatArray, theta: FloatArray) -> FloatArray:
    """Return ((N_c/N)^(α_N/α_D) + D_c/D)^α_D (Kaplan et al. 2020, eq. 1.5); θ = (ln N_c, ln D_c, ln α_N, ln α_D)."""
    N_c, D_c, alpha_N, alpha_D = np.exp(theta)
    return np.asarray(((N_c / N) ** (alpha_N / alpha_D) + D_c / D) ** alpha_D)


LAWS: dict[
    str, tuple[Callable[[FloatArray, FloatArray, FloatArray], FloatArray], tuple[str, ...], FloatArray]
] = {
    "Hoffmann": (hoffmann, ("E", "A", "B", "alpha", "beta"), np.log([1.0, 5.0, 30.0, 0.3, 0.3])),
    "Kaplan": (kaplan, ("N_c", "D_c", "alpha_N", "alpha_D"), np.log([1e7, 1e8, 0.1, 0.1])),
}
"""Each law: its function, the names of its constants, and the logarithms of a first guess at them."""


@dataclass(frozen=True)
class Law:
    """A fitted law: its ``name``, its ``constants`` and the root mean square residual ``rms`` in bits per byte."""

    name: str
    constants: dict[str, float]
    rms: float

    def __call__(self, N: Any, D: Any) -> FloatArray:
        """Return the loss that the law gives in bits per byte."""
        function, names, _ = LAWS[self.name]
        theta = np.log([max(self.constants[name], 1e-300) for name in names])
        return function(np.asarray(N, dtype=float), np.asarray(D, dtype=float), theta)


def fit(losses: pd.DataFrame, name: str = "Hoffmann") -> Law:
    """Fit a law to the cells of `surface` by least squares; the best of 32 starts around the first guess."""
    if name not in LAWS:
        raise BookError(f"name must be one of {', '.join(LAWS)}, got {short_repr(name)}")
    function, names, guess = LAWS[name]
    if len(losses) <= len(names):
        raise BookError(f"{len(losses)} cells are too few for a law of {len(names)} constants")
    N, D, L = (losses[key].to_numpy(float) for key in ("parameters", "tokens", "bits_per_byte"))
    rng = np.random.default_rng(0)
    starts = [guess, *(guess + rng.normal(0, 1, (31, len(guess))))]
    with np.errstate(over="ignore"):  # a trial step may go far off; it is rejected
        tried = [
            least_squares(
                lambda theta: function(N, D, theta) - L, start, bounds=(-40.0, 60.0), max_nfev=2_000
            )
            for start in starts
        ]
    best = min(tried, key=lambda found: float(found.cost))
    constants = dict(zip(names, np.exp(best.x).tolist(), strict=True))
    return Law(name, constants, float(np.sqrt(np.mean(best.fun**2))))


def extrapolation(losses: pd.DataFrame, name: str) -> float:
    """Return the RMS error (bits per byte) on the largest data set of a law fitted to all the smaller ones."""
    top = losses["tokens"].max()
    law = fit(losses[losses["tokens"] < top], name)
    left = losses[losses["tokens"] == top]
    return float(np.sqrt(np.mean((law(left["parameters"], left["tokens"]) - left["bits_per_byte"]) ** 2)))


def repetition(table: pd.DataFrame, epochs: Sequence[float] = (1, 2, 4, 8, 16)) -> pd.DataFrame:
    """Return what reading the same text again costs against reading new text, in bits per byte of the validation set.

    For a model and a data set of D tokens read e times over, ``excess`` is its loss less that of the same model after as many
    tokens of the largest data set, which at that point has repeated none (interpolated in the logarithm of the tokens seen).
    Columns: ``parameters``, ``tokens``, ``epochs``, ``excess`` (mean over seeds), ``low`` and ``high`` (least and largest of
    the seeds), ``seeds``. Muennighoff et al. (2023, arXiv 2305.16264) find hardly any excess up to 4 epochs, for models of
    the size that is best for their computing budget.
    """
    looks = check_rows(table)
    looks = looks[looks["measure"] == "validation"]
    curves = {
        (int(N), int(D), int(seed)): (
            rows["seen"].to_numpy(float),
            (rows["bits"] / rows["bytes"]).to_numpy(float),
        )
        for (N, D, seed), rows in looks.sort_values("seen").groupby(["parameters", "tokens", "seed"])
    }
    top = max(D for _, D, _ in curves)
    rows = []
    for N, D in sorted({(N, D) for N, D, _ in curves if top != D}):
        fresh = [curve for (M, size, _), curve in curves.items() if (M, size) == (N, top)]
        own = [curve for (M, size, _), curve in curves.items() if (M, size) == (N, D)]
        for e in epochs:
            at = e * D
            able = [c for c in own if c[0][0] <= at <= c[0][-1]]
            if not able or not fresh or at > top or not all(c[0][0] <= at <= c[0][-1] for c in fresh):
                continue
            new = float(np.mean([np.interp(np.log(at), np.log(seen), bits) for seen, bits in fresh]))
            excess = np.array([np.interp(np.log(at), np.log(seen), bits) for seen, bits in able]) - new
            rows.append((N, D, float(e), excess.mean(), excess.min(), excess.max(), len(excess)))
    return pd.DataFrame(rows, columns=["parameters", "tokens", "epochs", "excess", "low", "high", "seeds"])
