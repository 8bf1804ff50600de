"""Whether a model does what the chapter asks of it: it is run on a few tokens, and what it calls itself is not asked.

A model that writes text token by token must be *causal* (what it predicts at a place does not change with the tokens after
it), must say the same when asked again, and must say the same of a text that it reads step by step, from its own memory
of the tokens before, beside another text. Masked models, prefix models, classifiers, models without a head and models with
dropout left on fail at one of these. All comparisons are of logits, as a share of their spread (`apart`): rounding moves them
by about the precision ε of their numbers (SmolLM2: 2e-5), and the smallest untrained masked models by .002. The bound is √ε,
between the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from one_step_trap.core.validate import in_a_line
from one_step_trap.errors import BookError
from one_step_trap.sampling.decoder import PlainDecoder, apart, device_of, inference, over_tokens, tolerance

if TYPE_CHECKING:
    from one_step_trap.sampling.models import LanguageModel

TOKENS = 8
"""Tokens of a trial: half of them to start from, half to step through."""


def trial_texts(words: Sequence[int], tokens: int) -> torch.Tensor:
    """Return two texts (2, tokens) of the ids ``words``, the same in the first half, other at each place of the second."""
    rng = np.random.default_rng(0)
    first = rng.integers(len(words), size=tokens)
    second = (first + rng.integers(1, len(words), size=tokens)) % len(words)
    second[: tokens // 2] = first[: tokens // 2]
    return torch.from_numpy(np.asarray(words)[np.stack([first, second])])


def check_causal(model: Any, words: Sequence[int], name: str, context: int) -> int:
    """Return how many logits ``model`` gives for each token; raise if they depend on later tokens, or on the occasion.

    ``words``: ids that it reads (no special ones); ``context``: the longest text it says it reads.
    """
    texts = trial_texts(words, min(TOKENS, context))
    with inference():
        first, again, other = (_logits(model, text[None], name) for text in (texts[0], texts[0], texts[1]))
    bound, half = tolerance(first), texts.shape[1] // 2
    if (moved := apart(again, first)) > bound:
        raise BookError(
            f"{name} predicts something else each time it reads the same text (its logits move by {moved:.2g} of their "
            "spread): is dropout left on?"
        )
    if (moved := apart(other[:half], first[:half])) > bound:
        raise BookError(
            f"{name} is no causal model: what it predicts at a place depends on the tokens after it (other ones move its "
            f"logits by {moved:.2g} of their spread)"
        )
    return first.shape[-1]


def _logits(model: Any, text: torch.Tensor, name: str) -> torch.Tensor:
    """Return the logits (T, V) that a model gives for a text (1, T), read at once."""
    try:
        found = getattr(model(text.to(device_of(model))), "logits", None)
    except Exception as error:  # code of anyone's
        raise BookError(
            f"{name} cannot be run on a text alone ({type(error).__name__}): {in_a_line(error)}"
        ) from None
    if not isinstance(found, torch.Tensor) or found.ndim != 3 or found.shape[1] != text.shape[1]:
        raise BookError(
            f"{name} gives no logits for each token: as a {type(model).__name__} it has no head that predicts the next one"
        )
    if found.isnan().any() or found.isposinf().any():
        raise BookError(f"{name} gives logits that are NaN or infinite")
    return found[0].cpu()


def check_steps(lm: LanguageModel, words: Sequence[int]) -> None:
    """Raise unless the model says of two texts side by side, step by step, what it says of each at once."""
    texts = trial_texts(words, min(TOKENS, lm.context))
    half = texts.shape[1] // 2
    with inference():
        decoder = PlainDecoder(lm, 2, texts.shape[1], device_of(lm.model))
        stepped = [decoder.prefill(texts[:, :half]), *(decoder.step(column) for column in texts[:, half:].T)]
        once = torch.stack([_logits(lm.model, text[None], lm.name) for text in texts])
    found, wanted = torch.stack(stepped, 1).cpu(), over_tokens(once[:, half - 1 :], lm)
    if (moved := apart(found, wanted)) > tolerance(once):
        raise BookError(
            f"{lm.name} cannot be stepped: token by token it predicts something else than of the whole text at once (its "
            f"logits move by {moved:.2g} of their spread)"
        )


def check_length(lm: LanguageModel, tokens: Sequence[int], length: int) -> None:
    """Raise unless the model can read ``length`` tokens (these, over and over), as its configuration says it can."""
    text = torch.from_numpy(np.resize(np.asarray(tokens), (1, length)))
    try:
        with inference():
            PlainDecoder(lm, 1, length, device_of(lm.model)).prefill(text)
    except BookError as error:
        raise BookError(f"{error} (its configuration says that it reads {lm.context:,} tokens)") from None
