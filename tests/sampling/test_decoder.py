"""The decoders: our own path against transformers' forward pass, and what neither of them takes."""

import numpy as np
import pytest
import torch
from tiny_models import make_gpt2, make_llama, make_tokenizer

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


def test_scaled_positions_are_not_ours(tokenizer):
    scaled = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0}
    assert not d.is_llama(models.wrap(make_llama(rope_parameters=scaled), tokenizer))


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
    # 320·32 embeddings; a layer has 32·(32+16+16) + 32·32 + 3·32·48 + 2·32; the last norm.
    weights = 320 * 32 + 2 * (32 * 64 + 32 * 32 + 3 * 32 * 48 + 64) + 32
    cache = 2 * 2 * 5 * 20 * 2 * 8  # keys and values, layers, texts, tokens, heads, numbers
    assert d.memory(llama, 5, 20) == 4 * (weights + cache + 3 * 5 * 320)
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
