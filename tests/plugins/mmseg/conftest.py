from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from .helpers import TinyEmbedder, write_folder

pytest.importorskip("mmseg")
# Registers what configs name, for whichever file is run first.
pytest.importorskip("vice.plugins.mmseg")


@pytest.fixture
def tiny(monkeypatch):
    """`load_extractor` gives a tiny embedder for any name but those it knows itself."""
    from vice.models import load as extractors

    real = extractors.load_extractor

    def load(spec, *, seed=0, device="cpu"):
        if not spec.startswith("tiny"):
            return real(spec, seed=seed, device=device)
        return TinyEmbedder(seed=seed).eval().requires_grad_(False).to(device)

    monkeypatch.setattr(extractors, "load_extractor", load)
    return "tiny"


@pytest.fixture
def make_folder(tmp_path):
    """Writes a small labelled folder; image sizes are no multiples of the stride."""

    def make(name="stripes", train=6, val=5, seed=0):
        classes = ("red", "green", "blue", "never seen")
        size = (33, 47)
        return write_folder(
            tmp_path / name, train=train, val=val, size=size, classes=classes, seed=seed
        )

    return make


@pytest.fixture
def poison():
    """Turns the labels of a split round, so that whoever uses them finds something else."""

    def spoil(root, split):
        for path in (root / "labels" / split).iterdir():
            label = np.asarray(Image.open(path)).copy()
            label[label != 255] = (label[label != 255] + 1) % 3
            Image.fromarray(label).save(path)

    return spoil
