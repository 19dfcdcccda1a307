"""Labelled folders as people have them: layout, names, files of labels and tables, drawn."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Rng = np.random.Generator
NAMES = ("sky", "tall grass", "house")
COLORS = np.array([(70, 130, 180), (0, 128, 0), (200, 30, 31)], np.uint8)
SIZE = (24, 32)
#: Path of an image and of its labels.
LAYOUTS = (
    ("images/{split}/{stem}", "labels/{split}/{stem}"),
    ("{split}/images/{stem}", "{split}/masks/{stem}"),
    ("{split}/{stem}", "{split}/{stem}_mask"),
    ("{split}/{stem}", "{split}/mask_{stem}"),
    ("img/{split}/{stem}", "ann/{split}/{stem}-labels"),
    ("data 1/{split}/{stem}", "data 1/{split}_gt/{stem}"),
    ("images/{split}/{scene}/{stem}", "labels/{split}/{scene}/{stem}"),
    ("{split}/{scene}/{stem}", "{split}/{scene}/{stem}_label"),
    ("{split}/{scene}/rgb/{stem}", "{split}/{scene}/semantic/{stem}"),
    ("{scene}/{split}/images/{stem}", "{scene}/{split}/labels/{stem}"),
    ("{split}/sample {stem}/image", "{split}/sample {stem}/mask"),
    ("{split}/{stem}/{stem}", "{split}/{stem}/{stem}_seg"),
)
#: Without folders of splits.
PLAIN = (
    ("images/{stem}", "labels/{stem}"),
    ("{stem}", "{stem}_mask"),
    ("photos/{stem}", "photos/{stem}.label"),
    ("{scene}/images/{stem}", "{scene}/masks/{stem}"),
    ("{stem}/photo", "{stem}/label"),
)
SPLITS = (("train", "val"), ("training", "validation"), ("Train", "TEST"), ("tr", "dev"),
          ("train_set", "test_set"), ("train2017", "val2017"))  # fmt: skip
_KNOWN = {"tr": "train", "dev": "val", "val": "val", "validation": "val", "test": "test"}
STEMS: tuple[Callable[[int], str], ...] = (
    lambda n: f"{n:06d}",
    lambda n: f"IMG_{n} ({n})",
    lambda n: f"Straße é {n}",
    lambda n: f"v1.{n}.b",
    lambda n: f"-x'{n}\"#&",
    lambda n: f"[{n}] 50% $HOME",
    lambda n: f"日本語{n}",
    lambda n: "a" * 100 + str(n),
)


@dataclass(frozen=True)
class Coding:
    """What labels store.

    Attributes:
        write: Makes a picture of class indices, 255 of what is ignored.
        suffix: Of their files.
        ignores: Whether pixels can be ignored.
        names: What classes are called without a table.
        values: What a table says of each class: its value, or its color.
        void: The same of what is ignored; None where that needs no line.
    """

    write: Callable[[np.ndarray], Image.Image]
    suffix: str = "png"
    ignores: bool = True
    names: tuple[str, ...] = ("class 0", "class 1", "class 2")
    values: tuple[Any, ...] = (0, 1, 2)
    void: Any = None


def _values(*stored: int, void: int = 255, dtype: Any = np.uint8) -> Callable[..., Image.Image]:
    table = np.full(256, void, dtype)
    table[: len(stored)] = stored
    return lambda labels: Image.fromarray(table[labels])


def _colored(labels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.concatenate([COLORS, np.zeros((253, 3), np.uint8)])[labels])


def _palette(labels: np.ndarray) -> Image.Image:
    image = Image.fromarray(labels)
    image.putpalette(np.concatenate([COLORS, np.full((253, 3), 255, np.uint8)]).tobytes())
    return image


_BY_COLOR = tuple("color " + " ".join(map(str, color)) for color in COLORS)
_TRIPLES = tuple(tuple(int(part) for part in color) for color in COLORS)
CODINGS: dict[str, Coding] = {
    "index": Coding(_values(0, 1, 2)),
    "index-bmp": Coding(_values(0, 1, 2), "bmp"),
    "index-tif": Coding(_values(0, 1, 2), "tif"),
    "palette": Coding(_palette),
    "from-one": Coding(_values(1, 2, 3, void=0), values=(1, 2, 3), void=0,
                       names=("class 1", "class 2", "class 3")),
    "sparse": Coding(_values(7, 11, 26), values=(7, 11, 26),
                     names=("class 7", "class 11", "class 26")),
    "16-bit": Coding(_values(7, 1007, 40007, void=0, dtype=np.uint16), values=(7, 1007, 40007),
                     void=0, names=("class 7", "class 1007", "class 40007")),
    "gray-rgb": Coding(lambda labels: Image.fromarray(labels).convert("RGB")),
    "color": Coding(_colored, values=_TRIPLES, names=_BY_COLOR, void=(0, 0, 0)),
    "color-tif": Coding(_colored, "tif", values=_TRIPLES, names=_BY_COLOR, void=(0, 0, 0)),
    "color-opaque": Coding(lambda labels: _colored(labels).convert("RGBA"), values=_TRIPLES,
                           names=_BY_COLOR, void=(0, 0, 0)),
    "binary": Coding(lambda labels: Image.fromarray((labels == 1).astype(np.uint8) * 255),
                     ignores=False, names=("background", "foreground"), values=()),
    "one-bit": Coding(lambda labels: Image.fromarray((labels == 1).astype(np.uint8) * 255)
                      .convert("1"), ignores=False, names=("background", "foreground"), values=()),
}  # fmt: skip


def _numbered(coding: Coding) -> list[tuple[str, Any]]:
    rows = list(zip(NAMES, coding.values, strict=True))
    return rows + ([("void", coding.void)] if coding.void is not None else [])


def _cells(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _head(coding: Coding) -> str:
    return "name,r,g,b" if isinstance(coding.values[0], tuple) else "name,id"


#: Name of the file, and its text.
TABLES: tuple[tuple[str, Callable[[Coding], str]], ...] = (
    ("class_dict.csv", lambda c: _head(c) + "".join(f"\n{n},{_cells(v)}" for n, v in _numbered(c))),
    ("labels.csv", lambda c: "".join(f'{_cells(v)},"{n}"\n' for n, v in _numbered(c))),
    ("colormap.txt", lambda c: "".join(f"{_cells(v).replace(',', ' ')}\t{n}\n"
                                       for n, v in _numbered(c))),
    ("classes.txt", lambda c: "".join(f"{n}: {_cells(v)}\n" for n, v in _numbered(c))),
    ("label_map.json", lambda c: json.dumps([
        {"name": n, "color" if isinstance(v, tuple) else "id": v} for n, v in _numbered(c)])),
)  # fmt: skip


@dataclass
class Written:
    """A folder that was written, and what must be read of it.

    Attributes:
        root: The folder.
        truth: Class names of each pixel, ``""`` of what is ignored, by split and image below root.
        images: Files of images.
        labels: Files of labels.
        notes: What was drawn, for people.
    """

    root: Path
    truth: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    images: list[Path] = field(default_factory=list)
    labels: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    table: Path | None = None


def blocks(rng: Rng, *, ignored: bool) -> np.ndarray:
    """Class indices in large patches, all of which occur, and a corner of 255."""
    small = rng.integers(0, len(NAMES), (4, 4))
    small.flat[: len(NAMES)] = np.arange(len(NAMES))
    labels = rng.permuted(small).repeat(6, 0).repeat(8, 1).astype(np.uint8)
    if ignored:
        labels[:3, :4] = 255
    return labels


def photo(rng: Rng, size: tuple[int, int] = SIZE) -> Image.Image:
    """Noise, which no label looks like."""
    return Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8))


def known_split(folder: str) -> str:
    """What a folder of a split is called in a description."""
    word = "".join(letter for letter in folder.lower().split("_")[0] if letter.isalpha())
    return _KNOWN.get(word, "train")


def write_folder(root: Path, rng: Rng, coding_name: str | None = None) -> Written:
    """Draws a folder, and writes it."""
    made = Written(root)
    chosen = coding_name or str(rng.choice(list(CODINGS)))
    coding = CODINGS[chosen]
    by_folder = rng.random() < 0.7
    layout = (LAYOUTS if by_folder else PLAIN)[
        int(rng.integers(len(LAYOUTS if by_folder else PLAIN)))
    ]
    splits = SPLITS[int(rng.integers(len(SPLITS)))] if by_folder else ("",)
    stem = STEMS[int(rng.integers(len(STEMS)))]
    suffix = str(rng.choice(["png", "jpg", "JPG", "tif", "webp"]))
    names = coding.names
    if coding.values and rng.random() < 0.7:
        name, text = TABLES[int(rng.integers(len(TABLES)))]
        made.table, names = root / name, NAMES
        encoding = str(
            rng.choice(["utf-8", "utf-8-sig"] + ["utf-16"] * (not name.endswith("json")))
        )
        root.mkdir(parents=True, exist_ok=True)
        made.table.write_bytes(text(coding).encode(encoding))
    ignored = coding.ignores and (
        made.table is not None or chosen in ("index", "palette", "sparse")
    )
    accents = rng.random() < 0.3
    made.notes += [chosen, *layout, *splits, stem(1), suffix, str(made.table)]
    for split in splits:
        for number in range(int(rng.integers(3, 6))):
            fill = {"split": split, "stem": stem(number), "scene": f"seq {number % 2}"}
            labels = blocks(rng, ignored=ignored)
            paths = [root / each.format(**fill) for each in layout]
            image = paths[0].with_name(f"{paths[0].name}.{suffix}")
            label = paths[1].with_name(f"{paths[1].name}.{coding.suffix}")
            if accents:
                label = label.with_name(unicodedata.normalize("NFD", label.name))
            for path, content in ((image, photo(rng)), (label, coding.write(labels))):
                path.parent.mkdir(parents=True, exist_ok=True)
                content.save(path)
            wanted = np.array([*names, ""][:3] + [""] * 253, object)
            if len(names) == 2:
                wanted[:3] = [names[0], names[1], names[0]]
            known = known_split(split) if by_folder else "all"
            made.truth.setdefault(known, {})[str(image.relative_to(root))] = wanted[labels]
            made.images.append(image)
            made.labels.append(label)
    return made
