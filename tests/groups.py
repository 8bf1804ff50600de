"""How ``make test`` shares the tests out among processes."""

from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

from one_step_trap.book import plan

PAGES = sorted((Path(page).name for page in plan.pages(Path(__file__).parents[1])), key=len, reverse=True)
BY_PAGE = ("test_notebooks.py", "test_browser.py")
BY_PARAMETER = ("test_instruction_sets.py",)  # rounds of a minute each, one for each process


class InGroups(LoadScopeScheduling):
    """A process takes whole groups: a file, or what a file asks of one page, since its tests share a run or a look.

    (The marker ``xdist_group`` would say the same, but pytest-xdist 3.8 cannot hand it on with pytest 9.)
    """

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        parameters = test.partition("[")[2]
        if file.endswith(BY_PARAMETER):
            return f"{file} {parameters}"
        page = next((name for name in PAGES if name in parameters), "")  # the longest name that fits
        return f"{file} {page}".strip() if file.endswith(BY_PAGE) else file
