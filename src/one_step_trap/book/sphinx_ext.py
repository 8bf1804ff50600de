"""Sphinx extension of the book: recorded figures and numbers, the ledger page, the status page.

The ledger is made from the outputs of the chapters as Sphinx sees them, so it is right both after ``make book`` and after
``jupyter-book build .`` by hand. Execution must be over when the tables are made; they are therefore filled in when pages
are written (``doctree-resolved``), from the glue data that MyST-NB has stored for each notebook.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from myst_nb.ext.glue.crossref import read_glue_cache
from myst_nb.ext.glue.directives import PasteFigureDirective
from myst_nb.ext.glue.roles import PasteTextRole
from sphinx.application import Sphinx
from sphinx.directives.patches import Figure
from sphinx.util.docutils import SphinxDirective

from one_step_trap.core.stats import readable
from one_step_trap.ledger.claims import CLAIM_MIME, Claim, ledger, parse


class RecordedFigure(PasteFigureDirective):
    """``{figure}`` without a file: the figure that the notebook recorded under the name in ``:name: fig-<name>``.

    JupyterLab shows the same directive as a numbered caption under the figure. With a file it is Sphinx's own.
    """

    required_arguments = 0
    optional_arguments = 1
    arguments: list[str]

    def run(self) -> Any:
        """Paste the recorded figure, or draw the file."""
        if self.arguments:
            where = (self.lineno, self.content_offset, self.block_text, self.state, self.state_machine)
            return Figure(self.name, self.arguments, self.options, self.content, *where).run()
        name = self.options.get("name", "")
        if not name.startswith("fig-"):
            raise self.error(
                "a figure needs a file, or `:name: fig-<name>` with the name of a recorded figure"
            )
        self.arguments = [name.removeprefix("fig-")]
        return super().run()


class RecordedValue(PasteTextRole):
    """``{eval}`val["name"]```: a number that the notebook recorded, in the words that JupyterLab evaluates live."""

    text: str

    def run(self) -> Any:
        """Show the recorded text."""
        match = re.fullmatch(r'val\["([^"]+)"\]', self.text)
        if match is None:
            message = self.inliner.reporter.warning(
                f'only recorded values can be shown, as {{eval}}`val["name"]`, not {self.text!r}',
                line=self.line,
            )
            return [], [message]
        self.text = f"{match[1]}:s"
        return super().run()


class LedgerTable(nodes.General, nodes.Element):
    """Placeholder for the table of claims."""


class StatusTable(nodes.General, nodes.Element):
    """Placeholder for the table of run times and versions."""


class LedgerDirective(SphinxDirective):
    """``{claims-ledger}``: every claim that the chapters recorded, with number, interval and verdict."""

    def run(self) -> list[nodes.Node]:
        """Leave a placeholder, filled in once every chapter has been read."""
        return [LedgerTable()]


class StatusDirective(SphinxDirective):
    """``{book-status}``: run time and memory of each chapter, versions, commit."""

    def run(self) -> list[nodes.Node]:
        """Leave a placeholder, filled in once every chapter has been read."""
        return [StatusTable()]


def notebooks(app: Sphinx) -> list[str]:
    """Return the documents that are notebooks, in the order of the book."""
    return [doc for doc in sorted(app.env.found_docs) if str(app.env.doc2path(doc)).endswith(".ipynb")]


def recorded(app: Sphinx) -> dict[str, list[Claim]]:
    """Return the claims in each notebook's glue data."""
    found = {}
    for doc in notebooks(app):
        glue = read_glue_cache(app.env.mystnb_config.output_folder, doc)  # type: ignore[attr-defined]
        bundles = [out["data"] for key, out in glue.items() if key.startswith("claim:")]
        found[Path(doc).name] = [parse(bundle[CLAIM_MIME]) for bundle in bundles]
    return found


def card(app: Sphinx, row: dict[str, Any], here: str) -> nodes.Element:
    """Return one claim as a card: statement, number, verdict, rule, where to read more."""
    verdict = row["verdict"]
    box = nodes.container(
        classes=["ost-claim", "ost-" + verdict.replace(" ", "-")], ids=[f"claim-{row['id']}"]
    )
    head = nodes.paragraph(classes=["ost-claim-head"])
    head += nodes.inline(verdict, verdict, classes=["ost-verdict"])
    head += nodes.Text(" ")
    head += nodes.strong(row["statement"], row["statement"])
    box += head
    found = Claim(**{name: row[name] for name in Claim.model_fields})
    if found.condition:
        box += nodes.paragraph("", f"It {found.finding()}.")
    exact = found.low == found.high
    interval = "" if exact else f", {found.ends} [{readable(found.low)}, {readable(found.high)}]"
    repetitions = "computed exactly" if exact and found.n == 1 else f"n = {found.n:,}"
    measured = nodes.paragraph()
    measured += nodes.strong("", readable(found.value))
    measured += nodes.Text(f" {found.unit}{interval} ({repetitions})")
    box += measured
    box += nodes.paragraph("", f"Rule: {row['rule']}", classes=["ost-small"])
    foot = nodes.paragraph(classes=["ost-small"])
    foot += nodes.literal("", row["id"])
    foot += nodes.Text(f" · claimed by {row['source']} · tested by {row['tested']} · ")
    doc = next(name for name in notebooks(app) if Path(name).name == row["chapter"])
    anchor = f"#{row['figure']}" if row["figure"] else ""
    title = app.env.titles[doc].astext()
    uri = app.builder.get_relative_uri(here, doc) + anchor
    foot += nodes.reference("", f"{title}{', the figure' if anchor else ''}", refuri=uri, internal=True)
    if verdict != row["expected"]:
        foot += nodes.Text(" · ")
        foot += nodes.emphasis("", f"we had expected: {row['expected']}")
    box += foot
    return box


def table(header: list[str], rows: list[list[str]]) -> nodes.table:
    """Return a plain table."""
    group = nodes.tgroup("", *[nodes.colspec(colwidth=1) for _ in header], cols=len(header))

    def line(cells: list[str]) -> nodes.row:
        return nodes.row("", *[nodes.entry("", nodes.paragraph("", cell)) for cell in cells])

    group += nodes.thead("", line(header))
    group += nodes.tbody("", *[line(cells) for cells in rows])
    return nodes.table("", group, classes=["ost-table"])


def status_nodes(app: Sphinx) -> list[nodes.Node]:
    """Return the status page: from the build's own record, or (built by hand) from MyST-NB's run times."""
    path = Path(app.srcdir) / "status.json"
    if not path.exists():
        rows = []
        for doc in notebooks(app):
            data = app.env.nb_metadata[doc].get("exec_data") or {}  # type: ignore[attr-defined]
            rows.append([Path(doc).name, f"{data.get('runtime') or 0:.0f} s", "not measured"])
        return [table(["Chapter", "Run time", "Memory"], rows)]
    record = json.loads(path.read_text(encoding="utf-8"))
    shown = [
        [row["chapter"], *(f"{value:,.0f} {unit}" if value is not None else "not measured"
                           for value, unit in ((row["seconds"], "s"), (row["memory_mb"], "MB")))]
        for row in record["chapters"]
    ]  # fmt: skip
    versions = [
        [name, version] for name, version in {"python": record["python"], **record["versions"]}.items()
    ]
    here = record["machine"]
    about = nodes.paragraph("", "Built from commit ")
    about += nodes.literal("", record["commit"])
    about += nodes.Text(f", on {here['processor']} ({here['architecture']}, {here['cores']} cores).")
    return [
        about,
        table(["Chapter", "Run time", "Peak memory"], shown),
        table(["Library", "Instruction set"], [list(pair) for pair in here["instruction_sets"].items()]),
        table(["Package", "Version"], versions),
    ]


def fill_in(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Replace the placeholders."""
    for place in list(doctree.findall(LedgerTable)):
        rows = ledger(recorded(app))
        place.replace_self([card(app, row, docname) for row in rows])
    for place in list(doctree.findall(StatusTable)):
        place.replace_self(status_nodes(app))


def without_thebe(app: Sphinx, config: Any) -> None:
    """Drop sphinx-thebe, which Jupyter Book always loads: its scripts name another host, and pages here need no kernel."""
    for listeners in app.events.listeners.values():
        listeners[:] = [one for one in listeners if not one.handler.__module__.startswith("sphinx_thebe")]
    app.registry.css_files[:] = [one for one in app.registry.css_files if "thebe" not in one[0]]


def mend_lists(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Make each entry of a bibliography an item of its list, as its role "list" promises to screen readers."""
    if "body" in context:
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')


def drop_modules_without_page(app: Sphinx) -> list[Any]:
    """Forget modules whose source could not be shown, so that the list of modules has no dead link."""
    modules = getattr(app.env, "_viewcode_modules", {})
    for name in [name for name, entry in modules.items() if not entry]:
        del modules[name]
    return []


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("figure", RecordedFigure, override=True)
    app.add_role("eval", RecordedValue(), override=True)
    app.add_directive("claims-ledger", LedgerDirective)
    app.add_directive("book-status", StatusDirective)
    app.connect("config-inited", without_thebe)
    app.connect("doctree-resolved", fill_in)
    app.connect("html-page-context", mend_lists)
    app.connect("html-collect-pages", drop_modules_without_page, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
