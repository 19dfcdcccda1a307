from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from .helpers import TinyEmbedder, draw

pytest.importorskip("mmseg")


@pytest.fixture
def tiny(monkeypatch):
    """`load_extractor` gives a tiny embedder for any name but those it knows itself."""
    from vice import extractors

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
        rng, root = np.random.default_rng(seed), tmp_path / name
        for split, count in (("train", train), ("val", val)):
            for kind in ("images", "labels"):
                (root / kind / split).mkdir(parents=True)
            for i in range(count):
                image, label = draw(rng, (33 + 2 * i, 47 - i))
                Image.fromarray(image).save(root / "images" / split / f"{i:02d}.png")
                Image.fromarray(label).save(root / "labels" / split / f"{i:02d}.png")
        (root / "classes.txt").write_text("red\ngreen\nblue\nnever seen\n")
        return root

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
