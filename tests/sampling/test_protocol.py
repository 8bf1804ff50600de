"""The protocol of the study: its parts, what is stored of them, and the chat template."""

import numpy as np
import pytest
from tiny_models import make_llama

from one_step_trap.errors import BookError
from one_step_trap.sampling import drift, models
from one_step_trap.sampling import protocol as pr
from one_step_trap.sampling.texts import split

RULES = ("pure", "top-k=5", "greedy")
STEPS = 128


@pytest.fixture(scope="module")
def lm(tokenizer):
    return models.wrap(make_llama(max_position_embeddings=1_300), tokenizer, "tiny")


@pytest.fixture(scope="module")
def drawn(lm):
    return pr.draw_part(lm, pr.Part(0, 0, 3), rules=RULES, steps=STEPS)


@pytest.fixture(scope="module")
def stored(lm, drawn):
    return pr.part_rows(lm, pr.Part(0, 0, 3), *drawn)


@pytest.mark.parametrize(("prompts", "seeds", "block"), [(64, (0, 1, 2), 8), (10, (5,), 4), (3, (0, 1), 8)])
def test_every_prompt_is_in_one_part_a_seed(prompts, seeds, block):
    schedule = pr.parts(prompts, seeds, block)
    for seed in seeds:
        mine = [part for part in schedule if part.seed == seed]
        assert [n for part in mine for n in range(part.first, part.last)] == list(range(prompts))


def test_the_studies_have_the_parts_they_say():
    assert len(pr.SCHEDULE) == pr.STUDY.parts
    assert {part.seed for part in pr.SCHEDULE} == set(pr.SEEDS)
    assert pr.PROMPTS == len(split()[1]) == 64
    assert pr.CHAT_STUDY.parts * pr.CHAT_BLOCK == pr.CHAT_PROMPTS
    assert pr.STUDY.settings["rules"] == list(pr.RULES)
    for study in (pr.STUDY, pr.BOOK_STUDY, pr.MATCHED_STUDY, pr.CHAT_STUDY):
        assert study.settings["prompt_tokens"] == 128
        assert set(drift.KEYS) <= set(study.columns)


def test_the_first_seed_has_the_control_and_what_rules_forbid(drawn):
    traces, costs = drawn
    assert [trace.rule for trace in traces] == ["human", *RULES]
    assert [cost.rule for cost in costs] == list(RULES)
    assert costs[0].log_loss.shape == (3, 128)


def test_other_seeds_draw_and_nothing_else(lm):
    traces, costs = pr.draw_part(lm, pr.Part(1, 0, 2), rules=RULES, steps=64)
    assert [(trace.rule, trace.seed) for trace in traces] == [("pure", 1), ("top-k=5", 1)]
    assert costs == []


def test_what_is_stored(drawn, stored):
    traces, costs = drawn
    assert set(stored.columns) == {*drift.columns(STEPS), *pr.COST_COLUMNS}
    assert len(stored) == 3 * 4
    asked = stored.set_index(["rule", "prompt"])
    assert asked.loc["human", "forbidden"].isna().all()
    assert (asked.loc["pure", "forbidden"] == 0).all()
    for n in range(3):
        loss = costs[1].log_loss[n]
        assert asked.loc[("top-k=5", n), "forbidden"] == pytest.approx(np.isinf(loss).mean(), abs=1e-5)
        assert asked.loc[("pure", n), "human_log_loss"] == pytest.approx(
            costs[0].log_loss[n].mean(), abs=1e-5
        )
    assert asked.loc["greedy", "human_log_loss"].isna().all()
    window = traces[1].entropy[2, 64:128].mean()
    assert asked.loc[("pure", 2), "entropy_01"] == pytest.approx(window, abs=1e-5)


def test_a_prompt_gives_the_same_row_in_any_part(lm, stored):
    part = pr.Part(0, 1, 2)
    alone = pr.part_rows(lm, part, *pr.draw_part(lm, part, rules=RULES, steps=STEPS))
    with_others = stored[stored["prompt"] == 1].reset_index(drop=True)
    numbers = alone.select_dtypes("number").columns
    assert alone["rule"].tolist() == with_others["rule"].tolist()
    assert np.allclose(alone[numbers], with_others[numbers], atol=2e-4, equal_nan=True)


def test_a_tokenizer_with_long_tokens(lm):
    with pytest.raises(BookError, match=r"a passage has only \d+ tokens with the tokenizer of tiny"):
        pr.passage_tokens(lm, 50_000)


@pytest.mark.parametrize("index", [-1, 2.5, "a", len(pr.SCHEDULE)])
def test_a_part_that_is_not_there(index):
    with pytest.raises(BookError, match=r"index must be"):
        pr.run_part("smollm2", pr.SCHEDULE, RULES, 64, index)


def test_the_chat_template_holds_the_prompt(smollm2):
    ids, length = pr.chat_passages(smollm2, 3, 5, steps=20)
    plain = pr.passage_tokens(smollm2)[3:5]
    assert ids.shape == (2, length + 20)
    said = smollm2.decode(ids[0, :length])
    assert said.startswith("<|im_start|>")
    assert pr.INSTRUCTION + smollm2.decode(plain[0, :128]) in said
    assert said.endswith("<|im_start|>assistant\n")
    assert np.array_equal(ids[:, length:], plain[:, 128:148])
