"""The built HTML as files: what a page loads lies beside it, links lead somewhere, pictures have words."""

import json
import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup, Tag
from expectations import PAGES

from one_step_trap.ledger.claims import Claim, catalogue

pytestmark = pytest.mark.book

# What makes a browser fetch something when the page is opened.
LOADS = {
    **{
        "script": ["src"],
        "link": ["href"],
        "img": ["src", "srcset"],
        "iframe": ["src"],
        "source": ["src", "srcset"],
    },
    **{"video": ["src", "poster"], "audio": ["src"], "embed": ["src"], "object": ["data"], "use": ["href"]},
    **{"image": ["href", "xlink:href"], "form": ["action"]},
}


def other_host(url: str) -> bool:
    return url.startswith("//") or urlsplit(url).scheme in {"http", "https", "ws", "wss", "ftp"}


@cache
def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@cache
def anchors(path: Path) -> frozenset[str]:
    names = [tag.get(key) for tag in soup(path).find_all(True) for key in ("id", "name")]
    return frozenset(name for name in names if name)


def html_files(folder: Path) -> list[Path]:
    """Every page; the theme's templates for webpack are no pages."""
    return [
        path for path in sorted(folder.rglob("*.html")) if "_static" not in path.relative_to(folder).parts
    ]


def test_every_page_of_the_contents_is_built(built_book, page):
    assert (built_book / f"{page}.html").exists()
    title = soup(built_book / f"{page}.html").find("h1")
    assert title
    assert title.get_text().strip()


def test_the_verdicts_of_the_build_are_those_of_the_quick_runs(built_book, root):
    built: dict[str, dict[str, str]] = {}
    for claim in json.loads((root / "_build/claims.json").read_text(encoding="utf-8")):
        if claim["tested"]:
            built.setdefault(claim["chapter"], {})[claim["id"]] = claim["verdict"]
    assert built == {page: expected.VERDICTS for page, expected in PAGES.items()}


def test_the_start_page_leads_to_the_title_page(built_book):
    assert "chapters/index.html" in (built_book / "index.html").read_text()


def test_no_page_loads_anything_from_another_host(built_book):
    for path in html_files(built_book):
        for element in soup(path).find_all(list(LOADS)):
            for attribute in LOADS[element.name]:
                url = element.get(attribute, "")
                assert not other_host(url), (
                    f"{path.relative_to(built_book)}: <{element.name} {attribute}={url!r}>"
                )
        style = " ".join(tag.get_text() for tag in soup(path).find_all("style"))
        style += " ".join(tag["style"] for tag in soup(path).find_all(style=True))
        assert not re.search(r"url\(\s*['\"]?(https?:)?//", style), path


def test_no_stylesheet_loads_anything_from_another_host(built_book):
    sheets = list(built_book.rglob("*.css"))
    assert sheets
    for path in sheets:
        found = re.search(r"(url\(|@import)\s*['\"]?(https?:)?//[^)'\"]*", path.read_text(encoding="utf-8"))
        assert not found, f"{path.relative_to(built_book)}: {found[0]}"


def local_links(folder: Path, path: Path) -> list[tuple[str, Path, str]]:
    """(what is written, file, anchor) of every link and every loaded file of a page."""
    links = [tag["href"] for tag in soup(path).find_all(["a", "link"], href=True)]
    links += [tag["src"] for tag in soup(path).find_all(["img", "script", "iframe"], src=True)]
    found = []
    for link in links:
        parts = urlsplit(link)
        if not parts.scheme and not parts.netloc:
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            found.append((link, file / "index.html" if file.is_dir() else file, unquote(parts.fragment)))
    return found


def test_no_local_link_is_dead(built_book):
    dead = []
    for path in html_files(built_book):
        for link, file, anchor in local_links(built_book, path):
            missing = not file.exists()
            if missing or (anchor and file.suffix == ".html" and anchor not in anchors(file)):
                dead.append(f"{path.relative_to(built_book)}: {link}")
    assert sorted(set(dead)) == []


def test_links_stay_inside_the_site(built_book):
    """The folder may be copied anywhere."""
    for path in html_files(built_book):
        for link, file, _ in local_links(built_book, path):
            assert not link.startswith("/"), f"{path}: {link}"
            assert file.is_relative_to(built_book), f"{path}: {link}"


def described(element: Tag) -> bool:
    return bool(
        (element.get("aria-label") or element.get("alt") or element.get("aria-labelledby") or "").strip()
    )


def test_every_picture_has_words(built_book, page):
    content = soup(built_book / f"{page}.html")
    for image in content.find_all("img"):
        assert image.has_attr("alt"), image
    for image in [*content.select("main img"), *content.select("[role=img]")]:
        assert described(image), str(image)[:200]
    for drawing in content.select("article svg"):
        inside = drawing.find_parent(attrs={"role": "img"}) or drawing.get("aria-hidden") == "true"
        assert inside or drawing.get("role") == "img", str(drawing)[:200]


def test_every_figure_has_caption_number_and_source(built_book, page):
    for box in soup(built_book / f"{page}.html").select(".ost-figure-box"):
        figure = box.find_parent("figure")
        assert figure, f"a recorded figure is shown outside a figure: {str(box)[:200]}"
        caption = figure.find("figcaption")
        assert caption
        assert re.match(r"Figure \d+", caption.select_one(".caption-number").get_text())
        assert len(caption.select_one(".caption-text").get_text().split()) >= 5
        link = box.select_one(".ost-source a")
        assert link["href"].startswith("../_modules/one_step_trap/")


def test_nothing_is_left_unresolved(built_book, page):
    article = soup(built_book / f"{page}.html").find("article")
    text = " ".join(
        str(string)
        for string in article.find_all(string=True)
        if not string.find_parent(["pre", "code", "script", "style", "dt", "dd"])
    )
    for leftover in ("{glue", "{cite", "{numref", "{eq}", "{ref}", ":::", "pasted-", "[[", "undefined", "??"):
        assert leftover not in text, text[max(0, text.find(leftover) - 80) : text.find(leftover) + 80]
    odd = re.search(r".{0,40}\b(nan|inf|None)\b.{0,40}", text)
    assert not odd, odd


def test_exercises_hide_their_solutions(built_book):
    pages = [soup(path) for path in html_files(built_book)]
    solutions = [tag for page in pages for tag in page.select("div.solution")]
    exercises = [tag for page in pages for tag in page.select("div.exercise")]
    assert len(exercises) >= 3
    assert len(solutions) == len(exercises)
    assert all("dropdown" in tag["class"] for tag in solutions)


def test_the_ledger_page_has_every_recorded_claim(built_book):
    rows = json.loads((built_book.parents[1] / "claims.json").read_text())
    cards = soup(built_book / "chapters/ledger.html").select(".ost-claim")
    assert [card["id"] for card in cards] == [f"claim-{row['id']}" for row in rows]
    for card, row in zip(cards, rows, strict=True):  # a range over cells is not called an interval
        assert row["low"] == row["high"] or f", {row['ends']} [" in card.get_text(), row["id"]


def test_claims_json(built_book):
    rows = json.loads((built_book.parents[1] / "claims.json").read_text())
    promised = {
        "id",
        "statement",
        "source",
        "chapter",
        "value",
        "low",
        "high",
        "unit",
        "n",
        "verdict",
        "condition",
    }
    known = {entry.id: entry for entry in catalogue()}
    assert rows
    for row in rows:
        assert promised <= row.keys()
        claim = Claim(**{name: row[name] for name in Claim.model_fields})  # types, ranges, verdicts
        assert claim.low <= claim.value <= claim.high
        assert row["statement"] == known[claim.id].statement
        assert row["chapter"] == known[claim.id].chapter
        assert len(claim.unit.split()) >= 1


def test_the_status_page_has_each_chapter(built_book):
    text = " ".join(soup(built_book / "chapters/status.html").get_text(" ").split())
    stamp = json.loads((built_book.parents[1] / "site.json").read_text())
    for row in stamp["chapters"]:
        assert row["chapter"] in text
        assert row["seconds"] > 0
        assert row["memory_mb"] > 0
    assert stamp["commit"] in text
    for name, version in stamp["versions"].items():
        assert re.search(rf"{re.escape(name)}\s+{re.escape(version)}", text)
    assert f"on {stamp['machine']['processor']} ({stamp['machine']['architecture']}, " in text
    for library, used in stamp["machine"]["instruction_sets"].items():
        assert f"{library} {used}" in text


def test_the_search_index_is_there(built_book):
    assert (built_book / "searchindex.js").stat().st_size > 1000
