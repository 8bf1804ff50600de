"""The decoders: our own path against transformers' forward pass, and what neither of them takes."""

import math

import numpy as np
import pytest
import torch
from tiny_models import make_gpt2, make_llama, make_tokenizer
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import parametrizations, prune
from transformers import LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaMLP

from one_step_trap.errors import BookError
from one_step_trap.sampling import decoder as d
from one_step_trap.sampling import models

VARIANTS = {
    "groups": {},
    "untied": {"tie_word_embeddings": False},
    "one key a query": {"num_key_value_heads": 4},
    "wide heads": {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8},
    "other positions": {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    "other norm": {"rms_norm_eps": 0.1},
}
CPU = torch.device("cpu")


def random_tokens(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 320, shape))


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def forward(lm, tokens):
    """Return the logits after the last of the tokens (B, T), from one pass over all of them."""
    with torch.inference_mode():
        return lm.model(tokens).logits[:, -1]


@pytest.mark.parametrize("variant", VARIANTS)
def test_our_path_is_transformers(variant, tokenizer):
    lm = models.wrap(make_llama(**VARIANTS[variant]), tokenizer)
    assert d.is_llama(lm)
    prompts = random_tokens(2, 11)[[0, 1, 0, 0, 1]]  # equal prompts are read once
    more = random_tokens(5, 4, seed=1)
    fast, plain = d.decoder(lm, 5, 20), d.decoder(lm, 5, 20, fast=False)
    assert (type(fast), type(plain)) == (d.LlamaDecoder, d.PlainDecoder)
    with d.inference():
        close(fast.prefill(prompts), plain.prefill(prompts))
        for t in range(3):
            close(fast.step(more[:, t]), plain.step(more[:, t]))
        rows = torch.tensor([4, 4, 1, 0, 2])
        fast.reorder(rows)
        plain.reorder(rows)
        found = fast.step(more[:, 3])
        close(found, plain.step(more[:, 3]))
    assert fast.position == plain.position == 15
    texts = torch.cat([torch.cat([prompts, more[:, :3]], 1)[rows], more[:, 3:]], 1)
    close(found, forward(lm, texts))
    assert found.std() > 1  # or everything would be close to everything


def test_a_prompt_is_read_anew(llama):
    decoder = d.decoder(llama, 2, 30)
    first, second = random_tokens(2, 20), random_tokens(2, 5, seed=1)
    with d.inference():
        decoder.prefill(first)
        decoder.step(first[:, 0])
        close(decoder.prefill(second), forward(llama, second))
    assert decoder.position == 5


@pytest.mark.parametrize("make", [make_gpt2, lambda: make_llama(attention_bias=True)])
def test_other_models_take_transformers_way(make, tokenizer):
    lm = models.wrap(make(), tokenizer)
    decoder = d.decoder(lm, 3, 12)
    assert isinstance(decoder, d.PlainDecoder)
    tokens = random_tokens(3, 9)
    with d.inference():
        decoder.prefill(tokens[:, :7])
        decoder.step(tokens[:, 7])
        close(decoder.step(tokens[:, 8]), forward(lm, tokens))


class Low(torch.nn.Module):
    """A layer with an adapter of rank 2."""

    def __init__(self, base):
        super().__init__()
        self.base_layer = base
        self.down, self.up = (
            torch.nn.Parameter(torch.randn(n, 2)) for n in (base.in_features, base.out_features)
        )

    def forward(self, x):
        return self.base_layer(x) + x @ self.down @ self.up.T


class Doubled(LlamaForCausalLM):
    def forward(self, *arguments, **options):
        out = super().forward(*arguments, **options)
        out.logits = 2 * out.logits
        return out


def with_adapter(model):
    layer = model.model.layers[0].self_attn
    layer.q_proj = Low(layer.q_proj)


def with_normed_weights(model):
    layer = parametrizations.weight_norm(model.model.layers[1].mlp.up_proj)
    with torch.no_grad():
        layer.parametrizations.weight.original0.mul_(2)


def with_a_forward_of_its_own(model):
    model.lm_head.forward = lambda x: 2 * F.linear(x, model.lm_head.weight)


CHANGES = {
    "a hook": lambda model: model.lm_head.register_forward_hook(lambda *a: 2 * a[2]),
    "a hook before": lambda model: model.lm_head.register_forward_pre_hook(lambda m, a: (2 * a[0],)),
    "a subclass": lambda model: setattr(model, "__class__", Doubled),
    "a forward of its own": with_a_forward_of_its_own,
    "an adapter": with_adapter,
    "normed weights": with_normed_weights,
    "pruned weights": lambda model: prune.random_unstructured(
        model.model.layers[1].mlp.up_proj, "weight", 0.5
    ),
    "another activation": lambda model: setattr(model.model.layers[1].mlp, "act_fn", torch.nn.GELU()),
    "other positions": lambda model: model.model.rotary_emb.inv_freq.mul_(0.5),
    "another scale": lambda model: setattr(model.model.layers[0].self_attn, "scaling", 1.0),
    "a layer less": lambda model: model.model.layers.__delitem__(1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_llama_that_was_changed_takes_transformers_way(change, tokenizer):
    model = make_llama(tie_word_embeddings=False)
    tokens = random_tokens(2, 9)
    before = forward(models.wrap(model, tokenizer), tokens)
    CHANGES[change](model)
    lm = models.wrap(model.eval(), tokenizer)
    decoder = d.decoder(lm, 2, 9)
    assert type(decoder) is d.PlainDecoder
    with d.inference():
        decoder.prefill(tokens[:, :8])
        found = decoder.step(tokens[:, 8])
    close(found, forward(lm, tokens))
    assert (found - before).abs().max() > 0.1  # as it would be if the change were left out


def test_hooks_that_are_everywhere(tokenizer, monkeypatch):
    lm = models.wrap(make_llama(), tokenizer)
    hook = register_module_forward_hook(lambda *a: None)
    try:
        assert type(d.decoder(lm, 2, 9)) is d.PlainDecoder
    finally:
        hook.remove()
    assert type(d.decoder(lm, 2, 9)) is d.LlamaDecoder
    whole = LlamaMLP.forward
    monkeypatch.setattr(LlamaMLP, "forward", lambda self, x: 2 * whole(self, x))  # a class that was patched
    assert type(d.decoder(lm, 2, 9)) is d.PlainDecoder


@pytest.mark.parametrize("kind", ["linear", "dynamic", "yarn", "llama3"])
def test_scaled_positions_are_not_ours(kind, tokenizer):
    scaled = {"rope_type": kind, "rope_theta": 10_000.0, "factor": 2.0}
    if kind != "linear":
        scaled |= {"original_max_position_embeddings": 64}
    if kind == "llama3":
        scaled |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    lm = models.wrap(make_llama(rope_parameters=scaled), tokenizer)
    assert type(d.decoder(lm, 2, 9)) is d.PlainDecoder


@pytest.mark.parametrize("fast", [True, False])
def test_no_room(llama, fast):
    decoder = d.decoder(llama, 1, 5, fast=fast)
    with pytest.raises(BookError, match="room for 5 tokens a text: 0 are read, 6 more do not fit"):
        decoder.prefill(random_tokens(1, 6))
    decoder.prefill(random_tokens(1, 5))
    with pytest.raises(BookError, match="5 are read, 1 more do not fit"):
        decoder.step(torch.tensor([3]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch": 0}, "batch must be at least 1"),
        ({"length": 2.5}, "length must be a whole number"),
        ({"length": 257}, "257 tokens, prompt included, are longer than the context of .*: 256"),
        ({"device": "tpu"}, "device must be cpu or cuda, got 'tpu'"),
    ],
)
def test_what_no_decoder_takes(llama, arguments, message):
    with pytest.raises(BookError, match=message):
        d.decoder(llama, **({"batch": 2, "length": 8} | arguments))


def test_no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BookError, match="device is cuda, but this machine has no GPU"):
        d.check_device("cuda")
    assert d.check_device(None) == CPU


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([[1, 2], [3]], "texts of equal length"),
        ([["a", "b"]], "tokens must be"),
        (None, "tokens must be"),
        ([[1.0, 2.0]], "whole numbers of shape"),
        ([[True, False]], "whole numbers of shape"),
        ([1, 2], r"shape \(any, any\), got torch.int64 of \(2,\)"),
        (np.zeros((0, 3), int), "whole numbers of shape"),
        ([[1, 320]], r"token ids must lie in 0 \.\. 319, got 1 \.\. 320"),
        ([[-1, 3]], "got -1"),
    ],
)
def test_what_are_no_tokens(tokens, message):
    with pytest.raises(BookError, match=message):
        d.check_tokens(tokens, (None, None), 320)


def test_how_far_apart_logits_are():
    wanted = torch.tensor([[0.0, 2.0, -math.inf], [0.0, 4.0, -math.inf]])
    assert d.apart(wanted, wanted) == 0
    spread = (math.sqrt(4 / 3) + math.sqrt(16 / 3)) / 2  # with the token that never comes at 0
    assert d.apart(wanted + torch.tensor([0, 0.1, 0]), wanted) == pytest.approx(0.1 / spread, rel=1e-5)
    assert d.apart(torch.zeros(2, 3), wanted) == math.inf
    flat = torch.full((1, 5), 3.0)
    assert d.apart(flat + 1e-7, flat) < 1e-4  # rounding is no difference where all logits are alike


def test_tokens_that_are_none(tokenizer):
    """Rows beyond the tokenizer are cut off, gaps never come; the rest is what the model says, by either path."""
    lm = models.LanguageModel("x", make_llama(), tokenizer, 256, 300, (7, 9))
    tokens = random_tokens(2, 6).clamp_max(299)
    wanted = forward(lm, tokens)[:, :300].clone()
    wanted[:, [7, 9]] = -math.inf
    for fast in (True, False):
        decoder = d.decoder(lm, 2, 9, fast=fast)
        assert (type(decoder) is d.LlamaDecoder) is fast
        assert decoder.vocab_size == 300
        with d.inference():
            decoder.prefill(tokens[:, :5])
            close(decoder.step(tokens[:, 5]), wanted)
        with pytest.raises(BookError, match=r"token ids must lie in 0 \.\. 299, got 1 \.\. 300"):
            decoder.prefill(torch.tensor([[1, 300], [1, 2]]))


def test_a_model_that_fails_in_the_middle(llama):
    decoder = d.decoder(llama, 1, 9, fast=False)
    decoder.prefill(random_tokens(1, 4))
    hook = llama.model.register_forward_pre_hook(lambda *a: [][3])
    try:
        with pytest.raises(
            BookError, match=r"fails at token 5 of a text \(IndexError\): list index out of range"
        ):
            decoder.step(torch.tensor([3]))
    finally:
        hook.remove()


def test_one_thread_is_for_a_while(request):
    before = torch.get_num_threads()
    request.addfinalizer(lambda: torch.set_num_threads(before))
    torch.set_num_threads(2)
    seen = []

    def fail():
        with d.inference():
            seen.extend([torch.get_num_threads(), torch.is_inference_mode_enabled()])
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen == [1, True]
    assert torch.get_num_threads() == 2
    assert not torch.is_inference_mode_enabled()


def test_memory_by_hand(llama):
    cache = 2 * 2 * 5 * 20 * 2 * 8  # keys and values, layers, texts, tokens, heads, numbers
    assert 5 * d.text_memory(llama, 20) == 4 * (cache + 3 * 5 * 320)
    decoder = d.LlamaDecoder(llama, 5, 20, CPU)
    assert decoder.keys.nbytes + decoder.values.nbytes == 4 * cache


def test_decoders_read_the_weights_of_the_model(llama):
    own = {value.data_ptr() for value in llama.model.state_dict().values()}
    for batch in (1, 3):
        decoder = d.LlamaDecoder(llama, batch, 20, CPU)
        read = [
            decoder.embedding,
            decoder.norm,
            decoder.head,
            *(w for layer in decoder.layers for w in layer),
        ]
        assert {weight.data_ptr() for weight in read} == own


def test_weights_may_lie_in_any_order(tokenizer):
    model = make_llama()
    tokens = random_tokens(2, 9)
    before = forward(models.wrap(model, tokenizer), tokens)
    for value in model.parameters():
        if value.ndim == 2:
            value.data = value.data.T.contiguous().T
    with d.inference():
        close(d.decoder(models.wrap(model, tokenizer), 2, 9).prefill(tokens), before)


def test_a_tokenizer_of_another_size():
    with pytest.raises(BookError, match="a tokenizer that is not its own"):
        models.wrap(make_gpt2(vocab_size=300), make_tokenizer())
