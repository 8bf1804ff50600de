"""Search for likely texts: beam search, best of n, what they cost and what they find.

The post says that practitioners sample token by token, with heuristics, "because doing any kind of higher level
sampling (e.g. beam search) is prohibitively expensive". That is two statements: about the price, and about the
reason. Beam search of width k keeps the k likeliest beginnings found so far,

    score(y_1 … y_t) = Σ_i log p(y_i | prompt, y_1 … y_{i-1}),

tries every next token on each of them, and keeps the k best of these. Width 1 is greedy decoding; a width of V^n is
exhaustive search among the texts of n tokens over V. The network sees k rows a token instead of 1, and the cache of
keys and values is k times as large: the price is *linear* in k at most, and less where reading the weights is what
takes the time. Best of n (draw n texts, keep the likeliest) has the same price for n = k.

**The rule, fixed before looking** (``verdict``). c(k) is the CPU time of a token at width k for one prompt at a time.
The claim "higher-level sampling is prohibitively expensive" *holds* if the 95% interval over prompts of c(8)/c(1)
lies above ``TOO_DEAR`` = 10, or that of the slope of ln c(k) over ln k, k = 1 … 64, lies above 1 (dearer than linear).
It *does not hold* if the first interval lies below 10 and the second below 1, and is *open* otherwise. (Ten is a choice;
prices like it are paid every day: self-consistency, Wang et al. 2022, arXiv 2203.11171, draws many answers for one.)
Beside it stands
what the price buys (`bought`): whether width 8 finds likelier text than greedy decoding and yet
repeats itself more than the human continuation (seq-rep-4, both intervals above 0). It is no part of the rule.
(``said_before_4`` was added after two trial prompts: a beam of 64 had copied the prompt, which seq-rep-4 cannot see.)

Published: beam search repeats itself in open-ended text (Holtzman et al. 2020, arXiv 1904.09751); wider beams
translate worse (Koehn & Knowles 2017, arXiv 1706.03872); the likeliest translation of all is the empty one for more
than half of the sentences (Stahlberg & Byrne 2019, arXiv 1908.10090); people rate the likeliest texts below less
likely ones (Zhang et al. 2021, arXiv 2004.10450); and the mode holds so little probability that it is nearly
arbitrary (Eikema & Aziz 2020, arXiv 2005.10283).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from one_step_trap.core.stats import Interval, bootstrap_interval
from one_step_trap.core.validate import (
    FloatArray,
    IntArray,
    check_callable,
    check_count,
    check_finite,
    check_kind,
    check_list,
    check_real,
    check_rng,
    check_table,
)
from one_step_trap.errors import BookError
from one_step_trap.sampling.decoder import decoder, inference
from one_step_trap.sampling.measures import distinct, ngram_ids, seq_rep, tail_repeats
from one_step_trap.sampling.models import LanguageModel, load
from one_step_trap.sampling.texts import split
from one_step_trap.study import Study


class Stepper(Protocol):
    """What a search needs of a model: ``sampling.decoder.Decoder`` is one, a toy in five lines is another.

    B rows are decoded side by side. ``prefill`` reads the prompts (B, P), ``step`` one more token for each row (B,);
    both return the logits of the next token (B, V). ``reorder`` makes row i go on from what row ``rows[i]`` has read.
    """

    @property
    def vocab_size(self) -> int:
        """The number V of tokens."""

    def prefill(self, tokens: Tensor, /) -> Any:
        """Read the prompts (B, P); return logits (B, V)."""

    def step(self, tokens: Tensor, /) -> Any:
        """Read one token for each row (B,); return logits (B, V)."""

    def reorder(self, rows: Tensor, /) -> Any:
        """Let row i continue the text of row ``rows[i]``."""


Make = Callable[[int, int], Stepper]
"""(rows B, longest text P + n in tokens) -> a decoder for that many."""


@dataclass(frozen=True)
class Beams:
    """The texts that a search found for N prompts, the best first, at most k for each.

    ``tokens`` (N, k, n) without the prompt, -1 after the end; ``lengths`` (N, k) in tokens, the end token included;
    ``log_prob`` (N, k) in nats, the model's own; ``score`` (N, k) = log_prob / length^penalty, -∞ where fewer than k
    texts were found. ``rows``: positions that went through the network after the prompts (N·k for each step).
    ``seconds``: CPU time after the prompts were read; a measurement, and no two are alike.
    """

    tokens: IntArray
    lengths: IntArray
    log_prob: FloatArray
    score: FloatArray
    rows: int
    seconds: float

    @property
    def best(self) -> IntArray:
        """The best text of each prompt, (N, n)."""
        return self.tokens[:, 0]

    @property
    def best_log_prob(self) -> FloatArray:
        """Its log-probability, (N,) in nats."""
        return np.asarray(self.log_prob[:, 0])


# --- beam search ------------------------------------------------------------------------------------------


def beam_search(
    make: Make,
    prompts: ArrayLike,
    width: int,
    steps: int,
    *,
    end: int | None = None,
    banned: Sequence[int] = (),
    length_penalty: float = 0.0,
) -> Beams:
    """Return the likeliest texts of at most ``steps`` tokens that a beam of ``width`` finds, for all prompts at once.

    ``prompts`` (N, P) token ids; ``make(rows, length)`` a decoder for N·width rows. ``end``: the token that finishes
    a text (none by default, so that all texts have ``steps`` tokens); ``banned`` tokens are never chosen, and the
    probabilities of the others stay what the model says. Finished texts are compared by log p / length^penalty; a
    text cut off at ``steps`` counts as finished. As in transformers, a text finishes when its end token is among the
    ``width`` best candidates of its step. A prompt is done when no running beam can still beat its best finished
    text. Log-probabilities are summed in float64.
    """
    check_callable(make, "make")
    tokens, width = _check_prompts(prompts), check_count(width, "width")
    steps, penalty = check_count(steps, "steps"), check_real(length_penalty, "length_penalty")
    N, P = tokens.shape
    stepper = make(N * width, P + steps)
    logits = stepper.prefill(torch.from_numpy(tokens).repeat_interleave(width, dim=0))
    search = _Search(N, width, steps, _check_vocabulary(stepper, end, banned), end, list(banned), penalty)
    rows, start = 0, time.process_time()
    for t in range(steps):
        if t:
            logits = stepper.step(search.last.reshape(-1))
            rows += N * width
        order = search.advance(_log_probs(logits), t)  # (N·width,): whose text each row goes on with
        if search.done.all():
            break
        if t + 1 < steps and not torch.equal(order, torch.arange(N * width)):
            stepper.reorder(order)
    return search.found(rows, time.process_time() - start)


class _Search:
    """The running beams and the finished texts of N prompts: (N, k, …) tensors."""

    def __init__(
        self, N: int, k: int, n: int, V: int, end: int | None, banned: list[int], penalty: float
    ) -> None:
        self.n, self.V, self.end, self.banned, self.penalty = n, V, end, banned, penalty
        self.first = torch.arange(N)[:, None] * k  # (N, 1): the first row of each prompt
        self.running = torch.full((N, k), -math.inf, dtype=torch.float64)
        self.running[:, 0] = 0.0  # at first all beams are alike: only one of them may have children
        self.tokens = torch.full((N, k, n), -1)
        self.last = torch.zeros((N, k), dtype=torch.int64)
        self.done = torch.zeros(N, dtype=torch.bool)
        self.texts, self.lengths = torch.full((N, k, n), -1), torch.zeros((N, k), dtype=torch.int64)
        self.log_prob = torch.full((N, k), -math.inf, dtype=torch.float64)
        self.score = torch.full((N, k), -math.inf, dtype=torch.float64)

    def advance(self, log_p: Tensor, t: int) -> Tensor:
        """Choose the next beams from log-probabilities (N·k, V); return the rows (N·k,) that they continue."""
        N, k = self.running.shape
        values, parents, words = self._candidates(log_p.reshape(N, k, -1))  # (N, C), the best first
        text = torch.gather(self.tokens, 1, parents[..., None].expand(-1, -1, self.n)).clone()  # (N, C, n)
        text[..., t] = words
        ends = torch.full_like(words, t + 1 == self.n, dtype=torch.bool)
        if self.end is not None:
            ends |= words == self.end
        self._finish(text, values, ends, t)
        alive, keep = values.masked_fill(ends, -math.inf).topk(min(k, values.shape[1]), dim=1)
        pad = k - alive.shape[1]  # fewer candidates than beams: the rest stay without a text
        self.running = torch.nn.functional.pad(alive, (0, pad), value=-math.inf)
        keep = torch.nn.functional.pad(keep, (0, pad))
        self.tokens = torch.gather(text, 1, keep[..., None].expand(-1, -1, self.n))
        self.last = torch.gather(words, 1, keep)
        self._stop(t)
        return (self.first + torch.gather(parents, 1, keep)).reshape(-1)

    def _candidates(self, log_p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the 2k best (score, parent, token) of each prompt: k of them cannot all be ends."""
        N, k, V = log_p.shape
        if self.banned:
            log_p = log_p.index_fill(2, torch.tensor(self.banned), -math.inf)
        # The 2k best of all lie among the 2k best of each beam.
        per_beam, words = log_p.topk(min(2 * k, V), dim=2)  # (N, k, c)
        scores = (self.running[..., None] + per_beam).reshape(N, -1)
        values, places = scores.topk(min(2 * k, scores.shape[1]), dim=1)
        return values, places // per_beam.shape[2], torch.gather(words.reshape(N, -1), 1, places)

    def _finish(self, text: Tensor, values: Tensor, ends: Tensor, t: int) -> None:
        """Take the texts that end among the k best candidates into the list of finished ones."""
        k = self.running.shape[1]
        new = values.masked_fill(~ends | self.done[:, None], -math.inf)[:, :k]
        scores = torch.cat([self.score, new / (t + 1) ** self.penalty], dim=1)
        self.score, best = scores.topk(k, dim=1)
        lengths = torch.full_like(new, t + 1, dtype=torch.int64)
        self.log_prob = torch.gather(torch.cat([self.log_prob, new], dim=1), 1, best)
        self.lengths = torch.gather(torch.cat([self.lengths, lengths], dim=1), 1, best)
        texts = torch.cat([self.texts, text[:, :k]], dim=1)
        self.texts = torch.gather(texts, 1, best[..., None].expand(-1, -1, self.n))

    def _stop(self, t: int) -> None:
        """Mark the prompts whose running beams cannot beat their best finished text any more."""
        # log p falls with every token; a positive penalty divides it by at most n^penalty.
        longest = self.n if self.penalty > 0 else t + 1
        self.done |= self.running[:, 0] / longest**self.penalty <= self.score[:, 0]

    def found(self, rows: int, seconds: float) -> Beams:
        """Return the finished texts; beams without one keep no tokens."""
        missing = torch.isinf(self.score)
        texts = self.texts.masked_fill(missing[..., None], -1)
        lengths = self.lengths.masked_fill(missing, 0)
        return Beams(texts.numpy(), lengths.numpy(), self.log_prob.numpy(), self.score.numpy(), rows, seconds)


def _log_probs(logits: Any) -> Tensor:
    """Return log-probabilities (B, V) in float64."""
    log_p = torch.log_softmax(torch.as_tensor(logits).detach().cpu().to(torch.float64), dim=-1)
    if log_p[:, 0].isnan().any():  # one such logit spoils its row
        raise BookError("the logits are NaN or infinite: no token is likelier than another")
    return log_p


def _check_prompts(prompts: ArrayLike) -> IntArray:
    """Return prompts as an integer array (N, P), at least one of at least one token."""
    array = check_finite(prompts.numpy() if isinstance(prompts, Tensor) else prompts, "prompts")
    if array.ndim != 2 or not array.size:
        raise BookError(f"prompts must be token ids of shape (prompts, tokens), got shape {array.shape}")
    if (array != array.astype(np.int64)).any() or array.min() < 0:
        raise BookError("prompts must hold token ids: whole numbers of at least 0")
    return array.astype(np.int64)


def _check_vocabulary(stepper: Stepper, end: int | None, banned: Sequence[int]) -> int:
    """Return the number of tokens if ``end`` and ``banned`` are among them and something is left to choose."""
    V = check_count(stepper.vocab_size, "vocab_size")
    for token in [*check_list(banned, "banned", empty=True), *([] if end is None else [end])]:
        if check_count(token, "a token", minimum=0) >= V:
            raise BookError(f"a token must lie in 0 … {V - 1}, got {token}")
    if len(set(banned)) >= V:
        raise BookError(f"banned leaves none of the {V} tokens to choose from")
    return V


# --- best of n --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Draws:
    """Texts drawn for N prompts: ``tokens`` (N, m, n), ``log_prob`` (N, m) in nats, in the order of drawing.

    ``rows``: positions that went through the network after the prompts; ``seconds``: CPU time after them, as measured.
    """

    tokens: IntArray
    log_prob: FloatArray
    rows: int
    seconds: float

    def best_of(self, n: int) -> tuple[IntArray, FloatArray]:
        """Return the likeliest of the first ``n`` texts of each prompt, (N, n tokens), and its log-probability (N,)."""
        n = check_count(n, "n")
        if n > self.log_prob.shape[1]:
            raise BookError(f"n must not exceed the {self.log_prob.shape[1]} texts drawn, got {n}")
        pick, each = self.log_prob[:, :n].argmax(1), np.arange(len(self.tokens))
        return self.tokens[each, pick], np.asarray(self.log_prob[each, pick])


def draw(
    make: Make, prompts: ArrayLike, texts: int, steps: int, *, seed: int, banned: Sequence[int] = ()
) -> Draws:
    """Return ``texts`` independent continuations of ``steps`` tokens for each prompt, drawn from the model itself.

    Temperature 1, no truncation; only ``banned`` tokens are left out (and the rest renormalised for the draw, not in
    the log-probability). The likeliest of n of them is the plainest sequence-level search (:meth:`Draws.best_of`), at
    the same n rows a token as a beam of width n.
    """
    check_callable(make, "make")
    tokens, texts = _check_prompts(prompts), check_count(texts, "texts")
    steps, seed = check_count(steps, "steps"), check_count(seed, "seed", minimum=0)
    N, P = tokens.shape
    stepper = make(N * texts, P + steps)
    logits = stepper.prefill(torch.from_numpy(tokens).repeat_interleave(texts, dim=0))
    _check_vocabulary(stepper, None, banned)
    chances = np.random.default_rng(seed).random((steps, N * texts))
    words = torch.empty((steps, N * texts), dtype=torch.int64)
    total, start = torch.zeros(N * texts, dtype=torch.float64), time.process_time()
    for t in range(steps):
        if t:
            logits = stepper.step(words[t - 1])
        log_p = _log_probs(logits)
        words[t] = _inverse(
            log_p.index_fill(1, torch.tensor(list(banned), dtype=torch.int64), -math.inf), chances[t]
        )
        total += log_p.gather(1, words[t][:, None])[:, 0]
    seconds, shape = time.process_time() - start, (N, texts)
    return Draws(
        words.T.reshape(*shape, steps).numpy(),
        total.reshape(shape).numpy(),
        N * texts * (steps - 1),
        seconds,
    )


def _inverse(log_p: Tensor, chances: FloatArray) -> Tensor:
    """Return the token of each row (B, V) at which the cumulated probability first exceeds its chance (B,)."""
    edges = log_p.exp().cumsum(dim=1)
    goals = torch.from_numpy(chances)[:, None] * edges[:, -1:]  # the last edge is 1 but for rounding and bans
    return torch.searchsorted(edges, goals, right=True).clamp(max=log_p.shape[1] - 1)[:, 0]


def score(make: Make, prompts: ArrayLike, continuations: ArrayLike) -> FloatArray:
    """Return log p of each given token, (N, n) in nats, after the prompts (N, P): teacher forcing.

    ``continuations`` (N, n), for example what the human author wrote.
    """
    check_callable(make, "make")
    tokens, text = _check_prompts(prompts), _check_prompts(continuations)
    if len(tokens) != len(text):
        raise BookError(
            f"every prompt needs a continuation: {len(tokens)} prompts, {len(text)} continuations"
        )
    stepper = make(len(tokens), tokens.shape[1] + text.shape[1])
    logits = stepper.prefill(torch.from_numpy(tokens))
    if text.max() >= _check_vocabulary(stepper, None, ()):
        raise BookError(f"continuations must hold tokens below {stepper.vocab_size}, got {text.max()}")
    result, columns = np.empty(text.shape), torch.from_numpy(text).T.contiguous()  # (n, N)
    for t, words in enumerate(columns):
        if t:
            logits = stepper.step(columns[t - 1])
        result[:, t] = _log_probs(logits).gather(1, words[:, None])[:, 0].numpy()
    return result


# --- the study --------------------------------------------------------------------------------------------

TOO_DEAR = 10.0
RULE_WIDTH = 8


@dataclass(frozen=True)
class Settings:
    """What the study varies: beams of all ``widths`` and the best of up to ``draws`` texts (0: none), for one prompt a part.

    ``parts`` held-out passages; the first ``prompt`` tokens of each are the prompt, the next ``steps`` the human
    continuation. End tokens are banned, so that all texts have ``steps`` tokens.
    """

    model: str = "smollm2"
    widths: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    draws: int = 32
    prompt: int = 128
    steps: int = 64
    parts: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        widths = tuple(check_count(k, "a width") for k in check_list(self.widths, "widths"))
        if 1 not in widths:
            raise BookError(
                f"widths must hold 1, greedy decoding, which all costs are compared with; got {widths}"
            )
        object.__setattr__(self, "widths", tuple(sorted(set(widths))))
        for name, least in (("draws", 0), ("prompt", 1), ("steps", 4), ("parts", 1), ("seed", 0)):
            object.__setattr__(self, name, check_count(getattr(self, name), name, minimum=least))


FULL = Settings()


def maker(lm: LanguageModel) -> Make:
    """Return what makes decoders of a language model, for :func:`beam_search`, :func:`draw` and :func:`score`."""
    check_kind(lm, LanguageModel, "lm", made_by="models.load")
    return lambda rows, length: decoder(lm, rows, length)


def cache_bytes(lm: LanguageModel, rows: int, length: int) -> int:
    """Return the size of the cache in bytes: 2 · layers · KV heads · head size · 4 · rows · length.

    Keys and values, 32 bits each, of ``length`` tokens (the prompt included) in each of ``rows`` texts. A beam of
    width k needs k rows; beams share their prompt, but this cache holds a copy for each of them.
    """
    config = check_kind(lm, LanguageModel, "lm", made_by="models.load").model.config
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * size * 4
    return int(per_token * check_count(rows, "rows") * check_count(length, "length"))


def said_before(prompt: ArrayLike, text: ArrayLike, n: int = 4) -> FloatArray:
    """Return the share of n-grams of each text (N, S) that occurred before, in the text or in its prompt (N, P).

    seq-rep-n asks the same about the text alone: who copies the prompt does not repeat himself.
    """
    start, rest = _check_prompts(prompt), _check_prompts(text)
    if len(start) != len(rest) or rest.shape[1] < check_count(n, "n"):
        raise BookError(
            f"every text needs a prompt and at least {n} tokens, got {start.shape} and {rest.shape}"
        )
    P, ids = start.shape[1], ngram_ids(np.hstack([start, rest]), n)  # (N, P+S-n+1)
    return np.array([np.mean([row[i] in row[:i] for i in range(P, len(row))]) for row in ids])


def compare(lm: LanguageModel, passage: str, settings: Settings = FULL, *, seed: int = 0) -> pd.DataFrame:
    """Return what every width and number of draws costs and finds for one passage; ``COLUMNS`` says what is what."""
    check_kind(settings, Settings, "settings")
    P, n, make = settings.prompt, settings.steps, maker(lm)
    ids = np.array(lm.encode(passage)[: P + n])[None]  # (1, P+n)
    if ids.shape[1] < P + n:
        raise BookError(
            f"the passage has {ids.shape[1]} tokens, {P + n} are needed: {P} of prompt and {n} to go on"
        )
    prompt, rows = ids[:, :P], []
    with inference():
        beam_search(make, prompt, 2, 4, banned=lm.end_tokens)  # the first steps are slow; not measured
        for width in settings.widths:
            beams = beam_search(make, prompt, width, n, banned=lm.end_tokens)
            cost = (beams.rows, beams.seconds, cache_bytes(lm, width, P + n))
            rows.append(("beam", width, *cost, beams.best_log_prob[0], beams.best))
        if settings.draws:
            draws = draw(make, prompt, settings.draws, n, seed=seed, banned=lm.end_tokens)
            for m in sorted({k for k in settings.widths if k < settings.draws} | {settings.draws}):
                text, log_prob = draws.best_of(m)
                seconds = draws.seconds if m == settings.draws else math.nan
                cost = (m * (n - 1), seconds, cache_bytes(lm, m, P + n))
                rows.append(("best of", m, *cost, log_prob[0], text))
        human = float(score(make, prompt, ids[:, P:]).sum())
    rows.append(("human", 1, 0, math.nan, 0, human, ids[:, P:]))
    return pd.DataFrame([_row(lm, prompt, *row) for row in rows])


def _row(
    lm: LanguageModel,
    prompt: IntArray,
    method: str,
    width: int,
    rows: int,
    seconds: float,
    memory: int,
    log_prob: float,
    tokens: IntArray,
) -> dict[str, Any]:
    """Return a row of the study for one text (1, n)."""
    n = tokens.shape[1]
    return {
        "method": method,
        "width": width,
        "rows_per_token": rows / (n - 1),
        "seconds_per_token": seconds / (n - 1),
        "cache_bytes": memory,
        "log_prob": float(log_prob) / n,
        "seq_rep_4": float(seq_rep(tokens, 4)[0]),
        "said_before_4": float(said_before(prompt, tokens, 4)[0]),
        "tail_repeats": bool(tail_repeats(tokens)[0]),
        "distinct_1": float(distinct(tokens, 1)[0]),
        "text": lm.decode(tokens[0].tolist()),
    }


COLUMNS = {
    "prompt": "number of the prompt (the part of the study)",
    "passage": "file that the prompt is taken from",
    "method": "beam, best of (the likeliest of so many draws at temperature 1), or human (the author's continuation)",
    "width": "width of the beam, or number of draws",
    "rows_per_token": "positions that go through the network for each token of the result; 0 for the human text",
    "seconds_per_token": "CPU time per token of the result, one thread, one prompt at a time, as measured (differs from "
    "run to run); missing where not measured",
    "cache_bytes": "size of the cache of keys and values in bytes, prompt included",
    "log_prob": "mean log-probability per token under the model, in nats",
    "seq_rep_4": "share of 4-grams of the continuation that occurred in it before",
    "said_before_4": "share of 4-grams of the continuation that occurred before in it or in the prompt",
    "tail_repeats": "whether the continuation ends in a repeated phrase",
    "distinct_1": "share of different tokens in the continuation",
    "text": "the continuation",
}

KEYS = ("prompt", "method", "width")
"""The columns that tell the rows of the study apart."""


def part_of(lm: LanguageModel, part: int, settings: Settings = FULL) -> pd.DataFrame:
    """Return one part of the study, or with fewer widths and draws a slice of it: one prompt of `texts.split`.

    The rows of a beam depend on the prompt and its width alone, so that a slice can be compared with the stored table.
    """
    part = check_count(part, "part", minimum=0)
    if part >= FULL.parts:
        raise BookError(f"part must be below {FULL.parts}, got {part}")
    passages = split()[1]
    passage = passages[part * len(passages) // FULL.parts]
    seed = int(np.random.SeedSequence([settings.seed, part]).generate_state(1)[0])
    table = compare(lm, passage.text, settings, seed=seed)
    table.insert(0, "prompt", part)
    table.insert(1, "passage", passage.id)
    return table[list(COLUMNS)]


def run_part(part: int) -> pd.DataFrame:
    """Return one part of the full study: one prompt, two of each collection of texts in all."""
    return part_of(load(FULL.model), part)


STUDY = Study(
    name="03-sampling-divergence/beam",
    keys=KEYS,
    title="Sequence-level search: what beam search and best of n cost and find, by width and prompt",
    parts=FULL.parts,
    run=run_part,
    settings=asdict(FULL),
    columns=COLUMNS,
)

# --- what it says -----------------------------------------------------------------------------------------

MEASURES = ("log_prob", "seq_rep_4", "said_before_4", "tail_repeats", "distinct_1")


def summarise(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return means over prompts, with 95% bootstrap intervals: one row a method and width.

    Columns: ``method``, ``width``, ``n`` (prompts), ``rows_per_token``, ``cache_bytes``, and with ``_low`` and ``_high``
    ``cost`` (CPU time per token as a multiple of greedy decoding's, missing where not measured), ``log_prob`` (nats a
    token), ``seq_rep_4``, ``said_before_4``, ``tail_repeats``, ``distinct_1``.
    """
    table, rng = check_table(table, COLUMNS, "table (of the study)"), check_rng(rng)
    costs = _costs(table)
    rows = []
    for (method, width), group in table.groupby(["method", "width"], sort=True):
        row: dict[str, Any] = {"method": method, "width": width, "n": len(group)}
        row |= {name: float(group[name].iloc[0]) for name in ("rows_per_token", "cache_bytes")}
        measured = method == "beam"
        row |= _with_interval(
            "cost", costs[width].to_numpy() if measured else np.full(len(group), math.nan), rng
        )
        for name in MEASURES:
            row |= _with_interval(name, group[name].to_numpy(dtype=float), rng)
        rows.append(row)
    return pd.DataFrame(rows)


def _with_interval(name: str, values: FloatArray, rng: np.random.Generator) -> dict[str, float]:
    """Return value, low and high of a mean over prompts under the column's name."""
    e = (math.nan,) * 3 if np.isnan(values).any() else bootstrap_interval(values, rng)[:3]
    return dict(zip((name, f"{name}_low", f"{name}_high"), e, strict=True))


def _costs(table: pd.DataFrame) -> pd.DataFrame:
    """Return c(k)/c(1) of each prompt: prompts by widths."""
    beams = table[table["method"] == "beam"]
    seconds = beams.pivot(index="prompt", columns="width", values="seconds_per_token")
    if 1 not in seconds or len(seconds) < 2 or seconds.isna().any(axis=None) or (seconds <= 0).any(axis=None):
        raise BookError(
            "the table must hold the times of beams of width 1 and others, for at least 2 prompts"
        )
    return seconds.div(seconds[1], axis=0)


def cost_ratio(table: pd.DataFrame, rng: np.random.Generator, *, width: int = RULE_WIDTH) -> Interval:
    """Return c(k)/c(1), the CPU time per token at ``width`` over that of greedy decoding; interval over prompts."""
    costs = _costs(check_table(table, COLUMNS, "table (of the study)"))
    if width not in costs:
        raise BookError(f"width must be one of {', '.join(map(str, costs.columns))}, got {width}")
    return bootstrap_interval(costs[width].to_numpy(), rng)


def cost_slope(table: pd.DataFrame, rng: np.random.Generator) -> Interval:
    """Return the least-squares slope of ln c(k) over ln k, one fit a prompt; 1 is linear. Interval over prompts."""
    costs = _costs(check_table(table, COLUMNS, "table (of the study)"))
    x = np.log(costs.columns.to_numpy(dtype=float))
    if len(x) < 2:
        raise BookError("a slope needs at least 2 widths")
    x = x - x.mean()
    return bootstrap_interval(np.log(costs.to_numpy()) @ x / (x @ x), rng)


def free_width(table: pd.DataFrame, rng: np.random.Generator) -> Interval:
    """Return a/b of the fit c(k) = a + b k: how many beams cost as much as one reading of the weights.

    Up to about this width a beam is nearly free; beyond it its price grows in proportion to the width. One fit a
    prompt, by least squares of relative errors; interval over prompts.
    """
    costs = _costs(check_table(table, COLUMNS, "table (of the study)"))
    k = costs.columns.to_numpy(dtype=float)
    if len(k) < 2:
        raise BookError("a fit of two numbers needs at least 2 widths")
    fits = [np.linalg.lstsq(np.column_stack([1 / c, k / c]), np.ones(len(k)))[0] for c in costs.to_numpy()]
    return bootstrap_interval([a / b for a, b in fits], rng)


def verdict(ratio: Interval, slope: Interval) -> str:
    """Return the verdict on "prohibitively expensive" by the rule at the head of this module."""
    check_kind(ratio, Interval, "ratio", made_by="cost_ratio")
    check_kind(slope, Interval, "slope", made_by="cost_slope")
    if ratio.low > TOO_DEAR or slope.low > 1:
        return "holds"
    return "does not hold" if ratio.high < TOO_DEAR and slope.high < 1 else "open"


@dataclass(frozen=True)
class Bought:
    """What width k buys: ``likelihood`` over greedy decoding (nats a token), ``repetition`` over the human text
    (seq-rep-4); differences within prompts.
    """

    likelihood: Interval
    repetition: Interval


def bought(table: pd.DataFrame, rng: np.random.Generator, *, width: int = RULE_WIDTH) -> Bought:
    """Return what a beam of ``width`` buys, with intervals over prompts."""
    table = (
        check_table(table, COLUMNS, "table (of the study)")
        .set_index(["prompt", "method", "width"])
        .sort_index()
    )
    try:
        wide, greedy, human = (
            table.xs(key, level=("method", "width")) for key in (("beam", width), ("beam", 1), ("human", 1))
        )
    except KeyError:
        raise BookError(f"the table must hold beams of width 1 and {width}, and the human text") from None
    return Bought(
        bootstrap_interval((wide["log_prob"] - greedy["log_prob"]).to_numpy(), rng),
        bootstrap_interval((wide["seq_rep_4"] - human["seq_rep_4"]).to_numpy(), rng),
    )
