"""Drift: does a model that reads its own text leave the text that people write, and to which side?

``rows`` turns traces into a small table, one row a text (rule, seed, prompt): mean entropy and log-loss in
windows of 64 tokens and the measures of :mod:`one_step_trap.sampling.measures`. Everything else works on that table.

**EntCE** (Cao, Valiant & Liang 2025, arXiv 2511.11966). In window t: mean entropy of the model's next-token
distribution on the text it drew itself, minus the mean log-loss of the *human* continuations of the same
prompts. A calibrated model has 0 everywhere. (Their code does just that, with the entropy of the distribution
drawn from. For rules other than plain sampling we keep the model's own untruncated distribution at T = 1: what
the *model* makes of the text that a rule leads it to.)

**The control.** Entropy also changes with position on human text, because more context is seen. So a rule's
drift is the *paired* difference: its slope minus that of the human continuation of the same prompt. The human
log-loss falls out of it: EntCE of a rule minus EntCE of the human control is entropy minus entropy.

A slope averages over the run. Where most of the change comes early (greedy decoding can collapse within the first
window) it is small although the level is far off; ``excess_last``, ``outside`` and ``drift_early`` stand beside it.

**The unit is the prompt.** Seeds of one prompt share its passage. They are averaged (or kept together, for medians and
shares) and prompts are resampled with all their seeds; resampling the seeds as well would count their variance
twice (Davison & Hinkley 1997, section 3.8). Greedy decoding has no seed variance and loses nothing.

**Rules fixed before looking.** The change over a run is drift · steps/100, in nats.

- *samp-diverge* (``verdict_diverge``): a rule *rises* if the 95% interval of its change lies above 0 and
  the change is at least .25 nats (perplexity × 1.28), *falls* in the mirrored case, is *steady* if the interval lies
  within ±.25 nats, and *undecided* otherwise. "Sampling diverges" *holds* if pure sampling and every other rule rise or
  fall; *holds when* if some do and others do not; *does not hold* if all are steady; *open* if pure sampling is
  undecided, or nothing diverges and something is undecided.
- *samp-heuristics* (``verdict_heuristics``): a rule *stabilises* if (a) the interval of its change lies within ± the
  standard deviation of the human passages' own change, (b) the upper end of the share of looped texts is below .10,
  and (c) the upper end of the share of texts that end outside the band of 95% of the human passages is below .25,
  since a mean of 0 may be half blow-up and half collapse. It *fails* if one of the three intervals lies wholly on the
  other side. For temperature, top-k, nucleus and repetition penalty: *holds* if all stabilise, *does not
  hold* if all fail, *holds when* if some do, *open* otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from one_step_trap.core.stats import (
    Interval,
    exact,
    percentile_interval,
    proportion_interval,
)
from one_step_trap.core.validate import (
    FloatArray,
    IntArray,
    check_callable,
    check_choice,
    check_count,
    check_finite,
    check_list,
    check_rng,
    check_table,
    short_repr,
)
from one_step_trap.errors import BookError
from one_step_trap.sampling import measures
from one_step_trap.sampling.measures import HUMAN, TraceLike, check_trace

TOKENS_PER_WINDOW = 64
EDGE = 128  # tokens at the start and at the end of a text that are looked at on their own
BAND = (0.025, 0.975)  # quantiles of the human passages between which a text counts as inside
SMALLEST_CHANGE = 0.25  # nats over a run: less is no divergence, however certain
MOST_LOOPED, MOST_OUTSIDE = 0.10, 0.25  # of the texts of a rule that "stabilises"
HEURISTICS = ("temperature", "top-k", "top-p", "greedy+penalty")  # those that the claim names

Decode = Callable[[Sequence[int]], str]

# --- the table --------------------------------------------------------------------------------------------

KEYS = ("rule", "seed", "prompt")
COLUMNS = {
    "rule": 'how tokens were chosen, or "human": the continuation that the author of the prompt wrote',
    "seed": "seed of the draws (0 for the human control)",
    "prompt": "number of the prompt, from 0",
    "steps": "tokens after the prompt",
    "window": "tokens in one window of entropy and log-loss",
    "seq_rep_4": "share of 4-grams that occurred before in the text",
    "seq_rep_4_first": "the same within the first 128 tokens",
    "seq_rep_4_last": "the same within the last 128 tokens",
    "distinct_1": "different tokens per token",
    "distinct_1_first": "the same within the first 128 tokens",
    "distinct_1_last": "the same within the last 128 tokens",
    "distinct_2": "different pairs of tokens per token",
    "repeated": "share of tokens that occur among the 128 before them, over positions from 128 on",
    "repeated_last": "the same over the last 128 positions",
    "tail_repeats": "1 if the text ends in a phrase said at least twice (Holtzman et al. 2020), else 0",
    "loop_seen": "tokens after which a loop is established, 0 if none is",
    "loop_onset": "position (from 0) of the first token of that loop, 0 if there is none",
    "loop_period": "tokens in a cycle of that loop, 0 if there is none",
    "bytes": "length of the text in UTF-8",
    "zlib": "compressed size over size, whole text",
    "zlib_first": "compressed size over size, first 512 bytes",
    "zlib_last": "compressed size over size, last 512 bytes",
    "entropy_NN": "mean entropy of the model's own next-token distribution in window NN, nats per token",
    "log_loss_NN": "mean of minus ln of the model's own probability of the token in window NN, nats per token",
}
"""Data dictionary of ``rows``; NN is the number of a window, from 00."""


def columns(steps: int, window: int = TOKENS_PER_WINDOW) -> dict[str, str]:
    """Return the data dictionary of a table of texts of ``steps`` tokens, with every window named."""
    count = check_count(steps, "steps") // check_count(window, "window")
    if count < 1:
        raise BookError(f"texts of {steps} tokens hold no window of {window}")
    plain = {name: meaning for name, meaning in COLUMNS.items() if not name.endswith("_NN")}
    span = [f"tokens {i * window + 1} to {(i + 1) * window}" for i in range(count)]
    for name in ("entropy", "log_loss"):
        what = COLUMNS[f"{name}_NN"].replace(" in window NN", "")
        plain |= {f"{name}_{i:02d}": f"{what}, {span[i]}" for i in range(count)}
    return plain


def rows(
    traces: Iterable[TraceLike], decode: Decode, *, window: int = TOKENS_PER_WINDOW, first_prompt: int = 0
) -> pd.DataFrame:
    """Return one row a text: ``columns`` for every trace (a rule and seed) and prompt.

    ``decode`` maps the tokens of one text to the text; let it keep special tokens, for an empty text cannot be
    compressed. ``first_prompt`` is added to the numbers of the prompts, for a study that draws them in parts. Tokens
    after the last full window count for the measures of the
    whole text, not for the windows.
    """
    check_callable(decode, "decode")
    tables = []
    for trace in check_list(traces, "traces"):
        tokens, _, _ = check_trace(trace)
        texts = [decode(text.tolist()) for text in tokens]
        tables.append(trace_rows(trace, texts, window=window, first_prompt=first_prompt))
    return pd.concat(tables, ignore_index=True)


def row(trace: TraceLike, n: int, text: str, *, window: int = TOKENS_PER_WINDOW) -> dict[str, Any]:
    """Return the row of text ``n`` of a trace alone; ``text`` is its tokens decoded."""
    tokens, entropy, loss = check_trace(trace)
    n = check_count(n, "n", minimum=0)
    if n >= len(tokens):
        raise BookError(f"n must be below the number of texts, {len(tokens)}, got {n}")
    one = _One(trace.rule, trace.seed, tokens[n : n + 1], entropy[n : n + 1], loss[n : n + 1])
    record: dict[str, Any] = trace_rows(one, [text], window=window).iloc[0].to_dict()
    return record | {"prompt": int(_prompts(trace, len(tokens))[n])}


@dataclass(frozen=True)
class _One:
    """A trace of one text."""

    rule: str
    seed: int
    tokens: IntArray
    entropy: FloatArray
    log_loss: FloatArray


def _prompts(trace: TraceLike, N: int) -> IntArray:
    """Return the number of each text's prompt, (N,): what the trace says, or 0 … N-1."""
    numbers = np.asarray(getattr(trace, "prompts", np.arange(N)))
    if numbers.shape != (N,) or not np.issubdtype(numbers.dtype, np.integer):
        raise BookError(f"prompts of a trace must be {N} whole numbers, got {short_repr(numbers)}")
    return numbers.astype(np.int64)


def trace_rows(
    trace: TraceLike, texts: Sequence[str], *, window: int = TOKENS_PER_WINDOW, first_prompt: int = 0
) -> pd.DataFrame:
    """Return the rows of one trace, given its texts decoded."""
    tokens, entropy, loss = check_trace(trace)
    if not isinstance(trace.rule, str) or not trace.rule:
        raise BookError(f"the rule of a trace must be a name, got {short_repr(trace.rule)}")
    N, S = tokens.shape
    if len(check_list(texts, "texts")) != N:
        raise BookError(f"pass one decoded text for each of the {N} texts, got {len(texts)}")
    names = columns(S, window)
    table: dict[str, Any] = {
        "rule": [trace.rule] * N,
        "seed": [check_count(trace.seed, "seed", minimum=0)] * N,
        "prompt": check_count(first_prompt, "first_prompt", minimum=0) + _prompts(trace, N),
        "steps": [S] * N,
        "window": [window] * N,
    }
    table |= _token_measures(tokens) | _text_measures(texts)
    for name, values in (("entropy", entropy), ("log_loss", loss)):
        means = window_means(values, window)  # (N, W)
        table |= {f"{name}_{i:02d}": means[:, i] for i in range(means.shape[1])}
    return pd.DataFrame(table)[list(names)]


def _token_measures(tokens: IntArray) -> dict[str, Any]:
    S = tokens.shape[1]
    if S < 4:
        raise BookError(f"the measures of a text need at least 4 tokens, got {S}")
    first, last = tokens[:, :EDGE], tokens[:, -EDGE:]
    near = measures.repeated(tokens)
    loops = measures.find_loops(tokens)
    return {
        "seq_rep_4": measures.seq_rep(tokens),
        "seq_rep_4_first": measures.seq_rep(first),
        "seq_rep_4_last": measures.seq_rep(last),
        "distinct_1": measures.distinct(tokens),
        "distinct_1_first": measures.distinct(first),
        "distinct_1_last": measures.distinct(last),
        "distinct_2": measures.distinct(tokens, 2),
        "repeated": near[:, min(measures.WINDOW, S - 1) :].mean(1),
        "repeated_last": near[:, -EDGE:].mean(1),
        "tail_repeats": measures.tail_repeats(tokens).astype(int),
        "loop_seen": loops.seen,
        "loop_onset": loops.onset,
        "loop_period": loops.period,
    }


def _text_measures(texts: Sequence[str]) -> dict[str, Any]:
    ends = np.array([measures.compression_ends(text) for text in texts])
    return {
        "bytes": [len(text.encode("utf-8", errors="replace")) for text in texts],
        "zlib": [measures.compression_ratio(text) for text in texts],
        "zlib_first": ends[:, 0],
        "zlib_last": ends[:, 1],
    }


def window_means(values: ArrayLike, window: int = TOKENS_PER_WINDOW) -> FloatArray:
    """Return the means of consecutive windows along the last axis, (…, S) to (…, S // window)."""
    x, window = check_finite(values, "values"), check_count(window, "window")
    if x.ndim < 1 or x.shape[-1] < window:
        raise BookError(f"values of shape {x.shape} hold no window of {window}")
    count = x.shape[-1] // window
    return np.asarray(x[..., : count * window].reshape(*x.shape[:-1], count, window).mean(-1))


# --- reading the table ------------------------------------------------------------------------------------


def check_rows(table: Any, name: str = "rows") -> pd.DataFrame:
    """Return a table of texts after checking its keys and that all texts have equal length and windows."""
    frame = check_table(table, [*KEYS, "steps", "window", "entropy_00", "log_loss_00"], name)
    if frame.duplicated(list(KEYS)).any():
        raise BookError(f"{name} holds a text twice: rule, seed and prompt must name one row")
    for column in ("steps", "window"):
        if frame[column].nunique() != 1:
            raise BookError(f"{name} mixes texts of different {column}: summarise them apart")
    return frame


def cube(table: pd.DataFrame, rule: str, names: Sequence[str]) -> FloatArray:
    """Return columns of one rule as an array (prompts, seeds, columns), prompts in their order.

    Every prompt must have the same number of seeds, and prompts must be those of the human control if it is there.
    """
    frame = check_rows(table)
    check_table(frame, names, "rows")
    chosen = frame[frame["rule"] == rule].sort_values(["prompt", "seed"])
    if chosen.empty:
        raise BookError(
            f"no rows of the rule {rule!r}; there are {', '.join(sorted(frame['rule'].unique()))}"
        )
    prompts, seeds = chosen["prompt"].nunique(), chosen["seed"].nunique()
    if len(chosen) != prompts * seeds:
        raise BookError(f"rule {rule!r}: every prompt must have the same seeds ({seeds} of them)")
    human = set(frame.loc[frame["rule"] == HUMAN, "prompt"])
    if human and human != set(chosen["prompt"]):
        raise BookError(f"rule {rule!r} must have the prompts of the human control, for they are paired")
    return check_finite(chosen[list(names)].to_numpy(), "rows").reshape(prompts, seeds, len(names))


def window_names(table: pd.DataFrame, name: str) -> list[str]:
    """Return the columns of ``name`` ("entropy" or "log_loss") in the order of the windows."""
    check_choice(name, ("entropy", "log_loss"), "name")
    return sorted(
        c for c in map(str, table.columns) if c.startswith(f"{name}_") and c[len(name) + 1 :].isdigit()
    )


def positions(table: pd.DataFrame) -> FloatArray:
    """Return the middle of each window in tokens after the prompt, (W,)."""
    window = int(check_rows(table)["window"].iloc[0])
    return np.asarray((np.arange(len(window_names(table, "entropy"))) + 0.5) * window)


def slopes(values: ArrayLike, at: ArrayLike) -> FloatArray:
    """Return least-squares slopes along the last axis per 100 tokens: (…, W) at ``at`` (W,) tokens to (…)."""
    y, x = check_finite(values, "values"), check_finite(at, "at")
    if x.ndim != 1 or len(x) < 2 or y.ndim < 1 or y.shape[-1] != len(x) or np.ptp(x) == 0:
        raise BookError(
            f"a slope needs at least two windows at different positions, got {y.shape} and {x.shape}"
        )
    centred = x - x.mean()
    return np.asarray(100 * (y @ centred) / (centred @ centred))


# --- intervals over prompts -------------------------------------------------------------------------------


def cluster_bootstrap(
    values: ArrayLike,
    rng: np.random.Generator,
    *,
    statistic: Callable[..., Any] = np.mean,
    resamples: int = 2_000,
) -> Interval:
    """Return a statistic of all texts with a 95% percentile bootstrap over prompts.

    ``values`` (prompts, seeds), or (prompts,) for one seed: whole prompts are drawn with replacement, each with all its seeds.
    ``statistic`` takes an ``axis`` argument. n is the number of prompts.
    """
    x = check_finite(values, "values")
    x = x[:, None] if x.ndim == 1 else x
    check_rng(rng)
    resamples = check_count(resamples, "resamples")
    if x.ndim != 2 or len(x) < 2 or not x.shape[1]:
        raise BookError(f"values must have shape (prompts, seeds) with at least 2 prompts, got {x.shape}")
    pick = rng.integers(len(x), size=(resamples, len(x)))
    drawn = statistic(x[pick].reshape(resamples, -1), axis=1)
    return percentile_interval(np.r_[statistic(x.ravel(), axis=0), drawn], len(x))


def share_over_prompts(hits: FloatArray, rng: np.random.Generator, *, resamples: int = 2_000) -> Interval:
    """Return a share of texts with a 95% interval over prompts; ``hits`` (prompts, seeds) of 0 and 1.

    Where all texts agree a bootstrap has no width, which would claim certainty; then the exact interval of
    Clopper & Pearson for 0 (or all) of the prompts takes its place.
    """
    if hits.size and np.ptp(hits) == 0:
        return proportion_interval(int(hits.flat[0]) * len(hits), len(hits))
    return cluster_bootstrap(hits, rng, resamples=resamples)


# --- curves and the summary -------------------------------------------------------------------------------

Quantity = Literal["entropy", "log_loss", "entce", "excess"]


def curves(
    table: pd.DataFrame, rng: np.random.Generator, *, quantity: Quantity = "entropy", resamples: int = 2_000
) -> pd.DataFrame:
    """Return a quantity by window for every rule, with 95% intervals over prompts.

    ``quantity``: "entropy" or "log_loss" (nats per token); "entce", entropy minus the human log-loss of the same window;
    "excess", entropy minus the human control's entropy, paired by prompt. Columns: ``rule``, ``position`` (middle of
    the window, tokens), ``mean``, ``low``, ``high``, ``median``, and ``inner_low``, ``inner_high``: between them lie 95%
    of the texts. Means mix blow-ups and collapses; look at the median beside them.
    """
    check_rng(rng)
    check_choice(quantity, ("entropy", "log_loss", "entce", "excess"), "quantity")
    at = positions(table)
    parts = []
    for rule in table["rule"].unique():
        values = _quantity(table, rule, quantity)  # (P, K, W)
        intervals = [cluster_bootstrap(values[..., i], rng, resamples=resamples) for i in range(len(at))]
        texts = values.reshape(-1, len(at))
        inner = np.quantile(texts, BAND, axis=0)
        parts.append(
            pd.DataFrame(
                {
                    "rule": rule,
                    "position": at,
                    "mean": [e.value for e in intervals],
                    "low": [e.low for e in intervals],
                    "high": [e.high for e in intervals],
                    "median": np.median(texts, axis=0),
                    "inner_low": inner[0],
                    "inner_high": inner[1],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _quantity(table: pd.DataFrame, rule: str, quantity: Quantity) -> FloatArray:
    """Return a quantity of one rule, (prompts, seeds, windows)."""
    own = cube(table, rule, window_names(table, "log_loss" if quantity == "log_loss" else "entropy"))
    if quantity in ("entropy", "log_loss"):
        return own
    against = cube(table, HUMAN, window_names(table, "log_loss" if quantity == "entce" else "entropy"))
    return np.asarray(own - against.mean(1, keepdims=True))


SUMMARY = {
    "rule": "as in the table of texts",
    "prompts": "number of prompts, over which all intervals go",
    "seeds": "seeds for each prompt",
    "steps": "tokens of a text",
    "entropy_first": "mean entropy, first 128 tokens, nats",
    "entropy_last": "mean entropy, last 128 tokens, nats",
    "entropy_last_median": "median over texts of the mean entropy in the last 128 tokens, nats",
    "log_loss_last": "mean log-loss of the text's own tokens, last 128 tokens, nats",
    "entce_first": "entropy minus human log-loss, first 128 tokens, nats",
    "entce_last": "entropy minus human log-loss, last 128 tokens, nats",
    "excess_first": "entropy minus that of the human control, paired, first 128 tokens, nats",
    "excess_last": "entropy minus that of the human control, paired, last 128 tokens, nats",
    "slope": "least-squares slope of the entropy, nats per 100 tokens",
    "slope_sd": "standard deviation of that slope between prompts (seeds averaged)",
    "drift": "slope minus the slope of the human control, paired by prompt, nats per 100 tokens",
    "drift_early": "the same over the first half of the windows",
    "above": "share of texts whose last 128 tokens lie above the band of the human passages",
    "below": "share of texts whose last 128 tokens lie below that band",
    "outside": "above or below",
    "looped": "share of texts with a loop",
    "tail_repeats": "share of texts that end in a repeated phrase",
    "seq_rep_4_last": "mean share of 4-grams said before, within the last 128 tokens",
    "repeated_last": "mean share of the last 128 tokens that occur among the 128 before them",
    "distinct_1_last": "mean share of different tokens in the last 128",
    "zlib_last": "mean compression ratio of the last 512 bytes",
}
"""Meaning of the columns of ``summarise``; estimates have ``_low`` and ``_high`` beside them."""


def summarise(table: pd.DataFrame, rng: np.random.Generator, *, resamples: int = 2_000) -> pd.DataFrame:
    """Return one row a rule (``SUMMARY``), with 95% intervals over prompts; the table must hold the human control."""
    check_rng(rng)
    frame = check_rows(table)
    if HUMAN not in set(frame["rule"]):
        raise BookError(f'a summary needs the rows of the rule "{HUMAN}", the control')
    band = human_band(frame)
    records = []
    for rule in frame["rule"].unique():
        estimates = _estimates(frame, rule, band, rng, resamples)
        entropy = cube(frame, rule, window_names(frame, "entropy"))
        record: dict[str, Any] = {
            "rule": rule,
            "prompts": len(entropy),
            "seeds": entropy.shape[1],
            "steps": int(frame["steps"].iloc[0]),
            "slope_sd": slopes(entropy, positions(frame)).mean(1).std(ddof=1),
        }
        for name, e in estimates.items():
            record |= {name: e.value, f"{name}_low": e.low, f"{name}_high": e.high}
        records.append(record)
    ordered = [c for name in SUMMARY for c in (name, f"{name}_low", f"{name}_high") if c in records[0]]
    return pd.DataFrame(records)[ordered]


def _estimates(
    table: pd.DataFrame, rule: str, band: tuple[float, float], rng: np.random.Generator, resamples: int
) -> dict[str, Interval]:
    """Return every estimate of one rule; the same prompts are drawn for each."""
    at, edge = positions(table), edge_windows(table)
    own = {q: _quantity(table, rule, q) for q in ("entropy", "log_loss", "entce")}
    human = cube(table, HUMAN, window_names(table, "entropy")).mean(1, keepdims=True)
    last = own["entropy"][..., -edge:].mean(-1)  # (P, K)
    half = max(2, (len(at) + 1) // 2)
    extra = ["seq_rep_4_last", "repeated_last", "distinct_1_last", "zlib_last"]
    others = cube(table, rule, [*extra, "tail_repeats", "loop_seen"])
    seed = int(rng.integers(2**63))

    def mean(values: FloatArray, statistic: Callable[..., Any] = np.mean) -> Interval:
        return cluster_bootstrap(
            values, np.random.default_rng(seed), statistic=statistic, resamples=resamples
        )

    def share(hits: Any) -> Interval:
        return share_over_prompts(np.asarray(hits, float), np.random.default_rng(seed), resamples=resamples)

    excess = own["entropy"] - human
    found = {
        "entropy_first": mean(own["entropy"][..., :edge].mean(-1)),
        "entropy_last": mean(last),
        "entropy_last_median": mean(last, np.median),
        "log_loss_last": mean(own["log_loss"][..., -edge:].mean(-1)),
        "entce_first": mean(own["entce"][..., :edge].mean(-1)),
        "entce_last": mean(own["entce"][..., -edge:].mean(-1)),
        "excess_first": mean(excess[..., :edge].mean(-1)),
        "excess_last": mean(excess[..., -edge:].mean(-1)),
        "slope": mean(slopes(own["entropy"], at)),
        "drift": mean(slopes(excess, at)),
        "drift_early": mean(slopes(excess[..., :half], at[:half])),
        "above": share(last > band[1]),
        "below": share(last < band[0]),
        "outside": share((last > band[1]) | (last < band[0])),
        "looped": share(others[..., -1] > 0),
        "tail_repeats": share(others[..., -2]),
    }
    return found | {name: mean(others[..., i]) for i, name in enumerate(extra)}


def edge_windows(table: pd.DataFrame) -> int:
    """Return how many windows make up the first or last 128 tokens (at least one, at most half of them)."""
    window = int(check_rows(table)["window"].iloc[0])
    return max(1, min(round(EDGE / window), len(window_names(table, "entropy")) // 2))


def human_band(table: pd.DataFrame) -> tuple[float, float]:
    """Return the 2.5% and 97.5% quantiles over human passages of the mean entropy in their last 128 tokens.

    A band for one text and not for a mean. About 5% of the passages it is made from lie outside (of 64: 4).
    """
    entropy = cube(table, HUMAN, window_names(table, "entropy"))
    low, high = np.quantile(entropy[..., -edge_windows(table) :].mean(-1), BAND)
    return float(low), float(high)


def panels(summary: pd.DataFrame, most: int = 5) -> dict[str, list[str]]:
    """Return the rules for the two panels of a figure, by drift, the highest first; at most ``most`` to a panel.

    Where they fit, those that drift up stand in the first and the others in the second.
    """
    check_table(summary, ["rule", "drift"], "summary")
    own = summary[summary["rule"] != HUMAN].sort_values("drift", ascending=False)
    most, names = check_count(most, "most"), own["rule"].tolist()
    if len(names) > 2 * most:
        raise BookError(f"at most {2 * most} rules fit into two panels of {most}, got {len(names)}")
    cut = min(max(int((own["drift"] > 0).sum()), len(names) - most), most)
    found = {"highest drift": names[:cut], "lowest drift": names[cut:]}
    return {panel: rules for panel, rules in found.items() if rules}


# --- the verdicts -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """A verdict: the number with its interval and unit, the state of every rule, and when the claim holds."""

    verdict: str
    condition: str
    number: Interval
    unit: str
    states: Mapping[str, str] = field(default_factory=dict)


def kind(rule: str) -> str:
    """Return the name of a rule without its numbers: "top-p" of "top-p=0.95", "greedy+penalty" of "greedy+penalty=1.2"."""
    if not isinstance(rule, str):
        raise BookError(f"a rule must be a name such as top-p=0.95, got {short_repr(rule)}")
    return "+".join(part.split("=")[0] for part in rule.split("+"))


def change(summary: pd.DataFrame, rule: str) -> Interval:
    """Return the change of the entropy over a run against the human control, nats: drift · steps/100."""
    check_table(summary, ["rule", "prompts", "steps", "drift", "drift_low", "drift_high"], "summary")
    chosen = summary[summary["rule"] == rule]
    if len(chosen) != 1:
        raise BookError(f"the summary must have one row of the rule {rule!r}, got {len(chosen)}")
    r = chosen.iloc[0]
    scale = float(r["steps"]) / 100
    return Interval(r["drift"] * scale, r["drift_low"] * scale, r["drift_high"] * scale, int(r["prompts"]))


def difference(
    a: pd.DataFrame, b: pd.DataFrame, rule: str, rng: np.random.Generator, *, resamples: int = 2_000
) -> Interval:
    """Return the change over a run under ``rule`` in the texts ``a`` minus that in ``b``, paired by prompt, in nats.

    Both are rows of texts (`rows`) with the human control, of the same prompts and equally long. The change of each is
    against its own control, so that what the model and its tokens make of human text drops out.
    """
    changes = []
    for table in (a, b):
        excess = _quantity(check_rows(table), rule, "excess")  # (P, K, windows)
        changes.append(slopes(excess, positions(table)).mean(1) * float(table["steps"].iloc[0]) / 100)
    prompts = [sorted(set(table.loc[table["rule"] == rule, "prompt"])) for table in (a, b)]
    if prompts[0] != prompts[1] or a["steps"].iloc[0] != b["steps"].iloc[0]:
        raise BookError("a difference needs two tables of the same prompts, and texts of the same length")
    return cluster_bootstrap(changes[0] - changes[1], check_rng(rng), resamples=resamples)


def state(e: Interval, smallest: float = SMALLEST_CHANGE) -> str:
    """Return "rises", "falls", "steady" or "undecided" for a change over a run, by the rule of this module."""
    if not isinstance(e, Interval):
        raise BookError(f"a state needs an Interval (made by change), got {short_repr(e)}")
    if e.low > 0 and e.value >= smallest:
        return "rises"
    if e.high < 0 and e.value <= -smallest:
        return "falls"
    return "steady" if -smallest < e.low and e.high < smallest else "undecided"


def verdict_diverge(summary: pd.DataFrame) -> Finding:
    """Return the verdict on "sampling a language model diverges as more tokens are drawn".

    The number is the drift of pure sampling, nats per 100 tokens.
    """
    rules = sampled(summary)
    if "pure" not in rules:
        raise BookError('the verdict on divergence needs the rule "pure"')
    states = {rule: state(change(summary, rule)) for rule in rules}
    moving = [rule for rule in rules if states[rule] in ("rises", "falls")]
    pure = estimate(summary, "pure", "drift")
    verdict = "holds when"
    if states["pure"] == "undecided" or (not moving and "undecided" in states.values()):
        verdict = "open"
    elif not moving:
        verdict = "does not hold"
    elif len(moving) == len(rules):
        verdict = "holds"
    return Finding(verdict, _sides(states), pure, "nats per 100 tokens", states)


def _sides(states: Mapping[str, str]) -> str:
    """Return the states as words: "upward under pure; downward under greedy; not under top-p=0.95"."""
    words = {
        "rises": "upward under",
        "falls": "downward under",
        "steady": "not under",
        "undecided": "undecided for",
    }
    parts = []
    for name, phrase in words.items():
        found = [rule for rule in states if states[rule] == name]
        if found:
            parts.append(f"{phrase} {', '.join(found)}")
    return "; ".join(parts)


def verdict_heuristics(summary: pd.DataFrame, named: Sequence[str] = HEURISTICS) -> Finding:
    """Return the verdict on "top-k, nucleus, temperature, repetition penalty stabilise it".

    ``named``: the kinds of rules that the claim names; each must be in the summary. The number is the share of them that
    stabilise; n is the number of rules, and there is no interval, since these are not a sample of rules.
    """
    names = check_list(named, "named")
    chosen = [rule for rule in sampled(summary) if kind(rule) in names]
    missing = [name for name in names if name not in {kind(rule) for rule in chosen}]
    if missing:
        raise BookError(f"the summary lacks the rules {', '.join(missing)}")
    spread = human_spread(summary)
    states = {rule: stabilises(summary, rule, spread) for rule in chosen}
    good = [rule for rule in chosen if states[rule] == "stabilises"]
    bad = [rule for rule in chosen if states[rule].startswith("fails")]
    verdict = "holds when" if good else "open"
    if len(good) == len(chosen):
        verdict = "holds"
    elif len(bad) == len(chosen):
        verdict = "does not hold"
    condition = (
        f"under {', '.join(good)}; not under {', '.join(r for r in chosen if r not in good)}" if good else ""
    )
    share = exact(len(good) / len(chosen), len(chosen))
    return Finding(verdict, condition if verdict == "holds when" else "", share, "of the rules named", states)


def human_spread(summary: pd.DataFrame) -> float:
    """Return the standard deviation between human passages of their own change over the run, nats."""
    check_table(summary, ["rule", "steps", "slope_sd"], "summary")
    human = summary[summary["rule"] == HUMAN]
    if len(human) != 1:
        raise BookError(f'the summary must have one row of the rule "{HUMAN}"')
    return float(human["slope_sd"].iloc[0] * human["steps"].iloc[0] / 100)


def stabilises(summary: pd.DataFrame, rule: str, spread: float) -> str:
    """Return "stabilises", "fails: …" with what it fails, or "undecided", by the rule of this module."""
    e = change(summary, rule)
    looped, outside = estimate(summary, rule, "looped"), estimate(summary, rule, "outside")
    tests = {
        "drifts": (-spread < e.low and e.high < spread, e.low > spread or e.high < -spread),
        "loops": (looped.high < MOST_LOOPED, looped.low > MOST_LOOPED),
        "ends outside the human band": (outside.high < MOST_OUTSIDE, outside.low > MOST_OUTSIDE),
    }
    failed = [name for name, (_, fails) in tests.items() if fails]
    if failed:
        return f"fails: {', '.join(failed)}"
    return "stabilises" if all(passes for passes, _ in tests.values()) else "undecided"


def sampled(summary: pd.DataFrame) -> list[str]:
    """Return the rules of a summary, without the human control."""
    check_table(summary, ["rule"], "summary")
    return [rule for rule in summary["rule"] if rule != HUMAN]


def estimate(summary: pd.DataFrame, rule: str, name: str) -> Interval:
    """Return an estimate of the summary with its interval."""
    check_table(summary, ["rule", "prompts", name, f"{name}_low", f"{name}_high"], "summary")
    chosen = summary[summary["rule"] == rule]
    if len(chosen) != 1:
        raise BookError(f"the summary must have one row of the rule {rule!r}, got {len(chosen)}")
    r = chosen.iloc[0]
    return Interval(float(r[name]), float(r[f"{name}_low"]), float(r[f"{name}_high"]), int(r["prompts"]))
