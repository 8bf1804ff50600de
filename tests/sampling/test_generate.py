"""Drawing texts: what decides a token, the human control against transformers, costs by definition, bad input."""

import math

import numpy as np
import pytest
import torch
from tiny_models import PROSE, make_llama
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from one_step_trap.errors import BookError
from one_step_trap.sampling import beam, models
from one_step_trap.sampling import generate as g
from one_step_trap.sampling.rules import Sampler, parse

ALL = [
    "pure",
    "temperature=0.7",
    "top-k=5",
    "top-p=0.8",
    "typical=0.8",
    "min-p=0.1",
    "mirostat=2",
    "greedy",
    "greedy+penalty=1.2",
]
P, S = 10, 16


@pytest.fixture(scope="module")
def passages(llama):
    tokens = llama.encode(PROSE * 4)
    return np.array([tokens[i * 7 : i * 7 + P + S] for i in range(3)])


@pytest.fixture(scope="module")
def drawn(llama, passages):
    return g.generate(llama, passages, ALL, S, [0, 1], prompt_length=P, cost_steps=6)


def by_name(traces):
    return {(trace.rule, trace.seed): trace for trace in traces}


def test_what_there_is(drawn, passages):
    traces, costs = by_name(drawn[0]), drawn[1]
    sampled = [(rule, seed) for rule in ALL[:7] for seed in (0, 1)]
    assert set(traces) == {("human", 0), ("greedy", 0), ("greedy+penalty=1.2", 0), *sampled}
    for trace in traces.values():
        assert trace.tokens.shape == trace.entropy.shape == trace.log_loss.shape == (3, S)
        assert trace.prompts.tolist() == [0, 1, 2]
        assert (trace.entropy >= 0).all()
        assert (trace.entropy <= math.log(320) + 1e-5).all()
        assert (trace.log_loss >= 0).all()
    assert [cost.rule for cost in costs] == ALL
    assert costs[0].log_loss.shape == (3, 6)
    assert np.array_equal(traces["human", 0].tokens, passages[:, P:])
    # Every rule and seed says something of its own (Mirostat finds nothing to cut in so flat a model).
    others = [trace.tokens.tobytes() for trace in traces.values() if not trace.rule.startswith("mirostat")]
    assert len(set(others)) == len(others)


def teacher_forced(lm, texts):
    """Return entropy and log-loss (N, S) of the tokens after the prompt, by transformers, in 64-bit floats."""
    with torch.inference_mode():
        logits = lm.model(torch.from_numpy(texts)).logits[:, P - 1 : -1].double()
    log_p = torch.log_softmax(logits, -1)
    entropy = -(log_p.exp() * log_p).sum(-1)
    loss = -log_p.gather(-1, torch.from_numpy(texts[:, P:, None]))[..., 0]
    return entropy.numpy(), loss.numpy()


def test_the_numbers_are_those_of_teacher_forcing(llama, drawn, passages):
    """Entropy and log-loss of every text, the human one included, are what one pass of the model over it says."""
    for trace in drawn[0]:
        entropy, loss = teacher_forced(llama, np.concatenate([passages[:, :P], trace.tokens], 1))
        assert trace.entropy == pytest.approx(entropy, abs=2e-4)
        assert trace.log_loss == pytest.approx(loss, abs=2e-3)


@pytest.mark.parametrize("which", ["llama", "gpt2"])
def test_greedy_is_transformers_generate(which, request, passages):
    lm = request.getfixturevalue(which)
    prompts = torch.from_numpy(passages[:, :P])
    traces = by_name(g.generate(lm, prompts, ["greedy", "greedy+penalty=1.2"], S, [0], prompt_length=P)[0])
    for rule, options in (("greedy", {}), ("greedy+penalty=1.2", {"repetition_penalty": 1.2})):
        with torch.inference_mode():
            found = lm.model.generate(
                prompts,
                attention_mask=torch.ones_like(prompts),
                max_new_tokens=S,
                do_sample=False,
                suppress_tokens=[0, 1],
                **options,
            )
        assert traces[rule, 0].tokens.tolist() == found[:, P:].tolist()


def same(a, b):
    """Equal tokens; the numbers differ by rounding alone (a batch of another size is summed in another order)."""
    assert np.array_equal(a.tokens, b.tokens)
    assert a.entropy == pytest.approx(b.entropy, abs=1e-4)
    assert a.log_loss == pytest.approx(b.log_loss, abs=1e-3)


@pytest.mark.parametrize(
    ("rules", "seeds", "batch", "fast"),
    [
        (ALL, [0, 1], 7, True),
        (ALL[::-1], [1, 0], 96, True),
        (["mirostat=2"], [1], 1, True),
        (["top-p=0.8", "greedy"], [0], 2, True),
        (["pure", "typical=0.8"], [0], 96, False),
    ],
)
def test_a_text_depends_on_its_seed_and_prompt_alone(llama, passages, drawn, rules, seeds, batch, fast):
    whole = by_name(drawn[0])
    found, costs = g.generate(
        llama, passages, rules, S, seeds, prompt_length=P, batch=batch, fast=fast, cost_steps=6
    )
    for trace in found:
        same(trace, whole[trace.rule, 0 if "greedy" in trace.rule else trace.seed])
    before = {cost.rule: cost.log_loss for cost in drawn[1]}
    for cost in costs:
        np.testing.assert_allclose(cost.log_loss, before[cost.rule], atol=1e-3)


def test_parts_of_a_study_fit_together(llama, passages, drawn):
    whole = by_name(drawn[0])
    for first, last in ((0, 1), (1, 3)):
        part = g.generate(llama, passages[first:last], ["pure"], S, [1], prompt_length=P, first_prompt=first)
        assert np.array_equal(by_name(part[0])["pure", 1].tokens, whole["pure", 1].tokens[first:last])


def test_without_a_human_text(llama, passages, drawn):
    traces, costs = g.generate(llama, passages[:, : P + 3], ["pure"], S, [0], prompt_length=P, cost_steps=6)
    assert [trace.rule for trace in traces] == ["pure"]
    assert costs == []
    same(traces[0], by_name(drawn[0])["pure", 0])


def test_luck():
    u = g.uniforms(3, 5, 1_000)
    assert np.array_equal(u[:10], g.uniforms(3, 5, 10))
    assert u.min() >= 0
    assert u.max() < 1
    assert not np.array_equal(u, g.uniforms(5, 3, 1_000))


def test_equal_luck_means_equal_texts_where_rules_agree(llama, passages):
    """top-p = 1 and a temperature of 1 are plain sampling, with the same numbers drawn."""
    traces = by_name(
        g.generate(llama, passages, ["pure", "top-p=1", "temperature=1"], S, [4], prompt_length=P)[0]
    )
    same(traces["pure", 4], traces["top-p=1", 4])
    same(traces["pure", 4], traces["temperature=1", 4])


def test_special_tokens_are_never_drawn(tokenizer):
    """Not even by a model that wants nothing else."""
    model = make_llama(tie_word_embeddings=False)
    with torch.no_grad():
        model.lm_head.weight[:2] = 20 * model.lm_head.weight[5]
    lm = models.wrap(model, tokenizer)
    prompts = np.random.default_rng(0).integers(2, 320, (4, P))
    traces, _ = g.generate(lm, prompts, ALL, S, [0], prompt_length=P)
    assert all((trace.tokens > 1).all() for trace in traces)
    # Yet the entropy is that of the model as it is, not of what is left of it.
    first = traces[-1]
    texts = np.concatenate([prompts, first.tokens], 1)
    assert first.entropy == pytest.approx(teacher_forced(lm, texts)[0], abs=2e-3)


def padded(rows, **changes):
    """Return the small Llama with further rows, of ids that no tokenizer knows and that it likes best."""
    model, wide = make_llama(), make_llama(vocab_size=rows, tie_word_embeddings=False, **changes)
    with torch.no_grad():
        for name, value in wide.state_dict().items():
            known = model.state_dict().get(name, model.lm_head.weight)
            value[: len(known)] = known
        wide.lm_head.weight[320:] = 3 * wide.lm_head.weight[5]
    return wide


@pytest.mark.parametrize("fast", [True, False])
def test_a_padded_vocabulary_changes_nothing(tokenizer, passages, drawn, fast):
    """Ids beyond the tokenizer stand for nothing: no rule draws them, no entropy and no cost counts them."""
    lm = models.wrap(padded(384, eos_token_id=50_256), tokenizer)
    found, costs = g.generate(
        lm, passages, ALL, S, [0, 1], prompt_length=P, cost_steps=6, fast=fast, batch=96
    )
    whole = by_name(drawn[0])
    for trace in found:
        same(trace, whole[trace.rule, trace.seed])
    for cost, before in zip(costs, drawn[1], strict=True):
        np.testing.assert_allclose(cost.log_loss, before.log_loss, atol=1e-3)


def test_a_padded_vocabulary_in_a_search(tokenizer, passages, llama):
    lm = models.wrap(padded(384), tokenizer)
    for search in (
        lambda lm: beam.beam_search(beam.maker(lm), passages[:, :P], 3, 8, banned=lm.end_tokens),
        lambda lm: beam.draw(beam.maker(lm), passages[:, :P], 3, 8, seed=0, banned=lm.end_tokens),
    ):
        found, wanted = search(lm), search(llama)
        assert np.array_equal(found.tokens, wanted.tokens)
        assert found.log_prob == pytest.approx(wanted.log_prob, abs=1e-3)


def test_gaps_among_the_ids_are_never_drawn():
    words = {"<end>": 0} | {f"w{i}": i for i in range(2, 20, 3)}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(words)), eos_token="<end>")
    lm = models.wrap(make_llama(vocab_size=24), tokenizer)
    prompts = np.array([[2, 5, 8, 11], [14, 17, 2, 8]])
    traces, _ = g.generate(lm, prompts, ALL, S, [0], prompt_length=4)
    known = set(range(2, 20, 3))
    assert all(set(trace.tokens.ravel().tolist()) <= known for trace in traces)
    found = beam.beam_search(beam.maker(lm), prompts, 2, 6, banned=lm.end_tokens)
    assert set(found.tokens.ravel().tolist()) <= known


def test_a_python_tokenizer_can_write_what_is_drawn():
    tokenizer = ByT5Tokenizer()  # which dies of an id that it does not have
    lm = models.wrap(make_llama(vocab_size=512), tokenizer)
    prompts = np.array([lm.encode(PROSE)[:P], lm.encode(PROSE)[P : 2 * P]])
    traces, _ = g.generate(lm, prompts, ["pure", "greedy"], 64, [0], prompt_length=P)
    assert all(isinstance(lm.decode(text), str) for trace in traces for text in trace.tokens)
    assert all((trace.tokens < 259).all() for trace in traces)  # the rest are its special tokens


@pytest.mark.parametrize("fast", [True, False])
def test_a_model_that_breaks_down(tokenizer, passages, fast):
    model = make_llama()
    lm = models.wrap(model, tokenizer)
    with torch.no_grad():
        model.model.norm.weight[3] = torch.nan
    with pytest.raises(BookError, match="gives logits that are NaN or infinite after 10 tokens"):
        g.generate(lm, passages, ["greedy"], S, [0], prompt_length=P, fast=fast)


def test_rules_may_be_rules(llama, passages, drawn):
    found, _ = g.generate(llama, passages, [parse("top-p=0.8"), "pure"], S, [0], prompt_length=P)
    for trace in found:
        same(trace, by_name(drawn[0])[trace.rule, 0])


@pytest.mark.parametrize("rule", [rule for rule in ALL if "mirostat" not in rule])
def test_costs_by_definition(llama, passages, drawn, rule):
    """What a rule says to the human tokens: its own distribution at that place, special tokens excluded."""
    cost = next(cost for cost in drawn[1] if cost.rule == rule)
    texts = torch.from_numpy(passages)
    with torch.inference_mode():
        logits = llama.model(texts).logits.index_fill(-1, torch.tensor([0, 1]), -math.inf)
    for t in range(6):
        left = Sampler(parse(rule), 3)(logits[:, P + t - 1], texts[:, : P + t])
        wanted = -torch.log_softmax(left, -1).gather(-1, texts[:, P + t, None])[:, 0]
        np.testing.assert_allclose(cost.log_loss[:, t], wanted, atol=2e-3)
    assert np.isinf(cost.log_loss).any() == (rule not in ("pure", "temperature=0.7"))


def test_costs_of_mirostat_follow_its_memory(llama, passages, drawn):
    cost = next(cost for cost in drawn[1] if cost.rule == "mirostat=2").log_loss
    judge = Sampler(parse("mirostat=2"), 3)
    texts = torch.from_numpy(passages)
    with torch.inference_mode():
        logits = llama.model(texts).logits.index_fill(-1, torch.tensor([0, 1]), -math.inf)
    for t in range(6):
        left = judge(logits[:, P + t - 1], texts[:, : P + t])
        said = texts[:, P + t]
        np.testing.assert_allclose(
            cost[:, t], -torch.log_softmax(left, -1).gather(-1, said[:, None])[:, 0], atol=2e-3
        )
        judge.learn(said)


def test_progress(llama, passages):
    said = []
    g.generate(llama, passages, ["pure"], S, [0], prompt_length=P, batch=4, progress=said.append)
    assert said == ["texts 1 to 4 of 6: token 16 of 16", "texts 5 to 6 of 6: token 16 of 16"]


def test_surprise_by_hand():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25, 0.0]]))
    entropy, loss = g.surprise(logits, torch.tensor([1]))
    assert float(entropy) == pytest.approx(1.5 * math.log(2))
    assert float(loss) == pytest.approx(2 * math.log(2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rules": ["nucleus"]}, "there is no decoding rule 'nucleus'"),
        ({"rules": "pure"}, "rules must be a list"),
        ({"rules": []}, "at least one decoding rule"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"steps": 250}, "10 tokens of prompt and 250 steps are longer than the context of .*: 256 tokens"),
        ({"prompt_length": 0}, "prompt_length must be at least 1"),
        ({"prompt_length": 27}, "the prompts have 26 tokens, 27 were asked for"),
        ({"seeds": []}, "seeds must hold at least one entry"),
        ({"seeds": 0}, "seeds must be a list"),
        ({"seeds": [1, 1]}, "give each seed only once"),
        ({"seeds": [-1]}, "seed must be at least 0"),
        ({"passages": [[1, 2], [3]]}, "texts of equal length"),
        ({"passages": [["a"]]}, "tokens must be"),
        ({"passages": np.full((2, 30), 320)}, "token ids must lie in"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"cost_steps": -1}, "cost_steps must be at least 0"),
        ({"first_prompt": -1}, "first_prompt must be at least 0"),
        ({"device": "abacus"}, "device must be cpu or cuda"),
    ],
)
def test_what_is_refused(llama, passages, changes, message):
    arguments = {
        "passages": passages,
        "rules": ["pure"],
        "steps": S,
        "seeds": [0],
        "prompt_length": P,
    } | changes
    with pytest.raises(BookError, match=message) as caught:
        g.generate(llama, **arguments)
    assert "\n" not in str(caught.value)


def test_whole_numbers_may_come_as_floats(llama, passages, drawn):
    traces, _ = g.generate(llama, passages, ["pure"], float(S), [0.0], prompt_length=float(P))
    same(traces[1], by_name(drawn[0])["pure", 0])
