"""What others measured on other models: orders are compared, levels are not.

Sources: Holtzman et al. 2020 (arXiv 1904.09751, table 1) and Braverman et al. 2020 (arXiv 1906.05664, table 1).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from one_step_trap.core.validate import check_finite, check_list, check_table, short_repr
from one_step_trap.errors import BookError
from one_step_trap.sampling import measures
from one_step_trap.sampling.drift import check_rows, kind, window_names
from one_step_trap.sampling.measures import TraceLike, check_trace


@dataclass(frozen=True)
class PublishedDecoding:
    """A row of table 1 of Holtzman et al. 2020: GPT-2 large, 200-token continuations of web text."""

    rule: str  # as we name it
    perplexity: float
    self_bleu_4: float
    repetition: float  # percent of texts


HOLTZMAN = (
    PublishedDecoding("human", 12.38, 0.31, 0.28),
    PublishedDecoding("greedy", 1.50, 0.50, 73.66),
    PublishedDecoding("beam=16", 1.48, 0.44, 28.94),
    PublishedDecoding("pure", 22.73, 0.28, 0.22),
    PublishedDecoding("top-k=40", 6.88, 0.39, 0.78),
    PublishedDecoding("top-p=0.95", 13.13, 0.32, 0.36),
)
"""Six rows of table 1 of arXiv 1904.09751, as far as a second source confirms them; its Zipf column is left out for
want of one."""


@dataclass(frozen=True)
class PublishedBlowUp:
    """A row of table 1 of Braverman et al. 2020: perplexity of test text, and exp(entropy rate) of long generations."""

    model: str
    corpus: str
    test: float
    generated: float

    @property
    def nats(self) -> float:
        """How far the entropy rate of generated text exceeds the log-loss of test text: ln(generated/test)."""
        return math.log(self.generated / self.test)


BRAVERMAN = (
    PublishedBlowUp("AWD-LSTM", "PTB", 58.3, 93.1),
    PublishedBlowUp("CNN-LSTM", "GBW", 29.8, 49.4),
    PublishedBlowUp("Transformer", "GBW", 28.1, 34.7),
    PublishedBlowUp("GPT-2", "WebText", 23.7, 61.2),
)
"""Table 1 of Braverman et al. 2020 (arXiv 1906.05664): our EntCE at the end of a run is the same quantity in nats."""


def pooled(traces: Iterable[TraceLike]) -> pd.DataFrame:
    """Return, for each rule and seed, the four numbers that Holtzman et al. compare, over all of its texts.

    Columns: ``rule``, ``seed``, ``texts``, ``perplexity`` (exp of the mean log-loss), ``self_bleu_4`` (mean), ``zipf``,
    ``repetition`` (percent of texts that end in a repeated phrase). One row holds equally many texts for every
    rule, the human control included; Zipf exponent and self-BLEU depend on that number.
    """
    records = []
    for trace in check_list(traces, "traces"):
        tokens, _, loss = check_trace(trace)
        records.append(
            {
                "rule": trace.rule,
                "seed": trace.seed,
                "texts": len(tokens),
                "perplexity": float(np.exp(loss.mean())),
                "self_bleu_4": float(measures.self_bleu(tokens).mean()),
                "zipf": measures.zipf_exponent(tokens),
                "repetition": 100 * float(measures.tail_repeats(tokens).mean()),
            }
        )
    return pd.DataFrame(records)


def from_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return perplexity and repetition of each rule and seed from the rows of a study (`drift.rows`), as `pooled` does.

    Self-BLEU and the Zipf exponent need the tokens, which a study does not store.
    """
    frame = check_rows(table)
    losses = window_names(frame, "log_loss")
    records = [
        {
            "rule": rule,
            "seed": seed,
            "texts": len(part),
            "perplexity": float(np.exp(part[losses].to_numpy().mean())),
            "repetition": 100 * float(part["tail_repeats"].mean()),
        }
        for (rule, seed), part in frame.groupby(["rule", "seed"], sort=False)
    ]
    return pd.DataFrame(records)


@dataclass(frozen=True)
class Ordering:
    """Two orders of the same rules: Kendall's tau-b, and the pairs that stand the other way round."""

    measure: str
    table: pd.DataFrame  # rule, published, ours; in the published order
    tau: float
    swapped: tuple[tuple[str, str], ...]


def compare_orderings(
    ours: Mapping[str, float], published: Mapping[str, float], measure: str = ""
) -> Ordering:
    """Return how our order of the rules agrees with a published one; levels are not compared.

    Keys are names of rules; "top-k=50" and "top-k=40" are taken for the same one (``kind``). Rules that only one side
    has are left out. A pair that is tied on a side is not swapped. tau is 1 for the same order, -1 for the reverse.
    """
    for name, values in (("ours", ours), ("published", published)):
        if not isinstance(values, Mapping) or not values:
            raise BookError(f"{name} must map names of rules to numbers, got {short_repr(values)}")
        check_finite(list(values.values()), name)
    mine = {kind(rule): value for rule, value in ours.items()}
    if len(mine) != len(ours):
        raise BookError("ours has two rules of one kind: choose the one to compare")
    shared = sorted((rule for rule in published if kind(rule) in mine), key=lambda rule: published[rule])
    if len(shared) < 2:
        raise BookError("an order needs at least two rules that both sides have")
    names = {kind(rule): rule for rule in ours}
    rows_ = [(names[kind(rule)], float(published[rule]), float(mine[kind(rule)])) for rule in shared]
    swapped = tuple(
        (a[0], b[0]) for i, a in enumerate(rows_) for b in rows_[i + 1 :] if (a[1] - b[1]) * (a[2] - b[2]) < 0
    )
    table = pd.DataFrame(rows_, columns=["rule", "published", "ours"])
    tau = stats.kendalltau(table["published"], table["ours"]).statistic
    return Ordering(measure, table, float(tau) if math.isfinite(tau) else 0.0, swapped)


def orderings(pooled_table: pd.DataFrame) -> list[Ordering]:
    """Return our orders of perplexity, self-BLEU and repetition (means over seeds) beside Holtzman et al.'s.

    ``pooled_table``: of `pooled` or `from_rows`; quantities that it lacks are left out.
    """
    check_table(pooled_table, ["rule"], "pooled")
    names = [name for name in ("perplexity", "self_bleu_4", "repetition") if name in pooled_table]
    if not names:
        raise BookError("the table has none of perplexity, self_bleu_4 and repetition (made by pooled)")
    means = pooled_table.groupby("rule")[list(names)].mean()
    published = {name: {row_.rule: getattr(row_, name) for row_ in HOLTZMAN} for name in names}
    kinds = {kind(row_.rule) for row_ in HOLTZMAN}
    means = means[[kind(rule) in kinds for rule in means.index]]
    return [compare_orderings(means[name].to_dict(), published[name], name) for name in names]
