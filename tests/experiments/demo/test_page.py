from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
import pytest

from vice.errors import UserError
from vice.experiments.demo.page import Picture, Section, write_report
from vice.visualize import save_png

VOID = {"meta", "img", "br", "link", "input", "hr"}
HOSTILE = "<script>alert('x')</script>&\"quote\".png"


class Page(HTMLParser):
    """Checks that tags nest, and collects tags, links, ids and text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = dict(attrs)
        assert not any(name.startswith("on") for name in found)
        self.links += [found[name] or "" for name in ("href", "src") if name in found]
        self.ids += [found["id"] or ""] if "id" in found else []
        if tag == "img":
            self.images.append(found)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data + " "


def picture(folder: Path, name: str, size: tuple[int, int] = (4, 6)) -> str:
    save_png(np.zeros((*size, 3), np.uint8), folder / "pictures" / name)
    return f"pictures/{name}"


def check_links(page: Page, folder: Path) -> int:
    files = 0
    for link in page.links:
        parts = urlparse(link)
        assert not parts.scheme and not parts.netloc and not link.startswith("/")
        if link.startswith("#"):
            assert link[1:] in page.ids
        else:
            assert (folder / unquote(parts.path)).is_file()
            files += 1
    return files


def results() -> dict:
    score = {"miou": 0.625, "accuracy": 0.75, "iou_per_class": [0.5, float("nan")]}
    return {
        "title": "A run",
        "summary": "First.\n\nSecond paragraph.",
        "classes": ["brick", "grass"],
        "scores": {"trained": {"linear": score}, "random": {"linear": {"miou": 0.25}}},
        "config": {"VIEWS": {"size": 160, "empty": {}}, "lr": 0.1},
        "versions": {"torch": "2.14"},
    }


def test_page_is_well_formed_and_complete(tmp_path: Path) -> None:
    sections = [
        Section("Views", "One.\n\nTwo.", (Picture(picture(tmp_path, "v.png"), "A caption."),)),
        Section("Words only", "Nothing to see."),
    ]
    path = write_report(tmp_path, results(), sections)
    assert path == tmp_path / "report.html"
    page = Page(path)
    assert check_links(page, tmp_path) == 2
    for words in ("A run", "Second paragraph.", "62.5", "+37.5", "brick", "A caption.",
                  "VIEWS.size", "160", "torch", "2.14", "Nothing to see."):  # fmt: skip
        assert words in page.text
    assert page.images[0]["width"] == "6" and page.images[0]["height"] == "4"
    assert len(page.ids) == len(set(page.ids)) == 5


def test_nothing_is_loaded_from_outside(tmp_path: Path) -> None:
    text = write_report(tmp_path, results()).read_text()
    for sign in ("http:", "https:", "//", "@import", "url(", "<script", "<link"):
        assert sign not in text
    assert "prefers-color-scheme: dark" in text and 'name="viewport"' in text


def test_an_unlabelled_run_has_no_scores(tmp_path: Path) -> None:
    page = Page(write_report(tmp_path, {}, [Section("Only", "Text.")]))
    assert "mIoU" not in page.text and "table" not in page.tags and "Only" in page.text


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    name = HOSTILE.replace("/", "")
    spoiled = results() | {"title": HOSTILE, "summary": HOSTILE, "classes": [HOSTILE, "</td>"]}
    spoiled["config"] = {HOSTILE: HOSTILE}
    spoiled["versions"] = {HOSTILE: [HOSTILE]}
    spoiled["scores"][HOSTILE] = {HOSTILE: {"miou": 0.1, "accuracy": None}}
    spoiled["scores"]["trained"][HOSTILE] = {"miou": 0.2}
    sections = [Section(HOSTILE, HOSTILE, (Picture(picture(tmp_path, name), HOSTILE),))]
    page = Page(write_report(tmp_path, spoiled, sections))
    assert "script" not in page.tags
    assert check_links(page, tmp_path) == 2
    assert page.text.count("<script>") >= 10
    assert page.images[0]["alt"] == HOSTILE


@pytest.mark.parametrize("name", ["a b#c.png", "50%.png", "ümläut?.png"])
def test_odd_file_names_are_found(tmp_path: Path, name: str) -> None:
    section = Section("S", "", (Picture(picture(tmp_path, name), "c"),))
    assert check_links(Page(write_report(tmp_path, {}, [section])), tmp_path) == 2


def test_absolute_paths_become_relative(tmp_path: Path) -> None:
    path = (tmp_path / picture(tmp_path, "a.png")).resolve()
    text = write_report(tmp_path, {}, [Section("S", "", (Picture(path, "c"),))]).read_text()
    assert 'src="pictures/a.png"' in text and str(tmp_path) not in text


def test_missing_and_outside_pictures(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"gone\.png"):
        write_report(out, {}, [Section("S", "", (Picture("pictures/gone.png", "c"),))])
    picture(tmp_path, "a.png")
    with pytest.raises(UserError, match="outside"):
        write_report(out, {}, [Section("S", "", (Picture("../pictures/a.png", "c"),))])


def test_clusters_say_how_many_and_how_they_were_matched(tmp_path: Path) -> None:
    score = {"miou": 0.5, "accuracy": 0.6, "iou_per_class": [0.5, None], "mapping": [0] * 11}
    given = results() | {"scores": {"trained": {"clusters": score, "clusters_24": score}}}
    given["readouts"] = {
        "clusters": {"clusters": 6, "matching": "hungarian"},
        "clusters_24": {"matching": "greedy"},
    }
    text = " ".join(Page(write_report(tmp_path, given)).text.split())
    assert "6 clusters, Hungarian" in text and "24 clusters, greedy" in text
    assert "Hungarian matching Clusters and classes are paired one to one" in text
    assert "greedy matching Each cluster gets the class" in text
    assert "mean over 1 of 2 classes" in text
    del given["readouts"]
    text = Page(write_report(tmp_path, given)).text
    assert "11 clusters" in text and "Hungarian matching" not in text


def test_classes_are_explained_and_have_their_colour(tmp_path: Path) -> None:
    given = results() | {"class_notes": {"brick": "a brick wall"}}
    page = Page(write_report(tmp_path, given))
    assert "a brick wall" in page.text and page.tags.count("i") == 2
    assert "by the names its classes.txt gives them" in page.text


def test_what_is_wide_scrolls_and_says_so(tmp_path: Path) -> None:
    wide, narrow = picture(tmp_path, "wide.png", (4, 900)), picture(tmp_path, "narrow.png")
    sections = [Section("S", "", (Picture(wide, "c"), Picture(wide, "d", narrow)))]
    text = write_report(tmp_path, results(), sections).read_text()
    tables, scrolled = text.count("<table"), text.count('<p class="hint">')
    assert scrolled == tables + 1 and "animation-timeline: scroll(nearest inline)" in text
    assert '<source media="(max-width: 600px)" srcset="pictures/narrow.png"' in text


def test_long_names_are_cut_to_a_few_lines_and_kept_whole(tmp_path: Path) -> None:
    given = results() | {"classes": ["b" * 300, "طريق"]}
    text = write_report(tmp_path, given).read_text()
    assert f'<bdi class="long" title="{"b" * 300}">{"b" * 300}</bdi>' in text
    assert "<bdi>طريق</bdi>" in text
