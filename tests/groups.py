"""How ``make test`` shares the tests out among processes."""

from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

from one_step_trap.book import plan

CHAPTERS = plan.chapters(Path(__file__).resolve().parent.parent)


class InGroups(LoadScopeScheduling):
    """A process takes whole groups: a file, or what a file asks of one chapter, since its tests share a run of it.

    (The marker ``xdist_group`` would say the same, but pytest-xdist 3.8 cannot hand it on with pytest 9.)
    """

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        chapters = [name for name in CHAPTERS if name in test] if file.endswith("test_notebooks.py") else []
        return "-".join([file, *chapters])
