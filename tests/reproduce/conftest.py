from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.plugins.mmseg.helpers import draw


@pytest.fixture(scope="session")
def stripes(tmp_path_factory):
    """A small labelled folder of three classes."""
    rng, root = np.random.default_rng(0), tmp_path_factory.mktemp("data") / "stripes"
    for split, count in (("train", 6), ("val", 4)):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for i in range(count):
            image, label = draw(rng, (64 + 2 * i, 80 - i))
            Image.fromarray(image).save(root / "images" / split / f"{i:02d}.png")
            Image.fromarray(label).save(root / "labels" / split / f"{i:02d}.png")
    (root / "classes.txt").write_text("red\ngreen\nblue\n")
    return root
