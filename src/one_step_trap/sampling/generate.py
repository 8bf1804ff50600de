"""Drawing texts: every rule, every prompt and every seed in one batch, with a person's text beside them.

Of each step two numbers are kept for each text, not the logits (those of 1,024 steps of 32 texts would take six
gigabytes): the entropy of the model's own next-token distribution and its log-loss for the token that came. Both are of
the untruncated distribution at temperature 1, whatever the rule. It is a distribution over the model's tokens: ends of texts
count, though they are never drawn; ids beyond the tokenizer, which stand for nothing (`models.LanguageModel`), do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from one_step_trap.core.validate import FloatArray, IntArray, check_count, check_list
from one_step_trap.errors import BookError
from one_step_trap.sampling.decoder import check_tokens, decoder, inference
from one_step_trap.sampling.measures import HUMAN
from one_step_trap.sampling.models import LanguageModel
from one_step_trap.sampling.rules import NEVER, Rule, Sampler, draw, parse_all

BATCH = 96  # texts at once: enough for the arithmetic to outweigh reading the weights (benchmarks/)


@dataclass(frozen=True)
class Traces:
    """What one rule wrote with one seed after N prompts, S tokens each (or what people wrote: rule "human", seed 0).

    ``entropy`` and ``log_loss`` (N, S) are in nats, of the model's untruncated distribution before token t, given
    all tokens before it. ``prompts`` holds the position of each prompt in the caller's list.
    """

    rule: str
    seed: int
    tokens: IntArray
    entropy: FloatArray
    log_loss: FloatArray
    prompts: IntArray


@dataclass(frozen=True)
class Cost:
    """What a rule would have said to a person's text: the first tokens of N passages.

    ``log_loss`` (N, cost_steps), in nats, is that of the person's token under the rule's distribution; infinite
    where the rule had excluded the token.
    """

    rule: str
    log_loss: FloatArray


@dataclass(frozen=True)
class Row:
    """One text of the batch: which prompt, rule (-1: the person's text) and seed it belongs to."""

    prompt: int
    rule: int
    seed: int


def generate(
    lm: LanguageModel,
    passages: Any,
    rules: Sequence[str | Rule],
    steps: int,
    seeds: Sequence[int],
    *,
    prompt_length: int = 128,
    cost_steps: int = 0,
    first_prompt: int = 0,
    batch: int = BATCH,
    fast: bool = True,
    device: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[list[Traces], list[Cost]]:
    """Draw texts by every rule and seed, and read the person's text beside them.

    ``passages`` (N, P or more) are token ids of which the first ``prompt_length`` (P) are the prompt. Passages of at
    least P + ``steps`` tokens also give the control, `HUMAN`, at the same positions (shorter ones: no control), and what
    each rule would have said to its first ``cost_steps`` tokens. A greedy rule is run for the first seed only. Tokens with
    which the model ends a text (and its other special tokens) are never drawn, so that every text has ``steps`` tokens.

    The uniform numbers that decide the tokens of a text depend on its seed and its prompt's number alone
    (``first_prompt`` + its row): the same in any batch, and the same for every rule. The person's text needs no seed.
    """
    ids, rules_, seeds_ = _checked(lm, passages, rules, steps, seeds, prompt_length)
    steps, prompt_length = int(steps), int(prompt_length)
    cost_steps = check_count(cost_steps, "cost_steps", minimum=0)
    first_prompt = check_count(first_prompt, "first_prompt", minimum=0)
    controlled = ids.shape[1] >= prompt_length + steps
    rows = _rows(len(ids), rules_, seeds_, controlled)
    size = min(check_count(batch, "batch"), len(rows))
    out = _Results(len(rows), steps)
    with inference():
        for start in range(0, len(rows), size):
            chunk = rows[start : start + size]
            run = _Batch(lm, ids, rules_, chunk, steps, prompt_length, first_prompt, fast, device)
            run.go(out, start, cost_steps, partial(_tell, progress, steps, start, len(rows), size))
    return _traces(rows, rules_, out), _costs(rows, rules_, out) if cost_steps and controlled else []


def _checked(
    lm: LanguageModel,
    passages: Any,
    rules: Sequence[str | Rule],
    steps: int,
    seeds: Sequence[int],
    prompt_length: int,
) -> tuple[torch.Tensor, list[Rule], list[int]]:
    ids = check_tokens(passages, (None, None), lm.vocabulary)
    steps, prompt_length = check_count(steps, "steps"), check_count(prompt_length, "prompt_length")
    if ids.shape[1] < prompt_length:
        raise BookError(f"the prompts have {ids.shape[1]} tokens, {prompt_length} were asked for")
    if prompt_length + steps > lm.context:
        raise BookError(
            f"{prompt_length} tokens of prompt and {steps:,} steps are longer than the context of {lm.name}: "
            f"{lm.context:,} tokens"
        )
    seeds_ = [check_count(seed, "seed", minimum=0) for seed in check_list(seeds, "seeds")]
    if len(set(seeds_)) < len(seeds_):
        raise BookError("give each seed only once")
    return ids, parse_all(rules), seeds_


def _rows(prompts: int, rules: list[Rule], seeds: list[int], controlled: bool) -> list[Row]:
    """Return the texts to write, prompt by prompt: equal prompts lie together, and are read once in a batch."""
    written = [
        (rule, seed) for rule in range(len(rules)) for seed in (seeds[:1] if rules[rule].greedy else seeds)
    ]
    each = [(-1, 0)] * controlled + written
    return [Row(prompt, rule, seed) for prompt in range(prompts) for rule, seed in each]


class _Results:
    """Arrays (rows, steps) that the batches fill; ``costs`` maps a row of a person's text to its costs by rule."""

    def __init__(self, rows: int, steps: int) -> None:
        self.tokens = np.zeros((rows, steps), np.int64)
        self.entropy, self.log_loss = np.zeros((rows, steps)), np.zeros((rows, steps))
        self.costs: dict[tuple[int, int], list[float]] = {}


class _Batch:
    """The texts of one batch, stepped together."""

    def __init__(
        self,
        lm: LanguageModel,
        ids: torch.Tensor,
        rules: list[Rule],
        rows: list[Row],
        steps: int,
        prompt_length: int,
        first_prompt: int,
        fast: bool,
        device: str | None,
    ) -> None:
        self.lm, self.rows, self.rules, self.steps, self.start = lm, rows, rules, steps, prompt_length
        self.decoder = decoder(lm, len(rows), prompt_length + steps, fast=fast, device=device)
        self.texts = torch.zeros((len(rows), prompt_length + steps), dtype=torch.long)
        self.texts[:, :prompt_length] = ids[[row.prompt for row in rows], :prompt_length]
        self.members = {
            rule: torch.tensor([i for i, row in enumerate(rows) if row.rule == rule], dtype=torch.long)
            for rule in sorted({row.rule for row in rows})
        }
        self.choosers = {
            rule: Sampler(rules[rule], len(members)) for rule, members in self.members.items() if rule >= 0
        }
        human = self.members.get(-1, torch.zeros(0, dtype=torch.long))
        self.forced = ids[[rows[i].prompt for i in human.tolist()], prompt_length : prompt_length + steps]
        self.judges = [Sampler(rule, len(human)) for rule in rules] if len(human) else []
        self.banned = never_drawn(lm)
        self.u = np.stack([uniforms(row.seed, first_prompt + row.prompt, steps) for row in rows])  # (B, S)

    def go(self, out: _Results, start: int, cost_steps: int, tell: Callable[[int], None]) -> None:
        """Write all texts of the batch into rows ``start``... of the results."""
        logits = self.decoder.prefill(self.texts[:, : self.start])
        rows = slice(start, start + len(self.rows))
        for t in range(self.steps):
            logits = logits.float().cpu()
            if not logits.amax(-1).isfinite().all():
                raise BookError(
                    f"{self.lm.name} gives logits that are NaN or infinite after {self.start + t:,} tokens"
                )
            tokens = self._choose(logits, t, out, start, cost_steps)
            entropy, log_loss = surprise(logits, tokens)
            out.tokens[rows, t], out.entropy[rows, t], out.log_loss[rows, t] = tokens, entropy, log_loss
            self.texts[:, self.start + t] = tokens
            tell(t + 1)
            if t + 1 < self.steps:
                logits = self.decoder.step(tokens)

    def _choose(
        self, logits: torch.Tensor, t: int, out: _Results, start: int, cost_steps: int
    ) -> torch.Tensor:
        tokens = torch.zeros(len(self.rows), dtype=torch.long)
        read = self.texts[:, : self.start + t]
        allowed = logits.index_fill(-1, self.banned, NEVER)
        for rule, members in self.members.items():
            if rule < 0:
                tokens[members] = self.forced[:, t]
                continue
            kept = self.choosers[rule](allowed[members], read[members])
            tokens[members] = draw(kept, torch.from_numpy(self.u[members.numpy(), t]))
            self.choosers[rule].learn(tokens[members])
        if t < cost_steps and self.judges:
            self._judge(allowed, read, t, out, start)
        return tokens

    def _judge(self, logits: torch.Tensor, read: torch.Tensor, t: int, out: _Results, start: int) -> None:
        """Note what every rule says to the person's next token."""
        members = self.members[-1]
        said = self.forced[:, t]
        for rule, judge in enumerate(self.judges):
            kept = judge(logits[members], read[members])
            loss = -torch.log_softmax(kept, dim=-1).gather(-1, said[:, None])[:, 0]  # (humans,)
            judge.learn(said)
            for member, value in zip(members.tolist(), loss.tolist(), strict=True):
                key = (rule, start + member)
                out.costs.setdefault(key, []).append(value)


def never_drawn(lm: LanguageModel) -> torch.Tensor:
    """Return the ids of the tokens with which the model ends a text, and of its other special tokens."""
    return torch.tensor(lm.never_drawn, dtype=torch.long)


def uniforms(seed: int, prompt: int, steps: int) -> FloatArray:
    """Return the uniform numbers (S,) that decide the tokens after a prompt, by its number."""
    return np.random.default_rng([seed, prompt]).random(steps)


def surprise(logits: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the entropy (B,) of ``softmax(logits)`` (B, V) and the log-loss (B,) of a token each, in nats."""
    log_p = torch.log_softmax(logits, dim=-1)
    entropy = -(log_p.exp() * log_p.clamp_min(-1e4)).sum(-1)
    return entropy, -log_p.gather(-1, tokens[:, None])[:, 0]


def _traces(rows: list[Row], rules: list[Rule], out: _Results) -> list[Traces]:
    kinds = sorted({(row.rule, row.seed) for row in rows})
    found = []
    for rule, seed in kinds:
        at = [i for i, row in enumerate(rows) if (row.rule, row.seed) == (rule, seed)]
        found.append(
            Traces(
                HUMAN if rule < 0 else rules[rule].name,
                seed,
                out.tokens[at],
                out.entropy[at],
                out.log_loss[at],
                np.array([rows[i].prompt for i in at]),
            )
        )
    return found


def _costs(rows: list[Row], rules: list[Rule], out: _Results) -> list[Cost]:
    human = [i for i, row in enumerate(rows) if row.rule < 0]
    return [Cost(rule.name, np.array([out.costs[r, i] for i in human])) for r, rule in enumerate(rules)]


def _tell(
    progress: Callable[[str], None] | None, steps: int, start: int, rows: int, size: int, t: int
) -> None:
    """Say how far it is (``t`` of ``steps`` tokens), a few times a batch."""
    if progress is not None and (t == steps or t % 64 == 0):
        progress(f"texts {start + 1} to {min(start + size, rows)} of {rows}: token {t:,} of {steps:,}")
