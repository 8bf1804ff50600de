"""The instrument of the chapter: let a language model write, and say how far it drifts from the text people write.

``one-step-trap sample --model smollm2 --rule pure --rule top-p=0.95`` on the command line. From Python `drift` takes any causal
model of transformers with its tokenizer, and `run` a model by its name.

**A file of passages** (``--prompts``) is a text in UTF-8, with a line ``---`` between one passage and the next. The first
``prompt_length`` tokens of each are the prompt. Where every passage has ``steps`` tokens more, what its author wrote
there is the control, and drift is the difference from it; otherwise the plain slope is reported, which also
holds what changes with position on any text.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from one_step_trap.core.stats import Interval, readable
from one_step_trap.core.validate import FloatArray, check_count, check_list, short_repr
from one_step_trap.errors import BookError
from one_step_trap.pages.figures import to_svg
from one_step_trap.report import output_folder, standalone
from one_step_trap.sampling import drift as measured
from one_step_trap.sampling import models, probe, survival, texts
from one_step_trap.sampling.decoder import check_device, device_of, is_llama, text_memory
from one_step_trap.sampling.drift import cluster_bootstrap, cube, share_over_prompts, window_names
from one_step_trap.sampling.generate import BATCH, generate
from one_step_trap.sampling.measures import HUMAN
from one_step_trap.sampling.models import LanguageModel
from one_step_trap.sampling.rules import Rule, parse_all
from one_step_trap.sampling.survival import Time

RULES = ("pure", "temperature=0.7", "top-p=0.95", "greedy")
SEQUENCES = 8
SHORTEST = 16  # steps: two windows of eight tokens
CACHE = 2e9  # bytes that the texts written at once may take
BETWEEN = re.compile(r"^---[ \t]*$", re.M)

Progress = Callable[[str], None]


# --- the report -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RuleReport:
    """What was found of one rule, or of the human control; all intervals are over passages.

    ``drift``: slope of the entropy minus that of the control, nats per 100 tokens (None for the control, and without
    one); ``slope``: that of the text alone. ``entropy_first`` and ``entropy_last``: of the model's own next-token
    distribution, nats, over the first and the last ``edge`` tokens. ``looped``: share of texts with a loop; ``loop``:
    tokens until half of the texts are in one. ``diversity``: share of different tokens, ``compression``: compressed size
    over size, both at the end of the texts. ``state``: "rises", "falls", "steady" or "undecided"
    (`one_step_trap.sampling.drift.state`).
    """

    rule: str
    seeds: int
    drift: Interval | None
    slope: Interval
    entropy_first: Interval
    entropy_last: Interval
    looped: Interval
    loop: Time
    diversity: Interval
    compression: Interval
    state: str

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers for JSON."""
        names = ("slope", "entropy_first", "entropy_last", "looped", "diversity", "compression")
        time = {name: getattr(self.loop, name) for name in ("value", "low", "high", "steps")}
        return {
            "rule": self.rule,
            "seeds": self.seeds,
            "drift": None if self.drift is None else self.drift._asdict(),
            "state": self.state or None,
            **{name: getattr(self, name)._asdict() for name in names},
            "tokens_until_half_loop": time,
        }


@dataclass(frozen=True)
class SampleReport:
    """What the instrument found, ready to be printed, drawn (`one_step_trap.sampling.plots.instrument`) or stored.

    ``human`` is the control, or None, and then ``note`` says why. ``table`` has one row a text
    (`one_step_trap.sampling.drift.columns`), ``curves`` the entropy by position.
    """

    model: str
    passages: int
    prompt_length: int
    steps: int
    edge: int
    seeds: tuple[int, ...]
    human: RuleReport | None
    rules: tuple[RuleReport, ...]
    note: str
    table: pd.DataFrame
    curves: pd.DataFrame

    def to_dict(self) -> dict[str, Any]:
        """Return the report for JSON, without the table and the curves."""
        return {
            "model": self.model,
            "passages": self.passages,
            "prompt_length": self.prompt_length,
            "steps": self.steps,
            "edge": self.edge,
            "seeds": list(self.seeds),
            "human": None if self.human is None else self.human.to_dict(),
            "rules": [rule.to_dict() for rule in self.rules],
            "note": self.note or None,
        }

    def words(self) -> pd.DataFrame:
        """Return the table that is printed, every number with its interval as text; the human control comes first."""
        both = [self.human, *self.rules] if self.human else list(self.rules)
        return pd.DataFrame([_cells(rule) for rule in both], columns=_heads(self.human is not None))

    def __str__(self) -> str:
        many = len(self.seeds) > 1
        seeds = f"seeds {self.seeds[0]} to {self.seeds[-1]}" if many else f"seed {self.seeds[0]}"
        lines = [
            f"{self.model}: {self.passages} passages, prompts of {self.prompt_length:,} tokens, {self.steps:,} tokens "
            f"drawn by each rule, {seeds}",
            "95% intervals over passages; entropy of the model's own distribution, nats per token, "
            f"first and last {self.edge} tokens",
            f"different tokens: their share of the last {min(measured.EDGE, self.steps)}",
            "",
        ]
        if self.human is None:
            lines.insert(3, f"no human control: {self.note}")
        words = self.words()
        cells = [[str(name) for name in words.columns], *words.to_numpy().tolist()]
        widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        return "\n".join(lines + ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells])


def _heads(control: bool) -> list[str]:
    what = "drift against human" if control else "slope of entropy"
    return ["rule", f"{what}, nats per 100 tokens", "entropy", "looped", "half loop by", "different tokens"]


def _cells(found: RuleReport) -> list[str]:
    """Return one row of the printed table."""
    if found.rule == HUMAN:
        drift = f"(own slope {_short(found.slope, '+.3f')})"
    else:
        state = f", {found.state}" if found.state else ""
        drift = f"{_short(found.drift or found.slope, '+.3f')}{state}"
    entropy = f"{readable(found.entropy_first.value)} to {readable(found.entropy_last.value)}"
    half = "not reached" if found.loop.value is None else f"{found.loop.value:,.0f} tokens"
    return [found.rule, drift, entropy, _short(found.looped, ".2f"), half, _short(found.diversity, ".2f")]


def _short(e: Interval, digits: str) -> str:
    return f"{e.value:{digits}} [{e.low:{digits}}, {e.high:{digits}}]"


# --- measuring --------------------------------------------------------------------------------------------


def drift(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    rules: Sequence[str | Rule] = RULES,
    *,
    steps: int = 256,
    prompt_length: int = 128,
    seeds: Sequence[int] = (0,),
    device: str | None = None,
    name: str = "the model",
    progress: Progress | None = None,
) -> SampleReport:
    """Let a causal model of transformers go on from each of ``prompts`` by every rule, and report how it drifts.

    ``prompts`` (at least two) are texts of at least ``prompt_length`` tokens, more if they are to serve as control as well (see
    the module). ``rules`` are texts that `one_step_trap.sampling.rules.parse` reads. ``device``: "cpu" or "cuda", by
    default where the model is. The model is put into evaluation mode meanwhile; its weights must be 32-bit floats. Hooks,
    adapters and a ``forward`` of its own are run. It is tried on a few tokens first (`one_step_trap.sampling.probe`).

    Errors: `BookError`, before anything is drawn, for a model, texts, rules or lengths that cannot work.
    """
    with _evaluating(model):
        lm = models.wrap(model, tokenizer, name)
        return measure(
            lm,
            prompts,
            rules,
            steps=steps,
            prompt_length=prompt_length,
            seeds=seeds,
            device=device or device_of(model).type,
            progress=progress,
        )


@contextlib.contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Put a model into evaluation mode meanwhile; afterwards each of its modules is in the mode it was in."""
    modes = [(part, part.training) for part in model.modules()] if isinstance(model, torch.nn.Module) else []
    if modes:
        model.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def measure(
    lm: LanguageModel,
    prompts: Sequence[str],
    rules: Sequence[str | Rule] = RULES,
    *,
    steps: int = 256,
    prompt_length: int = 128,
    seeds: Sequence[int] = (0,),
    device: str | None = None,
    progress: Progress | None = None,
) -> SampleReport:
    """Return the same as `drift` for a model that `one_step_trap.sampling.models.load` has read."""
    steps, prompt_length, parsed, seeds = _settings(rules, steps, prompt_length, seeds)
    length = prompt_length + steps
    if length > lm.context:
        raise BookError(
            f"{prompt_length:,} tokens of prompt and {steps:,} steps are longer than the context of {lm.name}: "
            f"{lm.context:,} tokens"
        )
    check_device(device)
    ids = _encode(lm, prompts, prompt_length)
    if not is_llama(
        lm
    ):  # Llama's positions are computed: those of others are often a table that may be shorter than it says
        probe.check_length(lm, [token for text in ids for token in text], length)
    short = [i + 1 for i, tokens in enumerate(ids) if len(tokens) < length]
    cut = length if not short else prompt_length
    traces, _ = generate(
        lm,
        np.array([tokens[:cut] for tokens in ids]),
        parsed,
        steps,
        seeds,
        prompt_length=prompt_length,
        batch=int(np.clip(CACHE // text_memory(lm, length), 1, BATCH)),
        device=device,
        progress=progress,
    )
    window = min(measured.TOKENS_PER_WINDOW, steps // 2)
    table = measured.rows(traces, lambda tokens: lm.decode(tokens) or " ", window=window)
    note = ""
    if short:
        note = (
            f"{len(short)} of {len(ids)} passages (the first: number {short[0]}) have fewer than {length:,} tokens, "
            f"{prompt_length:,} of prompt and {steps:,} of steps"
        )
    return _report(lm.name, table, [rule.name for rule in parsed], prompt_length, seeds, note)


def _settings(
    rules: Sequence[str | Rule], steps: int, prompt_length: int, seeds: Sequence[int]
) -> tuple[int, int, list[Rule], list[int]]:
    """Return steps, length of the prompt, rules and seeds, checked."""
    parsed = parse_all(rules)
    steps, prompt_length = check_count(steps, "steps"), check_count(prompt_length, "prompt_length")
    if steps < SHORTEST:
        raise BookError(f"steps must be at least {SHORTEST}: a slope needs two windows of text, got {steps}")
    return (
        steps,
        prompt_length,
        parsed,
        [check_count(seed, "seed", minimum=0) for seed in check_list(seeds, "seeds")],
    )


def _encode(lm: LanguageModel, prompts: Sequence[str], prompt_length: int) -> list[list[int]]:
    """Return the tokens of all passages; one that is too short for a prompt is an error."""
    passages = check_list(prompts, "prompts")
    if len(passages) < 2:
        raise BookError("at least two passages are needed: intervals are over passages, got one")
    ids = []
    for i, text in enumerate(passages):
        if not isinstance(text, str):
            raise BookError(f"prompts must be texts, got {short_repr(text)}")
        ids.append(lm.encode(text))
        if len(ids[-1]) < prompt_length:
            raise BookError(
                f"passage {i + 1} has {len(ids[-1])} tokens, and a prompt of {prompt_length:,} was asked for: "
                "use a longer passage, or a shorter prompt length"
            )
    return ids


def _report(
    name: str, table: pd.DataFrame, rules: list[str], prompt_length: int, seeds: list[int], note: str
) -> SampleReport:
    control = None
    if not note:
        control = cube(table, HUMAN, window_names(table, "entropy")).mean(1, keepdims=True)  # (P, 1, W)
    window = int(table["window"].iloc[0])
    return SampleReport(
        name,
        table["prompt"].nunique(),
        prompt_length,
        int(table["steps"].iloc[0]),
        window * measured.edge_windows(table),
        tuple(seeds),
        None if note else _rule_report(table, HUMAN, None, seeds[0]),
        tuple(_rule_report(table, rule, control, seeds[0]) for rule in rules),
        note,
        table,
        measured.curves(table, np.random.default_rng([seeds[0], 1])),
    )


def _rule_report(table: pd.DataFrame, rule: str, control: FloatArray | None, seed: int) -> RuleReport:
    """Return the estimates of one rule; the same passages are drawn for the interval of each."""
    entropy = cube(table, rule, window_names(table, "entropy"))  # (P, K, W)
    others = cube(table, rule, ["distinct_1_last", "zlib_last", "loop_seen"])
    at, edge = measured.positions(table), measured.edge_windows(table)
    steps = int(table["steps"].iloc[0])

    def rng() -> np.random.Generator:
        return np.random.default_rng([seed, 1])

    drift_ = None if control is None else cluster_bootstrap(measured.slopes(entropy - control, at), rng())
    over_run = None
    if drift_ is not None:
        low, value, high = (x * steps / 100 for x in (drift_.low, drift_.value, drift_.high))
        over_run = Interval(value, low, high, drift_.n)
    return RuleReport(
        rule,
        entropy.shape[1],
        drift_,
        cluster_bootstrap(measured.slopes(entropy, at), rng()),
        cluster_bootstrap(entropy[..., :edge].mean(-1), rng()),
        cluster_bootstrap(entropy[..., -edge:].mean(-1), rng()),
        share_over_prompts((others[..., 2] > 0).astype(float), rng()),
        survival.survival(others[..., 2], steps, rng(), rule=rule).median,
        cluster_bootstrap(others[..., 0], rng()),
        cluster_bootstrap(others[..., 1], rng()),
        "" if over_run is None else measured.state(over_run),
    )


# --- by name, and files -----------------------------------------------------------------------------------


def read_passages(path: str | Path) -> list[str]:
    """Return the passages of a text file in UTF-8, which lines of three dashes divide."""
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BookError(f"{path} is no text in UTF-8: byte {error.start:,} cannot be read") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BookError(f"the passages in {path} cannot be read: {reason}") from None
    blocks = BETWEEN.split(text.replace("\r\n", "\n"))
    found = [block.strip() for block in blocks if block.strip()]
    if not found:
        raise BookError(f"{path} holds no passage: write texts into it, with a line --- between two of them")
    return found


def own_passages(count: int) -> list[str]:
    """Return the first ``count`` of the 64 passages that the book holds out, the collections taking turns."""
    passages = texts.split()[1]
    if count > len(passages):
        raise BookError(
            f"the book holds out {len(passages)} passages, {count} were asked for: give your own in a file"
        )
    by_collection = [[p.text for p in passages if p.collection == name] for name in texts.COLLECTIONS]
    return [group[i] for i in range(texts.PASSAGES) for group in by_collection][:count]


def run(
    model: str = "smollm2",
    *,
    rules: Sequence[str | Rule] = RULES,
    steps: int = 256,
    sequences: int | None = None,
    prompt_length: int = 128,
    prompts: str | Path | None = None,
    seed: int = 0,
    seeds: int = 1,
    device: str | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> tuple[SampleReport, list[Path]]:
    """Return the report on a model named as in `one_step_trap.sampling.models.load`, and the files that were written.

    ``prompts`` is a file of passages (`read_passages`), by default the passages of the book. ``sequences`` of them are
    used: by default 8 of the book's, or all of the file's. ``seeds`` counts the seeds from ``seed`` on. The files, in the
    folder ``out``, are those of `render`; a folder that cannot be written is an error at once, and a run that
    fails leaves no file.
    """
    seed_list = list(range(check_count(seed, "seed", minimum=0), seed + check_count(seeds, "seeds")))
    steps, prompt_length, parsed, _ = _settings(rules, steps, prompt_length, seed_list)
    check_device(device)
    passages = _passages(prompts, sequences)

    def work() -> SampleReport:
        (progress or _silent)(f"reading the model {model}")
        lm = models.load(model)
        lengths: dict[str, Any] = {"steps": steps, "prompt_length": prompt_length, "seeds": seed_list}
        return measure(lm, passages, parsed, device=device, progress=progress, **lengths)

    if out is None:
        return work(), []
    with output_folder(Path(out), tuple(file_names(model).values())) as write:
        report = work()
        return report, write(render(report))


def _silent(line: str) -> None:
    pass


def _passages(file: str | Path | None, sequences: int | None) -> list[str]:
    wanted = None if sequences is None else check_count(sequences, "sequences", minimum=2)
    if file is None:
        return own_passages(wanted or SEQUENCES)
    found = read_passages(file)
    if wanted is not None and wanted > len(found):
        raise BookError(f"{file} holds {len(found)} passages, {wanted} were asked for")
    return found[:wanted]


def file_names(model: str) -> dict[str, str]:
    """Return the names of the files of a run by what they hold: report, texts, entropy, drift."""
    name = Path(model).resolve().name if models.exists(model) else model
    stem = "sample-" + re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")[:80]
    return {
        "report": f"{stem}.json",
        "texts": f"{stem}.csv",
        "entropy": f"{stem}-entropy.svg",
        "drift": f"{stem}-drift.svg",
    }


def render(report: SampleReport) -> dict[str, str]:
    """Return the files of a run, name to text: report (JSON), one row a text (CSV) and two figures (SVG)."""
    from one_step_trap.sampling.plots.instrument import plot_run, plot_run_drift

    names = file_names(report.model)
    alt = f"Entropy of {report.model} by position in texts that it wrote, one curve a decoding rule."
    alt_drift = f"Drift of the entropy of {report.model} for each decoding rule, with intervals."
    return {
        names["report"]: json.dumps(report.to_dict(), indent=1, allow_nan=False) + "\n",
        names["texts"]: report.table.to_csv(index=False, lineterminator="\n"),
        names["entropy"]: standalone(to_svg(plot_run(report), alt)),
        names["drift"]: standalone(to_svg(plot_run_drift(report), alt_drift)),
    }
