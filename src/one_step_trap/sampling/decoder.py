"""Decoding many texts at once, one token a step: the state of a language model as a world model.

The keys and values of all tokens so far are the model's state, the next token is the action, and the distribution
of the token after it the prediction. All decoding rules of the chapter share one batch, each row with its own rule,
so that the weights are read once a step for all of them.

`Decoder` steps any causal model of transformers (`PlainDecoder`, which is transformers' own forward pass), or a Llama as
transformers makes it through a path of our own (`LlamaDecoder`): a cache that is allocated once, and linear maps through
oneDNN, which reads the model's own weights where they lie. Each is compared with the model's forward pass before it is used.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from torch.nn import functional as F

from one_step_trap.core.threads import one_thread
from one_step_trap.core.validate import check_count, in_a_line, short_repr
from one_step_trap.errors import BookError

if TYPE_CHECKING:
    from one_step_trap.sampling.models import LanguageModel

TRIAL = 5
"""Tokens on which the path of our own is compared with the model: four read at once and one step."""
FLAT = 0.01
"""Logits that are spread by less than this many nats say the same of all tokens."""


class Layer(NamedTuple):
    """The weights of a block, which are the model's own: none is copied."""

    norm1: torch.Tensor
    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    out: torch.Tensor
    norm2: torch.Tensor
    gate: torch.Tensor
    up: torch.Tensor
    down: torch.Tensor


LAYER = (
    "input_layernorm",
    *(f"self_attn.{part}_proj" for part in "qkvo"),
    "post_attention_layernorm",
    *(f"mlp.{part}_proj" for part in ("gate", "up", "down")),
)
"""What transformers calls the weights of a `Layer`, in their order."""


class Decoder(Protocol):
    """What every decoder does; ``batch`` texts, ``length`` tokens at most, ``position`` tokens read so far."""

    batch: int
    length: int
    position: int
    vocab_size: int

    def prefill(self, tokens: torch.Tensor) -> torch.Tensor:
        """Forget everything, read ``tokens`` (B, P) and return the logits (B, V) of what follows each text."""

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Read one more token a text, (B,), and return the logits (B, V) of what follows."""

    def reorder(self, rows: torch.Tensor) -> None:
        """Let text i go on from where text ``rows[i]`` is, for each of the B texts."""


def decoder(
    lm: LanguageModel, batch: int, length: int, *, fast: bool = True, device: str | None = None
) -> Decoder:
    """Return a decoder for ``batch`` texts of up to ``length`` tokens, prompt included.

    The path of our own is used where it computes what the model does: it `is_llama`, and both say the same of a few
    tokens (``fast=False``: never). ``device`` is "cpu" or "cuda"; by default a GPU where there is one.
    """
    batch, length = check_count(batch, "batch"), check_count(length, "length")
    if length > lm.context:
        raise BookError(
            f"{length:,} tokens, prompt included, are longer than the context of {lm.name}: {lm.context:,}"
        )
    place = check_device(device)
    if fast and is_llama(lm) and _agree(lm, place):
        return LlamaDecoder(lm, batch, length, place)
    return PlainDecoder(lm, batch, length, place)


def check_device(device: str | None) -> torch.device:
    """Return "cpu" or "cuda" as torch's device; without a name, a GPU where there is one."""
    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise BookError(f"device must be cpu or cuda, got {short_repr(device)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise BookError("device is cuda, but this machine has no GPU that torch can use; name cpu")
    return torch.device(name)


def device_of(model: torch.nn.Module) -> torch.device:
    """Return where the weights of a model are."""
    return next((value.device for value in model.parameters()), torch.device("cpu"))


def is_llama(lm: LanguageModel) -> bool:
    """Say whether the path of our own may compute this model: Llama's block, without biases or scaled positions.

    What counts is the object: a subclass, a module of another class (an adapter, a quantised layer), weights of another kind,
    a hook or a ``forward`` of its own each do something that the path of our own would leave out.
    """
    from transformers import LlamaForCausalLM

    model = lm.model
    if type(model) is not LlamaForCausalLM:
        return False
    config = model.config
    rope = getattr(config, "rope_parameters", None) or {}
    ours = (
        config.hidden_act == "silu"
        and not config.attention_bias
        and not config.mlp_bias
        and rope.get("rope_type", "default") == "default"
    )
    return ours and not _is_hooked(model) and _built(model) == _built(_plain_llama(config))


def _plain_llama(config: Any) -> Any:
    """Return a Llama as transformers builds it from a configuration, without memory for its weights."""
    from transformers import LlamaForCausalLM

    with torch.device("meta"):
        return LlamaForCausalLM(copy.deepcopy(config))


def _built(model: torch.nn.Module) -> tuple[dict[str, type], dict[str, Any]]:
    """Return what a model consists of: the class of each module, and class, shape and precision of each parameter."""
    modules = {name: type(part) for name, part in model.named_modules()}
    weights = {
        name: (type(w), w.shape, w.dtype) for name, w in model.named_parameters(remove_duplicate=False)
    }
    return modules, weights


HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def _is_hooked(model: torch.nn.Module) -> bool:
    """Say whether anything is called besides the forward passes of the modules' classes."""
    every = torch.nn.modules.module
    return any(getattr(every, f"_global{name}") for name in HOOKS) or any(
        "forward" in vars(part) or any(getattr(part, name) for name in HOOKS) for part in model.modules()
    )


def _agree(lm: LanguageModel, device: torch.device) -> bool:
    """Say whether the path of our own gives the logits of the model's own forward pass for a few tokens."""
    tokens = torch.linspace(0, lm.vocabulary - 1, TRIAL).long()[None]
    with inference():
        ours = LlamaDecoder(lm, 1, TRIAL, device)
        found = torch.stack([ours.prefill(tokens[:, :-1]), ours.step(tokens[:, -1])], 1).cpu()
        wanted = lm.model(tokens.to(device_of(lm.model))).logits[:, -2:].cpu()
    return apart(found, over_tokens(wanted, lm)) <= tolerance(wanted)


def apart(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Return the largest difference between two arrays of logits (..., V), as a share of the spread of ``wanted``."""
    never = wanted.isneginf()
    if not torch.equal(found.isneginf(), never):
        return math.inf
    found, wanted = found.masked_fill(never, 0).float(), wanted.masked_fill(never, 0).float()
    return float((found - wanted).abs().max() / wanted.std(-1).mean().clamp_min(FLAT))


def tolerance(logits: torch.Tensor) -> float:
    """Return how far `apart` logits may be by rounding: the root of the precision ε of their numbers."""
    return float(torch.finfo(logits.dtype).eps ** 0.5)


def over_tokens(logits: torch.Tensor, lm: LanguageModel) -> torch.Tensor:
    """Return a model's logits over its tokens (..., vocabulary): ids that stand for no text are cut off, or never come."""
    logits = logits[..., : lm.vocabulary]
    return (
        logits.index_fill(-1, torch.tensor(lm.gaps, device=logits.device), -math.inf) if lm.gaps else logits
    )


@contextlib.contextmanager
def inference() -> Iterator[None]:
    """Run torch on one thread, so that numbers don't depend on what else the machine does, and without gradients."""
    with one_thread(), torch.inference_mode():
        yield


def check_tokens(tokens: Any, shape: tuple[int | None, ...], vocab_size: int) -> torch.Tensor:
    """Return token ids as a tensor of the given shape (an entry that may be any number is left open)."""
    try:
        array = tokens if isinstance(tokens, torch.Tensor) else torch.as_tensor(np.asarray(tokens))
    except (TypeError, ValueError):  # lists of unlike lengths, or no numbers
        raise BookError("tokens must be an array of whole numbers: texts of equal length") from None
    fits = array.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, array.shape, strict=True))
    if not fits or array.dtype.is_floating_point or array.dtype == torch.bool or not array.numel():
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise BookError(
            f"tokens must be whole numbers of shape ({wanted}), got {array.dtype} of {tuple(array.shape)}"
        )
    if array.min() < 0 or array.max() >= vocab_size:
        raise BookError(f"token ids must lie in 0 .. {vocab_size - 1}, got {array.min()} .. {array.max()}")
    return array.long()


class PlainDecoder:
    """Transformers' own forward pass, one token at a time: for any causal model, and the reference of the fast path."""

    def __init__(self, lm: LanguageModel, batch: int, length: int, device: torch.device) -> None:
        self.batch, self.length, self.position = batch, length, 0
        self.lm, self.device, self.model = lm, device, lm.model.to(device)
        self.vocab_size = lm.vocabulary
        self.cache: Any = None
        accepted = inspect.signature(lm.model.forward).parameters
        self.last_only = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}

    def prefill(self, tokens: torch.Tensor) -> torch.Tensor:
        """Forget everything, read ``tokens`` (B, P) and return the logits (B, V) of what follows each text."""
        self.cache, self.position = None, 0
        return self._forward(check_tokens(tokens, (self.batch, None), self.vocab_size))

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Read one more token a text, (B,), and return the logits (B, V) of what follows."""
        return self._forward(tokens.view(self.batch, 1))

    def reorder(self, rows: torch.Tensor) -> None:
        """Let text i go on from where text ``rows[i]`` is, for each of the B texts."""
        self.cache.reorder_cache(rows.to(self.device))

    def _forward(self, tokens: torch.Tensor) -> torch.Tensor:
        _check_room(self, tokens.shape[1])
        try:
            out = self.model(
                tokens.to(self.device),
                past_key_values=self.cache,
                use_cache=True,
                return_dict=True,
                **self.last_only,
            )
        except Exception as error:  # code of anyone's
            raise BookError(
                f"{self.lm.name} fails at token {self.position + tokens.shape[1]:,} of a text "
                f"({type(error).__name__}): {in_a_line(error)}"
            ) from None
        self.cache = getattr(out, "past_key_values", None)
        if self.cache is None:
            raise BookError(
                f"{self.lm.name} ({self.model.config.model_type}) keeps no keys and values: it cannot be stepped"
            )
        self.position += tokens.shape[1]
        return over_tokens(out.logits[:, -1].float(), self.lm)  # (B, V)


def _check_room(decoder: Decoder, more: int) -> None:
    if decoder.position + more > decoder.length:
        raise BookError(
            f"the decoder has room for {decoder.length} tokens a text: {decoder.position} are read, {more} more do not fit"
        )


def text_memory(lm: LanguageModel, length: int) -> int:
    """Return the bytes that one more text of ``length`` tokens takes: its keys, its values and its logits."""
    config = lm.model.config.get_text_config()
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    kv = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return int(4 * (2 * config.num_hidden_layers * length * kv * size + 3 * config.vocab_size))


def linear(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return ``x·Wᵀ``. On the CPU through oneDNN, which is here up to twice as fast as torch's default."""
    if x.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return F.linear(x, weight)
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return product


def attend(q: torch.Tensor, K: torch.Tensor, V: torch.Tensor) -> torch.Tensor:
    """Return ``softmax(q·Kᵀ/√D)·V`` for one new token a text (Vaswani et al. 2017, equation 1).

    ``q`` has shape (B, heads, 1, D), ``K`` and ``V`` (B, KV, T, D). Queries that share a key (grouped-query attention,
    Ainslie et al. 2023, arXiv 2305.13245) stand beside each other as if they were tokens, so that it is read once.
    """
    B, KV, _, D = K.shape
    return F.scaled_dot_product_attention(q.view(B, KV, -1, D), K, V).view(q.shape)


class LlamaDecoder:
    """A decoder of the Llama family with preallocated cache: keys and values of shape (layers, B, KV, length, D).

    Memory in bytes, all numbers in 32 bits: ``4·(W + 2·layers·B·length·KV·D + 3·B·V)``, for W weights and a vocabulary
    of V. On the CPU the weights are those of the model, however many decoders read them. The
    last term is logits and what is made of them. Reading U different prompts of P tokens takes
    about ``4·U·P·(2·width + 3·intermediate)`` more for a moment.
    """

    def __init__(self, lm: LanguageModel, batch: int, length: int, device: torch.device) -> None:
        self.batch, self.length, self.position = batch, length, 0
        self.lm, self.device, config = lm, device, lm.model.config
        self.vocab_size = lm.vocabulary
        self.heads, self.kv = config.num_attention_heads, config.num_key_value_heads
        self.size = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.eps = config.rms_norm_eps
        weights = {name: value.to(device) for name, value in lm.model.state_dict().items()}
        self.embedding = weights["model.embed_tokens.weight"]
        self.layers = [
            Layer(*(weights[f"model.layers.{i}.{name}.weight"] for name in LAYER))
            for i in range(config.num_hidden_layers)
        ]
        self.norm = weights["model.norm.weight"]
        self.head = weights.get("lm_head.weight", self.embedding)
        shape = (config.num_hidden_layers, batch, self.kv, length, self.size)
        self.keys, self.values = torch.zeros(shape, device=device), torch.zeros(shape, device=device)
        self.cos, self.sin = self._rotation(config.rope_parameters["rope_theta"])

    def _rotation(self, theta: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cosines and sines (length, D) of rotary positions (Su et al. 2021, arXiv 2104.09864)."""
        frequencies = 1.0 / theta ** (torch.arange(0, self.size, 2, dtype=torch.float32) / self.size)
        angles = torch.arange(self.length, dtype=torch.float32)[:, None] * frequencies
        angles = torch.cat([angles, angles], dim=-1).to(self.device)
        return angles.cos(), angles.sin()

    def prefill(self, tokens: torch.Tensor) -> torch.Tensor:
        """Forget everything, read ``tokens`` (B, P) and return the logits (B, V) of what follows each text.

        Rows that are equal (one prompt under many rules) are read once.
        """
        self.position = 0
        tokens = check_tokens(tokens, (self.batch, None), self.vocab_size)
        _check_room(self, tokens.shape[1])
        texts, row_of = torch.unique(tokens, dim=0, return_inverse=True)  # (U, P), (B,)
        x = self._blocks(texts.to(self.device), row_of.to(self.device))
        self.position = tokens.shape[1]
        return self._logits(x[:, -1])[row_of.to(self.device)]

    def _blocks(self, texts: torch.Tensor, row_of: torch.Tensor) -> torch.Tensor:
        """Run all blocks over the texts (U, P) at once and store keys and values of row b from text ``row_of[b]``."""
        U, P = texts.shape
        x: torch.Tensor = self.embedding[texts]  # (U, P, width)
        for i, layer in enumerate(self.layers):
            q, k, v = self._attended(layer, x)
            q, k = self._rotate(q, slice(P)), self._rotate(k, slice(P))  # (U, heads or KV, P, D)
            self.keys[i, :, :, :P], self.values[i, :, :, :P] = k[row_of], v[row_of]
            a = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            x = x + linear(a.transpose(1, 2).reshape(U, P, -1), layer.out)
            x = x + self._feed_forward(layer, x)
        return x

    def _attended(self, layer: Layer, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return queries, keys and values of the texts (U, P, width), each (U, heads or KV, P, D)."""
        x = self._rms(x, layer.norm1)
        q, k, v = (
            linear(x, weight).view(*x.shape[:2], -1, self.size).transpose(1, 2)
            for weight in (layer.q, layer.k, layer.v)
        )
        return q, k, v

    def _rotate(self, x: torch.Tensor, positions: Any) -> torch.Tensor:
        first, second = x.chunk(2, dim=-1)
        return x * self.cos[positions] + torch.cat([-second, first], dim=-1) * self.sin[positions]

    def _rms(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, (x.shape[-1],), weight, self.eps)

    def _feed_forward(self, layer: Layer, x: torch.Tensor) -> torch.Tensor:
        x = self._rms(x, layer.norm2)
        return linear(F.silu(linear(x, layer.gate)) * linear(x, layer.up), layer.down)

    def _logits(self, x: torch.Tensor) -> torch.Tensor:
        return over_tokens(linear(self._rms(x, self.norm), self.head), self.lm)

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Read one more token a text, (B,), and return the logits (B, V) of what follows."""
        _check_room(self, 1)
        B, t = self.batch, self.position
        x = self.embedding[tokens.to(self.device)[:, None]]  # (B, 1, width)
        for i, layer in enumerate(self.layers):
            q, k, v = self._attended(layer, x)
            self.keys[i, :, :, t], self.values[i, :, :, t] = self._rotate(k, t)[:, :, 0], v[:, :, 0]
            a = attend(self._rotate(q, t), self.keys[i, :, :, : t + 1], self.values[i, :, :, : t + 1])
            x = x + linear(a.view(B, 1, -1), layer.out)
            x = x + self._feed_forward(layer, x)
        self.position += 1
        return self._logits(x[:, 0])

    def reorder(self, rows: torch.Tensor) -> None:
        """Let text i go on from where text ``rows[i]`` is, for each of the B texts."""
        t, rows = self.position, rows.to(self.device)
        for cache in (*self.keys, *self.values):  # a layer at a time: what is copied in between stays small
            cache[:, :, :t] = cache[rows, :, :t]
