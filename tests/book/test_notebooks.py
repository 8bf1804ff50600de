"""Every chapter executed by papermill, with parameters that make it quick, and what it recorded.

A chapter is run three times (``RUNS``), as other processors would, each once in a test run; all tests read the same outputs.
What this processor makes of it is built by ``make book``, and its verdicts are compared in test_built_pages.py.
"""

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import papermill
import pytest
from instruction_sets import INSTRUCTION_SETS
from papermill.exceptions import PapermillExecutionError

from one_step_trap.book.execute import ENVIRONMENT, execute
from one_step_trap.errors import BookError
from one_step_trap.ledger.claims import catalogue, recorded_in

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.book

# Parameters that make a chapter quick: fewer repetitions, shorter runs. What is not named keeps its default.
QUICK: dict[str, dict[str, object]] = {
    "01-one-step-trap": {"random_chains": 100, "instances": 10_000, "mdps": 20, "transitions": 1_000},
    "02-discounting": {
        **{"episodes": 20, "returns": 2_000, "mdps": 40, "walk_runs": 20},
        **{"planning_mdps": 60, "data_sets": 5, "delayed_seeds": 1},
    },
    "03-sampling-divergence": {"languages": 5, "sequences": 2},
    "04-muzero-unrolling": {"env_steps": 1_000, "live": 0.1, "worlds": 30},
}

# Other settings that a reader may try; they are added to the quick ones, and the chapter must run through.
OTHER: dict[str, dict[str, object]] = {
    "01-one-step-trap": {"eps": 0.01, "seed": 1, "env": "Acrobot-v1", "unroll_steps": 2},
    "02-discounting": {"gamma": 0.95, "seed": 1},
    "03-sampling-divergence": {"rule": "temperature=0.8", "seed": 1},
    "04-muzero-unrolling": {"unroll_steps": 1, "training_seed": 3, "simulations": 12, "seed": 1},
}

# Values of claims with quick parameters: exact ones to rounding, estimates within what repetitions move them.
EXPECTED: dict[str, dict[str, object]] = {
    "01-one-step-trap": {
        "trap-perfect": pytest.approx(0, abs=1e-11),
        "trap-compound": 3,
        "trap-bounds": 0,
        "trap-affordable": pytest.approx(0.0486, abs=1e-3),
        "trap-misspecified": pytest.approx(0.0138, abs=2e-3),
        "trap-exponential": pytest.approx(3, abs=1e-3),
        "trap-imitation": pytest.approx(1.91, abs=0.02),
        "trap-planning": pytest.approx(2.3, abs=0.4),
        "trap-real": 3,  # the stored studies
    },
    "02-discounting": {
        "disc-500": pytest.approx(0.99**500, rel=1e-12),
        "disc-gym": pytest.approx(13 / 27),  # the registry of the pinned Gymnasium
        "disc-essay": pytest.approx(1226.25),  # the essays of the pinned package
        "disc-variance": pytest.approx(1.01, abs=0.03),
        "disc-nstep": pytest.approx(0.085, abs=0.03),
        "disc-planning": pytest.approx(0.5, abs=0.2),
        "disc-delayed": pytest.approx(0.56),  # the stored study
        "disc-blackwell": pytest.approx(10 / 11, abs=1e-12),
        "disc-hyperbolic": pytest.approx(0.0136, rel=0.01),
        "disc-regulariser": pytest.approx(0, abs=1e-9),
    },
    "03-sampling-divergence": {
        "samp-exact": pytest.approx(7.99, abs=0.05),
        # the stored studies
        "samp-diverge": pytest.approx(0.066, abs=0.001),
        "samp-base": pytest.approx(-0.63, abs=0.01),
        "samp-heuristics": 0,
        "samp-beam": pytest.approx(1.80, abs=0.01),
        "samp-teacher": pytest.approx(0.35, abs=0.03),
        "scale-supervised": pytest.approx(-0.007, abs=0.002),
    },
    "04-muzero-unrolling": {
        "mu-five": 5,
        "mu-stochastic": pytest.approx(28, abs=12),
        # the stored studies
        "mu-diverge": pytest.approx(6.82, abs=0.01),
        "mu-control": pytest.approx(-49.8, abs=0.1),
        "mu-openloop": pytest.approx(9.8, abs=0.1),
        "mu-offpolicy": pytest.approx(1.08, abs=0.01),
        "scale-search": pytest.approx(0.038, abs=0.001),
    },
}

# The verdicts that follow from them.
VERDICTS = {
    "01-one-step-trap": {
        **dict.fromkeys(
            ("trap-perfect", "trap-compound", "trap-affordable", "trap-exponential"), "holds when"
        ),
        **dict.fromkeys(("trap-misspecified", "trap-imitation", "trap-real"), "holds when"),
        "trap-planning": "holds when",
        "trap-kstep": "does not hold",
        "trap-bounds": "holds",
    },
    "02-discounting": {
        **dict.fromkeys(("disc-500", "disc-planning", "disc-regulariser"), "holds"),
        **dict.fromkeys(("disc-gym", "disc-essay", "disc-variance", "disc-nstep"), "holds when"),
        **dict.fromkeys(("disc-delayed", "disc-blackwell", "disc-hyperbolic"), "holds when"),
    },
    "03-sampling-divergence": {
        **dict.fromkeys(("samp-exact", "samp-diverge", "scale-supervised"), "holds when"),
        "samp-teacher": "holds",
        **dict.fromkeys(("samp-heuristics", "samp-beam"), "does not hold"),
        "samp-base": "open",
    },
    "04-muzero-unrolling": {
        **dict.fromkeys(("mu-five", "mu-stochastic"), "holds"),
        **dict.fromkeys(("mu-diverge", "scale-search"), "holds when"),
        **dict.fromkeys(("mu-control", "mu-offpolicy"), "does not hold"),
        "mu-openloop": "open",
    },
}

# Texts that the prose shows, with quick parameters.
TEXTS: dict[str, dict[str, str]] = {
    "01-one-step-trap": {
        "lost-32": "25",
        "lost-64": "53",
        "leak-value": "50.25",
        "k-star": "230",
        "walk-limit": "0.752",
        "identical": "1,000",
    },
    "02-discounting": {
        "disc-500.value": "0.00657",
        "left-500": "6.57e-3",
        "half-life": "69",
        "gamma-1000": "0.99931",
        "gamma-bonus": "0.99904",
        "wait-99": "10.5",
        "ratio-500": "151",
        "essay-gamma": "0.99947",
        "muzero-horizon": "333",
        "bw-last": "0.99990",
    },
    "03-sampling-divergence": {
        "exact-cells": "25",
        "star-naive": "0.58",
        "beam-ratio": "1.8",
        "book-parameters": "6.2",
        "study-prompts": "64",
    },
    "04-muzero-unrolling": {
        "hand-turn": "13",
        "hand-lefts": "10",
        "cells-all": "24",
        "cells-yes": "17",
        "knee-5": "10",
    },
}

# Parameters that cannot be right, and the one line that says so.
WRONG = [
    ("01-one-step-trap", {"chains": 200}, "unknown parameter 'chains'; did you mean 'random_chains'"),
    ("01-one-step-trap", {"eps": 0.3}, "eps must be one part in a whole number from 10 to 10⁶"),
    ("01-one-step-trap", {"eps": 0.0007}, "eps must be one part in a whole number from 10 to 10⁶"),
    ("01-one-step-trap", {"unroll_steps": 0}, "unroll_steps must be at least 1, got 0"),
    ("01-one-step-trap", {"env": "Pendulum-v9"}, "unknown environment 'Pendulum-v9': did you mean"),
    ("01-one-step-trap", {"env": "FrozenLake-v1"}, "FrozenLake-v1 has observations of type Discrete"),
    ("01-one-step-trap", {"random_chains": 50}, "random_chains must be at least 100, got 50"),
    ("02-discounting", {"gama": 0.95}, "unknown parameter 'gama'; did you mean 'gamma'"),
    ("02-discounting", {"gamma": 1.2}, "gamma must lie in [0, 1], got 1.2"),
    ("02-discounting", {"gamma": math.nan}, "gamma must be a finite number, got nan"),
    ("02-discounting", {"gamma": 1}, "gamma = 1 is defined only where episodes end"),
    ("02-discounting", {"gamma": "0.9"}, "gamma must be a number, got '0.9'"),
    ("02-discounting", {"horizon": 0}, "horizon must be at least 1, got 0"),
    ("02-discounting", {"seed": -1}, "seed must be at least 0, got -1"),
    ("03-sampling-divergence", {"step": 256}, "unknown parameter 'step'; did you mean 'steps'"),
    ("03-sampling-divergence", {"steps": 100}, "steps must be a multiple of 64 from 256 to 1,024, got 100"),
    ("04-muzero-unrolling", {"unroll_steps": 0}, "unroll_steps must be at least 1, got 0"),
    ("04-muzero-unrolling", {"unroll_steps": 3}, "unroll_steps must be one of 1, 2, 5, 10, 20"),
    ("04-muzero-unrolling", {"env": "Pendulum-v1"}, "Pendulum-v1 has actions that are continuous"),
    (
        "04-muzero-unrolling",
        {"unrol_steps": 5},
        "unknown parameter 'unrol_steps'; did you mean 'unroll_steps'",
    ),
    ("04-muzero-unrolling", {"simulations": 0}, "simulations must be at least 1, got 0"),
    ("03-sampling-divergence", {"rule": "top-p=1.3"}, "top-p must be above 0 and at most 1"),
    (
        "03-sampling-divergence",
        {"rule": "beam=4"},
        "there is no decoding rule 'beam=4'; there are pure, greedy",
    ),
    ("03-sampling-divergence", {"model": "smollm3"}, "there is no model 'smollm3'; use smollm2, book"),
    ("03-sampling-divergence", {"sequences": 0}, "sequences must be at least 2, got 0"),
]


class Executed:
    """An executed chapter: its claims and everything it recorded by name."""

    def __init__(self, path: Path) -> None:
        self.content = json.loads(path.read_text(encoding="utf-8"))
        self.claims = {claim.id: claim for claim in recorded_in(self.content)}
        self.names = [out["metadata"]["scrapbook"]["name"] for out in self.glued()]
        self.recorded = {out["metadata"]["scrapbook"]["name"]: out["data"] for out in self.glued()}

    def glued(self) -> list[dict]:
        code = [cell for cell in self.content["cells"] if cell["cell_type"] == "code"]
        return [out for cell in code for out in cell["outputs"] if "scrapbook" in out.get("metadata", {})]

    def text(self, name: str) -> str:
        (found,) = [data for mime, data in self.recorded[name].items() if mime.endswith("text/plain")]
        return "".join(found).strip("'")  # a text is stored as Python writes it, in quotes


def by_the_pipeline(chapter: str, output: Path, parameters: dict, environment: dict[str, str]) -> None:
    with pytest.MonkeyPatch.context() as patch:  # the kernel has the environment of its parent
        for name, value in environment.items():
            patch.setenv(name, value)
        execute(ROOT / "chapters" / f"{chapter}.ipynb", output, parameters=parameters, progress=False)


def by_hand(chapter: str, output: Path, parameters: dict, environment: dict[str, str]) -> None:
    """Run the README's command in the folder of the book, another working folder than the pipeline's."""
    command = [
        sys.executable,
        "-m",
        "papermill",
        f"chapters/{chapter}.ipynb",
        str(output),
        "--no-progress-bar",
    ]
    run = subprocess.run(
        [*command, "-y", json.dumps(parameters)],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]


# The runs of a chapter: how, as on which processor (where none can be asked for, this one), and the parameters beside the quick
# ones.
RUNS: dict[str, tuple[Callable[..., None], str, dict[str, dict[str, object]]]] = {
    "quick": (by_the_pipeline, "haswell", {}),
    "again": (by_hand, "haswell", {}),
    "other settings": (by_hand, "nehalem", OTHER),
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """``ran(chapter, name)``: the executed chapter; each is run once."""
    done = {}

    def get(chapter: str, name: str = "quick") -> Executed:
        if (chapter, name) not in done:
            how, processor, more = RUNS[name]
            output = tmp_path_factory.mktemp(chapter) / f"{chapter}.ipynb"
            parameters = {**QUICK.get(chapter, {}), **more.get(chapter, {})}
            how(chapter, output, parameters, INSTRUCTION_SETS.get(processor, {}))
            done[chapter, name] = Executed(output)
        return done[chapter, name]

    return get


def test_recorded_values(chapter, ran):
    claims = ran(chapter).claims
    assert EXPECTED[chapter], "say which values this chapter must record"
    assert {id: claims[id].value for id in EXPECTED[chapter]} == EXPECTED[chapter]


def test_verdicts(chapter, ran):
    assert {id: claim.verdict for id, claim in ran(chapter).claims.items()} == VERDICTS[chapter]


def test_texts_for_the_prose(chapter, ran):
    executed = ran(chapter)
    assert {name: executed.text(name) for name in TEXTS.get(chapter, {})} == TEXTS.get(chapter, {})


def test_every_claim_of_the_chapter_is_recorded_once(chapter, ran):
    executed = ran(chapter)
    owed = sorted(entry.id for entry in catalogue() if entry.chapter == chapter)
    assert sorted(claim.id for claim in recorded_in(executed.content)) == owed


def test_no_name_is_recorded_twice(chapter, ran):
    names = ran(chapter).names
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_everything_that_the_prose_shows_is_recorded(chapter, ran):
    executed = ran(chapter)
    prose = "\n".join("".join(c["source"]) for c in executed.content["cells"] if c["cell_type"] == "markdown")
    shown = set(re.findall(r"\{eval\}`val\[\"([^`]+)\"\]`", prose))
    shown |= set(re.findall(r"\{figure\}\s*\n:name: fig-(\S+)$", prose, flags=re.M))
    for page in (ROOT / "chapters").glob("*.md"):
        shown |= set(re.findall(rf"\{{glue:\w*\}}`{chapter}\.ipynb::([^`:]+)", page.read_text()))
    assert shown
    assert sorted(shown - set(executed.recorded)) == []


def test_figures_that_claims_point_to_exist(chapter, ran):
    executed = ran(chapter)
    prose = "\n".join("".join(c["source"]) for c in executed.content["cells"] if c["cell_type"] == "markdown")
    labels = set(re.findall(r"^:name:\s*(\S+)$", prose, flags=re.M))
    for claim in executed.claims.values():
        assert not claim.figure or claim.figure in labels, f"{claim.id} points to {claim.figure}"


def test_no_warning_and_no_stray_output_reaches_the_reader(chapter, ran):
    code = [cell for cell in ran(chapter).content["cells"] if cell["cell_type"] == "code"]
    for out in (out for cell in code for out in cell["outputs"] if out["output_type"] == "stream"):
        assert out["name"] != "stderr", "".join(out["text"])[:500]


def test_the_same_seed_gives_the_same_numbers_bit_for_bit(chapter, ran):
    """On one machine, however the chapter is run."""
    first, again = ran(chapter), ran(chapter, "again")
    assert again.names == first.names
    differing = [name for name in first.recorded if again.recorded[name] != first.recorded[name]]
    assert differing == []


def test_a_reader_may_choose_other_settings(chapter, ran):
    other = ran(chapter, "other settings")
    assert other.names == ran(chapter).names
    assert {id: claim.verdict for id, claim in other.claims.items()} == VERDICTS[chapter]


def code_up_to_the_check(notebook: str) -> tuple[list[str], list[str]]:
    """The code cells before the parameters with them, and those from there to the cell that checks them."""
    cells = json.loads((ROOT / "chapters" / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    sources = ["".join(cell["source"]) for cell in code]
    (given,) = [i for i, c in enumerate(code) if "parameters" in c["metadata"].get("tags", [])]
    checked = next(i for i, source in enumerate(sources) if ".from_notebook(globals())" in source)
    return sources[: given + 1], sources[given + 1 : checked + 1]


@pytest.mark.parametrize(("notebook", "parameters", "message"), WRONG, ids=lambda value: str(value)[:24])
def test_parameters_that_cannot_be_right_are_refused(notebook, parameters, message):
    """The cells run here as a kernel would run them, with the parameters where papermill puts them."""
    before, after = code_up_to_the_check(notebook)
    namespace: dict[str, object] = {"__name__": "__main__"}
    exec("\n".join(before), namespace)
    namespace |= parameters
    with pytest.raises(BookError) as caught:
        exec("\n".join(after), namespace)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


ONE_EACH = {wrong[0]: wrong for wrong in reversed(WRONG)}.values()


@pytest.mark.parametrize(("notebook", "parameters", "message"), ONE_EACH, ids=str)
def test_a_wrong_parameter_stops_the_chapter_with_one_clear_error(notebook, parameters, message, tmp_path):
    """However the notebook is run; here by papermill itself, which would go on with an unknown name."""
    with pytest.raises(PapermillExecutionError) as caught:
        papermill.execute_notebook(
            str(ROOT / "chapters" / f"{notebook}.ipynb"),
            str(tmp_path / "out.ipynb"),
            parameters=parameters,
            kernel_name="python3",
            cwd=str(ROOT / "chapters"),
            progress_bar=False,
        )
    error = caught.value
    assert error.ename == "BookError"
    assert error.evalue.startswith(message)
    assert error.traceback == [f"BookError: {error.evalue}"]  # no stack
    assert Executed(tmp_path / "out.ipynb").names == []
