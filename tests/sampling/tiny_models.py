"""Small models made in the test: two families, random weights, a real tokenizer of 320 tokens."""

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers import models as kinds
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

PROSE = (
    "It was a bright cold morning, and the ships in the harbour lay still upon the water. The old man went down to the "
    "quay, as he had done every day for forty years, and looked out to the lighthouse at the end of the wall. "
)
CONTEXT = 256


def make_tokenizer(size=320):
    """Return a byte-pair tokenizer that has learnt its merges from a few sentences."""
    tokenizer = Tokenizer(kinds.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<end>", "<pad>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([PROSE * 3], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<pad>")


def make_llama(seed=0, **changes):
    """Return a Llama of two layers with random weights, large enough for its distributions to differ by context."""
    settings = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    settings |= {"num_key_value_heads": 2, "max_position_embeddings": CONTEXT, "tie_word_embeddings": True}
    settings |= {"vocab_size": 320, "eos_token_id": 0, "bos_token_id": None, "pad_token_id": 1}
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**(settings | {"initializer_range": 0.3} | changes)))
    for name, value in model.named_parameters():  # norms are all ones at first: a wrong one would not be seen
        if "norm" in name:
            torch.nn.init.normal_(value, 1.0, 0.2)
    return model.eval()


def make_gpt2(seed=0, **changes):
    """Return a GPT-2 of two layers with random weights."""
    settings = {"vocab_size": 320, "n_positions": CONTEXT, "n_embd": 32, "n_layer": 2, "n_head": 4}
    settings |= {"eos_token_id": 0, "bos_token_id": None, "pad_token_id": 1, "initializer_range": 0.3}
    torch.manual_seed(seed)
    return GPT2LMHeadModel(GPT2Config(**(settings | changes))).eval()


def save(folder, model, tokenizer):
    """Write a model as a directory in transformers' format."""
    logging.disable_progress_bar()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
