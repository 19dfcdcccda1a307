"""Small data sets in the layouts of the official releases, drawn from scratch."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

#: Stored values that the drawn label maps hold, void among them.
COCO_VALUES = (0, 7, 91, 105, 123, 156, 181, 255)
CITYSCAPES_VALUES = (0, 4, 7, 8, 11, 21, 23, 26, 33)
CAMVID_VALUES = tuple(range(12))
COCO_IDS = {"train": ("000000000009", "000000000025", "000000000030"), "val": ("000000000139",)}


def draw(rng, values, size=(40, 52)):
    """An image of coloured blocks and the stored label map that belongs to it."""
    blocks = rng.choice(np.array(values, np.uint8), (4, 4))
    label = np.kron(blocks, np.ones((size[0] // 4, size[1] // 4), np.uint8))
    colors = np.random.default_rng(7).integers(0, 256, (256, 3))
    image = colors[label] + rng.integers(-9, 10, (*size, 3))
    return np.clip(image, 0, 255).astype(np.uint8), label


def save(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def coco(root, rng=None, extra=1):
    """COCO 2017 with stuffthingmaps as unpacked; one train image is on no list."""
    rng = rng or np.random.default_rng(0)
    for split, ids in COCO_IDS.items():
        for name in [*ids, *(f"00000099999{i}" for i in range(extra))]:
            image, label = draw(rng, COCO_VALUES)
            save(image, root / f"{split}2017" / f"{name}.jpg")
            save(label, root / "stuffthingmaps_trainval2017" / f"{split}2017" / f"{name}.png")
    return root


def cityscapes(root, rng=None, splits=("train", "val")):
    """Cityscapes with the files of gtFine that nobody needs beside those of interest."""
    rng = rng or np.random.default_rng(1)
    for split in splits:
        for city in ("aachen", "ulm"):
            frame = f"{city}_000000_000019"
            image, label = draw(rng, CITYSCAPES_VALUES, (32, 64))
            save(image, root / "leftImg8bit" / split / city / f"{frame}_leftImg8bit.png")
            if split == "train_extra":
                continue
            fine = root / "gtFine" / split / city
            save(label, fine / f"{frame}_gtFine_labelIds.png")
            save(label, fine / f"{frame}_gtFine_instanceIds.png")
            (fine / f"{frame}_gtFine_polygons.json").write_text("{}")
    return root


def camvid(root, rng=None):
    """CamVid as SegNet published it."""
    rng = rng or np.random.default_rng(2)
    for split, count in (("train", 3), ("val", 2)):
        for i in range(count):
            image, label = draw(rng, CAMVID_VALUES, (36, 48))
            save(image, root / "CamVid" / split / f"0001TP_{i:06d}.png")
            save(label, root / "CamVid" / f"{split}annot" / f"0001TP_{i:06d}.png")
    return root


def zipped(folder, inside, path):
    """Packs a folder into an archive under another name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "a") as archive:
        for file in sorted(Path(folder).rglob("*")):
            if file.is_file():
                archive.write(file, f"{inside}/{file.relative_to(folder).as_posix()}")


def write_lists(folder):
    """The lists of `coco` under the name that IIC and PiCIE gave theirs."""
    for split, ids in COCO_IDS.items():
        path = folder / "curated" / f"{split}2017" / "Coco164kFull_Stuff_Coarse_7.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(reversed(ids)))


def shrink(monkeypatch):
    """Makes the small trees the official releases: their counts and the checksums of the lists."""
    from vice.datasets import curated, preparation
    from vice.datasets.labelled_set import list_checksum

    for split, ids in COCO_IDS.items():
        known = dataclasses.replace(
            curated.CURATED[split], images=len(ids), checksum=list_checksum(sorted(ids))
        )
        monkeypatch.setitem(curated.CURATED, split, known)
    counts = {
        "images/train2017": 4, "annotations/train2017": 4,
        "images/val2017": 2, "annotations/val2017": 2,
        "train": 3, "trainannot": 3, "val": 2, "valannot": 2,
    }  # fmt: skip
    for name, parts in preparation.RELEASES.items():
        small = tuple(dataclasses.replace(p, files=counts.get(p.folder, 2)) for p in parts)
        monkeypatch.setitem(preparation.RELEASES, name, small)
