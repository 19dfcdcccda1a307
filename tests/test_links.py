"""Every link of the documents leads somewhere: to a file, and to a heading that it has."""

from __future__ import annotations

import re
from pathlib import Path

from tests.helpers.commands import documents

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
