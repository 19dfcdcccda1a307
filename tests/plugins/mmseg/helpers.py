from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import nn

from vice.scoring import CountTable


class TinyEmbedder(nn.Module):
    """Fixed random filters at stride 4: what an embedder must offer, and no more."""

    def __init__(self, dim=8, seed=0):
        super().__init__()
        self.dim, self.stride = dim, 4
        self.conv = nn.Conv2d(3, dim, 5, padding=2)
        self.norm = nn.BatchNorm2d(dim)
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.conv.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3

    def forward(self, images):
        features = torch.tanh(self.norm(self.conv(images)))
        return nn.functional.avg_pool2d(features, 4, ceil_mode=True, count_include_pad=False)


COLORS = np.array([[200, 40, 40], [40, 190, 60], [60, 70, 210]])


def draw(rng, size):
    """Stripes of three colours under noise, with a border of ignored pixels."""
    height, width = size
    bands = np.sort(rng.choice(np.arange(4, width - 4), 2, replace=False))
    classes = rng.permutation(3)[np.searchsorted(bands, np.arange(width), side="right")]
    label = np.repeat(classes[None], height, 0).astype(np.uint8)
    image = COLORS[label] + rng.normal(0, 25, (height, width, 3))
    label[:2] = 255
    return np.clip(image, 0, 255).astype(np.uint8), label


def read_label(root, split, stem):
    return np.asarray(Image.open(root / "labels" / split / f"{stem}.png"))


QUIET = {"log_level": "ERROR", "device": "cpu"}
PROBE = {"linear_iterations": 40, "linear_batch": 4}
LINEAR = {**QUIET, "changes": PROBE}
CLUSTERS = {**QUIET, "clusters": [2, 4, 9], "changes": {"kmeans_pixels": 3000}}


def rescore(root, folder, classes, mapping=None):
    """Scores written maps against the label files, apart from MMSegmentation."""
    table = CountTable(classes, classes)
    for path in sorted(folder.iterdir()):
        table.update(np.asarray(Image.open(path)), read_label(root, "val", path.stem))
    return table


def write_folder(root, *, train, val, size, classes, seed=0):
    """A small labelled folder; sizes of its images differ, beginning at ``size``."""
    rng = np.random.default_rng(seed)
    for split, count in (("train", train), ("val", val)):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for i in range(count):
            image, label = draw(rng, (size[0] + 2 * i, size[1] - i))
            Image.fromarray(image).save(root / "images" / split / f"{i:02d}.png")
            Image.fromarray(label).save(root / "labels" / split / f"{i:02d}.png")
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
    return root
