"""Run folders that nobody trained, and images for them, for what needs many of both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image

from vice.models import Prototypes, seeded_embedder
from vice.models.checkpoint import save_run

SETTINGS = {
    "STANDARDIZE": {"mode": "none"},
    "SUPERPIXELS": {"method": "grid", "region_size": 8, "cache_dir": "unused"},
    "VIEWS": {"num_views": 5, "size": 32, "scale": [0.5, 1.5], "mask_intensity": 0.1},
    "PHOTOMETRIC": {"strength": 0.3, "blur_probability": 0.0, "sigma": [0.1, 2.0]},
    "LOSS": {
        "temperature": 0.1,
        "epsilon": 0.05,
        "iterations": 3,
        "region_vector": "pixel",
        "align_corners": False,
    },
}
K, DIM = 6, 8


def draw_images(folder: Path, count: int = 4) -> list[Path]:
    """Images of blocks in random colours, 48 x 64 pixels."""
    rng = np.random.default_rng(0)
    files = []
    for number in range(count):
        blocks = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        files.append(folder / f"{number}.png")
        Image.fromarray(blocks).resize((64, 48), Image.Resampling.NEAREST).save(files[-1])
    return files


def make_run(folder: Path, seed: int = 0, collapsed: bool = False) -> Path:
    """A run folder with an untrained model; collapsed: every pixel gets the same vector."""
    embedder = seeded_embedder(seed, backbone="resnet18", decoder="fpn", dim=DIM, stages=1)
    torch.manual_seed(seed)
    prototypes = Prototypes(DIM, K)
    if collapsed:
        for parameter in embedder.decoder.parameters():
            parameter.data.fill_(0.0 if parameter.dim() > 1 else 1.0)
    save_run(folder, embedder, prototypes)
    (folder / "train_config.yaml").write_text(yaml.safe_dump({"VICE": SETTINGS}))
    return folder
