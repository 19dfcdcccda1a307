"""What the documents name is there: links, headings, files, and modules by their new names."""

from __future__ import annotations

import re
from pathlib import Path

from tests.helpers.commands import documents, inline
from tests.helpers.forked import ROOT

LINK = re.compile(r"\]\(([^)\s]+)\)")


def prose(page: Path) -> str:
    text = page.read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Names of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


def dead(page: Path) -> list[str]:
    found = []
    for link in LINK.findall(prose(page)):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if "://" in link or (target.exists() and not anchor):
            continue
        if not (target.is_file() and anchor in anchors(target)):
            found.append(f"{page.name}: {link}")
    return found


def test_links_lead_somewhere():
    pages = documents()
    assert sum(len(LINK.findall(prose(page))) for page in pages) > 20
    assert [link for page in pages for link in dead(page)] == []


def test_dead_links_are_found(tmp_path):
    page = tmp_path / "a.md"
    page.write_text("# The head: of it\n[1](#the-head-of-it) [2](#no) [3](b.md) [4](https://c.d)\n")
    assert dead(page) == ["a.md: #no", "a.md: b.md"]


def test_every_page_is_reached_from_the_readme():
    readme, *pages = documents()
    linked = {link.partition("#")[0] for link in LINK.findall(prose(readme))}
    assert [page.name for page in pages if f"docs/{page.name}" not in linked] == []


def named(pattern: str) -> set[tuple[str, str]]:
    """(page, code) of all code in the text of the pages that fits; the table of old names aside."""
    pages = [page for page in documents() if page.name != "moved_names.md"]
    codes = ((page, code) for page in pages for code in inline(page.read_text(encoding="utf-8")))
    return {(page.name, code) for page, code in codes if re.fullmatch(pattern, code)}


def test_files_that_are_named_exist():
    found = named(r"(vice|tests|tools|scripts|configs|docs|notebooks)/[a-z_\d/.]+\.\w+")
    assert len(found) > 50
    assert [each for each in sorted(found) if not (ROOT / each[1]).exists()] == []
    tests = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert [each for each in sorted(named(r"test_\w+\.py")) if each[1] not in tests] == []


def test_modules_that_the_architecture_names_exist():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = {code.partition(".")[0] for code in inline(text) if re.match(r"[a-z]+/[a-z_]+\b", code)}
    rooms = [ROOT, ROOT / "vice", ROOT / "vice/plugins/vissl", ROOT / "vice/plugins/mmseg"]
    assert len(named) > 25
    assert [name for name in sorted(named) if not any(is_module(at / name) for at in rooms)] == []


def test_modules_that_have_moved_are_where_the_table_says():
    text = (ROOT / "docs" / "moved_names.md").read_text(encoding="utf-8")
    now = re.findall(r"^\|.*\| (.+) \|$", text, re.MULTILINE)
    named = {name for cell in now for name in re.findall(r"`(vice[\w.]*)`", cell)}
    assert len(named) > 80
    paths = {name: ROOT.joinpath(*name.split(".")) for name in named}
    assert [name for name, path in sorted(paths.items()) if not is_module(path)] == []


def is_module(path: Path) -> bool:
    return path.is_dir() or path.with_suffix(".py").is_file()
