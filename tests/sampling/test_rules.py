"""Decoding rules: what their names mean, transformers' own processors as witness, Mirostat by hand, and the draw."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from one_step_trap.errors import BookError
from one_step_trap.sampling import rules as r

TEXTS = torch.tensor([[1, 2, 2], [0, 3, 1]])


def chosen(rule, logits, texts=None, rows=None):
    """Return the logits after a rule."""
    texts = torch.zeros((len(logits), 1), dtype=torch.long) if texts is None else texts
    return r.Sampler(r.parse(rule), rows or len(logits))(logits, texts)


def logits_of(*rows):
    """Return logits of rows of probabilities."""
    return torch.log(torch.tensor(rows, dtype=torch.float64))


def kept(logits):
    return [[i for i, x in enumerate(row) if x > r.NEVER] for row in logits.tolist()]


# --- names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "greedy"),
    [
        ("pure", "pure", False),
        ("temperature=0.70", "temperature=0.7", False),
        ("top-k=50", "top-k=50", False),
        (" top-p=.95 ", "top-p=0.95", False),
        ("top-p 0.9", "top-p=0.9", False),
        ("greedy + penalty 1.2", "greedy+penalty=1.2", True),
        ("top-p=1", "top-p=1", False),
        ("typical=0.95", "typical=0.95", False),
        ("min-p=0", "min-p=0", False),
        ("mirostat=5", "mirostat=5", False),
        ("greedy", "greedy", True),
        ("greedy + penalty=1.2", "greedy+penalty=1.2", True),
        ("temperature=0.8+top-p=0.9", "temperature=0.8+top-p=0.9", False),
        ("penalty=1.1+temperature=2", "penalty=1.1+temperature=2", False),
        ("top-k=50+mirostat=3", "top-k=50+mirostat=3", False),
        ("top-k=1234567", "top-k=1234567", False),
        ("top-k=9007199254740993", "top-k=9007199254740993", False),
        ("typical=0.9999999", "typical=0.9999999", False),
        ("temperature=0.70000001", "temperature=0.70000001", False),
        ("temperature=1e+3 + greedy", "temperature=1000+greedy", True),
        ("temperature=1.5e+20+penalty=1e-20", "temperature=1.5e20+penalty=1e-20", False),
    ],
)
def test_rules(text, name, greedy):
    rule = r.parse(text)
    assert (rule.name, rule.greedy) == (name, greedy)
    assert r.parse(rule.name) == rule


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nucleus", "there is no decoding rule 'nucleus'; there are pure, greedy, temperature=…"),
        ("", "a decoding rule is a text such as top-p=0.95, got ''"),
        (None, "a decoding rule is a text"),
        (0.95, "a decoding rule is a text"),
        ("top-p", "there is no decoding rule 'top-p'"),
        ("pure=1", "there is no decoding rule 'pure=1'"),
        ("top-p=1.3", "top-p must be above 0 and at most 1, such as 0.95, got 1.3"),
        ("top-p=0", "top-p must be above 0"),
        ("top-p=-0.5", "top-p must be above 0"),
        ("top-p=nan", "top-p must be above 0"),
        ("top-p=", "top-p must be .* got nothing"),
        ("top-p=high", "got high"),
        ("typical=1", "typical must be above 0 and below 1"),
        ("typical=0", "typical must be above 0 and below 1"),
        ("min-p=1.01", "min-p must be from 0 to 1"),
        ("top-k=0", "top-k must be a whole number from 1 on"),
        ("top-k=2.5", "top-k must be a whole number"),
        ("top-k=inf", "top-k must be a whole number"),
        ("temperature=0", "temperature must be above 0"),
        ("temperature=inf", "temperature must be above 0"),
        (
            "temperature=1e-40",
            r"temperature must be above 0 \(from 1e-30 to 1e\+30\), such as 0.7, got 1e-40",
        ),
        ("temperature=1e39", "temperature must be above 0"),
        ("penalty=1e-40", "penalty must be above 0"),
        ("penalty=1e39", "penalty must be above 0"),
        ("mirostat=1e300", "mirostat must be above 0, in bits"),
        ("penalty=0", "penalty must be above 0"),
        ("mirostat=-5", "mirostat must be above 0, in bits"),
        ("top-k=5+top-k=6", "names a part twice, or joins pure with others"),
        ("pure+greedy", "joins pure with others"),
        ("mirostat=5+top-k=9", "mirostat must be the last part"),
        ("greedy+", "there is no decoding rule ''"),
    ],
)
def test_what_is_no_rule(text, message):
    with pytest.raises(BookError, match=message) as caught:
        r.parse(text)
    assert "\n" not in str(caught.value)


VALUES = {
    **dict.fromkeys(("temperature", "penalty"), st.floats(1e-30, 1e30)),
    "top-k": st.integers(1, 10**25),
    "top-p": st.floats(0, 1, exclude_min=True),
    "typical": st.floats(0, 1, exclude_min=True, exclude_max=True),
    "min-p": st.floats(0, 1),
}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_rule_is_what_its_name_says(data):
    names = data.draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, unique=True))
    parts = [(name, data.draw(VALUES[name])) for name in names]
    text = "+".join(f"{name}={value!r}" for name, value in parts)
    rule = r.parse(text)
    assert rule.parts == tuple(parts)
    assert r.parse(rule.name) == rule
    assert r.parse(rule) is rule


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_accepted_value_overflows(data):
    """What a rule leaves of logits of any common size can be drawn from, and its draw is one of the tokens it leaves."""
    name = data.draw(st.sampled_from([*VALUES, "mirostat"]))
    value = data.draw(VALUES.get(name, VALUES["temperature"]))
    logits = torch.tensor(data.draw(st.lists(st.floats(-1e5, 1e5, width=32), min_size=2, max_size=9)))[None]
    chooser = r.Sampler(r.parse(f"{name}={value!r}"), 1)
    for _ in range(2):  # mirostat's memory, too
        left = chooser(logits.clone(), torch.tensor([[0]]))
        token = r.draw(left, torch.tensor([0.5]))
        assert left[0, token] > r.NEVER
        chooser.learn(token)
    assert left[0, left.argmax()] <= torch.finfo(torch.float32).max


@pytest.mark.parametrize(
    "rule", ["pure", "temperature=0.5", "top-p=0.9", "typical=0.9", "mirostat=3", "greedy"]
)
@pytest.mark.parametrize("worst", [math.nan, math.inf])
def test_nothing_is_drawn_from_what_is_no_number(rule, worst):
    logits = torch.tensor([[2.0, worst, -3.0, 0.5], [1.0, 2.0, 3.0, 4.0]])
    chooser = r.Sampler(r.parse(rule), 2)
    with pytest.raises(BookError, match="no token can be drawn: the logits are NaN or infinite"):
        r.draw(chooser(logits, TEXTS), torch.tensor([0.5, 0.5]))


def test_nothing_is_drawn_where_all_is_excluded():
    with pytest.raises(BookError, match="or every token is excluded"):
        r.draw(torch.full((1, 4), r.NEVER), torch.tensor([0.5]))


@pytest.mark.parametrize("texts", ["pure", 5, None, [], ["pure", "pure"], ["top-p=.5", "top-p=0.50"]])
def test_what_is_no_list_of_rules(texts):
    with pytest.raises(
        BookError, match=r"rules must be a list of texts|at least one decoding rule, and each only once"
    ):
        r.parse_all(texts)


# --- truncation, by hand ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "left"),
    [
        ("pure", [0, 1, 2, 3]),
        ("temperature=0.1", [0, 1, 2, 3]),
        ("top-k=2", [1, 3]),
        ("top-k=9", [0, 1, 2, 3]),
        ("top-p=0.39", [1]),
        ("top-p=0.41", [1, 3]),
        ("top-p=0.71", [0, 1, 3]),
        ("top-p=1", [0, 1, 2, 3]),
        ("min-p=0.6", [1, 3]),
        ("min-p=0.8", [1]),
        ("min-p=0", [0, 1, 2, 3]),
        ("greedy", [1]),
        # Surprises 1.61, .92, 2.30, 1.20 at an entropy of 1.28: nearest are tokens 3, 0, 1, 2.
        ("typical=0.29", [3]),
        ("typical=0.31", [0, 3]),
        ("typical=0.51", [0, 1, 3]),
    ],
)
def test_what_is_kept_of_four_tokens(rule, left):
    logits = logits_of([0.2, 0.4, 0.1, 0.3])
    found = chosen(rule, logits)
    assert kept(found) == [left]
    if rule != "greedy" and "temperature" not in rule:  # what is kept keeps its odds
        assert torch.equal(found[0, left], logits[0, left])


def test_temperature_and_penalty_by_hand():
    logits = torch.tensor([[2.0, -1.0, 0.5, 3.0]])
    assert torch.equal(chosen("temperature=0.5", logits), 2 * logits)
    read = torch.tensor([[0, 1, 1]])
    penalised = torch.tensor(
        [[1.0, -2.0, 0.5, 3.0]]
    )  # positive logits divided by 2, negative times 2, once each
    torch.testing.assert_close(chosen("penalty=2", logits, read), penalised)
    assert kept(chosen("greedy+penalty=2", logits, torch.tensor([[3, 3]]))) == [
        [0]
    ]  # 3 falls to 1.5, below 2
    assert torch.equal(chosen("greedy+penalty=2", logits, read), chosen("penalty=2+greedy", logits, read))


def test_parts_are_used_in_their_order():
    logits = logits_of([0.5, 0.3, 0.2])
    assert kept(chosen("temperature=0.5+top-p=0.6", logits)) == [[0]]  # .25 / .38 is more than .6
    assert kept(chosen("top-p=0.6+temperature=0.5", logits)) == [[0, 1]]


def test_greedy_takes_one_even_of_equals():
    found = chosen("greedy", torch.zeros(3, 5))
    assert [len(row) for row in kept(found)] == [1, 1, 1]


@pytest.mark.parametrize(
    "rule", ["top-k=3", "top-p=0.9", "typical=0.9", "min-p=0.1", "greedy", "mirostat=5", "penalty=1.2"]
)
def test_what_was_forbidden_stays_so(rule):
    logits = torch.linspace(-1, 1, 12).repeat(2, 1)
    logits[:, ::2] = r.NEVER
    found = chosen(rule, logits, TEXTS)
    assert not torch.isnan(found).any()
    assert all(i % 2 for row in kept(found) for i in row)
    assert all(kept(found))


# --- truncation, transformers as witness ------------------------------------------------------------------

WITNESS = {
    "temperature=0.7": TemperatureLogitsWarper(0.7),
    "top-k=5": TopKLogitsWarper(5),
    "min-p=0.2": MinPLogitsWarper(0.2),
    "penalty=1.3": RepetitionPenaltyLogitsProcessor(1.3),
    "temperature=0.7+top-k=40+top-p=0.8": LogitsProcessorList(
        [TemperatureLogitsWarper(0.7), TopKLogitsWarper(40), TopPLogitsWarper(0.8)]
    ),
}


def random_logits(seed, V=60, scale=2.0, B=2):
    return torch.from_numpy(np.random.default_rng(seed).normal(0, scale, (B, V)))


@pytest.mark.parametrize("rule", WITNESS)
def test_transformers_agrees(rule):
    logits = random_logits(1)
    torch.testing.assert_close(chosen(rule, logits, TEXTS), WITNESS[rule](TEXTS, logits))


sizes = st.one_of(
    st.integers(2, 40), st.sampled_from([511, 512, 513, 1_000, 4_096, 5_000])
)  # around the stages
masses = st.floats(0.02, 0.98)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), sizes, st.floats(0.01, 8), masses)
def test_nucleus_and_typical_are_transformers(seed, V, scale, mass):
    logits = random_logits(seed, V, scale)  # 64-bit floats: no sum falls on the other side by rounding
    torch.testing.assert_close(r.nucleus(logits, mass), TopPLogitsWarper(mass)(None, logits))
    torch.testing.assert_close(r.typical(logits, mass), TypicalLogitsWarper(mass)(None, logits))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), sizes, st.floats(0.01, 8), masses)
def test_a_nucleus_is_the_smallest_set_of_its_mass(seed, V, scale, mass):
    logits = random_logits(seed, V, scale, B=1)
    p = torch.softmax(logits, -1)[0]
    inside = r.nucleus(logits, mass)[0] > r.NEVER
    assert p[inside].sum() >= mass - 1e-12
    assert p[inside].sum() - p[inside].min() < mass
    assert not inside.all() or inside.sum() == V
    assert p[inside].min() >= p[~inside].max() if (~inside).any() else True


def test_rows_do_not_see_each_other():
    logits = random_logits(3, V=2_000, scale=1.0, B=6)
    logits[::2] *= 20  # some rows are done at the first stage, some are not
    for rule in ("top-p=0.97", "typical=0.97", "mirostat=4"):
        together = chosen(rule, logits)
        for i in range(6):
            assert torch.equal(together[i], chosen(rule, logits[i : i + 1])[0])


# --- Mirostat ---------------------------------------------------------------------------------------------


def zipf(s, N):
    return -s * torch.log(torch.arange(1, N + 1, dtype=torch.float64))[None]


@pytest.mark.parametrize(
    ("s", "N", "tau"), [(1.2, 5_000, 3.0), (0.8, 2_000, 4.0), (1.5, 500, 1.0), (2.5, 50, 1.0)]
)
def test_mirostat_of_a_zipf_law(s, N, tau):
    chooser = r.Sampler(r.parse(f"mirostat={tau}"), 1)
    left = int((chooser(zipf(s, N), TEXTS[:1]) > r.NEVER).sum())
    # The exponent is found exactly; then equation 8 of Basu et al. with μ = 2τ at first.
    eps, mu = s - 1, 2 * tau
    k = (eps * 2**mu / (1 - N**-eps)) ** (1 / s)
    assert left == min(max(round(k), 1), N)
    # What it means: token k of the law has about the surprise μ (the sum of the law taken as an integral).
    if 1 < left < N:
        surprise = float(-torch.log_softmax(zipf(s, N), -1)[0, left - 1]) / math.log(2)
        assert surprise == pytest.approx(mu, abs=1)


def test_mirostat_of_exponent_one():
    N, tau = 3_000, 3.0
    left = int((r.Sampler(r.parse("mirostat=3"), 1)(zipf(1.0, N), TEXTS[:1]) > r.NEVER).sum())
    limit = 2 ** (2 * tau) / math.log(N)  # ε/(1 - N^-ε) tends to 1/ln N
    assert left == round(limit)


def test_mirostat_of_equal_tokens():
    """All surprises are log2 N: none of the tokens can be told from another, and all stay."""
    for N in (4, 200):
        assert (r.Sampler(r.parse("mirostat=3"), 2)(torch.zeros(2, N), TEXTS) > r.NEVER).all()


def test_mirostat_of_one_certain_token():
    logits = torch.full((1, 30), -1e4)
    logits[0, 7] = 0
    assert kept(r.Sampler(r.parse("mirostat=3"), 1)(logits, TEXTS[:1])) == [[7]]


def test_mirostat_learns():
    """By the surprise under what it was given, whatever it kept of that."""
    chooser = r.Sampler(r.parse("mirostat=2"), 3)
    assert chooser.mu.tolist() == [4, 4, 4]
    given = logits_of([0.5, 0.25, 0.25, 0], [0.5, 0.25, 0.25, 0], [1, 0, 0, 0]).float()
    chooser(given, TEXTS)
    chooser.learn(torch.tensor([0, 1, 0]))  # surprises of 1, 2 and 0 bits
    torch.testing.assert_close(chooser.mu, torch.tensor([5.0, 4.0, 6.0]))
    chooser.learn(torch.tensor([3, 1, 0]))  # a forced token that is never drawn
    assert chooser.mu.tolist() == pytest.approx([5 - (8 - 2), 4, 8])
    others = r.Sampler(r.parse("top-k=5"), 3)
    others(given, TEXTS)
    others.learn(torch.tensor([0, 1, 0]))
    assert others.mu is None


def test_mirostat_holds_its_target():
    """The mean surprise, under the law, of what is drawn from it comes to τ (algorithm 1 is a feedback loop)."""
    logits = zipf(1.1, 500).repeat(30, 1).float()
    chooser, rng, said = r.Sampler(r.parse("mirostat=4"), 30), np.random.default_rng(0), []
    for t in range(100):
        tokens = r.draw(chooser(logits, TEXTS), torch.from_numpy(rng.random(30)))
        if t >= 20:
            said.append(-torch.log_softmax(logits, -1).gather(-1, tokens[:, None]) / math.log(2))
        chooser.learn(tokens)
    assert float(torch.stack(said).mean()) == pytest.approx(4, abs=0.1)


# --- the draw ---------------------------------------------------------------------------------------------


def test_the_draw_by_hand():
    logits = logits_of([0.25, 0, 0.5, 0.25]).repeat(7, 1)
    u = torch.tensor([0.0, 0.2499, 0.25, 0.5, 0.7499, 0.75, 1 - 2**-53], dtype=torch.float64)
    assert r.draw(logits, u).tolist() == [0, 0, 2, 2, 2, 3, 3]


def test_the_draw_never_takes_what_is_impossible():
    logits = logits_of([0, 0.5, 0, 0.5, 0, 0]).float().repeat(2_002, 1)
    u = torch.cat([torch.linspace(0, 1, 2_001, dtype=torch.float64)[:-1], torch.tensor([1 - 2**-53, 1.0])])
    assert set(r.draw(logits, u).tolist()) == {1, 3}
    alone = torch.full((3, 4), r.NEVER)
    alone[:, 2] = 0
    assert r.draw(alone, torch.tensor([0, 0.5, 1 - 2**-53])).tolist() == [2, 2, 2]


@pytest.mark.parametrize("seed", range(3))
def test_frequencies_of_the_draw(seed):
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(0, 1.5, 12)).float()
    p = torch.softmax(logits, -1).double().numpy()
    found = r.draw(logits.repeat(20_000, 1), torch.from_numpy(rng.random(20_000)))
    counts = np.bincount(found.numpy(), minlength=12)
    assert stats.chisquare(counts, 20_000 * p / p.sum()).pvalue > 1e-3
    assert stats.chisquare(counts, 20_000 * np.roll(p / p.sum(), 1)).pvalue < 1e-6  # and it could tell


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 300), st.floats(0, 1, exclude_max=True))
def test_the_draw_inverts_the_distribution_function(seed, V, u):
    logits = random_logits(seed, V, B=1)
    token = int(r.draw(logits, torch.tensor([u], dtype=torch.float64))[0])
    cdf = np.cumsum(torch.softmax(logits, -1)[0].numpy())
    assert (cdf[token - 1] if token else 0) <= u * cdf[-1] + 1e-12
    assert u * cdf[-1] <= cdf[token] + 1e-12
