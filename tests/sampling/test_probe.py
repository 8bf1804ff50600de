"""Models by their behaviour: what is no causal model is refused by one line, whatever its class and its weights."""

import pytest
import torch
import transformers as tf
from tiny_models import CONTEXT, make_gpt2, make_llama

from one_step_trap.errors import BookError
from one_step_trap.sampling import models, probe
from one_step_trap.sampling.decoder import PlainDecoder, decoder

SMALL = {"vocab_size": 320, "hidden_size": 16, "intermediate_size": 32}
SMALL |= {"num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 66}
OLD = {"vocab_size": 320, "n_embd": 16, "n_layer": 1, "n_head": 2}  # what GPT's descendants call it
XLNET = {"vocab_size": 320, "d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 32}
BLOOM = {"vocab_size": 320, "hidden_size": 16, "n_layer": 1, "n_head": 2}
VIT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def small(kind, config, settings=SMALL, **changes):
    """Return a model of one layer as its class makes it: with small random weights."""
    torch.manual_seed(0)
    return kind(config(**(settings | changes))).eval()


def refused(model, tokenizer, message):
    with pytest.raises(BookError, match=message) as caught:
        models.wrap(model, tokenizer, "mine")
    assert "\n" not in str(caught.value)


def changed(change):
    """Return a small Llama whose forward pass goes through ``change(output, tokens)``."""

    class Changed(tf.LlamaForCausalLM):
        def forward(self, input_ids=None, **more):
            out = super().forward(input_ids, **more)
            change(out, input_ids)
            return out

    model = make_llama()
    model.__class__ = Changed
    return model


def add(number):
    """Return a change of the logits by what ``number(logits, tokens)`` says of each place."""

    def change(out, tokens):
        more = torch.zeros_like(out.logits)
        more[..., 7] = number(out.logits, tokens)
        out.logits = out.logits + more

    return change


def infinite(out, tokens):
    out.logits = out.logits.masked_fill(torch.arange(320) == 7, torch.inf)


@pytest.mark.parametrize(
    "make",
    [
        lambda: small(tf.BertForMaskedLM, tf.BertConfig),
        lambda: small(
            tf.BertLMHeadModel, tf.BertConfig
        ),  # a causal head, but it is not asked to be a decoder
        lambda: small(tf.RobertaForMaskedLM, tf.RobertaConfig),
        lambda: small(tf.ElectraForMaskedLM, tf.ElectraConfig, embedding_size=16),
        lambda: small(tf.XLNetLMHeadModel, tf.XLNetConfig, XLNET),
        lambda: changed(add(lambda logits, tokens: 1e-2 * tokens[:, -1:])),  # a glance at the last token
    ],
)
def test_what_reads_ahead(make, tokenizer):
    refused(make(), tokenizer, "mine is no causal model: what it predicts at a place depends on the tokens")


def test_a_prefix_that_is_read_both_ways(tokenizer):
    """Causal within what it writes, not within what it is given: a prefix model."""
    model = make_llama()
    for layer in model.model.layers:
        layer.self_attn.is_causal = (
            False  # several tokens at once see each other, a single one sees those before it
        )
    refused(model, tokenizer, "mine is no causal model")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: changed(add(lambda logits, tokens: torch.rand(()))), "each time it reads the same text"),
        (
            lambda: changed(add(lambda logits, tokens: tokens.shape[1])),
            "mine cannot be stepped: token by token",
        ),
        (
            lambda: changed(lambda out, tokens: setattr(out, "past_key_values", None)),
            "keeps no keys and values",
        ),
        (lambda: changed(add(lambda logits, tokens: torch.nan)), "logits that are NaN or infinite"),
        (lambda: changed(infinite), "logits that are NaN or infinite"),
        (lambda: small(tf.LlamaModel, tf.LlamaConfig), "as a LlamaModel it has no head"),
        (lambda: small(tf.LlamaForSequenceClassification, tf.LlamaConfig), "no logits for each token"),
        (
            lambda: small(tf.GPT2ForTokenClassification, tf.GPT2Config, OLD),
            "does not predict the next token: it gives 2 numbers, and its tokenizer has 320 ids",
        ),
        (
            lambda: small(tf.OpenAIGPTLMHeadModel, tf.OpenAIGPTConfig, OLD),
            r"mine \(openai-gpt\) keeps no keys and values: it cannot be stepped",
        ),
        (
            lambda: small(tf.BloomForCausalLM, tf.BloomConfig, BLOOM),
            r"mine does not say how long a text it reads \(max_position_embeddings\)",
        ),
        (
            lambda: small(tf.T5ForConditionalGeneration, tf.T5Config, d_model=16, d_kv=8, num_layers=1),
            r"mine is an encoder-decoder \(t5\)",
        ),
        (lambda: small(tf.ViTForImageClassification, tf.ViTConfig, VIT), "reads no tokens: it is a ViTFor"),
    ],
)
def test_what_cannot_write(make, message, tokenizer):
    refused(make(), tokenizer, message)


def test_a_model_that_needs_more_than_text(tokenizer):
    model = make_llama()

    def forward(input_ids, pixels, **more):
        raise AssertionError

    model.forward = forward
    refused(model, tokenizer, r"mine cannot be run on a text alone \(\w+\): .*pixels")


def test_dropout_that_is_left_on(tokenizer):
    model = make_gpt2()
    model.transformer.drop.train()
    refused(model, tokenizer, "must be in evaluation mode")
    model.eval()
    model.transformer.drop.forward = lambda x: torch.nn.functional.dropout(x, 0.1)
    refused(model, tokenizer, "predicts something else each time .* is dropout left on")


@pytest.mark.parametrize(
    "make",
    [
        make_gpt2,
        lambda: make_gpt2(n_positions=5),
        lambda: make_llama(rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}),
        lambda: small(tf.MistralForCausalLM, tf.MistralConfig, num_key_value_heads=1, sliding_window=3),
        lambda: small(tf.RobertaForCausalLM, tf.RobertaConfig, is_decoder=True),
        lambda: changed(lambda out, tokens: setattr(out, "logits", 1000 * out.logits)),
        lambda: changed(add(lambda logits, tokens: -torch.inf)),  # a token that it never says
        lambda: changed(lambda out, tokens: out.logits.zero_()),  # says the same of everything
    ],
)
def test_causal_models_of_other_kinds(make, tokenizer):
    """A short context, scaled positions, a window, other positions, large logits, none at all."""
    model = make()
    lm = models.wrap(model, tokenizer)
    assert isinstance(decoder(lm, 2, 4), PlainDecoder)


def test_a_module_that_only_holds_a_model(tokenizer):
    class Held(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.config = inner, inner.config

        def forward(self, *arguments, **options):
            return self.inner(*arguments, **options)

    lm = models.wrap(Held(make_llama()).eval(), tokenizer)
    assert (lm.vocabulary, lm.context) == (320, CONTEXT)


def test_the_length_that_a_model_can_read(tokenizer):
    """RoBERTa's table of positions begins two rows late."""
    lm = models.wrap(small(tf.RobertaForCausalLM, tf.RobertaConfig, is_decoder=True), tokenizer)
    assert lm.context == 66
    probe.check_length(lm, [5, 6, 7], 64)
    with pytest.raises(BookError, match=r"the model fails at token 65 of a text \(\w+\): .*index"):
        probe.check_length(lm, [5, 6, 7], 65)


def test_the_trial_changes_every_later_token():
    for words in ([3, 5], range(300)):
        first, second = probe.trial_texts(words, 8)
        assert torch.equal(first[:4], second[:4])
        assert (first[4:] != second[4:]).all()
        assert {*first.tolist(), *second.tolist()} <= set(words)
