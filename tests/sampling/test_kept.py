"""Texts that are kept token by token: read again they are those of the study, and nothing else is."""

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_models import make_llama

from one_step_trap import data
from one_step_trap.errors import BookError
from one_step_trap.sampling import drift, kept, models
from one_step_trap.sampling import protocol as pr
from one_step_trap.sampling.generate import generate

TEXTS = [("pure", 1, 2), ("mirostat=5", 0, 0), ("greedy+penalty=1.2", 0, 1)]


@pytest.fixture(scope="module")
def lm(tokenizer):
    return models.wrap(make_llama(max_position_embeddings=1_300), tokenizer, "tiny")


@pytest.fixture(scope="module")
def study(lm):
    """Return the texts as a study would hold them: drawn in one batch, every rule and seed, and longer."""
    ids = pr.passage_tokens(lm)[:3]
    traces, _ = generate(lm, ids, [rule for rule, _, _ in TEXTS], 192, [0, 1])
    return drift.rows(traces, lm.decode).round(5)


@pytest.fixture(scope="module")
def texts(lm):
    return pd.concat([kept.keep(lm, *text, steps=128) for text in TEXTS], ignore_index=True)


def test_kept_texts_are_those_of_the_study(lm, texts, study):
    report = kept.check(kept.read(lm, texts), study)
    assert report[kept.KEYS].to_records(index=False).tolist() == TEXTS
    assert report[["entropy", "log_loss"]].max(axis=None) < 1e-4
    assert (report["redrawn"] == 1).all()


def test_their_numbers_are_those_of_one_pass_of_the_model(lm, texts):
    ids = torch.tensor([int(token) for token in texts["tokens"][0].split()])
    whole = torch.cat([torch.from_numpy(pr.passage_tokens(lm)[2, :128]), ids])[None]
    with torch.no_grad():
        log_p = lm.model(whole).logits[0, 127:-1].double().log_softmax(-1)
    row = kept.read(lm, texts).iloc[0]
    assert row["entropy_01"] == pytest.approx(-(log_p.exp() * log_p).sum(-1)[64:].mean().item(), abs=1e-4)
    assert row["log_loss_00"] == pytest.approx(-log_p[:64].gather(-1, ids[:64, None]).mean().item(), abs=1e-4)


def other_token(texts):
    tokens = texts["tokens"][0].split()
    tokens[-1] = str((int(tokens[-1]) + 1) % 300 + 2)  # the last one: nothing after it can tell
    return texts.assign(tokens=[" ".join(tokens), *texts["tokens"][1:]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_token, "text of pure, seed 1, prompt 2, read again, is not what the study says"),
        (lambda texts: texts.assign(prompt=[1, 2, 0], seed=0), "read again"),
        (lambda texts: texts.assign(prompt=7), "the study has only 0 of the 3 texts"),
    ],
)
def test_other_texts_are_refused(lm, texts, study, change, message):
    with pytest.raises(BookError, match=message):
        kept.check(kept.read(lm, change(texts)), study)


@pytest.mark.parametrize(
    ("rule", "seed"), [("temperature=0.95", 1), ("pure", 0)], ids=["another rule", "another seed"]
)
def test_tokens_of_another_rule_or_seed_are_refused(lm, texts, study, rule, seed):
    again = kept.read(lm, texts.assign(rule=[rule, *texts["rule"][1:]], seed=[seed, 0, 0]))
    with pytest.raises(BookError, match=r" \d+% of its tokens are drawn again"):
        kept.check(again.assign(rule=texts["rule"], seed=texts["seed"]), study)


def test_other_weights_are_refused(tokenizer, texts, study):
    model = make_llama(max_position_embeddings=1_300)
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[3, 5] += 0.3
    with pytest.raises(BookError, match="read again"):
        kept.check(kept.read(models.wrap(model, tokenizer), texts), study)


def test_the_stored_texts_are_eight_of_the_study():
    stored, study = (data.load(f"03-sampling-divergence/{name}") for name in ("kept", "smollm2"))
    assert list(stored[kept.KEYS].itertuples(index=False, name=None)) == list(kept.TEXTS)
    assert len(stored.merge(study, on=kept.KEYS)) == 8
    assert {len(tokens.split()) for tokens in stored["tokens"]} == {kept.STEPS}
    collections = np.array(kept.TEXTS, dtype=object)[:, 2] // 8
    assert sorted(collections) == list(range(8))  # a prompt of each


def test_a_part_that_is_not_there():
    with pytest.raises(BookError, match="part must be below 8, got 8"):
        kept.run_part(8)
