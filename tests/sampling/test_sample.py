"""The instrument: its report, its files, the command, and what it refuses before anything is drawn."""

import json
import os
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_models import PROSE, make_gpt2, make_llama
from transformers import RobertaConfig, RobertaForCausalLM
from typer.testing import CliRunner

from one_step_trap.cli import app
from one_step_trap.errors import BookError
from one_step_trap.sampling import drift as measured
from one_step_trap.sampling import instrument as ins
from one_step_trap.sampling import models
from one_step_trap.sampling.plots import instrument as plots

P, S = 12, 48
RULES = ["pure", "top-p=0.8", "greedy"]
WORDS = PROSE.replace(",", "").replace(".", "").split()


def passage(seed, words=60):
    return " ".join(np.random.default_rng(seed).permutation(WORDS * 2)[:words]) + "."


PASSAGES = [passage(seed) for seed in range(5)]


@pytest.fixture(scope="module")
def report(llama):
    return ins.measure(llama, PASSAGES, RULES, steps=S, prompt_length=P, seeds=[0, 1])


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "passages.txt"
    path.write_text("\n---\n".join(PASSAGES))
    return path


def refused(message, function, *arguments, **options):
    with pytest.raises(BookError, match=message) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)


# --- the report -------------------------------------------------------------------------------------------


def test_the_report(report):
    assert (report.passages, report.steps, report.edge, report.note) == (5, S, 24, "")
    assert [rule.rule for rule in report.rules] == RULES
    assert [rule.seeds for rule in report.rules] == [2, 2, 1]
    assert report.human.drift is None
    assert report.human.slope.n == 5
    assert len(report.table) == 5 * (1 + 2 + 2 + 1)  # one row a text
    text = str(report)
    assert "5 passages, prompts of 12 tokens, 48 tokens drawn by each rule, seeds 0 to 1" in text
    assert "drift against human, nats per 100 tokens" in text
    assert [line.split()[0] for line in text.splitlines()[-4:]] == ["human", *RULES]
    assert all(len(line) < 140 for line in text.splitlines())
    assert "no human control" not in text


def test_the_numbers_are_those_of_the_chapter(report):
    """Estimates equal those of ``drift.summarise`` on the same table, intervals but for the luck of the bootstrap."""
    summary = measured.summarise(report.table, np.random.default_rng(3)).set_index("rule")
    for found in (report.human, *report.rules):
        row = summary.loc[found.rule]
        names = {"slope": "slope", "entropy_first": "entropy_first", "entropy_last": "entropy_last"}
        names |= {"looped": "looped", "diversity": "distinct_1_last", "compression": "zlib_last"}
        names |= {"drift": "drift"} if found.drift is not None else {}
        for name, column in names.items():
            e = getattr(found, name)
            assert e.value == pytest.approx(row[column], abs=1e-12)
            width = row[f"{column}_high"] - row[f"{column}_low"]
            assert e.low == pytest.approx(row[f"{column}_low"], abs=0.25 * width + 1e-12)
            assert e.high == pytest.approx(row[f"{column}_high"], abs=0.25 * width + 1e-12)


def test_a_change_has_a_state(report, monkeypatch):
    seen = []
    monkeypatch.setattr(measured, "state", lambda change: seen.append(change) or "rises")
    again = ins._report("x", report.table, RULES, P, [0, 1], "")
    assert [rule.state for rule in again.rules] == ["rises"] * 3
    for change, rule in zip(seen, again.rules, strict=True):
        assert change.value == pytest.approx(rule.drift.value * S / 100)
        assert change.low <= change.value <= change.high


def test_json(report):
    stored = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert stored["human"]["drift"] is None
    assert stored["note"] is None
    assert stored["seeds"] == [0, 1]
    assert [rule["rule"] for rule in stored["rules"]] == RULES
    assert stored["rules"][0]["drift"]["n"] == 5
    assert set(stored["rules"][2]["tokens_until_half_loop"]) == {"value", "low", "high", "steps"}


def test_without_a_control(llama, report):
    short = [*PASSAGES[:3], passage(9, words=25)]
    found = ins.measure(llama, short, ["pure"], steps=S, prompt_length=P, seeds=[0, 1])
    assert found.human is None
    assert found.note.startswith(
        "1 of 4 passages (the first: number 4) have fewer than 60 tokens, 12 of prompt"
    )
    assert found.rules[0].drift is None
    assert found.rules[0].state == ""
    assert set(found.table["rule"]) == {"pure"}
    text = str(found)
    assert "no human control: 1 of 4 passages" in text
    assert "slope of entropy, nats per 100 tokens" in text
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["human"] is None
    # The texts are those that are drawn with a control beside them.
    keys = (report.table["rule"] == "pure") & (report.table["prompt"] < 3)
    shared = found.table[found.table["prompt"] < 3].reset_index(drop=True)
    pd.testing.assert_frame_equal(shared, report.table[keys].reset_index(drop=True), atol=1e-3)
    for figure in (plots.plot_run(found), plots.plot_run_drift(found)):
        words = [text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text"))]
        assert not any("human" in word for word in words)


def test_a_loop_is_seen(tokenizer):
    """A model that repeats one token forever."""
    model = make_llama(tie_word_embeddings=False)
    with torch.no_grad():
        for value in model.model.layers.parameters():
            value.zero_()  # the prediction depends on the last token alone
        model.lm_head.weight.zero_()
        norm = torch.nn.functional.rms_norm(
            model.model.embed_tokens.weight, (32,), model.model.norm.weight, 1e-6
        )
        model.lm_head.weight.copy_(norm)  # and is that token again
    found = ins.measure(models.wrap(model, tokenizer), PASSAGES, ["greedy"], steps=64, prompt_length=P)
    (greedy,) = found.rules
    assert greedy.looped.value == 1
    assert greedy.loop.value == measured.measures.SHORTEST_LOOP
    assert greedy.diversity.value == pytest.approx(1 / 64)
    assert greedy.entropy_last.value == pytest.approx(greedy.entropy_first.value, rel=1e-4)
    assert "1.00 [" in str(found)
    assert "48 tokens" in str(found)


def test_same_seed_same_numbers(llama, report):
    again = ins.measure(llama, PASSAGES, RULES[::-1], steps=S, prompt_length=P, seeds=[0, 1])
    assert {rule.rule: rule for rule in again.rules} == {rule.rule: rule for rule in report.rules}
    other = ins.measure(llama, PASSAGES, ["pure"], steps=S, prompt_length=P, seeds=[2])
    assert other.rules[0].drift != report.rules[0].drift


def test_a_small_cache_changes_nothing(llama, report, monkeypatch):
    monkeypatch.setattr(ins, "CACHE", 1)  # one text at a time
    again = ins.measure(llama, PASSAGES[:2], ["pure"], steps=S, prompt_length=P, seeds=[0])
    table = report.table[(report.table["prompt"] < 2) & (report.table["rule"] == "pure")]
    mine = again.table[again.table["rule"] == "pure"]
    assert mine["loop_seen"].tolist() == table[table["seed"] == 0]["loop_seen"].tolist()
    assert mine["entropy_00"].to_numpy() == pytest.approx(table[table["seed"] == 0]["entropy_00"], abs=1e-4)


def test_any_causal_model(tokenizer):
    model = make_gpt2().train()
    found = ins.drift(model, tokenizer, PASSAGES, ["pure", "greedy"], steps=32, prompt_length=P, name="mine")
    assert found.model == "mine"
    assert [rule.rule for rule in found.rules] == ["pure", "greedy"]
    assert model.training  # as it was
    assert all(value.requires_grad for value in model.parameters())
    again = ins.drift(model.eval(), tokenizer, PASSAGES, ["pure", "greedy"], steps=32, prompt_length=P)
    assert again.rules == found.rules


def test_every_module_is_left_in_its_mode(tokenizer):
    model = make_gpt2().train()
    model.transformer.h[0].eval()  # frozen, while the rest is trained
    modes = [part.training for part in model.modules()]
    ins.drift(model, tokenizer, PASSAGES[:2], ["greedy"], steps=16, prompt_length=P)
    assert [part.training for part in model.modules()] == modes


def test_what_a_user_changed_is_measured(tokenizer):
    """The entropy is that of the model with its hooks: logits a thousand times as large leave next to none."""
    model = make_llama()
    plain = ins.drift(model, tokenizer, PASSAGES, ["pure"], steps=16, prompt_length=P).rules[0]
    model.lm_head.register_forward_hook(lambda *arguments: 1000 * arguments[2])
    sharp = ins.drift(model, tokenizer, PASSAGES, ["pure"], steps=16, prompt_length=P).rules[0]
    assert plain.entropy_first.value > 1
    assert sharp.entropy_first.value < 0.05


def test_a_rule_is_run_as_it_was_asked_for(llama):
    names = ["typical=0.9999999", "top-k=1234567", "temperature=0.70000001", "temperature=0.7"]
    found = ins.measure(llama, PASSAGES[:2], names, steps=16, prompt_length=P)
    assert [rule.rule for rule in found.rules] == names


def test_a_context_shorter_than_it_says(tokenizer, monkeypatch):
    """RoBERTa's 66 positions hold 64 tokens; it is said before anything is drawn."""
    settings = {"vocab_size": 320, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    settings |= {"num_attention_heads": 2, "max_position_embeddings": 66, "is_decoder": True}
    model = RobertaForCausalLM(RobertaConfig(**settings))
    ins.drift(model, tokenizer, PASSAGES[:2], ["greedy"], steps=16, prompt_length=P)
    monkeypatch.setattr("one_step_trap.sampling.generate._Batch", None)
    refused(
        r"the model fails at token 66 of a text \(\w+\): .*index",
        *(ins.drift, model, tokenizer, PASSAGES[:2], ["greedy"]),
        **{"steps": 54, "prompt_length": P},
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rules": ["nucleus"]}, "there is no decoding rule 'nucleus'"),
        ({"rules": ["top-p=1.3"]}, "top-p must be above 0 and at most 1"),
        ({"rules": []}, "at least one decoding rule"),
        ({"steps": 15}, "steps must be at least 16"),
        ({"steps": 300}, "12 tokens of prompt and 300 steps are longer than the context of the model: 256"),
        ({"prompt_length": 250}, "250 tokens of prompt and 48 steps are longer than the context"),
        ({"prompt_length": 200}, "passage 1 has .* tokens, and a prompt of 200 was asked for"),
        ({"prompt_length": 0}, "prompt_length must be at least 1"),
        ({"seeds": 3}, "seeds must be a list"),
        ({"seeds": [0, 0]}, "give each seed only once"),
        ({"device": "abacus"}, "device must be cpu or cuda"),
        ({"prompts": PASSAGES[0]}, "prompts must be a list"),
        ({"prompts": PASSAGES[:1]}, "at least two passages are needed"),
        ({"prompts": []}, "prompts must hold at least one"),
        ({"prompts": [PASSAGES[0], 7]}, "prompts must be texts, got 7"),
        ({"prompts": [PASSAGES[0], "Too short."]}, "passage 2 has . tokens"),
        ({"model": None}, "must be a causal model of transformers"),
        ({"tokenizer": None}, "the tokenizer must be one of transformers"),
    ],
)
def test_refused_before_anything_is_drawn(tokenizer, monkeypatch, changes, message):
    monkeypatch.setattr("one_step_trap.sampling.generate._Batch", None)
    arguments = {"model": make_gpt2(), "tokenizer": tokenizer, "prompts": PASSAGES, "rules": ["pure"]}
    refused(message, ins.drift, **(arguments | {"steps": S, "prompt_length": P} | changes))


# --- passages ---------------------------------------------------------------------------------------------


def test_a_file_of_passages(tmp_path):
    path = tmp_path / "p.txt"
    path.write_bytes("\ufeffOne.\r\n\r\nStill one --- and more.\r\n---\r\nTwo\n--- \n\n---\n".encode())
    assert ins.read_passages(path) == ["One.\n\nStill one --- and more.", "Two"]


def test_files_that_hold_no_passages(tmp_path):
    refused("cannot be read: No such file", ins.read_passages, tmp_path / "none")
    refused("cannot be read: Is a directory", ins.read_passages, tmp_path)
    refused("cannot be read", ins.read_passages, "a\0b")
    for i, raw in enumerate([b"", b" \n\n", b"---\n---\n"]):
        (tmp_path / f"{i}").write_bytes(raw)
        refused(
            "holds no passage: write texts into it, with a line ---", ins.read_passages, tmp_path / f"{i}"
        )
    (tmp_path / "latin").write_bytes("Größe".encode("latin-1"))
    refused("is no text in UTF-8: byte 2 cannot be read", ins.read_passages, tmp_path / "latin")


def test_the_passages_of_the_book():
    held_out = {p.text: p.collection for p in ins.texts.split()[1]}
    for count in (2, 8, 20, 64):
        chosen = [held_out[text] for text in ins.own_passages(count)]
        assert len(chosen) == count
        each = [chosen.count(name) for name in set(held_out.values())]
        assert max(each) - min(each) <= 1
    assert len(set(ins.own_passages(64))) == 64
    refused("the book holds out 64 passages, 65 were asked for", ins.own_passages, 65)


# --- by name, files, the command --------------------------------------------------------------------------


def options(file, **changes):
    return {"rules": RULES, "steps": S, "prompt_length": P, "prompts": file} | changes


def test_the_files(llama_folder, file, tmp_path):
    said = []
    out = tmp_path / "a" / "b"
    report, written = ins.run(str(llama_folder), **options(file, out=out, progress=said.append))
    names = ["sample-llama.json", "sample-llama.csv", "sample-llama-entropy.svg", "sample-llama-drift.svg"]
    assert [path.name for path in written] == names
    assert sorted(os.listdir(out)) == sorted(names)
    assert json.loads(written[0].read_text()) == json.loads(json.dumps(report.to_dict()))
    table = pd.read_csv(written[1])
    assert list(table.columns) == list(measured.columns(S, S // 2))
    assert len(table) == 5 * 4
    for path in written[2:]:
        root = ElementTree.fromstring(path.read_text())
        assert root.tag.endswith("svg")
        assert root.attrib["aria-label"]
    assert said[0].startswith("reading the model")
    assert said[-1].endswith("token 48 of 48")
    refused("is there already", ins.run, str(llama_folder), **options(file, out=out))


def test_sequences_and_seeds(llama_folder, file):
    report, written = ins.run(
        str(llama_folder), **options(file, sequences=3, seed=4, seeds=2, rules=["pure"])
    )
    assert written == []
    assert (report.passages, report.seeds) == (3, (4, 5))


@pytest.fixture
def no_model(monkeypatch):
    def load(name):
        raise AssertionError("it loaded a model")

    monkeypatch.setattr(ins.models, "load", load)


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rules": ["top-p=1.3"]}, "top-p must be above 0"),
        ({"steps": 0}, "steps must be at least"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"sequences": 1}, "sequences must be at least 2"),
        ({"sequences": 6}, "holds 5 passages, 6 were asked for"),
        ({"prompts": None, "sequences": 65}, "holds out 64 passages"),
        ({"prompts": "nowhere.txt"}, "the passages in nowhere.txt cannot be read"),
        ({"device": "abacus"}, "device must be"),
        ({"out": "/proc/nothing"}, "cannot write into"),
    ],
)
def test_refused_before_a_model_is_read(file, changes, message):
    refused(message, ins.run, "smollm2", **options(file, **changes))


@pytest.mark.parametrize("failure", [BookError("no"), KeyboardInterrupt(), RuntimeError("bug")])
def test_a_run_that_fails_leaves_nothing(tmp_path, file, llama_folder, monkeypatch, failure):
    def fail(*arguments, **options):
        raise failure

    monkeypatch.setattr(ins, "measure", fail)
    with pytest.raises(type(failure)):
        ins.run(str(llama_folder), **options(file, out=tmp_path / "a" / "b"))
    assert os.listdir(tmp_path) == ["passages.txt"]


def test_a_full_disk_leaves_nothing(tmp_path, file, llama_folder, monkeypatch):
    def full(path, text, **options):
        path.write_bytes(text.encode()[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ins.Path, "write_text", full)
    refused("No space left on device", ins.run, str(llama_folder), **options(file, out=tmp_path / "a"))
    assert os.listdir(tmp_path) == ["passages.txt"]


def test_models_that_cannot_be_read(tmp_path, file):
    refused("there is no model 'nothing'", ins.run, "nothing", **options(file, out=tmp_path / "a"))
    refused("is no model in transformers' format", ins.run, str(tmp_path), **options(file))
    assert not (tmp_path / "a").exists()


def test_names_of_files_are_safe(tmp_path):
    (tmp_path / "my model").mkdir()
    assert ins.file_names("owner/name")["report"] == "sample-owner-name.json"
    assert ins.file_names(str(tmp_path / "my model"))["texts"] == "sample-my-model.csv"
    assert ins.file_names("x" * 5_000)["report"] == f"sample-{'x' * 80}.json"
    assert ins.file_names("smollm2")["drift"] == "sample-smollm2-drift.svg"


def invoke(*arguments):
    result = CliRunner().invoke(app, ["sample", *map(str, arguments)])
    if isinstance(result.exception, BookError):
        raise result.exception
    return result


def test_the_command(llama_folder, file, tmp_path):
    lengths = ["--steps", S, "--prompt-length", P, "--prompts", file, "--model", llama_folder]
    result = invoke(
        *lengths, "--rule", "pure", "--rule", "top-p=0.80", "--seed", 3, "--json", "--out", tmp_path / "o"
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [rule["rule"] for rule in found["rules"]] == ["pure", "top-p=0.8"]
    assert found["seeds"] == [3]
    assert found["passages"] == 5
    assert "reading the model" in result.stderr
    assert "wrote" in result.stderr
    assert len(os.listdir(tmp_path / "o")) == 4
    text = invoke(*lengths, "--sequences", 2).stdout  # the default rules
    assert [line.split()[0] for line in text.splitlines()[-5:]] == ["human", *ins.RULES]


def test_the_command_says_one_line_of_what_is_wrong(file):
    refused("there is no decoding rule 'nucleus=0.9'", invoke, "--rule", "nucleus=0.9")
    refused("cannot be read", invoke, "--prompts", file.with_name("none"))
    assert invoke("--steps", "many").exit_code == 2


# --- figures ----------------------------------------------------------------------------------------------


def test_the_figures(report):
    figure = plots.plot_run(report)
    (ax,) = figure.axes
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels[0] == "human text"
    drifts = {rule.rule: rule.drift.value for rule in report.rules}
    assert labels[1:] == sorted(RULES, key=lambda rule: -drifts[rule])
    many = tuple(replace(report.rules[0], rule=f"rule {i}") for i in range(7))
    curves = pd.concat(
        [report.curves[report.curves["rule"] == "pure"].assign(rule=rule.rule) for rule in many]
    )
    wide = replace(report, rules=many, curves=pd.concat([report.curves, curves]))
    assert len(plots.plot_run(wide).axes) == 2
    (ax,) = plots.plot_run_drift(wide).axes
    assert len(ax.get_yticks()) == 7
    assert "drift against human text" in ax.get_xlabel()
