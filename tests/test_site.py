"""The pages as a site: built strictly, whole, and without anything that a browser would fetch."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.forked import ROOT

pytest.importorskip("material")
pytest.importorskip("mkdocstrings_handlers.python")
pytest.importorskip("nbformat")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT / "docs" / "site", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_every_page_is_there(site):
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} | {"notebook"}
    assert pages <= {path.stem for path in site.glob("*.html")}
    assert not (site / "site").exists()


def test_nothing_is_fetched_when_it_is_looked_at(site):
    fetched = re.compile(
        r"<(?:script|img|iframe)[^>]*\ssrc=\"?(https?:)?//|<link[^>]*\shref=\"?https?:"
        r"|@import|url\(['\"]?https?:"
    )
    files = [path for kind in ("*.html", "*.css") for path in site.rglob(kind)]
    texts = {path: path.read_text(encoding="utf-8") for path in files}
    assert len(texts) > 20
    assert [path.name for path, text in texts.items() if fetched.search(text)] == []
    assert fetched.search('<script src="https://a.b/c.js">')


def test_doors_and_cells_are_on_their_pages(site):
    api, notebook = ((site / f"{name}.html").read_text() for name in ("api", "notebook"))
    for door in ("vice.load", "vice.Predictor.from_pretrained", "vice.losses.DenseSwAVLoss"):
        assert f'id="{door}"' in api
    assert "fit_kmeans" in notebook and "highlight" in notebook
