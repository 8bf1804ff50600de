"""What rules buy at a price: costs from a stored study, families of rules at the same log-loss of human text."""

import numpy as np
import pandas as pd
import pytest

from one_step_trap.errors import BookError
from one_step_trap.sampling import drift
from one_step_trap.sampling import heuristics as heu
from one_step_trap.sampling.generate import Traces
from one_step_trap.sampling.parameters import SamplingDivergence
from one_step_trap.sampling.plots.heuristics import plot_matched
from one_step_trap.sampling.published import from_rows, orderings

SLOPES = {"human": 0.0, "pure": 0.3, "temperature=0.8": 0.0, "temperature=0.6": -0.4, "penalty=1.2": 0.5}
PRICES = {"pure": 0.0, "temperature=0.8": 0.1, "temperature=0.6": 0.4, "penalty=1.2": 0.3}  # nats per token
N, S = 12, 512


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    traces = []
    for rule, slope in SLOPES.items():
        entropy = 3 + slope * np.arange(S) / 100 + 0.1 * rng.standard_normal((N, 1))
        tokens = rng.integers(0, 400, (N, S))
        traces.append(Traces(rule, 0, tokens, np.maximum(entropy, 0.01), entropy + 1, np.arange(N)))
    rows = drift.rows(traces, lambda tokens: " ".join(map(str, tokens)))
    level = dict(zip(range(N), rng.normal(3, 0.2, N), strict=True))  # human log-loss of each prompt
    rows["forbidden"] = rows["rule"].map(lambda rule: np.nan if rule == "human" else 0.0)
    rows["human_log_loss"] = [
        level[prompt] + PRICES[rule] if rule in PRICES else np.nan
        for rule, prompt in zip(rows["rule"], rows["prompt"], strict=True)
    ]
    return rows


@pytest.fixture(scope="module")
def matched(table):
    return heu.matched(
        table, drift.summarise(table, np.random.default_rng(1)), np.random.default_rng(2)
    ).set_index("rule")


def test_costs_of_a_stored_study(table):
    cut = table.copy()
    cut.loc[cut["rule"] == "pure", "forbidden"] = 0.25
    cut.loc[(cut["rule"] == "pure") & (cut["prompt"] == 3), "human_log_loss"] = np.nan
    costs = heu.stored_costs(cut, np.random.default_rng(0)).set_index("rule")
    assert "human" not in costs.index
    assert costs.loc["pure", "impossible"] == 0.25
    assert costs.loc["pure", "tokens_between"] == 4
    assert np.isnan(costs.loc["pure", "log_loss"])  # one passage has none
    warm = costs.loc["temperature=0.6"]
    assert np.isinf(warm["tokens_between"])
    assert warm["log_loss_low"] < warm["log_loss"] < warm["log_loss_high"]


def test_the_price_is_paired_by_prompt(matched):
    """Prompts differ by .2 nats; the price of a rule is the same for each, and has no spread."""
    for rule, price in PRICES.items():
        row = matched.loc[rule]
        assert (row["extra"], row["extra_low"], row["extra_high"]) == pytest.approx((price,) * 3)
        assert row["change"] == pytest.approx(SLOPES[rule] * S / 100, abs=1e-6)
    assert matched.loc["penalty=1.2", "kind"] == "penalty"
    assert plot_matched(matched.reset_index()).axes


def test_a_rule_that_forbids_has_no_price(table):
    cut = table.copy()
    cut.loc[(cut["rule"] == "penalty=1.2") & (cut["prompt"] == 0), "human_log_loss"] = np.nan
    with pytest.raises(BookError, match="a log-loss of human text under every rule"):
        heu.matched(cut, drift.summarise(cut, np.random.default_rng(0)), np.random.default_rng(0))


def test_too_many_families(matched):
    table = matched.reset_index()
    many = pd.concat([table.assign(kind=f"kind {i}") for i in range(5)])
    with pytest.raises(BookError, match="one to four families"):
        plot_matched(many)


def test_published_quantities_from_rows(table):
    found = from_rows(table).set_index("rule")
    pure = table[(table["rule"] == "pure")][drift.window_names(table, "log_loss")].to_numpy().mean()
    assert found.loc["pure", "perplexity"] == pytest.approx(np.exp(pure))
    assert (found["repetition"] == 0).all()
    assert [order.measure for order in orderings(from_rows(table))] == ["perplexity", "repetition"]
    with pytest.raises(BookError, match="none of perplexity"):
        orderings(pd.DataFrame({"rule": ["pure"]}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 100}, "steps must be a multiple of 64 from 256 to 1,024, got 100"),
        ({"steps": 2_048}, "steps must be a multiple of 64"),
        ({"sequences": 65}, "sequences must be at most 64"),
        ({"sequences": 1}, "sequences must be at least 2, got 1"),
        ({"rule": "top-p=1.3"}, "top-p must be above 0 and at most 1, such as 0.95, got 1.3"),
        ({"model": ""}, "a model is named by a text: smollm2, book"),
        ({"model": "smollm3"}, "there is no model .smollm3.; use smollm2, book, a directory that exists"),
        ({"languages": 1}, "languages must be at least 5"),
        ({"sequence": 8}, "unknown parameter 'sequence'; did you mean 'sequences'?"),
    ],
)
def test_parameters_that_cannot_be_right(values, message):
    with pytest.raises(BookError, match=message.replace("?", r"\?")):
        SamplingDivergence.checked(values)


def test_parameters():
    assert SamplingDivergence.checked({"rule": "greedy + penalty=1.20"}).rule == "greedy+penalty=1.2"
