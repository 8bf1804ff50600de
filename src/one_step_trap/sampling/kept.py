"""Eight texts of the study, kept token by token, so that its numbers can be read off them again.

To draw a text anew says little on another processor: a random number that lies within rounding of the border between two
tokens falls to the other side, and from there on the text goes its own way. A text that is kept can be *read*. One pass of
the model gives the distribution of each of its tokens given all before it, so that

- the entropy and the log-loss of every window must be those that the study stored, up to rounding, and
- the rule, with the random number of the study, must draw the very token that stands there.

The first sees other weights, other prompts and a token that was changed, the second another rule or another seed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from one_step_trap.core.validate import FloatArray, IntArray, check_count, check_table
from one_step_trap.errors import BookError
from one_step_trap.sampling.decoder import inference, over_tokens
from one_step_trap.sampling.drift import window_means, window_names
from one_step_trap.sampling.generate import generate, never_drawn, surprise, uniforms
from one_step_trap.sampling.models import LanguageModel, load
from one_step_trap.sampling.protocol import PROMPT, passage_tokens
from one_step_trap.sampling.rules import Sampler, draw, parse
from one_step_trap.study import Study

STEPS = 256  # tokens of each text that are kept
TEXTS = (
    ("pure", 0, 2),
    ("temperature=0.7", 1, 8),
    ("top-k=50", 2, 16),
    ("top-p=0.95", 0, 24),
    ("typical=0.95", 1, 32),
    ("min-p=0.05", 2, 40),
    ("mirostat=5", 0, 50),
    ("greedy+penalty=1.2", 0, 56),
)
"""Rule, seed and number of the prompt: one prompt of each collection.

Of the prompts of a collection, in their order, it is the first after which the text was drawn again as it is in the study.
"""

TOLERANCE = 3e-4  # nats: the mean of a window moved by 3e-5 without AVX-512; one other token moves it by 1e-2 and more
REDRAWN = 0.98  # share of tokens to be drawn again: a few may lie within rounding of a border
KEYS = ["rule", "seed", "prompt"]


def keep(lm: LanguageModel, rule: str, seed: int, prompt: int, *, steps: int = STEPS) -> pd.DataFrame:
    """Return a text of the study as the row to keep: it is drawn as the study draws it."""
    ids = passage_tokens(lm)[prompt : prompt + 1, :PROMPT]
    (trace,), _ = generate(lm, ids, [rule], steps, [seed], prompt_length=PROMPT, first_prompt=prompt)
    tokens = " ".join(map(str, trace.tokens[0]))
    return pd.DataFrame([{"rule": rule, "seed": seed, "prompt": prompt, "tokens": tokens}])


def read(lm: LanguageModel, kept: pd.DataFrame) -> pd.DataFrame:
    """Read kept texts again: one row a text, with the means of its windows and the share of tokens that are drawn again.

    Columns: ``rule``, ``seed``, ``prompt``, ``entropy_NN`` and ``log_loss_NN`` as in `drift.COLUMNS`, and ``redrawn``.
    """
    prompts = passage_tokens(lm)[:, :PROMPT]
    rows = []
    for text in check_table(kept, [*KEYS, "tokens"], "kept").itertuples():
        tokens = np.array(text.tokens.split(), dtype=np.int64)
        entropy, log_loss, redrawn = _read(
            lm, prompts[text.prompt], tokens, text.rule, text.seed, text.prompt
        )
        row: dict[str, Any] = {key: getattr(text, key) for key in KEYS}
        for name, values in (("entropy", entropy), ("log_loss", log_loss)):
            row |= {f"{name}_{i:02d}": value for i, value in enumerate(window_means(values))}
        rows.append(row | {"redrawn": redrawn})
    return pd.DataFrame(rows)


def _read(
    lm: LanguageModel, start: IntArray, text: IntArray, rule: str, seed: int, prompt: int
) -> tuple[FloatArray, FloatArray, float]:
    """Return entropy and log-loss of each token of a text (S,), and the share of them that the rule draws again."""
    S, ids = len(text), torch.from_numpy(np.concatenate([start, text]))[None]  # (1, P + S)
    tokens, u = ids[0, -S:], torch.from_numpy(uniforms(seed, prompt, S))
    chooser, drawn = Sampler(parse(rule), 1), []
    with inference():
        # transformers' own forward pass: the study took the path of our own
        logits = over_tokens(lm.model(ids[:, :-1], logits_to_keep=S).logits[0], lm)  # (S, V)
        entropy, log_loss = surprise(logits, tokens)
        allowed = logits.index_fill(-1, never_drawn(lm), -torch.inf)
        for t in range(S):
            kept = chooser(allowed[t : t + 1], ids[:, : len(start) + t])
            drawn.append(draw(kept, u[t : t + 1]))
            chooser.learn(tokens[t : t + 1])
    return entropy.numpy(), log_loss.numpy(), float((torch.cat(drawn) == tokens).double().mean())


def check(again: pd.DataFrame, study: pd.DataFrame) -> pd.DataFrame:
    """Hold texts that were `read` again against the study, and return by how much they differ.

    Columns: ``rule``, ``seed``, ``prompt``, ``entropy`` and ``log_loss`` (largest difference of a window, nats) and
    ``redrawn``. A window that is off by more than `TOLERANCE`, or fewer than `REDRAWN` of the tokens drawn again, is a
    ``BookError``: something other than rounding changed.
    """
    check_table(again, [*KEYS, "redrawn"], "again")
    both = again.merge(study, on=KEYS, suffixes=("", " stored"), validate="1:1")
    if len(both) < len(again):
        raise BookError(f"the study has only {len(both)} of the {len(again)} texts that are kept of it")
    report = both[KEYS].copy()
    for name in ("entropy", "log_loss"):
        windows = window_names(again, name)
        stored = both[[f"{window} stored" for window in windows]]
        report[name] = np.abs(both[windows].to_numpy() - stored.to_numpy()).max(axis=1)
    report["redrawn"] = both["redrawn"]
    sound = (report[["entropy", "log_loss"]] <= TOLERANCE).all(axis=1) & (report["redrawn"] >= REDRAWN)
    if not sound.all():
        worst = report[~sound].iloc[0]
        raise BookError(
            f"the text of {worst['rule']}, seed {worst['seed']}, prompt {worst['prompt']}, read again, is not what the study "
            f"says: entropy differs by {worst['entropy']:.1g}, log-loss by {worst['log_loss']:.1g} nats, and "
            f"{worst['redrawn']:.0%} of its tokens are drawn again. The model, the prompts, a rule or the tokens changed: "
            "restore data/ with `git checkout data`, or compute the study and its kept texts anew (`make sweep`)"
        )
    return report


def run_part(part: int) -> pd.DataFrame:
    """Return one of the kept texts."""
    if check_count(part, "part", minimum=0) >= len(TEXTS):
        raise BookError(f"part must be below {len(TEXTS)}, got {part}")
    return keep(load("smollm2"), *TEXTS[part])


STUDY = Study(
    name="03-sampling-divergence/kept",
    keys=KEYS,
    title=f"Eight texts of the study of SmolLM2-135M-Instruct, the first {STEPS} tokens of each",
    parts=len(TEXTS),
    run=run_part,
    settings={
        "texts": [dict(zip(KEYS, text, strict=True)) for text in TEXTS],
        "prompt_tokens": PROMPT,
        "steps": STEPS,
        "model": "SmolLM2-135M-Instruct, weights of 4 bits (Q4_1)",
    },
    columns={
        "rule": "how tokens were chosen",
        "seed": "seed of the draws",
        "prompt": "number of the prompt, from 0",
        "tokens": "ids of the tokens after the prompt, separated by spaces",
    },
)
