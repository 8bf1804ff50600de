"""The long studies of the book. Snakemake reads this before every build, so nothing that takes long is imported here."""

from __future__ import annotations

import importlib
from pathlib import Path

from one_step_trap.book import plan
from one_step_trap.errors import BookError
from one_step_trap.study import Study

STUDIES = {
    "01-one-step-trap/imitation": "one_step_trap.trap.imitation:STUDY",
    "01-one-step-trap/kstep": "one_step_trap.trap.kstep:STUDY",
    "01-one-step-trap/planning": "one_step_trap.trap.mpc:STUDY",
    "01-one-step-trap/real": "one_step_trap.trap.real:STUDY",
    "02-discounting/delayed-reward": "one_step_trap.discounting.delayed:STUDY",
    "03-sampling-divergence/beam": "one_step_trap.sampling.beam:STUDY",
    "03-sampling-divergence/book": "one_step_trap.sampling.protocol:BOOK_STUDY",
    "03-sampling-divergence/chat": "one_step_trap.sampling.protocol:CHAT_STUDY",
    "03-sampling-divergence/data-wall": "one_step_trap.sampling.wall:STUDY",
    "03-sampling-divergence/kept": "one_step_trap.sampling.kept:STUDY",
    "03-sampling-divergence/matched": "one_step_trap.sampling.protocol:MATCHED_STUDY",
    "03-sampling-divergence/smollm2": "one_step_trap.sampling.protocol:STUDY",
    "03-sampling-divergence/star-graph": "one_step_trap.sampling.stargraph:STUDY",
    "04-muzero-unrolling/tasks": "one_step_trap.muzero.studies:TASKS",
    "04-muzero-unrolling/unrolls": "one_step_trap.muzero.studies:UNROLLS",
}
"""Name of each study (chapter/table) and where it is defined (module:object)."""


def find(name: str) -> Study:
    """Return a study by its name."""
    if name not in STUDIES:
        raise BookError(f"there is no study {name!r}; there are: {', '.join(sorted(STUDIES))}")
    module, attribute = STUDIES[name].split(":")
    study = getattr(importlib.import_module(module), attribute)
    assert isinstance(study, Study)
    return study


def parts(name: str) -> int:
    """Return the number of independent parts of a study."""
    return find(name).parts


def sources(root: Path, name: str) -> list[Path]:
    """Return the files that a study's numbers depend on."""
    find(name)
    module = STUDIES[name].split(":")[0]
    return [*plan.module_files(root, plan.modules_behind([module])), root / "requirements.txt"]
