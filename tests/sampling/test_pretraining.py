"""Training small models: the loss against PyTorch's, windows, a run taken up again, code lengths, files, bad input."""

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from one_step_trap.errors import BookError
from one_step_trap.sampling import bpe
from one_step_trap.sampling import pretraining as pt
from one_step_trap.sampling.texts import Document, Passage

TINY = pt.Architecture(16, 1, 2, context=16, vocabulary=300)
SHORT = pt.Training((pt.Phase(1_000, 8, 4), pt.Phase(640, 16, 4)))
STREAM = np.random.default_rng(0).integers(0, 300, 4_000)
TEXT = "It was the best of times, it was the worst of times; it was the age of wisdom. " * 30


@pytest.fixture(scope="module")
def tokenizer():
    return bpe.train([TEXT], 280)


@pytest.fixture(scope="module")
def run():
    return pt.train(TINY, SHORT, STREAM, 3)


def same(one, two) -> bool:
    return all(bool((a == b).all()) for a, b in zip(one.parameters(), two.parameters(), strict=True))


# --- the model and the loss -------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", [TINY, pt.Architecture(24, 3, 3, feedforward=40, vocabulary=261)])
def test_parameters_are_counted_as_the_formula_says(architecture):
    model = pt.build(architecture, 0)
    count = sum(weight.numel() for weight in model.parameters())
    assert count == architecture.parameters + architecture.embedding


def test_the_feedforward_width_is_8_thirds():
    assert pt.Architecture(96, 1, 2).feedforward == 256
    assert pt.Architecture(32, 1, 2).feedforward == 88  # 85.3 rounded up


def test_an_untrained_model_knows_nothing_and_is_the_same_each_time():
    model = pt.build(TINY, 5)
    torch.manual_seed(123)  # the global state must not matter
    assert same(model, pt.build(TINY, 5))
    assert not same(model, pt.build(TINY, 6))
    loss = pt.next_token_loss(model, torch.from_numpy(STREAM[:17][None]), half=False)
    assert float(loss.detach()) == pytest.approx(math.log(300), abs=0.1)


@pytest.mark.parametrize(("half", "rtol"), [(False, 1e-5), (True, 0.05)])
def test_the_loss_and_its_gradient_are_those_of_pytorch(half, rtol):
    rng = torch.Generator().manual_seed(0)
    h = torch.randn(1_100, 12, generator=rng, requires_grad=True)  # more than two chunks
    W = torch.randn(50, 12, generator=rng, requires_grad=True)
    y = torch.randint(50, (1_100,), generator=rng)
    ours = pt.linear_cross_entropy(h, W, y, half=half)
    found = torch.autograd.grad(3 * ours, (h, W))
    reference = torch.nn.functional.cross_entropy(h @ W.T, y)
    wanted = torch.autograd.grad(3 * reference, (h, W))
    assert float(ours.detach()) == pytest.approx(float(reference.detach()), rel=rtol)
    for a, b in zip(found, wanted, strict=True):
        assert float((a - b).norm() / b.norm()) < rtol


def test_the_loss_of_a_model_is_that_of_transformers():
    model = pt.build(TINY, 0)
    windows = torch.from_numpy(STREAM[:34].reshape(2, 17))
    logits = model(windows[:, :-1]).logits
    reference = torch.nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
    assert float(pt.next_token_loss(model, windows, half=False).detach()) == pytest.approx(
        float(reference.detach()), rel=1e-5
    )


# --- training ---------------------------------------------------------------------------------------------


def test_the_rate_rises_then_falls_along_a_cosine():
    training = pt.Training((pt.Phase(8_000, 8, 10),), warmup=0.1, last=0.1)
    assert training.updates == 100
    shares = [training.share(update) for update in range(101)]
    assert shares[0] == pytest.approx(0.1)
    assert shares[9] == shares[10] == 1
    assert shares[55] == pytest.approx(0.55)  # half way down: .1 + .9/2
    assert shares[100] == pytest.approx(0.1)
    assert all(a >= b for a, b in itertools.pairwise(shares[10:]))


def test_an_epoch_reads_every_window_once():
    phase = pt.Phase(1, 8, 3)
    stream = np.arange(8 * 10 + 1)
    per_epoch = 9  # ten windows fit, one is left for the offset
    rows = np.concatenate([pt.window_batch(stream, phase, u, 0).numpy() for u in range(6)])
    first, second = rows[:per_epoch, 0], rows[per_epoch:, 0]
    for starts in (first, second):
        assert len(set(starts)) == per_epoch
        assert len(set(starts % 8)) == 1  # one offset an epoch
    assert list(first) != list(second)
    assert (np.diff(rows, axis=1) == 1).all()


def test_training_lowers_the_loss_to_what_can_be_learned():
    # tokens 0 … 7 in a fixed cycle: the next one is certain
    cycle = np.tile(np.arange(8), 500)
    training = pt.Training((pt.Phase(30_000, 16, 8),), learning_rate=0.02, embedding_rate=0.02, half=False)
    architecture = pt.Architecture(16, 1, 2, context=16, vocabulary=8)
    losses = pt.train(architecture, training, cycle, 0).losses
    assert losses[0] == pytest.approx(math.log(8), abs=0.2)
    assert losses[-20:].mean() < 0.05


def test_the_same_seed_gives_the_same_weights(run):
    again = pt.train(TINY, SHORT, STREAM, 3)
    assert (again.losses == run.losses).all()
    assert same(again.model, run.model)
    assert len(run.losses) == SHORT.updates == 31 + 10


def test_an_interrupted_run_goes_on_to_the_same_numbers(run, tmp_path, monkeypatch):
    calls = []
    update_once = pt.update_once

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return update_once(*arguments)

    monkeypatch.setattr(pt, "update_once", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pt.train(TINY, SHORT, STREAM, 3, folder=tmp_path, every=1e-9)
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]  # nothing half-written
    said: list[str] = []
    resumed = pt.train(TINY, SHORT, STREAM, 3, folder=tmp_path, report=said.append)
    assert len(calls) == 20 + SHORT.updates - 19
    assert (resumed.losses == run.losses).all()
    assert same(resumed.model, run.model)
    assert "update 41 of 41" in said[-1]
    with pytest.raises(BookError, match="state of another training"):
        pt.train(TINY, SHORT, STREAM, 4, folder=tmp_path)


# --- evaluation -------------------------------------------------------------------------------------------


def test_each_token_is_scored_once_with_the_context_that_was_asked_for(run):
    tokens = STREAM[:40]
    losses = pt.token_losses(run.model, tokens, context=16, stride=8)
    assert losses.shape == (39,)
    logits = torch.log_softmax(run.model(torch.from_numpy(tokens[:16][None])).logits[0], -1).detach()
    first = [-float(logits[i, tokens[i + 1]]) for i in range(16)]
    assert losses[:16] == pytest.approx(first, rel=1e-4)
    # token 39 is predicted from the 16 before it
    last = torch.log_softmax(run.model(torch.from_numpy(tokens[23:39][None])).logits[0, -1], -1)
    assert losses[-1] == pytest.approx(-float(last[tokens[39]].detach()), rel=1e-4)


def test_batches_do_not_change_the_losses(run):
    tokens = STREAM[:100]
    one, many = (pt.token_losses(run.model, tokens, context=8, batch=batch) for batch in (1, 7))
    assert one == pytest.approx(many, rel=1e-5)


def test_code_lengths_are_in_bits_from_the_end_token_on(tokenizer):
    model = pt.build(TINY, 0)
    passage = Passage("p", "c", "the worst of times — it was")
    table = pt.code_lengths(model, tokenizer, [passage], context=16)
    tokens = bpe.stream(tokenizer, [passage.text])
    assert table["bits"][0] == pytest.approx(pt.token_losses(model, tokens, context=16).sum() / math.log(2))
    assert table["bytes"][0] == len(passage.text.encode()) == len(passage.text) + 2
    assert table["tokens"][0] == len(tokens) - 1


def test_bits_per_byte_weighs_passages_by_their_bytes():
    table = pd.DataFrame({"bits": [10.0, 90.0], "bytes": [10, 30]})
    interval = pt.bits_per_byte(table, np.random.default_rng(0))
    assert interval.value == 2.5
    assert (interval.low, interval.high, interval.n) == (1.0, 3.0, 2)


# --- the base model's files -------------------------------------------------------------------------------


def test_a_written_model_is_an_ordinary_directory(run, tokenizer, tmp_path):
    pt.write_model(run.model, tokenizer, tmp_path)
    assert not list(tmp_path.glob("*.bin"))
    model = AutoModelForCausalLM.from_pretrained(str(tmp_path), dtype=torch.float32, local_files_only=True)
    words = AutoTokenizer.from_pretrained(str(tmp_path), local_files_only=True)
    read, read_tokenizer = pt.read_model(tmp_path)
    assert same(model, read)
    assert words.encode("the age") == read_tokenizer.encode("the age") == tokenizer.encode("the age")
    for a, b in zip(read.parameters(), run.model.parameters(), strict=True):
        assert (a == b.detach().half().float()).all()
    assert next(run.model.parameters()).dtype == torch.float32
    assert not read.training
    assert read.config.max_position_embeddings == 16


def test_training_the_base_model_end_to_end(monkeypatch, tmp_path, tokenizer, run):
    document = Document("d", "c", TEXT)
    passages = (
        Passage("p", "c", "It was the age of times, the worst of wisdom."),
        Passage("q", "c", "it was the best"),
    )
    monkeypatch.setattr(pt.texts, "split", lambda: ((document,), passages))
    monkeypatch.setattr(pt.bpe, "train", lambda corpus: tokenizer)
    monkeypatch.setattr(pt, "BOOK", TINY)
    monkeypatch.setattr(pt, "BOOK_TRAINING", replace(SHORT, learning_rate=0.02, embedding_rate=0.02))
    result = pt.train_book_model(tmp_path)
    record = json.loads((tmp_path / pt.PROVENANCE).read_text(encoding="utf-8"))
    assert not (tmp_path / "training").exists()
    assert record["parameters"] == TINY.parameters + TINY.embedding
    assert record["fair"] is result.fair
    assert record["machine"].endswith(", one thread, no GPU used")
    with monkeypatch.context() as patch:
        patch.setattr(pt.torch.cuda, "is_initialized", lambda: True)
        assert pt.provenance(run, STREAM, result)["machine"].endswith(", one thread, a GPU used")
    assert len(result.table) == 2 + 4 + 3
    best = result.table["bits_per_byte"][2:].min()
    assert result.lead.value == pytest.approx(best - result.table["bits_per_byte"][0])
    # every token of passages this short has the same context at 16 and at 128
    checked = pt.check_book_model(tmp_path, passages)
    assert checked["bits_per_byte"].to_numpy() == pytest.approx(checked["stored"].to_numpy(), abs=1e-3)
    with pytest.raises(BookError, match="no passage x"):
        pt.check_book_model(tmp_path, [Passage("x", "c", "it was")])
    record["passages"][0]["bits"] *= 1.1
    (tmp_path / pt.PROVENANCE).write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(BookError, match="its provenance says"):
        pt.check_book_model(tmp_path, passages)


@pytest.mark.parametrize(
    ("lead", "gain", "fair"),
    [
        ((0.06, 0.2), (0.01, 0.02), True),
        ((0.04, 0.2), (0.01, 0.02), False),
        ((0.06, 0.2), (-0.01, 0.02), False),
    ],
)
def test_the_rule_for_a_fair_base_model(lead, gain, fair):
    empty = pd.DataFrame()
    result = pt.HeldOut(empty, empty, empty, pt.Interval(0.1, *lead, 64), pt.Interval(0.015, *gain, 64))
    assert result.fair is fair


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, t: pt.Architecture(width=30, heads=4), "multiple of twice"),
        (lambda m, t: pt.Architecture(width=0), "width must be at least 1"),
        (lambda m, t: pt.build("llama", 0), "must be an Architecture"),
        (lambda m, t: pt.build(TINY, -1), "seed must be at least 0"),
        (lambda m, t: pt.Training(()), "at least one Phase"),
        (lambda m, t: pt.Training((pt.Phase(1, 1, 1),), learning_rate=0), "learning_rate must be above 0"),
        (lambda m, t: pt.Training((pt.Phase(1, 1, 1),), warmup=1.5), "warmup must be a probability"),
        (lambda m, t: pt.Training((pt.Phase(1, 1, 1),), half="yes"), "half must be True or False"),
        (lambda m, t: pt.Phase(0, 8, 8), "tokens must be at least 1"),
        (lambda m, t: pt.train(TINY, SHORT, [1.5, 2.5], 0), "vector of token numbers"),
        (lambda m, t: pt.train(TINY, SHORT, [1, 300], 0), "must lie in 0 … 299"),
        (lambda m, t: pt.train(TINY, SHORT, list(range(20)), 0), "at least 17 tokens|at least 33 tokens"),
        (lambda m, t: pt.token_losses(m, [1], context=8), "at least two token numbers"),
        (lambda m, t: pt.token_losses(m, [1, 2, 3], context=2, stride=3), "stride must not exceed"),
        (lambda m, t: pt.code_lengths(m, t, [], context=8), "at least one Passage"),
        (lambda m, t: pt.code_lengths(m, t, ["text"], context=8), "at least one Passage"),
        (lambda m, t: pt.read_model("/nowhere"), "there is no model"),
        (lambda m, t: pt.check_book_model("/nowhere", []), "cannot be read"),
    ],
)
def test_bad_input_is_one_clear_error(run, tokenizer, call, message):
    with pytest.raises(BookError, match=message) as error:
        call(run.model, tokenizer)
    assert "\n" not in str(error.value)


def test_damaged_weights_and_weights_too_large_for_float16_are_clear_errors(run, tokenizer, tmp_path):
    pt.write_model(run.model, tokenizer, tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(BookError, match="cannot be read") as error:
        pt.read_model(tmp_path)
    assert "\n" not in str(error.value)
    model = pt.build(TINY, 0)
    with torch.no_grad():
        next(model.parameters())[0, 0] = 1e6
    with pytest.raises(BookError, match="too large for float16"):
        pt.write_model(model, tokenizer, tmp_path)


def test_the_command_wants_one_folder(monkeypatch):
    monkeypatch.setattr("sys.argv", ["pretraining"])
    with pytest.raises(SystemExit, match="usage"):
        pt.main()


def test_the_base_model_fits_into_20_megabytes():
    assert 2 * (pt.BOOK.parameters + pt.BOOK.embedding) < 20e6
    assert pt.BOOK.context == 1_280
