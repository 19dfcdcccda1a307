"""The pages as a site: built strictly, whole, and without anything that a browser would fetch."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import made_once
from tests.helpers.browser import CONTRAST, browsing, find_browser
from tests.helpers.forked import ROOT

pytest.importorskip("material")
pytest.importorskip("mkdocstrings_handlers.python")
pytest.importorskip("nbclient")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    def build(folder: Path) -> None:
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
        # Not a model that happens to lie in outputs.
        environment = {**os.environ, "VICE_CHECKPOINT": "lab"}
        done = subprocess.run(
            command, cwd=ROOT / "docs" / "site", capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr[-3000:]

    return made_once(tmp_path_factory, "site", build)


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


def test_doors_are_on_their_page(site):
    api = (site / "api.html").read_text()
    for door in ("vice.load", "vice.Predictor.from_pretrained", "vice.losses.DenseSwAVLoss"):
        assert f'id="{door}"' in api


def test_the_notebook_is_shown_with_what_it_prints_and_draws(site):
    """Executed on the photographs while the site was made."""
    page = (site / "notebook.html").read_text()
    assert "fit_kmeans" in page and "highlight" in page
    assert "lab: 3 dimensions" in page and "VICE_CHECKPOINT=lab" in page
    shown = re.findall(r'<img[^>]*src="?(notebook-\d+\.png)', page)
    assert len(shown) >= 4
    for name in shown:
        with Image.open(site / name) as picture:
            assert np.asarray(picture.convert("RGB")).std() > 10


@pytest.mark.skipif(find_browser() is None, reason="there is no Chromium here")
def test_pages_can_be_read_on_any_screen(site):
    """At least 4.5:1 of all text that is seen, nothing wider than the screen, and no faults."""
    with browsing() as browser:
        for scheme, name in (("light", "default"), ("dark", "slate")):
            browser.scheme(scheme)
            browser.open(site / "index.html")
            # The site keeps what somebody has chosen; nobody has.
            browser.run("localStorage.clear()")
            for page in ("index", "notebook", "api"):
                browser.open(site / f"{page}.html")
                browser.wait(f"document.body.dataset.mdColorScheme === {json.dumps(name)}")
                for width in (1400, 420):
                    browser.resize(width, 900)
                    ratio, text = browser.run(CONTRAST)
                    assert ratio >= 4.5, (scheme, page, width, text, ratio)
                    assert browser.run("document.documentElement.scrollWidth") <= width
                browser.run("localStorage.clear()")
        assert browser.faults == []
