"""What a user already has: run folders, results and data sets, small and sound."""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tests.hostile.pictures import encode, picture

#: The options of the models in all cases: the smallest that the configs can name.
EMBEDDER = {"backbone": "resnet18", "decoder": "fpn", "dim": 4, "stages": 1}


@cache
def _template() -> Path:
    from vice.models import Prototypes, seeded_embedder
    from vice.models.checkpoint import save_run
    from vice.runtime.run_folder import LOCK_NAME

    folder = Path(tempfile.mkdtemp(prefix="vice-hostile-"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_run(folder, seeded_embedder(1, **EMBEDDER), Prototypes(4, 5), {"seed": 1})
    (folder / LOCK_NAME).touch()
    return folder


def run_folder(folder: Path, name: str = "run") -> Path:
    """A finished run."""
    return Path(shutil.copytree(_template(), folder / name))


def earlier_results(folder: Path, name: str = "out") -> Path:
    """Results of an evaluation that went well."""
    out = folder / name
    (out / "maps").mkdir(parents=True)
    (out / "results.json").write_text('{"kind": "linear"}\n')
    for name in ("counts.json", "mapping_2.json", "subset.txt"):
        (out / name).write_text("{}\n")
    for name in ("confusion.png", "centroids_2.safetensors", "maps/a.png"):
        (out / name).write_bytes(b"earlier")
    return out


def images(folder: Path, rng: np.random.Generator, count: int = 3) -> Path:
    """A folder of sound images."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number}.png").write_bytes(encode(picture(rng), "PNG"))
    return folder


def labelled(root: Path, rng: np.random.Generator, images_a_split: int = 2) -> Path:
    """A labelled folder of two classes, splits ``train`` and ``val``."""
    for split in ("train", "val"):
        images(root / "images" / split, rng, images_a_split)
        (root / "labels" / split).mkdir(parents=True)
        for number in range(images_a_split):
            label = np.zeros((30, 40), np.uint8)
            label[:, 20:] = 1
            label[0] = 255
            Image.fromarray(label).save(root / "labels" / split / f"{number}.png")
    (root / "classes.txt").write_text("dark\nbright\n")
    return root
