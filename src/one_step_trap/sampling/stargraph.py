"""Teacher forcing itself: a task that one-step training does not learn, and that the same network can learn.

A language model is trained on one-step predictions: the true tokens so far go in, the next one is asked for. Bachmann &
Nagarajan (2024, arXiv 2403.06963) ask whether that can fail before any token is sampled. Their **path-star graph** G(d, l)
has d arms that leave one start, each with l nodes, the start included. The prompt lists the edges in random order, then the
start and the goal (the end of one arm); the answer is the arm that ends at the goal. Only its first node is hard: it takes a
walk back from the goal. Every later node is one lookup away from the node before it, which teacher forcing hands over
(the **Clever Hans cheat**). So the later tokens are learned from the true ones before them, no part of the walk is, and the
first token is guessed.

This is about *training* by one-step prediction, not about iterating a model: the same greedy decoder reads all answers.
Seven ways to train the same network are compared (`ARMS`); ``multi-token`` and ``teacherless`` train through several steps.
Frydenlund (2024, arXiv 2410.13779; 2025, arXiv 2503.10542) objects that the failure is partly one of representation and
data: ``structured`` and ``arm-wise`` try two of his changes under plain teacher forcing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from one_step_trap.core.stats import (
    Interval,
    bootstrap_interval,
    proportion_interval,
)
from one_step_trap.core.threads import one_thread
from one_step_trap.core.validate import (
    FloatArray,
    IntArray,
    check_count,
    check_positive,
    check_probability,
    check_rng,
    short_repr,
)
from one_step_trap.errors import BookError
from one_step_trap.study import Study

Arm = Literal["forward", "forward-tied", "reversed", "multi-token", "teacherless", "structured", "arm-wise"]
ARMS: tuple[Arm, ...] = get_args(Arm)
ARM_WORDS: dict[Arm, str] = {
    "forward": "next token, teacher forcing",
    "forward-tied": "forward, with the read-out of the multi-token network: only the loss differs from multi-token",
    "reversed": "next token, teacher forcing, the path told from the goal to the start",
    "multi-token": "all the remaining tokens from every position, one head an offset (Gloeckle et al. 2024)",
    "teacherless": "the whole path at once, a dummy in place of every token of it (Bachmann & Nagarajan 2024, section 5)",
    "structured": "forward; a batch asks for every arm of each of its graphs (Frydenlund 2024)",
    "arm-wise": "forward; the edges of an arm stand together and in order, only the arms are shuffled (Frydenlund 2024)",
}
TIED: tuple[Arm, ...] = ("forward-tied", "multi-token", "teacherless")
"""Arms whose read-out is tied to the embedding.

In pilots a read-out of its own let one-step training find the lookup of an edge soonest (200 to 800 steps; tied, not within
1,600), and the tied one let the multi-token arm find the path soonest (400 to 1,200 steps; not within 2,000 otherwise).
Each got the one it did better with, and ``forward-tied`` is the control.
"""

LEARNED = 0.95  # share of held-out paths that a run must generate exactly to count as one that has learned
GUESS_MARGIN = (
    0.08  # a share this close to 1/d is a guess: 3.6 standard errors of 500 held-out graphs at d = 2
)
ENOUGH = 4  # of five seeds
SHUFFLED = "when the edges are listed in random order, not arm by arm"

RULE = (
    "On G(2, 4), five seeds of the arms forward and multi-token and three of forward-tied, the same body of the network, "
    "optimiser, batch and supply of graphs, and at most as many steps. A run has LEARNED if it generates at least 95% of "
    "500 held-out paths exactly at its last evaluation. A run CHEATS if, under teacher forcing, "
    "its first token is right in a share within 0.08 of 1/d and each later token in at least 95%. 'Can fail' HOLDS if at "
    "least four of five forward runs cheat, no forward or forward-tied run learned, and at least four of five multi-token "
    "runs learned; it holds only WHEN the edge list is shuffled if, besides, at least two of three arm-wise runs learned "
    "(one-step training too). It does NOT HOLD if at least four of five forward runs learned. Otherwise it is OPEN."
)
"""The rule for the claim samp-teacher, written before the study was run, but not blind.

Pilots chose the learning rate, the batch and the read-out so that an arm leaves its first plateau within the steps of the
study; in them no forward run guessed the first token better than 1/d in any setting, and no teacherless one learned.
"""


def _arm(arm: Any) -> Arm:
    """Return a known arm."""
    if arm not in ARMS:
        raise BookError(f"arm must be one of {', '.join(ARMS)}, got {short_repr(arm)}")
    found: Arm = arm
    return found


# --- the task ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StarGraph:
    """The family G(d, l): ``degree`` arms of ``path_length`` nodes (with the start), named by ``values`` numbers.

    A graph has ``1 + d (l - 1)`` nodes, all different, drawn uniformly from 0 .. values - 1. ``path_length`` counts as in
    Bachmann & Nagarajan's code: the start is one of the l nodes. At least 2 arms and 3 nodes each: with one arm there is
    nothing to choose, and with 2 nodes the goal itself is the whole answer.
    """

    degree: int = 2
    path_length: int = 4
    values: int = 20

    def __post_init__(self) -> None:
        d, l = check_count(self.degree, "degree"), check_count(self.path_length, "path_length")  # noqa: E741
        values = check_count(self.values, "values")
        if d < 2:
            raise BookError("degree must be at least 2: with one arm there is no choice to learn")
        if l < 3:
            raise BookError(f"path_length must be at least 3 nodes (start, middle, goal), got {l}")
        if 1 + d * (l - 1) > values:
            raise BookError(
                f"a graph of {d} arms with {l} nodes has {1 + d * (l - 1)} different nodes, more than the "
                f"{values} values: raise values or take fewer or shorter arms"
            )
        for name, value in (("degree", d), ("path_length", l), ("values", values)):
            object.__setattr__(self, name, value)

    @property
    def answer(self) -> int:
        """The number of tokens to predict, l - 1."""
        return self.path_length - 1

    @property
    def edges(self) -> int:
        """The number of edges, d (l - 1)."""
        return self.degree * self.answer

    @property
    def prompt(self) -> int:
        """The number of tokens before the answer: two for an edge, start, goal, '=', and the given end of the path."""
        return 2 * self.edges + 4

    @property
    def equals(self) -> int:
        """The token '=' that ends the question."""
        return self.values

    @property
    def dummy(self) -> int:
        """The token '$' that teacherless training puts in place of the answer's tokens."""
        return self.values + 1


@dataclass(frozen=True, eq=False)
class Stars:
    """Graphs of one family with their questions: arm 0 of each leads to its goal.

    ``start`` has shape (n,); ``arms`` (n, d, l - 1), the nodes of each arm after the start; ``edges`` (n, d (l - 1), 2),
    pairs (from, to) in the order in which the prompt lists them.
    """

    family: StarGraph
    start: IntArray
    arms: IntArray
    edges: IntArray

    @property
    def goal(self) -> IntArray:
        """The end of the arm that is asked for, shape (n,)."""
        return self.arms[:, 0, -1]

    def path(self, *, backwards: bool = False) -> IntArray:
        """Return the answer, shape (n, l - 1): the nodes after the start, or those before the goal read backwards."""
        if not backwards:
            return self.arms[:, 0].copy()
        return np.concatenate([self.arms[:, 0, -2::-1], self.start[:, None]], axis=1)

    def prompt(self, *, backwards: bool = False) -> IntArray:
        """Return the question, shape (n, 2 d (l - 1) + 4): ``u v u v … start goal = given``.

        The last token is the first node of the path, which is given and not asked for: the start, or the goal if the path
        is told ``backwards``. (Bachmann & Nagarajan also put a bar between edges and count the given node as predicted.)
        """
        n = len(self.start)
        given = self.goal if backwards else self.start
        equals = np.full(n, self.family.equals)
        tail = np.stack([self.start, self.goal, equals, given], axis=1)  # (n, 4)
        return np.concatenate([self.edges.reshape(n, -1), tail], axis=1)

    def text(self, i: int = 0, *, backwards: bool = False) -> str:
        """Return a graph's prompt and answer as one line to read, with bars between the edges."""
        i = check_count(i, "i", minimum=0)
        if i >= len(self.start):
            raise BookError(f"i must be below the number of graphs, {len(self.start)}, got {i}")
        edges = " | ".join(f"{u} {v}" for u, v in self.edges[i])
        given = (self.goal if backwards else self.start)[i]
        path = " ".join(map(str, self.path(backwards=backwards)[i]))
        return f"{edges} / {self.start[i]} {self.goal[i]} = {given} → {path}"


def draw(
    family: StarGraph, n: int, rng: np.random.Generator, *, structured: bool = False, arm_wise: bool = False
) -> Stars:
    """Return ``n`` random graphs with one question each.

    ``structured``: instead n/d graphs (d must divide n) with d questions each, one for every arm, over the same edge list.
    ``arm_wise``: the edges of an arm stand together, in order; by default all edges are shuffled.
    """
    if not isinstance(family, StarGraph):
        raise BookError(f"family must be a StarGraph, got {short_repr(family)}")
    n = check_count(n, "n")
    check_rng(rng)
    d, T, copies = family.degree, family.answer, family.degree if structured else 1
    if n % copies:
        raise BookError(f"structured samples come d = {d} at a time: n must be a multiple of it, got {n}")
    g = n // copies
    nodes = rng.random((g, family.values)).argsort(axis=1)[:, : 1 + family.edges]
    start, arms = nodes[:, 0], nodes[:, 1:].reshape(g, d, T)
    tails = np.concatenate([np.broadcast_to(start[:, None, None], (g, d, 1)), arms[..., :-1]], axis=2)
    edges = np.stack([tails, arms], axis=-1)  # (g, d, T, 2)
    if arm_wise:
        order = rng.random((g, d)).argsort(axis=1)[:, :, None, None]
        edges = np.take_along_axis(edges, order, axis=1).reshape(g, -1, 2)
    else:
        order = rng.random((g, family.edges)).argsort(axis=1)[:, :, None]
        edges = np.take_along_axis(edges.reshape(g, -1, 2), order, axis=1)
    if structured:
        # Question k of a graph asks for its arm k: that arm is put first.
        arms = np.stack([np.roll(arms, -k, axis=1) for k in range(d)], axis=1).reshape(n, d, T)
        start, edges = np.repeat(start, d, axis=0), np.repeat(edges, d, axis=0)
    return Stars(family, start, arms, edges)


class Cheat(NamedTuple):
    """What a perfect cheat scores (`clever_hans`): guesses the first token and looks up the others."""

    forced: FloatArray
    loss: float
    path: float


def clever_hans(family: StarGraph) -> Cheat:
    """Return the exact scores of a model that looks one edge ahead and never walks back from the goal.

    Under teacher forcing its tokens are right with probability ``forced = (1/d, 1, …, 1)``, at ``loss = ln(d) / (l - 1)``
    nats a token; it generates the asked path with probability ``path = 1/d``, always an arm of the graph.
    Source: the cheat is Bachmann & Nagarajan's; the arithmetic is elementary.
    """
    if not isinstance(family, StarGraph):
        raise BookError(f"family must be a StarGraph, got {short_repr(family)}")
    forced = np.ones(family.answer)
    forced[0] = 1 / family.degree
    return Cheat(
        forced,
        math.log(family.degree) / family.answer,
        1 / family.degree,
    )


# --- the network ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Training:
    """The network and how it is trained: the same in every arm. New graphs in every batch, none seen twice.

    ``layers`` x ``width`` with ``heads`` is a GPT-2 of transformers, from scratch, no dropout. AdamW without weight decay;
    the ``learning_rate`` rises linearly over the first ``warmup`` steps and then stays, gradients are clipped at norm
    ``clip``. Every ``every`` steps the network is measured on ``held_out`` graphs; it stops once it generated at least
    ``solved`` of their paths exactly in two measurements running, or after ``steps``.
    """

    family: StarGraph = StarGraph()
    layers: int = 3
    width: int = 64
    heads: int = 4
    batch: int = 128
    learning_rate: float = 2e-3
    warmup: int = 50
    clip: float = 1.0
    steps: int = 1_200
    every: int = 100
    held_out: int = 500
    solved: float = 0.99

    def __post_init__(self) -> None:
        if not isinstance(self.family, StarGraph):
            raise BookError(f"family must be a StarGraph, got {short_repr(self.family)}")
        for name in ("layers", "width", "heads", "batch", "warmup", "steps", "every", "held_out"):
            object.__setattr__(self, name, check_count(getattr(self, name), name))
        for name in ("learning_rate", "clip"):
            check_positive(getattr(self, name), name)
        check_probability(self.solved, "solved")
        if self.width % self.heads:
            raise BookError(f"width must be a multiple of heads, got {self.width} and {self.heads}")


class Student(torch.nn.Module):
    """A small GPT-2 that reads prompt and answer and predicts the answer's tokens, ``offsets`` of them from each place.

    Logits of offset k at a place, from its last hidden state h: ``M h`` with a read-out M of its own, drawn at random; or,
    in the arms of `TIED`, ``E W_k h`` with the embedding E of the tokens (shared, as in GPT-2) and W_k learned, near the
    identity at first.
    """

    def __init__(self, training: Training, arm: Arm, generator: torch.Generator) -> None:
        from transformers import GPT2Config, GPT2Model  # seconds to import: only where it is used

        super().__init__()
        family, D = training.family, training.width
        self.family, self.arm = family, arm
        self.offsets = family.answer if arm == "multi-token" else 1
        config = GPT2Config(
            vocab_size=family.values + 2,
            n_positions=family.prompt + family.answer,
            n_embd=D,
            n_layer=training.layers,
            n_head=training.heads,
            activation_function="gelu",
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=None,
            eos_token_id=None,
        )
        with torch.random.fork_rng(
            devices=[]
        ):  # transformers draws its weights from torch's global generator
            torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
            self.body = GPT2Model(config)
        M = torch.randn(self.offsets, D, D if arm in TIED else family.values, generator=generator)
        M = torch.eye(D) + 0.02 * M if arm in TIED else 0.07 * M
        self.readout = torch.nn.Parameter(M)  # (offsets, D, values), or W_k: (offsets, D, D)

    def forward(self, tokens: Tensor, places: int) -> Tensor:
        """Return logits of shape (B, places, offsets, values) at the last ``places`` of ``tokens``, shape (B, length)."""
        states: Tensor = self.body(input_ids=tokens, use_cache=False).last_hidden_state
        hidden = states[:, -places:]  # (B, places, D)
        M: Tensor = self.readout
        if self.arm in TIED:
            M = M @ self.body.wte.weight[: self.family.values].T
        return torch.einsum("bpd,kdv->bpkv", hidden, M)

    def inputs(self, prompt: Tensor, path: Tensor) -> Tensor:
        """Return what the network reads in training: the prompt and the true path, or dummies, but for its last token."""
        told = path[:, :-1]
        if self.arm == "teacherless":
            told = torch.full_like(told, self.family.dummy)
        return torch.cat([prompt, told], dim=1)

    def loss(self, prompt: Tensor, path: Tensor) -> Tensor:
        """Return the training loss in nats: Σ_k Σ_t CE(offset k at place t, token t + k) / (B (l - 1)), over t + k < l.

        With one offset it is the usual mean over the answer's tokens.
        """
        T = path.shape[1]
        logits = self(self.inputs(prompt, path), T)  # (B, T, offsets, values)
        losses = [
            torch.nn.functional.cross_entropy(
                logits[:, : T - k, k].flatten(0, 1), path[:, k:].flatten(), reduction="sum"
            )
            for k in range(self.offsets)
        ]
        return torch.stack(losses).sum() / path.numel()

    @torch.no_grad()
    def generate(self, prompt: Tensor) -> Tensor:
        """Return the answer by greedy decoding, shape (B, l - 1); only the first offset is used.

        Token by token, each fed back; the teacherless network, which never saw an answer, reads dummies and answers at once.
        """
        T = self.family.answer
        if self.arm == "teacherless":
            dummies = torch.full((len(prompt), T - 1), self.family.dummy)
            answer: Tensor = self(torch.cat([prompt, dummies], dim=1), T)[:, :, 0].argmax(-1)
            return answer
        tokens = prompt
        for _ in range(T):
            tokens = torch.cat([tokens, self(tokens, 1)[:, :, 0].argmax(-1)], dim=1)
        return tokens[:, -T:]


# --- measuring and training -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Question:
    """Graphs as an arm sees them: ``prompt`` (n, P) and ``path`` (n, l - 1) as tensors, with the graphs."""

    stars: Stars
    prompt: Tensor
    path: Tensor


def ask(family: StarGraph, arm: Arm, n: int, rng: np.random.Generator, *, training: bool = False) -> Question:
    """Return ``n`` new questions for an arm; only in ``training`` do structured samples come in groups."""
    arm, backwards = _arm(arm), arm == "reversed"
    stars = draw(family, n, rng, structured=training and arm == "structured", arm_wise=arm == "arm-wise")
    prompt, path = stars.prompt(backwards=backwards), stars.path(backwards=backwards)
    return Question(stars, torch.from_numpy(prompt), torch.from_numpy(path))


@torch.no_grad()
def measure(student: Student, held: Question) -> pd.DataFrame:
    """Return one row a position of the answer: 1 .. l - 1, and 0 for the whole path.

    Columns: ``forced`` (share right when the network reads what it reads in training: the true tokens before, or dummies),
    ``generated`` (share right when it reads its own), ``connected`` (share of generated tokens that are joined by an edge,
    in the right direction, to the generated token before) and ``loss`` (nats, under ``forced``; position 0: the mean). At
    position 0 the shares are of graphs in which all positions are so. With a greedy decoder ``generated`` equals ``forced``
    there, by induction: up to the first error both read the same tokens.
    """
    T = held.path.shape[1]
    logits = student(student.inputs(held.prompt, held.path), T)[:, :, 0]  # (n, T, values)
    loss = (
        torch.nn.functional.cross_entropy(logits.transpose(1, 2), held.path, reduction="none")
        .mean(0)
        .double()
    )
    answer = student.generate(held.prompt)
    forced, generated = logits.argmax(-1) == held.path, answer == held.path  # (n, T)
    joined = torch.from_numpy(_joined(held.stars, answer.numpy(), student.arm == "reversed"))
    rows: dict[str, list[float]] = {"loss": [float(loss.mean()), *loss.tolist()]}
    for name, good in (("forced", forced), ("generated", generated), ("connected", joined)):
        rows[name] = [float(good.all(1).double().mean()), *good.double().mean(0).tolist()]
    return pd.DataFrame({"position": range(T + 1), **rows})


def _joined(stars: Stars, answer: IntArray, backwards: bool) -> NDArray[np.bool_]:
    """Tell for each generated token whether an edge of the graph leads to it from the token before, shape (n, T)."""
    given = stars.goal if backwards else stars.start
    before = np.concatenate([given[:, None], answer[:, :-1]], axis=1)
    u, v = (answer, before) if backwards else (before, answer)
    edges = stars.edges  # (n, E, 2)
    found = (edges[:, None, :, 0] == u[:, :, None]) & (edges[:, None, :, 1] == v[:, :, None])  # (n, T, E)
    return np.asarray(found.any(axis=2))


class Trained(NamedTuple):
    """A trained network and its measurements: ``curve`` has the columns of the study (`COLUMNS`)."""

    student: Student
    curve: pd.DataFrame


def train(training: Training, arm: Arm, seed: int, *, steps: int | None = None) -> Trained:
    """Train one arm from ``seed`` and measure it every ``training.every`` steps, the start and the end included.

    Same arguments, same numbers, on one machine. ``steps`` overrides ``training.steps``: a shorter run is the beginning of
    the longer one. Held-out graphs, batches and weights have seeds of their own, spawned from ``seed``; the graphs of the
    batches are the same for all arms that draw them alike.
    """
    if not isinstance(training, Training):
        raise BookError(f"training must be a Training, got {short_repr(training)}")
    arm, seed = _arm(arm), check_count(seed, "seed", minimum=0)
    steps = training.steps if steps is None else check_count(steps, "steps")
    family = training.family
    held_seed, batch_seed, weight_seed = np.random.SeedSequence(seed).spawn(3)
    held = ask(family, arm, training.held_out, np.random.default_rng(held_seed))
    batches = np.random.default_rng(batch_seed)
    weights = torch.Generator().manual_seed(int(weight_seed.generate_state(1)[0]))
    curve: list[pd.DataFrame] = []
    with one_thread():
        student = Student(training, arm, weights)
        adam = torch.optim.AdamW(
            student.parameters(), lr=training.learning_rate, weight_decay=0.0, fused=True
        )
        solved = 0
        for step in range(steps + 1):
            if step % training.every == 0 or step == steps:
                curve.append(measure(student, held).assign(step=step))
                solved = solved + 1 if curve[-1]["generated"].iloc[0] >= training.solved else 0
            if solved == 2 or step == steps:
                break
            for group in adam.param_groups:
                group["lr"] = training.learning_rate * min(1.0, (step + 1) / training.warmup)
            question = ask(family, arm, training.batch, batches, training=True)
            loss = student.loss(question.prompt, question.path)
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(student.parameters(), training.clip)
            adam.step()
    table = pd.concat(curve, ignore_index=True).assign(arm=arm, degree=family.degree, seed=seed)
    return Trained(student, table[list(COLUMNS)])


# --- the study --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Runs:
    """A group of runs of the study: one arm on graphs of one degree, ``seeds`` of them."""

    arm: Arm
    degree: int
    seeds: int


FULL = Training()
PLAN = (
    Runs("forward", 2, 5),
    Runs("forward-tied", 2, 3),
    Runs("reversed", 2, 5),
    Runs("multi-token", 2, 5),
    Runs("teacherless", 2, 3),
    Runs("structured", 2, 3),
    Runs("arm-wise", 2, 3),
    Runs("forward", 3, 2),
    Runs("forward", 5, 2),
)
PARTS = tuple((runs.arm, runs.degree, seed) for runs in PLAN for seed in range(runs.seeds))
KEYS = ("arm", "degree", "seed", "step", "position")
"""The columns that tell the rows of the study apart."""

COLUMNS = {
    "arm": "how the network was trained: "
    + "; ".join(f"{arm} ({words})" for arm, words in ARM_WORDS.items()),
    "degree": "arms of the graph, d",
    "seed": "seed of the run: weights, batches and held-out graphs",
    "step": "updates of the network so far",
    "position": "position in the answer, from 1; 0 is the whole path",
    "forced": "share of held-out graphs in which it is right when the network reads what it reads in training",
    "generated": "share in which it is right when the network reads its own tokens (greedy)",
    "connected": "share in which the generated token is joined by an edge to the one before",
    "loss": "loss in nats when the network reads what it reads in training; position 0: mean over positions",
}


def run_part(part: int) -> pd.DataFrame:
    """Return one run of the study, an entry of `PARTS`."""
    part = check_count(part, "part", minimum=0)
    if part >= len(PARTS):
        raise BookError(f"part must be below {len(PARTS)}, got {part}")
    arm, degree, seed = PARTS[part]
    return train(_with_degree(FULL, degree), arm, seed).curve


def _with_degree(training: Training, degree: int) -> Training:
    """Return the same training on graphs of another degree."""
    return replace(training, family=replace(training.family, degree=degree))


STUDY = Study(
    name="03-sampling-divergence/star-graph",
    keys=KEYS,
    title="Star graphs: accuracy by position and training step, by how the network was trained, degree and seed",
    parts=len(PARTS),
    run=run_part,
    settings={**asdict(FULL), "plan": [asdict(runs) for runs in PLAN]},
    columns=COLUMNS,
)


# --- reading the study ------------------------------------------------------------------------------------


def _check_runs(runs: Any, columns: Sequence[str] = tuple(COLUMNS)) -> pd.DataFrame:
    """Return the table if it has the columns of the study and at least one row."""
    if not isinstance(runs, pd.DataFrame):
        raise BookError(f"runs must be a pandas.DataFrame, the table of the study, got {short_repr(runs)}")
    missing = sorted(set(columns) - set(map(str, runs.columns)))
    if missing:
        raise BookError(f"the table of runs lacks the columns {', '.join(missing)}")
    if runs.empty:
        raise BookError("the table of runs has no rows")
    return runs


def last_rows(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the last measurement of each run."""
    _check_runs(runs)
    last = runs.groupby(["arm", "degree", "seed"])["step"].transform("max")
    return runs[runs["step"] == last].reset_index(drop=True)


def outcomes(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row a run: what it scored at its last measurement and whether it learned or cheats (`RULE`).

    Columns: ``arm``, ``degree``, ``seed``, ``steps``, ``first`` (the first token under teacher forcing; in the reversed
    arm that is the node before the goal), ``rest`` (the worst of the later ones), ``path`` (generated exactly),
    ``connected`` (generated, whole path), ``loss``, ``learned``, ``cheats``.
    """
    rows: list[dict[str, Any]] = []
    for (arm, degree, seed), run in last_rows(runs).groupby(["arm", "degree", "seed"], sort=False):
        at = run.set_index("position")
        first, rest = float(at["forced"][1]), float(at["forced"].drop(index=[0, 1]).min())
        whole = at.loc[0]
        rows.append(
            {
                "arm": arm,
                "degree": degree,
                "seed": seed,
                "steps": int(run["step"].iloc[0]),
                "first": first,
                "rest": rest,
                "path": float(whole["generated"]),
                "connected": float(whole["connected"]),
                "loss": float(whole["loss"]),
                "learned": bool(whole["generated"] >= LEARNED),
                "cheats": abs(first - 1 / degree) <= GUESS_MARGIN and rest >= LEARNED,
            }
        )
    return pd.DataFrame(rows)


def by_position(runs: pd.DataFrame, *, degree: int = 2) -> pd.DataFrame:
    """Return accuracy by position at the last measurement, one row an arm and position: the mechanism in one table.

    Columns: ``arm``, ``position`` (1 .. l - 1), ``n`` (runs), then ``forced`` with ``forced_low`` and ``forced_high`` and
    the same for ``generated``: the mean over runs, the lowest and the highest run.
    """
    rows = last_rows(runs)
    rows = rows[(rows["degree"] == check_count(degree, "degree")) & (rows["position"] > 0)]
    if rows.empty:
        raise BookError(f"the table of runs has no runs at degree {degree}")
    groups = rows.groupby(["arm", "position"], sort=False)
    table = groups.size().rename("n").to_frame()
    for column in ("forced", "generated"):
        table[column] = groups[column].mean()
        table[f"{column}_low"], table[f"{column}_high"] = groups[column].min(), groups[column].max()
    return table.reset_index()


def summary(runs: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return one row an arm and degree: means over runs with 95% intervals, and the share of runs that learned.

    Columns: ``arm``, ``degree``, ``n`` (runs), ``path``, ``path_low``, ``path_high``, the same for ``first``, ``steps``
    (median of the last step), ``learned`` (runs), ``learned_low``, ``learned_high`` (exact interval of the share) and
    ``cheats`` (runs). Intervals of means are bootstrapped over runs; with a single run they have no width.
    """
    check_rng(rng)
    rows = []
    for (arm, degree), group in outcomes(runs).groupby(["arm", "degree"], sort=False):
        learned = int(group["learned"].sum())
        share = proportion_interval(learned, len(group))
        row = {"arm": arm, "degree": degree, "n": len(group)}
        for name in ("path", "first"):
            mean = _mean(group[name].to_numpy(), rng)
            row |= {name: mean.value, f"{name}_low": mean.low, f"{name}_high": mean.high}
        row |= {"steps": float(group["steps"].median()), "learned": learned}
        rows.append(
            row | {"learned_low": share.low, "learned_high": share.high, "cheats": int(group["cheats"].sum())}
        )
    return pd.DataFrame(rows)


def _mean(values: FloatArray, rng: np.random.Generator) -> Interval:
    if len(values) == 1:
        return Interval(float(values[0]), float(values[0]), float(values[0]), 1)
    return bootstrap_interval(values, rng)


def curves(
    runs: pd.DataFrame, column: str = "generated", *, position: int = 0, degree: int = 2
) -> pd.DataFrame:
    """Return one row an arm and step: the mean over runs of a column at a position, its lowest and its highest run.

    Columns: ``arm``, ``step``, ``n``, ``mean``, ``low``, ``high`` (the range of the runs). A run that stopped early, because
    it had solved the task, keeps its last value to the last step of all.
    """
    _check_runs(runs)
    if column not in ("forced", "generated", "connected", "loss"):
        raise BookError(f"column must be forced, generated, connected or loss, got {short_repr(column)}")
    position, degree = check_count(position, "position", minimum=0), check_count(degree, "degree")
    chosen = runs[(runs["position"] == position) & (runs["degree"] == degree)]
    if chosen.empty:
        raise BookError(f"the table of runs has no rows at position {position} and degree {degree}")
    steps = np.sort(chosen["step"].unique())
    rows = []
    for arm, group in chosen.groupby("arm", sort=False):
        wide = group.pivot(index="step", columns="seed", values=column).reindex(steps).ffill()
        rows.append(
            pd.DataFrame(
                {
                    "arm": arm,
                    "step": steps,
                    "n": wide.shape[1],
                    "mean": wide.mean(axis=1).to_numpy(),
                    "low": wide.min(axis=1).to_numpy(),
                    "high": wide.max(axis=1).to_numpy(),
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


class Verdict(NamedTuple):
    """The finding on samp-teacher: paths generated exactly, multi-token minus forward, with the verdict of `RULE`.

    ``cheats``: share of forward runs that cheat; ``learned``: share of multi-token runs that learned.
    """

    difference: Interval
    verdict: Literal["holds", "holds when", "does not hold", "open"]
    condition: str
    cheats: Interval
    learned: Interval


def verdict(runs: pd.DataFrame, rng: np.random.Generator) -> Verdict:
    """Return the verdict of `RULE` on the table of the study."""
    table = outcomes(runs)
    check_rng(rng)
    table = table[table["degree"] == 2].set_index("seed")
    forward, multi, tied, ordered = (
        table[table["arm"] == arm] for arm in ("forward", "multi-token", "forward-tied", "arm-wise")
    )
    both = sorted(set(forward.index) & set(multi.index))
    if len(both) < 5:
        raise BookError(
            f"the rule needs five seeds of the arms forward and multi-token at degree 2, got {len(both)}"
        )
    forward, multi = forward.loc[both], multi.loc[both]
    n, cheats, learned = len(both), int(forward["cheats"].sum()), int(multi["learned"].sum())
    needed = math.ceil(ENOUGH / 5 * n)
    none_learned = not forward["learned"].any() and not tied["learned"].any()
    word: Literal["holds", "holds when", "does not hold", "open"] = "open"
    condition = ""
    if int(forward["learned"].sum()) >= needed:
        word = "does not hold"
    elif cheats >= needed and none_learned and learned >= needed:
        word = "holds"
        if len(ordered) and ordered["learned"].mean() >= 2 / 3:
            word, condition = "holds when", SHUFFLED
    difference = bootstrap_interval((multi["path"] - forward["path"]).to_numpy(), rng)
    return Verdict(
        difference, word, condition, proportion_interval(cheats, n), proportion_interval(learned, n)
    )


# Live in the chapter: the beginning of one stored run.
LIVE: tuple[Arm, int, int] = ("reversed", 0, 100)
SAME_LOSS = 1e-3  # relative, before the task is learned: other rounding made 1e-7 of difference up to there


def live() -> Trained:
    """Return the run that the chapter trains while it runs: `LIVE` is its arm, seed and number of steps."""
    arm, seed, steps = LIVE
    return train(FULL, arm, seed, steps=steps)


def check_live(curve: pd.DataFrame, stored: pd.DataFrame) -> float:
    """Return the largest difference of loss from the stored run, in nats; raise a ``BookError`` where the two disagree.

    The losses at all positions must agree to 0.1% (on the machine that computed the study they are equal). That holds
    while the task is not learned yet; then the rounding of another processor grows.
    """
    _check_runs(curve)
    both = STUDY.beside(curve, _check_runs(stored))
    off = (both["loss"] / both["loss stored"] - 1).abs()
    if (off > SAME_LOSS).any():
        row = both.loc[off.idxmax()]
        raise BookError(
            f"the stored run differs from what this machine computes: loss {row['loss']:.4f} at step {row['step']}, position "
            f"{row['position']}, stored {row['loss stored']:.4f}; compute the study anew with `make sweep`"
        )
    return float((both["loss"] - both["loss stored"]).abs().max())
