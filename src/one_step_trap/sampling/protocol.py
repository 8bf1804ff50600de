"""The protocol of the chapter's measurement on real models, and its long studies.

After Cao, Valiant & Liang 2025 (arXiv 2511.11966): prompts of 128 tokens that people wrote, 1,024 tokens drawn
after each, the same prompts in every arm, and the human continuation at the same positions as the control. 64 prompts
(`texts.split`), nine rules, three seeds; one row a text is stored (`drift.rows`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from one_step_trap.core.validate import FloatArray, check_count
from one_step_trap.errors import BookError
from one_step_trap.sampling import drift
from one_step_trap.sampling.generate import Cost, Traces, generate
from one_step_trap.sampling.models import LanguageModel, load
from one_step_trap.sampling.texts import split
from one_step_trap.study import Study

PROMPT, STEPS, PROMPTS, SEEDS = 128, 1_024, 64, (0, 1, 2)
SAMPLED = (
    "pure",
    "temperature=0.7",
    "top-k=50",
    "top-p=0.95",
    "typical=0.95",
    "min-p=0.05",
    "mirostat=5",
)
RULES = (*SAMPLED, "greedy", "greedy+penalty=1.2")
COST_STEPS = 128  # tokens of each human continuation that every rule is asked about

MATCHED_RULES = (
    *(f"temperature={value:g}" for value in (0.6, 0.7, 0.8, 0.9)),
    *(f"penalty={value:g}" for value in (1.02, 1.05, 1.1, 1.2)),
    "pure",
)
"""Rules that leave every token possible, so that a human text has a log-loss under them: two families and plain sampling."""

INSTRUCTION = "Continue this text in the same style, at length:\n\n"
CHAT_RULES = ("pure", "temperature=0.7")

COST_COLUMNS = {
    "forbidden": f"share of the first {COST_STEPS} tokens of the human continuation that the rule would have excluded",
    "human_log_loss": "mean log-loss of those tokens under the rule, nats per token; empty where one is excluded",
}


@dataclass(frozen=True)
class Part:
    """One part of a study: a seed and the prompts ``first`` to ``last`` - 1."""

    seed: int
    first: int
    last: int


def parts(prompts: int, seeds: Sequence[int], block: int) -> tuple[Part, ...]:
    """Return the parts of a study: blocks of prompts, seed by seed; without greedy rules, more prompts fit in a batch."""
    found = []
    for seed in seeds:
        size = block if seed == seeds[0] else block + block // 2 + 1
        found += [Part(seed, at, min(at + size, prompts)) for at in range(0, prompts, size)]
    return tuple(found)


def passage_tokens(lm: LanguageModel, tokens: int = PROMPT + STEPS) -> np.ndarray:
    """Return the first ``tokens`` tokens of each held-out passage, shape (64, tokens)."""
    ids = [lm.encode(passage.text)[:tokens] for passage in split()[1]]
    if min(map(len, ids)) < tokens:
        raise BookError(f"a passage has only {min(map(len, ids))} tokens with the tokenizer of {lm.name}")
    return np.array(ids)


def draw_part(
    lm: LanguageModel,
    part: Part,
    *,
    rules: Sequence[str] = RULES,
    steps: int = STEPS,
    progress: Callable[[str], None] | None = None,
) -> tuple[list[Traces], list[Cost]]:
    """Draw the texts of one part. The human control and what rules forbid belong to the first seed alone."""
    first = part.seed == SEEDS[0]
    ids = passage_tokens(lm)[part.first : part.last, : PROMPT + steps if first else PROMPT]
    return generate(
        lm,
        ids,
        rules if first else [rule for rule in rules if not rule.startswith("greedy")],
        steps,
        [part.seed],
        prompt_length=PROMPT,
        cost_steps=min(COST_STEPS, steps) if first else 0,
        first_prompt=part.first,
        progress=progress,
    )


def part_rows(lm: LanguageModel, part: Part, traces: Sequence[Traces], costs: Sequence[Cost]) -> pd.DataFrame:
    """Return the rows to store of the texts of a part, one a text, rounded to five decimals."""
    table = drift.rows(traces, lm.decode, first_prompt=part.first)
    known = {cost.rule: cost.log_loss for cost in costs}
    for name, of in (("forbidden", _forbidden), ("human_log_loss", _finite_mean)):
        table[name] = [
            of(known[row.rule][row.prompt - part.first]) if row.rule in known else np.nan
            for row in table.itertuples()
        ]
    return table.round(5)


def _forbidden(loss: FloatArray) -> float:
    return float(np.isinf(loss).mean())


def _finite_mean(loss: FloatArray) -> float:
    return float(loss.mean()) if np.isfinite(loss).all() else float("nan")


def run_part(
    model: str, schedule: Sequence[Part], rules: Sequence[str], steps: int, index: int
) -> pd.DataFrame:
    """Compute one part of a study on a model by name."""
    if check_count(index, "index", minimum=0) >= len(schedule):
        raise BookError(f"index must be below {len(schedule)}, the parts of this study, got {index}")
    part = schedule[index]
    lm = load(model)
    return part_rows(lm, part, *draw_part(lm, part, rules=rules, steps=steps))


# --- raw text and chat template ---------------------------------------------------------------------------


def chat_passages(lm: LanguageModel, first: int, last: int, steps: int) -> tuple[np.ndarray, int]:
    """Return passages dressed as a chat, and the length of their prompts: the user asks to continue the first 128 tokens.

    The human continuation follows where the assistant would answer.
    """
    mark = "\x00"
    dressed = lm.tokenizer.apply_chat_template(
        [{"role": "user", "content": INSTRUCTION + mark}], tokenize=False, add_generation_prompt=True
    )
    before, after = (lm.encode(text) for text in dressed.split(mark))
    ids = passage_tokens(lm)[first:last]
    rows = [[*before, *row[:PROMPT], *after, *row[PROMPT : PROMPT + steps]] for row in ids.tolist()]
    return np.array(rows), len(before) + PROMPT + len(after)


def chat_part(first: int, last: int, steps: int) -> pd.DataFrame:
    """Draw after the same prompts raw and dressed as a chat; the column ``form`` says which."""
    lm = load("smollm2")
    tables = []
    for form in ("raw", "chat"):
        ids, length = (
            (passage_tokens(lm)[first:last, : PROMPT + steps], PROMPT)
            if form == "raw"
            else chat_passages(lm, first, last, steps)
        )
        traces, _ = generate(lm, ids, CHAT_RULES, steps, [0], prompt_length=length, first_prompt=first)
        tables.append(drift.rows(traces, lm.decode, first_prompt=first).assign(form=form))
    return pd.concat(tables, ignore_index=True).round(5)


# --- the studies ------------------------------------------------------------------------------------------

SCHEDULE = parts(PROMPTS, SEEDS, 8)
BOOK_SCHEDULE = parts(PROMPTS, SEEDS, 32)
MATCHED_PROMPTS, MATCHED_STEPS = 24, 512
MATCHED_SCHEDULE = parts(MATCHED_PROMPTS, SEEDS[:1], 8)
CHAT_PROMPTS, CHAT_STEPS, CHAT_BLOCK = 32, 512, 16


def settings(
    rules: Sequence[str], steps: int, prompts: int, seeds: Sequence[int], **more: str
) -> dict[str, object]:
    """Return what a study's provenance says of its settings."""
    return {
        "prompts": prompts,
        "prompt_tokens": PROMPT,
        "steps": steps,
        "rules": list(rules),
        "seeds": list(seeds),
        "drawn_never": "end of text and other special tokens",
        **more,
    }


STUDY = Study(
    name="03-sampling-divergence/smollm2",
    keys=drift.KEYS,
    title="Texts drawn from SmolLM2-135M-Instruct by nine rules, beside what people wrote: one row a text",
    parts=len(SCHEDULE),
    run=partial(run_part, "smollm2", SCHEDULE, RULES, STEPS),
    settings=settings(RULES, STEPS, PROMPTS, SEEDS, model="SmolLM2-135M-Instruct, weights of 4 bits (Q4_1)"),
    columns={**drift.columns(STEPS), **COST_COLUMNS},
)
BOOK_STUDY = Study(
    name="03-sampling-divergence/book",
    keys=drift.KEYS,
    title="Texts drawn from the book's base model by nine rules, beside what people wrote: one row a text",
    parts=len(BOOK_SCHEDULE),
    run=partial(run_part, "book", BOOK_SCHEDULE, RULES, STEPS),
    settings=settings(RULES, STEPS, PROMPTS, SEEDS, model="the book's base model"),
    columns={**drift.columns(STEPS), **COST_COLUMNS},
)
MATCHED_STUDY = Study(
    name="03-sampling-divergence/matched",
    keys=drift.KEYS,
    title="Texts drawn at a grid of temperatures and repetition penalties, with the log-loss of human text under each",
    parts=len(MATCHED_SCHEDULE),
    run=partial(run_part, "smollm2", MATCHED_SCHEDULE, MATCHED_RULES, MATCHED_STEPS),
    settings=settings(
        MATCHED_RULES, MATCHED_STEPS, MATCHED_PROMPTS, SEEDS[:1], model="SmolLM2-135M-Instruct (Q4_1)"
    ),
    columns={**drift.columns(MATCHED_STEPS), **COST_COLUMNS},
)


def _run_chat(index: int) -> pd.DataFrame:
    return chat_part(index * CHAT_BLOCK, (index + 1) * CHAT_BLOCK, CHAT_STEPS)


CHAT_STUDY = Study(
    name="03-sampling-divergence/chat",
    keys=(*drift.KEYS, "form"),
    title="Texts drawn after the same prompts, raw and inside the model's chat template",
    parts=CHAT_PROMPTS // CHAT_BLOCK,
    run=_run_chat,
    settings=settings(
        CHAT_RULES,
        CHAT_STEPS,
        CHAT_PROMPTS,
        SEEDS[:1],
        model="SmolLM2-135M-Instruct (Q4_1)",
        instruction=INSTRUCTION,
    ),
    columns={
        **drift.columns(CHAT_STEPS),
        "form": "raw: the prompt alone; chat: the prompt inside the chat template",
    },
)
