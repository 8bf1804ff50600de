"""What a decoding rule buys and what it costs.

It buys less drift and fewer loops. It costs diversity, and what it does to a text that a person wrote: some of that person's
tokens become impossible, or all become less likely.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from one_step_trap.core.stats import Interval
from one_step_trap.core.validate import check_table
from one_step_trap.errors import BookError
from one_step_trap.sampling.drift import change, cluster_bootstrap, estimate, kind, sampled
from one_step_trap.sampling.measures import HUMAN

FORBIDDEN = ("impossible", "impossible_low", "impossible_high", "tokens_between")


BUYS = {
    "drift": "buys: change over\nthe run (nats,\nhuman 0)",
    "looped": "buys: texts\nwith a loop\n(share)",
    "diversity": "costs: different\ntokens at the end\n(human = 1)",
    "impossible": "costs: human\ntokens forbidden\n(share)",
}
"""What ``buys_and_costs`` lists for each rule, with the words of the figure."""


def buys_and_costs(summary: pd.DataFrame, forbidden: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return what each rule buys and costs, one row a rule and quantity of ``BUYS``.

    Columns: ``rule``, ``what``, ``value``, ``low``, ``high``. "drift" is the change over the run against the human
    control, "diversity" the share of different tokens in the last 128 over that of the human control (its interval
    takes the human mean as given). ``forbidden`` from `stored_costs`; without it "impossible" is left out.
    """
    human = estimate(summary, HUMAN, "distinct_1_last").value
    records: list[tuple[Any, ...]] = []
    for rule in sampled(summary):
        d = estimate(summary, rule, "distinct_1_last")
        found = {
            "drift": change(summary, rule),
            "looped": estimate(summary, rule, "looped"),
            "diversity": Interval(d.value / human, d.low / human, d.high / human, d.n),
        }
        records += [(rule, what, e.value, e.low, e.high) for what, e in found.items()]
    if forbidden is not None:
        names = ["rule", "impossible", "impossible_low", "impossible_high"]
        kept = check_table(forbidden, names, "forbidden")[names]
        records += [(r[0], "impossible", *r[1:]) for r in kept.itertuples(index=False)]
    return pd.DataFrame(records, columns=["rule", "what", "value", "low", "high"])


# --- from a stored study ----------------------------------------------------------------------------------

ASKED = ("forbidden", "human_log_loss")


def stored_costs(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return what each rule would have done to human text, from the rows of a study (`protocol.part_rows`).

    Columns: ``rule``; ``impossible``, the share of human tokens that the rule forbids, and ``log_loss`` (mean, nats per
    token), with 95% intervals over prompts; ``tokens_between``: 1/share, the mean number of human tokens from one that the
    rule forbids to the next (infinite where it forbids none). The log-loss is left empty where a forbidden token makes it
    infinite. The two columns it reads are filled for the first seed of each rule.
    """
    check_table(table, ["rule", "prompt", *ASKED], "table")
    records = []
    for rule in dict.fromkeys(table["rule"]):
        asked = table[(table["rule"] == rule) & table["forbidden"].notna()].sort_values("prompt")
        if asked.empty:
            continue
        e = cluster_bootstrap(asked["forbidden"].to_numpy(), rng)
        between = math.inf if e.value == 0 else 1 / e.value
        record = {"rule": rule} | dict(zip(FORBIDDEN, (e.value, e.low, e.high, between), strict=True))
        if asked["human_log_loss"].notna().all():
            loss = cluster_bootstrap(asked["human_log_loss"].to_numpy(), rng)
            record |= {"log_loss": loss.value, "log_loss_low": loss.low, "log_loss_high": loss.high}
        records.append(record)
    names = ["rule", *FORBIDDEN, "log_loss", "log_loss_low", "log_loss_high"]
    return pd.DataFrame(records).reindex(columns=names)


def matched(table: pd.DataFrame, summary: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return rules that leave every token possible by what they cost a human text: one row a rule.

    ``table``: rows of the study of temperatures and penalties; ``summary``: `drift.summarise` of it. Columns: ``rule``,
    ``kind``, ``extra`` (log-loss of human text under the rule above that of plain sampling, nats per token, paired by prompt),
    ``change`` of the entropy over the run against the human control (nats), ``looped`` (share of texts) and ``diversity``
    (different tokens in the last 128, human = 1), each with its interval.
    """
    check_table(table, ["rule", "prompt", *ASKED], "table")
    asked = table[table["forbidden"].notna()].sort_values("prompt")
    loss = {rule: asked.loc[asked["rule"] == rule, "human_log_loss"].to_numpy() for rule in sampled(summary)}
    if "pure" not in loss or any(np.isnan(values).any() for values in loss.values()):
        raise BookError("matched rules need the rule pure, and a log-loss of human text under every rule")
    facts = buys_and_costs(summary).pivot(index="rule", columns="what")
    records = []
    for rule, values in loss.items():
        extra = cluster_bootstrap(values - loss["pure"], rng)
        record: dict[str, Any] = {"rule": rule, "kind": kind(rule)}
        record |= {"extra": extra.value, "extra_low": extra.low, "extra_high": extra.high}
        for what, name in (("drift", "change"), ("looped", "looped"), ("diversity", "diversity")):
            record |= {
                f"{name}{suffix}": float(facts.loc[rule, (column, what)])
                for suffix, column in (("", "value"), ("_low", "low"), ("_high", "high"))
            }
        records.append(record)
    return pd.DataFrame(records).sort_values(["kind", "extra"], ignore_index=True)
