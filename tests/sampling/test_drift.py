"""Drift: the table of texts, slopes and bootstraps with known answers, verdict rules, figures."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from one_step_trap.core.stats import Interval
from one_step_trap.errors import BookError
from one_step_trap.sampling import drift as d
from one_step_trap.sampling import heuristics as heu
from one_step_trap.sampling import measures as m
from one_step_trap.sampling import published as pub
from one_step_trap.sampling.generate import Traces
from one_step_trap.sampling.plots import drift as plots
from one_step_trap.sampling.survival import survivals

RULES = {  # drift in nats per 100 tokens, chance that a text loops
    "pure": (0.2, 0.0),
    "top-k=50": (-0.005, 0.0),
    "top-p=0.95": (0.005, 0.0),
    "temperature=0.7": (-0.3, 0.6),
    "greedy": (-0.4, 1.0),
    "greedy+penalty=1.2": (0.0, 0.0),
}


@dataclass(frozen=True)
class Trace:
    rule: str
    seed: int
    tokens: np.ndarray
    entropy: np.ndarray
    log_loss: np.ndarray


def make_trace(rule, seed, *, N=24, S=512, slope=0.0, loop=0.0):
    """Make texts whose entropy drifts by ``slope`` and of which a share ``loop`` goes round in circles from S/2 on."""
    rng = np.random.default_rng([seed, *map(ord, rule)])
    prompt = np.random.default_rng(9).normal(3, 0.3, (N, 1))  # how hard a passage is: shared by all rules
    noise = rng.normal(0, 0.3, (N, S))
    entropy = prompt + slope * np.arange(S) / 100 + noise
    tokens = rng.integers(0, 2_000, (N, S))
    looping = np.arange(N) < round(loop * N)
    tokens[looping, S // 2 :] = np.resize([5, 6, 7, 8, 9], S - S // 2)
    return Trace(rule, seed, tokens, entropy, entropy + rng.normal(0, 0.5, (N, S)))


def decode(ids):
    return " ".join(f"w{i}" for i in ids)


def study(seeds=2, **kwargs):
    traces = [make_trace("human", 0, **kwargs)]
    for rule, (slope, loop) in RULES.items():
        traces += [make_trace(rule, s, slope=slope, loop=loop, **kwargs) for s in range(seeds)]
    return traces


@pytest.fixture(scope="module")
def traces():
    return study()


@pytest.fixture(scope="module")
def table(traces):
    return d.rows(traces, decode)


@pytest.fixture(scope="module")
def summary(table):
    return d.summarise(table, np.random.default_rng(0))


# --- the table --------------------------------------------------------------------------------------------


def test_rows_hold_what_the_dictionary_says(traces, table):
    assert list(table.columns) == list(d.columns(512))
    assert len(table) == 24 * (1 + 2 * len(RULES))
    assert table.notna().all().all()
    trace = next(t for t in traces if t.rule == "greedy" and t.seed == 1)
    own = table[(table["rule"] == "greedy") & (table["seed"] == 1)].reset_index(drop=True)
    assert own["entropy_03"].to_numpy() == pytest.approx(trace.entropy[:, 192:256].mean(1))
    assert own["log_loss_07"].to_numpy() == pytest.approx(trace.log_loss[:, 448:].mean(1))
    assert (own["loop_onset"] == 256).all()
    assert (own["loop_seen"] == 256 + 48).all()
    assert own["tail_repeats"].all()
    assert own["distinct_1_last"].to_numpy() == pytest.approx(5 / 128)
    assert own["repeated_last"].to_numpy() == pytest.approx(1)
    assert own["zlib_last"].max() < 0.1 < own["zlib_first"].min()


def test_one_row_alone_is_the_row_of_the_table(traces, table):
    trace = traces[3]
    text = decode(trace.tokens[5].tolist())
    alone = d.row(trace, 5, text)
    mask = (table["rule"] == trace.rule) & (table["seed"] == trace.seed) & (table["prompt"] == 5)
    expected = table[mask].iloc[0].to_dict()
    assert alone.keys() == expected.keys()
    assert all(
        alone[name] == (pytest.approx(v) if isinstance(v, float) else v) for name, v in expected.items()
    )


def test_numbers_of_prompts_are_those_of_the_traces():
    t = make_trace("pure", 0, N=2)
    trace = Traces(t.rule, t.seed, t.tokens, t.entropy, t.log_loss, np.array([3, 8]))
    assert d.rows([trace], decode)["prompt"].tolist() == [3, 8]
    assert d.rows([trace], decode, first_prompt=16)["prompt"].tolist() == [19, 24]
    assert d.row(trace, 1, "text")["prompt"] == 8


def test_short_runs_and_odd_lengths():
    table = d.rows(study(seeds=1, N=3, S=100), decode, window=16)
    assert d.window_names(table, "entropy")[-1] == "entropy_05"  # 96 of 100 tokens
    assert d.positions(table)[:2].tolist() == [8, 24]
    assert len(d.summarise(table, np.random.default_rng(0), resamples=20)) == 7


def test_slopes_by_hand():
    at = np.array([32.0, 96, 160])
    assert d.slopes([1, 2, 3], at) == pytest.approx(100 / 64)
    assert d.slopes([[5, 5, 5], [3, 2, 1]], at) == pytest.approx([0, -100 / 64])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 16))
def test_slopes_against_polyfit(seed, W):
    rng = np.random.default_rng(seed)
    at, y = np.sort(rng.random(W)) * 1_000, rng.normal(size=(3, W))
    assert d.slopes(y, at) == pytest.approx(100 * np.polyfit(at, y.T, 1)[0], rel=1e-6, abs=1e-6)


# --- intervals --------------------------------------------------------------------------------------------


def test_seeds_are_no_independent_repetitions():
    prompts = np.random.default_rng(1).normal(size=50)
    one = d.cluster_bootstrap(prompts, np.random.default_rng(2))
    three = d.cluster_bootstrap(np.repeat(prompts[:, None], 3, axis=1), np.random.default_rng(2))
    assert three == pytest.approx(one)
    assert one.n == 50
    assert one.high - one.low == pytest.approx(2 * 1.96 * prompts.std() / np.sqrt(50), rel=0.1)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    hits, runs = 0, 300
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        values = rng.normal(1, 1, (40, 1)) + rng.normal(0, 1, (40, 3))  # half of the variance is the prompt's
        e = d.cluster_bootstrap(values, rng, resamples=400)
        hits += e.low <= 1 <= e.high
    assert 0.90 <= hits / runs <= 0.98


def test_shares_without_variance_keep_a_width():
    e = d.share_over_prompts(np.zeros((64, 3)), np.random.default_rng(0))
    assert e[:2] == (0, 0)
    assert e.high == pytest.approx(1 - 0.025 ** (1 / 64))  # Clopper & Pearson with no success
    some = d.share_over_prompts(np.eye(10, 1), np.random.default_rng(0))
    assert some.value == pytest.approx(0.1)


# --- the summary and the curves ---------------------------------------------------------------------------


def test_summary_finds_what_was_put_in(summary):
    drift = summary.set_index("rule")
    for rule, (slope, loop) in RULES.items():
        r = drift.loc[rule]
        assert r["drift_low"] - 0.01 <= slope <= r["drift_high"] + 0.01
        assert r["drift"] == pytest.approx(slope, abs=0.02)
        assert r["looped"] == pytest.approx(round(loop * 24) / 24)
        assert (r["prompts"], r["seeds"]) == (24, 2)
    human = drift.loc["human"]
    assert (human["drift"], human["drift_low"], human["drift_high"]) == (0, 0, 0)
    assert drift.loc["pure", "above"] > 0.5 > drift.loc["pure", "below"]
    assert drift.loc["greedy", "below"] > 0.5
    assert (drift["outside"] - drift["above"] - drift["below"]).abs().max() < 1e-12
    assert human["outside"] == pytest.approx(2 / 24)  # the quantiles leave one passage out on each side
    assert set(d.SUMMARY) <= set(summary.columns)


def test_entce_and_the_paired_difference_by_hand():
    human = make_trace("human", 0, N=3, S=256)
    pure = replace(human, rule="pure", entropy=human.entropy + np.linspace(0, 1, 256))
    table = d.rows([human, pure], decode)
    rng = np.random.default_rng(0)
    excess = d.curves(table, rng, quantity="excess", resamples=50).set_index("rule")
    gap = np.linspace(0, 1, 256).reshape(4, 64).mean(1)
    assert excess.loc["pure", "mean"].to_numpy() == pytest.approx(gap)
    assert excess.loc["pure", "low"].to_numpy() == pytest.approx(gap)  # paired: the passages drop out
    assert excess.loc["human", "mean"].to_numpy() == pytest.approx(0)
    entce = d.curves(table, rng, quantity="entce", resamples=50).set_index("rule")
    own = pure.entropy.reshape(3, 4, 64).mean((0, 2)) - human.log_loss.reshape(3, 4, 64).mean((0, 2))
    assert entce.loc["pure", "mean"].to_numpy() == pytest.approx(own)
    # the human log-loss falls out of the difference of two EntCE
    both = entce.loc["pure", "mean"].to_numpy() - entce.loc["human", "mean"].to_numpy()
    assert both == pytest.approx(gap)
    summary = d.summarise(table, rng, resamples=50).set_index("rule")
    assert summary.loc["pure", "drift"] == pytest.approx(100 / 255, rel=1e-3)
    assert summary.loc["pure", "excess_first"] == pytest.approx(gap[:2].mean())
    assert summary.loc["pure", "excess_last_low"] == pytest.approx(gap[2:].mean())


def test_means_and_medians_part_where_texts_go_to_both_sides():
    human = make_trace("human", 0, N=10, S=256)
    ramp = np.linspace(0, 3, 256) * np.array([1, 1, 1, 1, -1, -1, -1, -1, -1, -1])[:, None]
    table = d.rows([human, replace(human, rule="pure", entropy=human.entropy + ramp)], decode)
    r = d.summarise(table, np.random.default_rng(0), resamples=100).set_index("rule").loc["pure"]
    assert r["above"] == pytest.approx(0.4)
    assert r["below"] == pytest.approx(0.6)
    assert r["entropy_last_median"] < r["entropy_last"] - 0.5


def test_the_difference_of_two_tables_is_that_of_their_changes(table):
    steeper = d.rows(
        [make_trace("human", 0), *(make_trace("pure", seed, slope=0.3) for seed in range(2))], decode
    )
    found = d.difference(steeper, table, "pure", np.random.default_rng(0))
    assert found.value == pytest.approx(0.1 * 5.12, abs=0.02)  # nats per 100 tokens, over 512
    assert found.low == found.value == found.high  # every prompt's slope rises by as much
    assert d.difference(table, table, "pure", np.random.default_rng(0)).value == 0
    fewer = steeper[steeper["prompt"] < 8]
    with pytest.raises(BookError, match="the same prompts"):
        d.difference(fewer, table, "pure", np.random.default_rng(0))


def test_summaries_are_deterministic(table):
    small = table[table["rule"].isin(["human", "pure"])]
    a, b = (d.summarise(small, np.random.default_rng(5), resamples=100) for _ in range(2))
    pd.testing.assert_frame_equal(a, b)


# --- verdicts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "value", "high", "expected"),
    [
        (0.1, 0.5, 0.9, "rises"),
        (0.01, 0.2, 0.3, "undecided"),  # surely above 0, perhaps too small to matter
        (0.01, 0.1, 0.2, "steady"),
        (-0.9, -0.5, -0.1, "falls"),
        (-0.2, 0, 0.2, "steady"),
        (-0.5, 0.3, 0.9, "undecided"),
    ],
)
def test_states(low, value, high, expected):
    assert d.state(Interval(value, low, high, 64)) == expected
    mirrored = {"rises": "falls", "falls": "rises"}.get(expected, expected)
    assert d.state(Interval(-value, -high, -low, 64)) == mirrored


def small_summary(changes, *, looped=None, outside=None, spread=0.5):
    """Make a summary by hand from the change of each rule over 1,000 tokens: (value, half width)."""
    records = [{"rule": "human", "slope_sd": spread / 10, "drift": 0.0, "drift_low": 0.0, "drift_high": 0.0}]
    for rule, (value, half) in changes.items():
        records.append(
            {"rule": rule, "slope_sd": 0.1, "drift": value / 10}
            | {"drift_low": (value - half) / 10, "drift_high": (value + half) / 10}
        )
    table = pd.DataFrame(records).assign(prompts=64, steps=1_000)
    for name, values in (("looped", looped or {}), ("outside", outside or {})):
        e = [values.get(rule, (0.0, 0.0, 0.05)) for rule in table["rule"]]
        table[[name, f"{name}_low", f"{name}_high"]] = e
    return table


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"pure": (0.6, 0.1), "greedy": (-3, 0.5)}, "holds"),
        ({"pure": (0.6, 0.1), "top-p=0.95": (0.0, 0.1)}, "holds when"),
        ({"pure": (0.0, 0.1), "greedy": (-3, 0.5)}, "holds when"),
        ({"pure": (0.0, 0.1), "greedy": (0.1, 0.1)}, "does not hold"),
        ({"pure": (0.3, 0.5), "greedy": (-3, 0.5)}, "open"),
        ({"pure": (0.0, 0.1), "greedy": (0.3, 0.5)}, "open"),
    ],
)
def test_the_rule_on_divergence(changes, verdict):
    finding = d.verdict_diverge(small_summary(changes))
    assert finding.verdict == verdict
    assert finding.number.value == pytest.approx(changes["pure"][0] / 10)
    assert finding.condition


def test_the_condition_names_both_sides(summary):
    finding = d.verdict_diverge(summary)
    assert finding.verdict == "holds when"
    assert "upward under pure" in finding.condition
    assert "downward under temperature=0.7, greedy" in finding.condition
    assert "not under" in finding.condition


GOOD = {
    "temperature=0.7": (0, 0.1),
    "top-k=50": (0, 0.1),
    "top-p=0.9": (0, 0.1),
    "greedy+penalty=1.2": (0, 0.1),
}


@pytest.mark.parametrize(
    ("changes", "looped", "outside", "verdict", "state"),
    [
        ({}, {}, {}, "holds", "stabilises"),
        ({"top-k=50": (-2, 0.1)}, {}, {}, "holds when", "fails: drifts"),
        ({"top-k=50": (0.5, 0.1)}, {}, {}, "holds when", "undecided"),
        ({}, {"top-k=50": (0.3, 0.2, 0.4)}, {}, "holds when", "fails: loops"),
        ({}, {"top-k=50": (0.08, 0.02, 0.14)}, {}, "holds when", "undecided"),
        ({}, {}, {"top-k=50": (0.5, 0.4, 0.6)}, "holds when", "fails: ends outside the human band"),
        ({rule: (-2, 0.1) for rule in GOOD}, {}, {}, "does not hold", "fails: drifts"),
        ({rule: (0.5, 0.1) for rule in GOOD}, {}, {}, "open", "undecided"),
    ],
)
def test_the_rule_on_heuristics(changes, looped, outside, verdict, state):
    finding = d.verdict_heuristics(small_summary(GOOD | changes, looped=looped, outside=outside))
    assert finding.verdict == verdict
    assert finding.states["top-k=50"] == state
    assert ("top-k=50" in finding.condition) == (verdict == "holds when")


def test_heuristics_of_the_synthetic_study(summary):
    finding = d.verdict_heuristics(summary)
    assert finding.states["temperature=0.7"].startswith("fails: drifts, loops")
    assert d.human_spread(summary) == pytest.approx(summary["slope_sd"][0] * 5.12)


# --- beside what others published -------------------------------------------------------------------------


def test_orders():
    same = pub.compare_orderings(
        {"human": 5, "pure": 9, "greedy": 1}, {"human": 12, "pure": 23, "greedy": 1.5}
    )
    assert (same.tau, same.swapped) == (pytest.approx(1), ())
    other = pub.compare_orderings(
        {"human": 9, "pure": 5, "top-k=50": 1}, {"human": 12, "pure": 23, "top-k=40": 7}
    )
    assert other.tau == pytest.approx(1 / 3)
    assert other.swapped == (("human", "pure"),)
    assert other.table["rule"].tolist() == ["top-k=50", "human", "pure"]
    tied = pub.compare_orderings({"human": 1, "pure": 1}, {"human": 1, "pure": 2})
    assert (tied.tau, tied.swapped) == (0, ())


def test_published_tables():
    rows = {r.rule: r for r in pub.HOLTZMAN}
    assert (
        rows["beam=16"].perplexity < rows["greedy"].perplexity < rows["human"].perplexity
    )  # likelier than people
    assert rows["pure"].repetition < rows["human"].repetition < 1 < rows["beam=16"].repetition
    blow_up = {r.model: r.nats for r in pub.BRAVERMAN}
    assert blow_up["GPT-2"] == pytest.approx(0.949, abs=0.001)
    assert blow_up["AWD-LSTM"] == pytest.approx(0.468, abs=0.001)
    assert min(blow_up.values()) > 0


def test_pooled_numbers_and_their_orders(traces):
    pooled = pub.pooled(traces)
    assert len(pooled) == len(traces)
    greedy = pooled[pooled["rule"] == "greedy"].iloc[0]
    trace = next(t for t in traces if t.rule == "greedy")
    assert greedy["perplexity"] == pytest.approx(np.exp(trace.log_loss.mean()))
    assert greedy["repetition"] == 100
    assert greedy["zipf"] == pytest.approx(m.zipf_exponent(trace.tokens))
    found = pub.orderings(pooled)
    assert [o.measure for o in found] == ["perplexity", "self_bleu_4", "repetition"]
    assert set(found[0].table["rule"]) == {"human", "greedy", "pure", "top-k=50", "top-p=0.95"}
    assert plots.plot_ordering(found[:2]).axes


# --- what a rule buys and costs ---------------------------------------------------------------------------


def test_names_of_rules():
    names = {"pure": "pure", "top-p=0.95": "top-p", "greedy+penalty=1.2": "greedy+penalty"}
    assert {rule: d.kind(rule) for rule in names} == names


def test_buys_and_costs(summary):
    forbidden = pd.DataFrame([("top-k=50", 0.1, 0.08, 0.12)],
                             columns=["rule", "impossible", "impossible_low", "impossible_high"])  # fmt: skip
    table = heu.buys_and_costs(summary, forbidden)
    assert set(table["what"]) == set(heu.BUYS)
    greedy = table[table["rule"] == "greedy"].set_index("what")
    assert greedy.loc["looped", "value"] == 1
    assert greedy.loc["drift", "value"] == pytest.approx(-0.4 * 5.12, abs=0.1)
    human = summary.loc[summary["rule"] == "human", "distinct_1_last"].iloc[0]
    assert greedy.loc["diversity", "value"] == pytest.approx(5 / 128 / human)
    assert plots.plot_buys_and_costs(table).axes


def test_panels_of_a_figure(summary):
    assert d.panels(summary) == {
        "highest drift": ["pure", "top-p=0.95", "greedy+penalty=1.2"],
        "lowest drift": ["top-k=50", "temperature=0.7", "greedy"],
    }
    many = small_summary({f"rule={i}": (i - 7.5, 0.1) for i in range(9)})  # two rise, seven fall: five fit
    assert [len(rules) for rules in d.panels(many).values()] == [4, 5]


def test_the_ends_of_texts_are_drawn_before_the_human_ones(table):
    figure = plots.plot_ends(table, ["pure", "greedy", "top-k=50"])
    seen = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.texts[0].get_text() for ax in seen] == ["pure", "greedy", "top-k=50"]
    for ax in seen:
        ours, human = ax.patches[0].get_xy(), ax.patches[1].get_xy()
        assert ours[:, 1].max() <= 1
        assert human[:, 1].max() <= 1
    with pytest.raises(BookError, match="between 1 and"):
        plots.plot_ends(table, [])
    with pytest.raises(BookError, match="no rows of the rule"):
        plots.plot_ends(table, ["mirostat=5"])


def test_figures(table, summary):
    rng = np.random.default_rng(0)
    curves = d.curves(table, rng, resamples=50)
    figure = plots.plot_curves(curves, {"up": ["pure"], "down": ["greedy", "temperature=0.7"]})
    assert [len(ax.get_legend().get_texts()) for ax in figure.axes] == [2, 3]
    assert len(plots.plot_slopes(summary).axes[0].get_yticklabels()) == len(RULES)
    lasting = survivals(table, rng, rules=["greedy", "pure"], resamples=50)
    assert lasting["greedy"].median.value == 304
    assert plots.plot_survival(lasting).axes


# --- bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t, s: d.rows([], decode), "at least one entry"),
        (lambda t, s: d.rows([make_trace("pure", 0)], None), "must be a function"),
        (lambda t, s: d.trace_rows(make_trace("pure", 0), ["one text"]), "one decoded text for each"),
        (
            lambda t, s: d.rows([replace(make_trace("pure", 0), entropy=np.zeros((2, 2)))], decode),
            "one shape",
        ),
        (lambda t, s: d.rows([make_trace("pure", 0, S=40)], decode), "no window of 64"),
        (lambda t, s: d.row(make_trace("pure", 0, N=2), 2, "text"), "below the number of texts"),
        (lambda t, s: d.summarise(t[t["rule"] != "human"], np.random.default_rng(0)), "the control"),
        (lambda t, s: d.summarise(t, 0), "Generator"),
        (lambda t, s: d.summarise(pd.concat([t, t]), np.random.default_rng(0)), "holds a text twice"),
        (lambda t, s: d.summarise(t.drop(index=30), np.random.default_rng(0)), "same seeds"),
        (
            lambda t, s: d.summarise(t[t["prompt"].lt(9) | t["rule"].eq("human")], np.random.default_rng(0)),
            "paired",
        ),
        (lambda t, s: d.summarise(t.assign(entropy_02=np.nan), np.random.default_rng(0)), "NaN"),
        (lambda t, s: d.cube(t, "beam", ["entropy_00"]), "no rows of the rule"),
        (lambda t, s: d.curves(t, np.random.default_rng(0), quantity="loss"), "quantity must be one of"),
        (lambda t, s: d.slopes([1], [1]), "at least two windows"),
        (lambda t, s: d.cluster_bootstrap([1.0], np.random.default_rng(0)), "at least 2 prompts"),
        (lambda t, s: d.verdict_diverge(s[s["rule"] != "pure"]), 'needs the rule "pure"'),
        (lambda t, s: d.verdict_heuristics(s[s["rule"] != "top-k=50"]), "lacks the rules top-k"),
        (lambda t, s: d.change(s, "beam"), "one row of the rule"),
        (lambda t, s: d.state(0.3), "Interval"),
        (lambda t, s: pub.compare_orderings({"pure": 1}, {"greedy": 1}), "at least two rules"),
        (
            lambda t, s: pub.compare_orderings({"top-k=5": 1, "top-k=9": 2}, {"human": 1}),
            "two rules of one kind",
        ),
        (lambda t, s: pub.compare_orderings([], {"human": 1}), "must map"),
        (lambda t, s: d.kind(5), "must be a name"),
        (
            lambda t, s: d.rows([Traces("pure", 0, *[np.ones((2, 64), int)] * 3, np.arange(3))], decode),
            "prompts",
        ),
        (lambda t, s: plots.plot_curves(t, {"up": ["pure"]}), "lacks the columns"),
        (lambda t, s: plots.plot_ordering([]), "one or two orderings"),
    ],
)
def test_bad_input(call, message, table, summary):
    with pytest.raises(BookError, match=message):
        call(table, summary)
