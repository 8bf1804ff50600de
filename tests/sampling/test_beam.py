"""Beam search: against transformers, against enumeration, greedy at width 1; best of n; the study; bad input."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from one_step_trap.core.stats import Interval
from one_step_trap.errors import BookError
from one_step_trap.sampling import beam as bm
from one_step_trap.sampling.decoder import LlamaDecoder, PlainDecoder, decoder, inference
from one_step_trap.sampling.models import LanguageModel
from one_step_trap.sampling.plots.beam import (
    plot_costs,
    plot_empty,
    plot_quality,
    plot_typical,
)

V, END = 24, 2
SMALL = bm.Settings(widths=(1, 2, 4), draws=4, prompt=5, steps=8, parts=3)


class Words:
    """A tokenizer: a word is a number."""

    eos_token_id = END

    def encode(self, text, add_special_tokens=False, verbose=True):
        return [int(word) for word in text.split()]

    def decode(self, tokens, clean_up_tokenization_spaces=False):
        return " ".join(map(str, tokens))


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=V,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.5,
        eos_token_id=END,
        bos_token_id=1,
        pad_token_id=0,
    )
    return LanguageModel("tiny", LlamaForCausalLM(config).eval(), Words(), 64, V)


@pytest.fixture(scope="module")
def prompts() -> np.ndarray:
    return np.random.default_rng(0).integers(3, V, size=(3, 5))


@pytest.fixture(scope="module")
def table(lm) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    parts = []
    for part in range(3):
        text = " ".join(map(str, rng.integers(3, V, size=20)))
        parts.append(bm.compare(lm, text, SMALL, seed=part).assign(prompt=part, passage=f"p{part}"))
    return pd.concat(parts, ignore_index=True)[list(bm.COLUMNS)]


class Markov:
    """A model that only looks at the last token, as a Stepper."""

    def __init__(self, P):
        self.log_P, self.vocab_size = torch.from_numpy(np.log(P)), len(P)

    def prefill(self, tokens):
        self.last = tokens[:, -1]
        return self.log_P[self.last]

    def step(self, tokens):
        self.last = tokens
        return self.log_P[tokens]

    def reorder(self, rows):
        self.last = self.last[rows]


class History(Markov):
    """A model that looks at everything: its logits are a function of the whole text, so that reordering matters."""

    def __init__(self, vocab_size, seed=0):
        self.vocab_size, self.seed = vocab_size, seed

    def logits(self):
        return torch.stack([torch.from_numpy(self.row(tuple(t.tolist()))) for t in self.text])

    def row(self, text):
        return np.random.default_rng([self.seed, *text]).normal(size=self.vocab_size) * 2

    def prefill(self, tokens):
        self.text = tokens
        return self.logits()

    def step(self, tokens):
        self.text = torch.cat([self.text, tokens[:, None]], dim=1)
        return self.logits()

    def reorder(self, rows):
        self.text = self.text[rows]


def history_log_probs(model, prompt):
    def next_log_probs(words):
        row = model.row((*prompt, *words))
        return row - np.log(np.exp(row).sum())

    return next_log_probs


# --- against transformers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "steps"), [(1, 7), (2, 1), (2, 12), (3, 9), (5, 12), (8, 6)])
def test_token_identical_to_transformers_at_fixed_length(lm, prompts, width, steps):
    beams = bm.beam_search(bm.maker(lm), prompts, width, steps)
    theirs = lm.model.generate(
        torch.from_numpy(prompts),
        attention_mask=torch.ones(prompts.shape, dtype=torch.int64),
        num_beams=width,
        do_sample=False,
        max_new_tokens=steps,
        eos_token_id=None,
        pad_token_id=0,
    )
    assert (beams.best == theirs[:, 5:].numpy()).all()
    assert beams.rows == 3 * width * (steps - 1)
    assert (beams.lengths == steps).all()


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0, -0.5])
@pytest.mark.parametrize("width", [1, 2, 4, 7])
def test_token_identical_to_transformers_with_ends_and_length_penalty(lm, prompts, width, penalty):
    theirs = lm.model.generate(
        torch.from_numpy(prompts),
        attention_mask=torch.ones(prompts.shape, dtype=torch.int64),
        num_beams=width,
        do_sample=False,
        max_new_tokens=10,
        eos_token_id=END,
        pad_token_id=1,
        length_penalty=penalty,
        early_stopping="never",
    )[:, 5:].numpy()
    ours = bm.beam_search(bm.maker(lm), prompts, width, 10, end=END, length_penalty=penalty)
    n = theirs.shape[1]
    assert (np.where(ours.best < 0, 1, ours.best)[:, :n] == theirs).all()
    assert (ours.best[:, n:] == -1).all()


def test_some_of_these_texts_do_end(lm):
    rng = np.random.default_rng(3)
    beams = bm.beam_search(bm.maker(lm), rng.integers(3, V, size=(20, 5)), 4, 10, end=END)
    ended = (beams.best == END).any(1)
    assert ended.any()
    assert (beams.lengths[ended, 0] == (beams.best[ended] == END).argmax(1) + 1).all()
    never = bm.beam_search(bm.maker(lm), rng.integers(3, V, size=(20, 5)), 4, 10, banned=[END])
    assert not (never.tokens == END).any()


def test_width_one_is_greedy(lm, prompts):
    beams = bm.beam_search(bm.maker(lm), prompts, 1, 10)
    stepper, text = decoder(lm, 3, 15), []
    with inference():
        logits = stepper.prefill(torch.from_numpy(prompts))
        for _ in range(10):
            text.append(logits.argmax(1))
            if len(text) < 10:
                logits = stepper.step(text[-1])
    assert (beams.best == torch.stack(text, dim=1).numpy()).all()


def test_both_decoders_give_the_same_search(lm, prompts):
    fast = bm.beam_search(bm.maker(lm), prompts, 4, 8)
    plain = bm.beam_search(lambda rows, length: decoder(lm, rows, length, fast=False), prompts, 4, 8)
    assert isinstance(decoder(lm, 1, 2), LlamaDecoder)
    assert isinstance(decoder(lm, 1, 2, fast=False), PlainDecoder)
    assert (fast.tokens == plain.tokens).all()
    assert fast.log_prob == pytest.approx(plain.log_prob, abs=1e-4)


# --- against enumeration ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_a_beam_as_wide_as_the_language_is_exhaustive(n):
    model = History(3, seed=n)
    next_log_probs = history_log_probs(model, (1,))
    every = {
        words: sum(next_log_probs(words[:t])[w] for t, w in enumerate(words))
        for words in itertools.product(range(3), repeat=n)
    }
    beams = bm.beam_search(lambda *_: model, [[1]], 3**n, n)
    ranked = sorted(every.items(), key=lambda item: -item[1])
    assert [tuple(text) for text in beams.tokens[0]] == [words for words, _ in ranked]
    assert beams.log_prob[0] == pytest.approx([value for _, value in ranked])


def beam_search_reference(next_log_probs, width, steps, *, end=None):
    """The best text and its log-probability as `beam_search` finds them, one beginning at a time."""
    beams, finished = [((), 0.0)], []
    for _ in range(steps):
        candidates = [
            ((*words, w), log_p + float(more))
            for words, log_p in beams
            for w, more in enumerate(next_log_probs(words))
        ]
        candidates.sort(key=lambda candidate: -candidate[1])
        finished += [c for c in candidates[:width] if c[0][-1] == end]
        beams = [c for c in candidates if c[0][-1] != end][:width]
    return max(finished + beams[:1], key=lambda text: text[1])


@pytest.mark.parametrize("end", [None, 0])
@pytest.mark.parametrize("width", [1, 2, 3, 6, 20])
def test_batched_search_agrees_with_its_reference(width, end):
    model, starts = History(4), np.arange(4)[:, None]
    beams = bm.beam_search(lambda *_: model, starts, width, 5, end=end)
    for start in range(4):
        words, value = beam_search_reference(history_log_probs(model, (start,)), width, 5, end=end)
        assert tuple(w for w in beams.best[start] if w >= 0) == words
        assert beams.best_log_prob[start] == pytest.approx(value)
        alone = bm.beam_search(lambda *_: model, [[start]], width, 5, end=end)
        assert (alone.tokens[0] == beams.tokens[start]).all()


def test_a_beam_by_hand():
    # Greedy takes 0 (.6) and then can have .4 at best; 1 (.4) would have led to a sure 2.
    P = np.array([[0.4, 0.3, 0.3], [1e-9, 1e-9, 1 - 2e-9], [0.6, 0.4, 1e-9]])
    greedy = bm.beam_search(lambda *_: Markov(P), [[2]], 1, 2)
    wide = bm.beam_search(lambda *_: Markov(P), [[2]], 2, 2)
    assert greedy.best.tolist() == [[0, 0]]
    assert wide.best.tolist() == [[1, 2]]
    assert np.exp(wide.log_prob) == pytest.approx(np.array([[0.4, 0.24]]))
    assert wide.rows == 2


def test_a_length_penalty_prefers_longer_texts():
    # token 2 ends: p(end) = .3 at once, or .7 · .4 a word later
    P = np.array([[0.59, 0.01, 0.4], [0.6, 0.1, 0.3], [0.3, 0.3, 0.4]])
    plain = bm.beam_search(lambda *_: Markov(P), [[1]], 3, 2, end=2)
    assert plain.best[0].tolist() == [0, 0]  # cut off at two tokens: .6 · .59
    ended = bm.beam_search(lambda *_: Markov(P), [[1]], 3, 3, end=2)
    assert ended.best[0].tolist() == [2, -1, -1]
    assert math.exp(ended.best_log_prob[0]) == pytest.approx(0.3)
    longer = bm.beam_search(lambda *_: Markov(P), [[1]], 3, 3, end=2, length_penalty=1.0)
    assert longer.lengths[0, 0] == 3
    assert longer.score[0, 0] == pytest.approx(longer.log_prob[0, 0] / 3)


# --- best of n --------------------------------------------------------------------------------------------


def test_draws_have_the_frequencies_of_the_model():
    P = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.4, 0.3]])
    draws = bm.draw(lambda *_: Markov(P), [[0], [1]], 20_000, 2, seed=0)
    assert np.bincount(draws.tokens[0, :, 0]) / 20_000 == pytest.approx(P[0], abs=0.015)
    assert np.bincount(draws.tokens[1, :, 0]) / 20_000 == pytest.approx(P[1], abs=0.015)
    after = draws.tokens[0, draws.tokens[0, :, 0] == 2, 1]
    assert np.bincount(after) / len(after) == pytest.approx(P[2], abs=0.04)
    assert draws.log_prob[0, 0] == pytest.approx(
        np.log(P[0, draws.tokens[0, 0, 0]] * P[draws.tokens[0, 0, 0], draws.tokens[0, 0, 1]])
    )


def test_best_of_n_is_the_likeliest_of_the_first_n():
    model = History(4)
    draws = bm.draw(lambda *_: model, [[0], [3]], 10, 5, seed=1)
    again = bm.draw(lambda *_: model, [[0], [3]], 10, 5, seed=1)
    assert (draws.tokens == again.tokens).all()
    for n in (1, 4, 10):
        text, value = draws.best_of(n)
        assert value == pytest.approx(draws.log_prob[:, :n].max(1))
        assert (text[1] == draws.tokens[1, draws.log_prob[1, :n].argmax()]).all()
    exact = bm.score(lambda *_: model, [[0], [3]], draws.tokens[:, 0])
    assert exact.sum(1) == pytest.approx(draws.log_prob[:, 0])
    everything = bm.beam_search(lambda *_: model, [[0], [3]], 4**5, 5)
    assert (everything.best_log_prob >= draws.best_of(10)[1] - 1e-9).all()


def test_banned_tokens_are_never_drawn_and_keep_the_models_log_prob():
    P = np.array([[0.5, 0.4, 0.1]] * 3)
    draws = bm.draw(lambda *_: Markov(P), [[0]], 200, 3, seed=0, banned=[0])
    assert set(draws.tokens.ravel()) == {1, 2}
    k = (draws.tokens[0] == 1).sum(1)
    assert draws.log_prob[0] == pytest.approx(k * np.log(0.4) + (3 - k) * np.log(0.1))


# --- the study --------------------------------------------------------------------------------------------


def test_cache_bytes_are_those_of_the_cache(lm):
    stepper = decoder(lm, 6, 20)
    assert isinstance(stepper, LlamaDecoder)
    assert (
        bm.cache_bytes(lm, 6, 20) == stepper.keys.nbytes + stepper.values.nbytes == 6 * 20 * 2 * 2 * 2 * 4 * 4
    )


def test_rows_of_the_study(lm, table):
    assert table.groupby("method").size().to_dict() == {"beam": 9, "best of": 9, "human": 3}
    assert not table.duplicated(list(bm.KEYS)).any()
    searched = table[table["method"] != "human"]
    assert (searched["rows_per_token"] == searched["width"]).all()
    beams = table[table["method"] == "beam"]
    assert (beams["seconds_per_token"] > 0).all()
    assert (beams["cache_bytes"] == beams["width"] * bm.cache_bytes(lm, 1, 13)).all()
    assert table["log_prob"].between(-20, 0).all()
    assert table["text"].str.split().str.len().eq(8).all()
    draws = table[table["method"] == "best of"].pivot(index="prompt", columns="width", values="log_prob")
    assert (draws[1] <= draws[2]).all()
    assert (draws[2] <= draws[4]).all()


def test_the_study_is_deterministic_but_for_its_times(lm, table):
    text = " ".join(map(str, np.random.default_rng(1).integers(3, V, size=20)))
    again = bm.compare(lm, text, SMALL, seed=0).drop(columns="seconds_per_token")
    before = table[table["prompt"] == 0].reset_index(drop=True)[list(again.columns)]
    pd.testing.assert_frame_equal(again, before)


def test_a_slice_is_a_part_of_the_study(lm, table):
    text = " ".join(map(str, np.random.default_rng(1).integers(3, V, size=20)))
    again = bm.compare(lm, text, replace(SMALL, widths=(1, 4), draws=0), seed=0).assign(prompt=0)
    assert again["method"].tolist() == ["beam", "beam", "human"]
    bm.STUDY.compare(again.drop(columns="seconds_per_token"), table, rtol=1e-5)
    with pytest.raises(BookError, match="log_prob of prompt = 0, method = beam, width = 4"):
        bm.STUDY.compare(
            again[[*bm.KEYS, "log_prob"]],
            table.assign(log_prob=table["log_prob"] + 0.1 * (table["width"] == 4)),
            rtol=0.01,
        )


def test_summaries_and_plots(table):
    rng = np.random.default_rng(0)
    summary = bm.summarise(table, rng).set_index(["method", "width"])
    assert len(summary) == 7
    assert summary.loc[("beam", 1), ["cost", "cost_low", "cost_high"]].tolist() == [1, 1, 1]
    assert summary.loc[("beam", 4), "log_prob"] == pytest.approx(
        table.query("method == 'beam' and width == 4")["log_prob"].mean()
    )
    assert np.isnan(summary.loc[("human", 1), "cost"])
    assert len(plot_costs(summary.reset_index()).axes) == 2
    assert "4-grams" in plot_quality(summary.reset_index()).axes[0].get_ylabel()


def test_said_before_counts_the_prompt():
    prompt, text = [[9, 1, 2, 3, 4]], [[7, 1, 2, 3, 4, 5, 1, 2, 3]]
    # 7123, 1234 (in the prompt), 2345, 3451, 4512, 5123
    assert bm.said_before(prompt, text) == pytest.approx([1 / 6])
    assert bm.said_before([[9]], [[5, 6, 5, 6, 5, 6]], 2) == pytest.approx([3 / 5])
    with pytest.raises(BookError, match="at least 4"):
        bm.said_before(prompt, [[1, 2]])


def test_costs_and_the_rule():
    widths = np.array([1, 2, 4, 8])
    rows = [
        dict.fromkeys(bm.COLUMNS, 0)
        | {"prompt": p, "method": "beam", "width": k, "seconds_per_token": 0.1 * k**x}
        for p, x in enumerate((0.4, 0.5, 0.6))
        for k in widths
    ]
    rows += [dict.fromkeys(bm.COLUMNS, 0.0) | {"prompt": p, "method": "human", "width": 1} for p in range(3)]
    table = pd.DataFrame(rows)
    table.loc[table["method"] == "human", "log_prob"] = -3.0
    table.loc[table["method"] == "beam", "log_prob"] = np.tile([-2.0, -1.5, -1.2, -1.0], 3)
    table.loc[table["width"] == 8, "seq_rep_4"] = [0.2, 0.3, 0.4]
    rng = np.random.default_rng(0)
    slope, ratio = bm.cost_slope(table, rng), bm.cost_ratio(table, rng)
    assert slope.value == pytest.approx(0.5)
    assert ratio.value == pytest.approx(np.mean([8**0.4, 8**0.5, 8**0.6]))
    assert bm.verdict(ratio, slope) == "does not hold"
    straight = table.assign(seconds_per_token=3.0 + 0.5 * table["width"])
    assert bm.free_width(straight, rng)[:3] == pytest.approx((6, 6, 6))
    gain = bm.bought(table, rng)
    assert gain.likelihood.value == pytest.approx(1.0)
    assert gain.repetition.value == pytest.approx(0.3)
    with pytest.raises(BookError, match="one of"):
        bm.cost_ratio(table, rng, width=16)
    with pytest.raises(BookError, match="human"):
        bm.bought(table, rng, width=16)


@pytest.mark.parametrize(
    ("ratio", "slope", "expected"),
    [
        ((2, 3), (0.4, 0.5), "does not hold"),
        ((11, 12), (0.4, 0.5), "holds"),
        ((7, 9), (1.01, 1.1), "holds"),
        ((9, 11), (0.8, 0.9), "open"),
        ((7, 9), (0.9, 1.1), "open"),
    ],
)
def test_the_rule(ratio, slope, expected):
    a, b = (Interval(sum(x) / 2, *x, 16) for x in (ratio, slope))
    assert bm.verdict(a, b) == expected


def test_the_full_study_is_described():
    assert bm.STUDY.parts == bm.FULL.parts == 16
    assert set(bm.KEYS) < set(bm.COLUMNS)
    assert bm.RULE_WIDTH in bm.FULL.widths
    with pytest.raises(BookError, match="below 16"):
        bm.run_part(16)


def test_plots_of_exact_search():
    from one_step_trap.sampling import exact_search as ex

    rng = np.random.default_rng(0)
    empty = ex.empty_modes(ex.EmptyModes(languages=3, words=5, shortest=(1, 2), texts=(10, 100)))
    assert plot_empty(empty).axes
    endless = ex.endless_grammar(rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(4), size=4))
    assert "surprise" in plot_typical(ex.typical_and_mode(endless, (1, 4, 16))).axes[0].get_ylabel()
    with pytest.raises(BookError, match="lacks the columns"):
        plot_empty(empty.drop(columns="shortest"))


# --- bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda make: bm.beam_search(make, [1, 2], 2, 3), "shape"),
        (lambda make: bm.beam_search(make, [[1.5]], 2, 3), "whole numbers"),
        (lambda make: bm.beam_search(make, [[-1]], 2, 3), "whole numbers"),
        (lambda make: bm.beam_search(make, [["a"]], 2, 3), "numbers"),
        (lambda make: bm.beam_search(make, [[1]], 0, 3), "width"),
        (lambda make: bm.beam_search(make, [[1]], 2, 0), "steps"),
        (lambda make: bm.beam_search(make, [[1]], 2, 3, end=99), "0 … 3"),
        (lambda make: bm.beam_search(make, [[1]], 2, 3, banned="a"), "list"),
        (lambda make: bm.beam_search(make, [[1]], 2, 3, banned=[0, 1, 2, 3]), "none of"),
        (lambda make: bm.beam_search(make, [[1]], 2, 3, length_penalty=math.nan), "finite"),
        (lambda make: bm.beam_search(None, [[1]], 2, 3), "make"),
        (lambda make: bm.draw(make, [[1]], 0, 3, seed=0), "texts"),
        (lambda make: bm.draw(make, [[1]], 2, 3, seed=-1), "seed"),
        (lambda make: bm.draw(make, [[1]], 2, 3, seed=0).best_of(3), "exceed"),
        (lambda make: bm.score(make, [[1]], [[1], [2]]), "continuation"),
        (lambda make: bm.score(make, [[1]], [[7]]), "below 4"),
        (lambda make: replace(SMALL, widths=(2, 4)), "greedy"),
        (lambda make: replace(SMALL, widths=4), "list"),
        (lambda make: replace(SMALL, draws=-1), "draws"),
        (lambda make: bm.maker("smollm2"), "LanguageModel"),
        (lambda make: bm.verdict(1.0, 2.0), "Interval"),
        (lambda make: bm.summarise(pd.DataFrame(), np.random.default_rng(0)), "lacks the columns"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BookError, match=message):
        call(lambda *_: History(4))


def test_a_passage_that_is_too_short(lm):
    with pytest.raises(BookError, match="13 are needed"):
        bm.compare(lm, "3 4 5", SMALL)
    with pytest.raises(BookError, match="context"):
        bm.beam_search(bm.maker(lm), [[3] * 60], 2, 10)
