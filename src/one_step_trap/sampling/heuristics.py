"""What a decoding rule buys and what it costs.

It buys less drift and fewer loops. It costs diversity, and what it does to a text that a person wrote: some of that person's
tokens become impossible, or all become less likely.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd

from one_step_trap.core.stats import Interval
from one_step_trap.core.validate import BoolArray, FloatArray, check_list, check_table
from one_step_trap.errors import BookError
from one_step_trap.sampling import measures
from one_step_trap.sampling.drift import change, cluster_bootstrap, estimate, kind, sampled
from one_step_trap.sampling.measures import FORBIDS, HUMAN, TokenFacts


def forbidden_shares(facts: TokenFacts, rules: Sequence[str], rng: np.random.Generator) -> pd.DataFrame:
    """Return the share of human tokens that each rule would have made impossible, with 95% intervals over passages.

    ``facts``: arrays (passages, tokens) of ``token_facts`` along human text. ``rules``: names such as "top-k=50"; kinds that
    forbid by what was drawn before (Mirostat, penalties) are left out. Columns: ``rule``, ``impossible``,
    ``impossible_low``, ``impossible_high``, ``tokens_between``: 1/share, the mean number of human tokens from one that the
    rule forbids to the next (infinite where it forbids none).
    """
    if not isinstance(facts, TokenFacts) or facts.rank.ndim != 2:
        raise BookError("facts must be TokenFacts with arrays of shape (passages, tokens)")
    records = []
    for rule in check_list(rules, "rules"):
        if kind(rule) not in FORBIDS:
            continue
        hit = measures.impossible(facts, kind(rule), parameter(rule))
        records.append({"rule": rule} | _forbidden(hit, rng))
    return pd.DataFrame(records, columns=["rule", *FORBIDDEN])


def parameter(rule: str) -> float:
    """Return the number after the equals sign of a rule's name, 1 if there is none."""
    name, _, text = rule.partition("=")
    try:
        return float(text) if text else 1.0
    except ValueError:
        raise BookError(f"the rule {name!r} needs a number after its equals sign, got {text!r}") from None


class CostLike(Protocol):
    """What is needed of ``generate.Cost``: what a rule would have said to a person's text."""

    @property
    def rule(self) -> str:
        """Name of the rule."""

    @property
    def log_loss(self) -> FloatArray:
        """Minus ln of the rule's probability of each token, nats, (passages, tokens); infinite where forbidden."""


def human_costs(costs: Iterable[CostLike], rng: np.random.Generator) -> pd.DataFrame:
    """Return what each rule would have done to human text, with 95% intervals over passages.

    Columns: those of ``forbidden_shares``, for every rule, and ``log_loss`` with its interval (mean, nats per
    token). The log-loss is left empty where a forbidden token makes it infinite: truncation rules have none, temperatures
    and penalties do, and only among those it can be compared.
    """
    records = []
    for cost in check_list(costs, "costs"):
        loss = _check_loss(getattr(cost, "log_loss", None))
        record = {"rule": cost.rule} | _forbidden(np.isinf(loss), rng)
        if np.isfinite(loss).all():
            e = cluster_bootstrap(loss.mean(1), rng)
            record |= {"log_loss": e.value, "log_loss_low": e.low, "log_loss_high": e.high}
        records.append(record)
    names = ["rule", *FORBIDDEN, "log_loss", "log_loss_low", "log_loss_high"]
    return pd.DataFrame(records).reindex(columns=names)


def _check_loss(loss: Any) -> FloatArray:
    try:
        x = np.asarray(loss, dtype=np.float64)
    except (TypeError, ValueError):
        raise BookError("log_loss of a cost must be an array of numbers, shape (passages, tokens)") from None
    if x.ndim != 2 or np.isnan(x).any() or (x < -1e-6).any():  # rounding may leave a probability just above 1
        raise BookError(
            f"log_loss of a cost must have shape (passages, tokens), none below 0 or NaN, got {x.shape}"
        )
    return x


FORBIDDEN = ("impossible", "impossible_low", "impossible_high", "tokens_between")


def _forbidden(hit: BoolArray, rng: np.random.Generator) -> dict[str, float]:
    """Return the share of forbidden tokens with its interval, from (passages, tokens)."""
    e = cluster_bootstrap(hit.mean(1), rng)
    return dict(
        zip(FORBIDDEN, (e.value, e.low, e.high, math.inf if e.value == 0 else 1 / e.value), strict=True)
    )


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
    takes the human mean as given). ``forbidden`` from ``human_costs`` or ``forbidden_shares``; without it "impossible"
    is left out.
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
    """Return the columns of `human_costs` from the rows of a study (`protocol.part_rows`), with 95% intervals over prompts.

    The two columns it reads are filled for the first seed of each rule.
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


def at_cost(table: pd.DataFrame, rule_kind: str, extra: float, what: str) -> float:
    """Return ``what`` ("change", "looped" or "diversity") of a family of rules at a cost, between two of its rules by a line.

    ``table`` of `matched`; ``rule_kind`` such as "temperature"; ``extra`` in nats per token. Plain sampling, which
    costs nothing, belongs to every family. A cost beyond the family's dearest rule is an error.
    """
    check_table(table, ["kind", "extra", "change", "looped", "diversity"], "table (of matched)")
    family = table[table["kind"].isin([rule_kind, "pure"])].sort_values("extra")
    if not (family["extra"].min() <= extra <= family["extra"].max()):
        raise BookError(
            f"the rules of the kind {rule_kind} cost up to {family['extra'].max():.3g} nats, not {extra:.3g}"
        )
    return float(np.interp(extra, family["extra"], family[what]))
