"""Decoding rules: how the next token is chosen from the model's distribution.

A rule is written as a text: ``pure``, ``temperature=0.7``, ``top-k=50``, ``top-p=0.95``, ``typical=0.95``,
``min-p=0.05``, ``mirostat=5``, ``greedy``, ``penalty=1.2``, or several joined by ``+`` and applied in that order, such as
``greedy+penalty=1.2`` or ``temperature=0.8+top-p=0.95`` (greedy is what comes last, wherever it stands). Repetition
penalty, temperature, top-k and min-p are transformers' own processors; nucleus and typical sampling are compared with
transformers' in a test, and computed here without sorting the whole vocabulary.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
)

from one_step_trap.core.validate import (
    check_count,
    check_probability,
    check_real,
    short_repr,
)
from one_step_trap.errors import BookError

NEVER = -math.inf  # the logit of a token that a rule excludes
MIROSTAT_TOP, MIROSTAT_RATE = 100, 1.0  # m and η of Basu et al. 2021, algorithm 1
STAGES = (512, 4_096)  # how many tokens are put in order before all of them are


@dataclass(frozen=True)
class Rule:
    """A decoding rule: its parts as (name, value) in the order of their use; ``greedy`` and ``pure`` have the value 0."""

    parts: tuple[tuple[str, float], ...]

    @property
    def name(self) -> str:
        """The rule as a text from which `parse` makes the same rule."""
        return "+".join(
            name if name in ("pure", "greedy") else f"{name}={_exactly(value)}" for name, value in self.parts
        )

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken, so that a seed changes nothing."""
        return any(name == "greedy" for name, _ in self.parts)


def _exactly(value: float) -> str:
    """Return a number with as many digits as it has, and no plus sign, which joins the parts of a rule."""
    short = f"{value:g}"
    return (short if float(short) == value else repr(value)).replace("e+", "e")


SCALE = 1e30
"""Logits are 32-bit floats, which end at 3e38: what multiplies or divides them lies between 1/SCALE and SCALE."""


def _scale(value: Any, name: str) -> float:
    number = check_real(value, name)
    if not 1 / SCALE <= number <= SCALE:
        raise BookError(f"{name} must lie between {1 / SCALE:g} and {SCALE:g}, got {number:g}")
    return number


RANGES: dict[str, tuple[Callable[[Any, str], float], str]] = {
    "temperature": (_scale, f"above 0 (from {1 / SCALE:g} to {SCALE:g}), such as 0.7"),
    "top-k": (check_count, "a whole number from 1 on, such as 50"),
    "top-p": (check_probability, "above 0 and at most 1, such as 0.95"),
    "typical": (check_probability, "above 0 and below 1, such as 0.95"),
    "min-p": (check_probability, "from 0 to 1, such as 0.05"),
    "mirostat": (_scale, f"above 0, in bits (from {1 / SCALE:g} to {SCALE:g}), such as 5"),
    "penalty": (_scale, f"above 0 (from {1 / SCALE:g} to {SCALE:g}); 1 changes nothing, 1.2 is common"),
}
JOINS = re.compile(r"(?<![\d.]e)\+", re.IGNORECASE)
"""The plus signs between the parts of a rule; that of ``1e+3`` is none of them."""


def parse(text: str | Rule) -> Rule:
    """Return the rule that a text names (or the rule itself); an unknown name or a value out of range is one clear error.

    A part is ``top-p=0.9`` or ``top-p 0.9``: papermill reads no parameter whose default holds an equals sign.
    """
    if isinstance(text, Rule):
        return text
    if not isinstance(text, str) or not text.strip():
        raise BookError(f"a decoding rule is a text such as top-p=0.95, got {short_repr(text)}")
    parts = tuple(_part(entry.strip()) for entry in JOINS.split(text))
    names = [name for name, _ in parts]
    if len(set(names)) < len(names) or ("pure" in names and len(names) > 1):
        raise BookError(f"the rule {text!r} names a part twice, or joins pure with others")
    if "mirostat" in names and names[-1] != "mirostat":
        raise BookError(
            f"in the rule {text!r}, mirostat must be the last part: it chooses among what the others leave"
        )
    return Rule(parts)


def _part(text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=") if "=" in text else text.partition(" ")
    if name in ("pure", "greedy") and not equals:
        return name, 0.0
    if name not in RANGES or not equals:
        known = ", ".join(["pure", "greedy", *(f"{name}=…" for name in RANGES)])
        raise BookError(f"there is no decoding rule {text!r}; there are {known}, and several joined by +")
    check, words = RANGES[name]
    try:
        number = check(_number(value), name)
    except (ValueError, BookError):
        raise BookError(f"{name} must be {words}, got {value or 'nothing'}") from None
    if (name in ("top-p", "typical") and number == 0) or (name == "typical" and number == 1):
        raise BookError(f"{name} must be {words}, got {value}")
    return name, number


def _number(text: str) -> float:
    """Return the number that a text says; a whole one as such, however long."""
    try:
        return int(text)
    except ValueError:
        return float(text)


def parse_all(texts: Iterable[str | Rule]) -> list[Rule]:
    """Return the rules of several texts (or rules); none at all, or one twice, is an error."""
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise BookError(f"rules must be a list of texts, got {short_repr(texts)}")
    found = [parse(text) for text in texts]
    if not found or len(set(found)) < len(found):
        raise BookError("give at least one decoding rule, and each only once")
    return found


# --- from logits to a token -------------------------------------------------------------------------------

PROCESSORS: dict[str, Callable[[float], Any]] = {
    "penalty": RepetitionPenaltyLogitsProcessor,
    "temperature": TemperatureLogitsWarper,
    "top-k": lambda value: TopKLogitsWarper(int(value)),
    "min-p": MinPLogitsWarper,
}
"""The parts of a rule that transformers computes; each is made with the part's value."""


def keep_in_order(logits: torch.Tensor, order: torch.Tensor, mass: float) -> torch.Tensor:
    """Exclude all but the first tokens in ``order`` (smallest first) whose probabilities reach ``mass``.

    ``logits`` and ``order`` have shape (B, V). The token with which the sum reaches ``mass`` stays. Most sums are reached
    within the first hundreds of tokens: only the rows where they are not are put further in order.
    """
    p = torch.softmax(logits, dim=-1)
    result = torch.full_like(logits, NEVER)
    rows = torch.arange(len(logits), device=logits.device)  # those that are not done
    for size in (*STAGES, logits.shape[-1]):
        size = min(size, logits.shape[-1])
        rank = torch.topk(order[rows], size, dim=-1, largest=False).indices  # (rows, size)
        ranked = p[rows].gather(-1, rank)
        done = ranked.sum(-1) >= mass if size < logits.shape[-1] else torch.ones_like(rows, dtype=torch.bool)
        rank, ranked = rank[done], ranked[done]
        # Kept is the first, and all that have less than ``mass`` before them; the rest point at the first again.
        before = ranked.cumsum(-1) - ranked
        kept = torch.where(before < mass, rank, rank[:, :1])
        result[rows[done]] = result[rows[done]].scatter(-1, kept, logits[rows[done]].gather(-1, kept))
        rows = rows[~done]
        if not len(rows):
            break
    return result


def nucleus(logits: torch.Tensor, p: float) -> torch.Tensor:
    """Keep the likeliest tokens that together have probability ``p`` (Holtzman et al. 2020, equation 2)."""
    return logits if p == 1 else keep_in_order(logits, -logits, p)


def typical(logits: torch.Tensor, mass: float) -> torch.Tensor:
    """Keep the tokens whose surprise is nearest to the entropy (Meister et al. 2023, arXiv 2202.00666, equation 7)."""
    log_p = torch.log_softmax(logits, dim=-1)
    entropy = -(log_p.exp() * log_p.clamp_min(-1e4)).sum(-1, keepdim=True)
    return keep_in_order(logits, (-log_p - entropy).abs(), mass)


class Sampler:
    """Applies one rule to the rows it is responsible for, and carries what the rule remembers of each (Mirostat's μ)."""

    def __init__(self, rule: Rule, rows: int, device: torch.device | None = None) -> None:
        self.rule = rule
        target = dict(rule.parts).get("mirostat")
        self.mu = None if target is None else torch.full((rows,), 2 * target, device=device)
        self.given: torch.Tensor | None = None  # what Mirostat last chose from

    def __call__(self, logits: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        """Return the logits (B, V) after the rule, minus infinity where it excludes; ``texts`` (B, t) is what was read."""
        parts = sorted(self.rule.parts, key=lambda part: part[0] == "greedy")  # stable: greedy comes last
        for name, value in parts:
            _refuse_nan(logits.amax(-1))
            logits = self._apply(name, value, logits, texts)
        return logits

    def _apply(self, name: str, value: float, logits: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        if name in PROCESSORS:
            processed: torch.Tensor = PROCESSORS[name](value)(texts, logits)
            return processed
        if name == "top-p":
            return nucleus(logits, value)
        if name == "typical":
            return typical(logits, value)
        if name == "mirostat":
            return self._mirostat(logits)
        if name == "greedy":
            best = torch.full_like(logits, NEVER)
            return best.scatter(-1, logits.argmax(-1, keepdim=True), 0.0)
        return logits

    def _mirostat(self, logits: torch.Tensor) -> torch.Tensor:
        """Keep the k likeliest tokens, k such that a Zipf law would give the surprise μ (Basu et al. 2021, equation 8)."""
        assert self.mu is not None
        self.given = logits
        N = logits.shape[-1]
        m = min(MIROSTAT_TOP, N - 1)
        log_p = torch.log_softmax(
            torch.topk(logits, m, dim=-1).values.double(), dim=-1
        )  # ratios are all that counts
        i = torch.arange(1, m, dtype=torch.float64, device=logits.device)
        t = torch.log((i + 1) / i)  # (m - 1,)
        b = (log_p[:, :-1] - log_p[:, 1:]).nan_to_num(0.0, posinf=0.0)
        s = (t * b).sum(-1) / (t * t).sum()  # (B,) the Zipf exponent, equation 10
        eps = torch.where((s - 1).abs() < 1e-4, torch.full_like(s, 1e-4), s - 1)
        k = ((eps * 2 ** self.mu.double()) / (1 - N ** (-eps))) ** (1 / s)
        k = k.nan_to_num(N, posinf=N).round().clamp(1, N).long()  # (B,)
        ranked = torch.topk(logits, int(k.max()), dim=-1).values
        return logits.masked_fill(logits < ranked.gather(-1, k[:, None] - 1), NEVER)

    def learn(self, tokens: torch.Tensor) -> None:
        """Tell the rule which tokens (B,) were taken: Mirostat corrects its μ by their surprise.

        The surprise is that of the distribution which Mirostat was given, before it cut it (Basu et al. 2021, algorithm 1: S
        is the surprise under the model). Some programs take that of what is left, which is lower.
        """
        if self.mu is None or self.given is None:
            return
        target = dict(self.rule.parts)["mirostat"]
        log_p = torch.log_softmax(self.given, dim=-1).gather(-1, tokens[:, None])[:, 0]
        surprise = (-log_p / math.log(2)).clamp_max(
            4 * target
        )  # a forced token may be one that is never drawn
        self.mu = self.mu - MIROSTAT_RATE * (surprise - target)


def draw(logits: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Return the token (B,) at which the distribution function of ``softmax(logits)`` passes ``u`` (B,), in [0, 1).

    One uniform number decides a token, so that two rules, or two models, can be given the same luck.
    """
    cumulative = torch.softmax(logits, dim=-1).double().cumsum(-1)  # (B, V)
    total = cumulative[:, -1:]
    _refuse_nan(total)
    found = torch.searchsorted(cumulative, u[:, None].to(cumulative) * total, right=True)[:, 0]
    last = (
        logits.shape[-1] - 1 - torch.flip(logits > NEVER, [-1]).int().argmax(-1)
    )  # the last that is possible
    return torch.minimum(found, last)


def _refuse_nan(values: torch.Tensor) -> None:
    """Raise if a number is NaN or infinite: any token would then be as good as another."""
    if not values.isfinite().all():
        raise BookError("no token can be drawn: the logits are NaN or infinite, or every token is excluded")
