"""Label maps and class names that can be read, and mean something else than they say."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.hostile import class_files, labels
from tests.hostile.case import Action, Expected, Family, Make

Rng = np.random.Generator
Change = Callable[[Path, Rng], object]
GROUP = "label damage"
SHARE = 0.04
ORIENTATION = 274
#: EXIF orientation to what a viewer does with the stored pixels.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def blocks(rng: Rng, values: Any, size: tuple[int, int] = (30, 40)) -> np.ndarray:
    """A label map of upright rectangles that holds every value."""
    number = max(4, len(values))
    cells = np.resize(rng.permutation(np.resize(np.array(values, np.uint8), number)), (4, 5))
    rows, columns = np.arange(size[0]) * 4 // size[0], np.arange(size[1]) * 5 // size[1]
    return cells[rows][:, columns]


def save(values: np.ndarray, path: Path, **options: Any) -> None:
    Image.fromarray(values).save(path, "PNG", **options)


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[ORIENTATION] = orientation
    return found


def _files(root: Path, rng: Rng) -> list[Path]:
    """Label maps of one of the splits, or of both."""
    split = str(rng.choice(["train", "val", "*"]))
    return sorted(root.glob(f"labels/{split}/*.png"))


def _edit(root: Path, rng: Rng, change: Callable[[np.ndarray], np.ndarray]) -> None:
    for path in _files(root, rng):
        save(change(np.asarray(Image.open(path)).copy()).astype(np.uint8), path)


def _name(root: Path, count: int) -> None:
    names = "".join(f"kind of {chr(97 + i // 26)}{chr(97 + i % 26)}\n" for i in range(count))
    (root / "classes.txt").write_text(names)


def _draw(root: Path, rng: Rng, values: Any, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Other classes in all label maps."""
    for path in sorted(root.glob("labels/*/*.png")):
        save(change(blocks(rng, values)), path)


def two_values(root: Path, rng: Rng) -> None:
    _edit(root, rng, lambda label: np.where(label == 0, 0, 255))


def scaled(root: Path, rng: Rng) -> None:
    factor = int(rng.choice([254, 128, 127, 100, 85, 64, 10]))
    _edit(root, rng, lambda label: np.where(label == 255, rng.choice([0, 255]), label * factor))


def scaled_among_many(root: Path, rng: Rng) -> None:
    _name(root, 240)
    factor = int(rng.integers(40, 60))
    _draw(root, rng, range(4), lambda label: label * factor)


def one_class(root: Path, rng: Rng) -> None:
    kept = int(rng.integers(2))
    _edit(root, rng, lambda label: np.where(label == kept, kept, rng.choice([kept, 255])))


def two_codings(root: Path, rng: Rng) -> None:
    split = str(rng.choice(["train", "val"]))
    for number, value in enumerate(rng.permutation([1, 255])):
        label = np.zeros((30, 40), np.uint8)
        label[:, int(rng.integers(5, 35)) :] = value
        save(label, root / "labels" / split / f"{number}.png")


def from_one(root: Path, rng: Rng) -> None:
    _edit(root, rng, lambda label: np.where(label == 255, 255, label + 1))


def zero_is_unlabelled(root: Path, rng: Rng) -> None:
    _edit(root, rng, lambda label: np.where(label == 255, 0, label + 1))


def interpolated(root: Path, rng: Rng) -> None:
    _name(root, 40)
    kinds = [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.HAMMING]
    filter_, scale = kinds[int(rng.integers(3))], float(rng.choice([0.4, 0.5, 1.5, 3.0]))
    small = tuple(int(length / scale) for length in (30, 40))

    def resized(_: np.ndarray) -> np.ndarray:
        source = blocks(rng, rng.choice(np.arange(4, 36, 5), 4, replace=False), small)
        return np.clip(np.asarray(Image.fromarray(source).resize((40, 30), filter_)), 0, 39)

    _draw(root, rng, [0], resized)


def lossy(root: Path, rng: Rng) -> None:
    """JPEG or WebP under the name of a PNG, or made a PNG again."""
    _name(root, 200)
    again = bool(rng.integers(2))
    for path in sorted(root.glob("labels/*/*.png")):
        data = io.BytesIO()
        kind = str(rng.choice(["JPEG", "WEBP"])) if again else "JPEG"
        image = Image.fromarray(blocks(rng, [10, 60, 120, 180]))
        image.save(data, kind, quality=int(rng.integers(30, 80)))
        changed = np.clip(np.asarray(Image.open(data).convert("L")), 0, 199)
        path.write_bytes(data.getvalue())
        if again:
            save(changed, path)


def palette_renumbered(root: Path, rng: Rng) -> None:
    """Grey values as the palette of an image whose indices are their ranks."""
    _name(root, 30)
    values = np.sort(rng.choice(np.arange(3, 30), 3, replace=False))
    for path in _files(root, rng):
        image = Image.fromarray(blocks(rng, range(3))).convert("P")
        image.putpalette(np.repeat(values, 3).astype(np.uint8).tobytes())
        image.save(path)


def palette_of_each_file(root: Path, rng: Rng) -> None:
    """Colored masks that each file numbers anew."""
    count = int(rng.integers(3, 7))
    _name(root, count)
    colors = rng.choice(256, (count, 3), replace=False).astype(np.uint8)
    for turn, path in enumerate(sorted(root.glob("labels/*/*.png"))):
        order = np.roll(np.arange(count), turn)
        label = Image.fromarray(np.argsort(order).astype(np.uint8)[blocks(rng, range(count))])
        label.putpalette(colors[order].tobytes())
        label.save(path)


def pipe(root: Path, rng: Rng) -> None:
    """Opening one waits for a writer, for ever."""
    victim = (*root.glob("labels/*/*"), *root.glob("images/*/*"))[int(rng.integers(2))]
    victim = victim if rng.random() < 0.5 else next(root.glob("images/*/*"))
    victim.unlink()
    if rng.random() < 0.5:
        os.mkfifo(victim)
    else:
        victim.symlink_to("/dev/zero")


def few_bits(root: Path, rng: Rng) -> None:
    """PNG grey of 2 or 4 bits, which readers stretch."""
    _name(root, 255)
    bits = int(rng.choice([2, 4]))
    for path in _files(root, rng):
        rows = [b"\0" + rng.bytes(40 * bits // 8) for _ in range(30)]
        header = struct.pack(">IIBBBBB", 40, 30, bits, 0, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b""))
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks))


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


def frames(root: Path, rng: Rng) -> None:
    for path in _files(root, rng):
        more = [Image.fromarray(blocks(rng, [0, 1])) for _ in range(int(rng.integers(1, 4)))]
        Image.open(path).copy().save(path, "PNG", save_all=True, append_images=more)


def _photograph(root: Path, rng: Rng, orientation: int, size: tuple[int, int]) -> tuple[Any, Any]:
    """A label map as stored, and upright; the bright half of its photograph is class 1.

    The photograph is written with the orientation, in a format that keeps it.
    """
    stored = np.zeros(size, np.uint8)
    stored[: size[0] // 3, : size[1] // 2] = 1
    noise = rng.integers(0, 30, (*size, 3))
    path = next(root.glob("images/val/0.*"))
    path.unlink()
    kind = str(rng.choice(["png", "jpg", "tif", "webp"]))
    image = Image.fromarray((stored[:, :, None] * 200 + noise).astype(np.uint8))
    image.save(path.with_suffix(f".{kind}"), exif=exif(orientation))
    return stored, np.asarray(Image.fromarray(stored).transpose(TURNS[orientation]))


def exif_as_stored(root: Path, rng: Rng) -> None:
    stored, _ = _photograph(root, rng, int(rng.choice(list(TURNS))), (30, 40))
    save(stored, root / labels.LABEL)


def exif_square(root: Path, rng: Rng) -> None:
    made = _photograph(root, rng, int(rng.choice(list(TURNS))), (36, 36))
    save(made[int(rng.integers(2))], root / labels.LABEL)


def exif_of_label_only(root: Path, rng: Rng) -> None:
    path = root / labels.LABEL
    Image.open(path).copy().save(path, exif=exif(int(rng.choice(list(TURNS)))))


def exif_upright(root: Path, rng: Rng) -> None:
    _, upright = _photograph(root, rng, int(rng.choice([5, 6, 7, 8])), (30, 40))
    save(upright, root / labels.LABEL)


def exif_both(root: Path, rng: Rng) -> None:
    orientation = int(rng.choice(list(TURNS)))
    size = (36, 36) if rng.integers(2) else (30, 40)
    stored, _ = _photograph(root, rng, orientation, size)
    save(stored, root / labels.LABEL, exif=exif(orientation))


def inner_folder(root: Path, rng: Rng) -> None:
    """Some, or all, of a split lie one or more folders deeper."""
    split = str(rng.choice(["train", "val"]))
    below = str(rng.choice(["cam1", "a/b", "2023", "more.jpg"]))
    whole = rng.random() < 0.2
    for kind in ("images", "labels"):
        for path in sorted((root / kind / split).iterdir())[0 if whole else 1 :]:
            target = root / kind / split / below / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)


def named_otherwise(root: Path, rng: Rng) -> None:
    name = str(rng.choice(["{}_mask", "{}_labelIds", "mask_{}", "{}.jpg", "{}-gt", "{}_L"]))
    for path in sorted(root.glob("labels/val/*.png")):
        path.rename(path.with_name(f"{name.format(path.stem)}.png"))


def other_suffix(root: Path, rng: Rng) -> None:
    kind, suffixes = ("images", ["NEF", "CR2", "dng"])
    if rng.integers(2):
        kind, suffixes = "labels", ["tif", "bmp", "jpg", "npy", "JPEG"]
    path = next(root.glob(f"{kind}/val/0.*"))
    path.rename(path.with_suffix(f".{rng.choice(suffixes)}"))


def system_files(root: Path, rng: Rng) -> None:
    for folder in ("images/train", "labels/train", "images/val", "labels/val"):
        for name in ("Thumbs.db", ".DS_Store", "._0.png", "desktop.ini", "notes.txt", "x.json"):
            if rng.integers(2):
                (root / folder / name).write_bytes(b"no picture")
        thumbs = root / folder / str(rng.choice(["@eaDir", ".thumbs", "__MACOSX"]))
        thumbs.mkdir()
        (thumbs / "0.png").write_bytes(b"no picture")


def good_palette(root: Path, rng: Rng) -> None:
    palettes = [bytes([0, 0, 0, 255, 255, 255]), bytes(range(6)), b"\x00\x00\x00\x01\x01\x01"]
    for path in _files(root, rng):
        image = Image.fromarray(blocks(rng, [0, 1])).convert("P")
        image.putpalette(palettes[int(rng.integers(len(palettes)))])
        image.save(path)


def good_classes(root: Path, rng: Rng) -> None:
    """Many classes, thin lines, specks and ignored borders."""
    _name(root, 60)

    def thin(label: np.ndarray) -> np.ndarray:
        label[int(rng.integers(30)), :9] = 31
        label[rng.integers(0, 30, 5), rng.integers(0, 40, 5)] = int(rng.integers(60))
        label[:, int(rng.integers(40))] = 255
        return label

    _draw(root, rng, rng.choice(60, 6, replace=False), thin)


def _aligned(records: Any) -> str | None:
    """Sizes agree, and in the turned photograph the pixels of class 1 are the bright ones."""
    wrong = labels.fits(records)
    record = records[2]  # the first of val
    label, image = record["gt_seg_map"], record["img"]
    if wrong is None and image[label == 1].mean() < image[label == 0].mean() + 100:
        return "the label map is turned against its image"
    return wrong


def _case(change: Change, check: Any, folder: Path, rng: Rng) -> Action:
    action = labels._folder(change, folder, rng)
    return Action(action.run, action.command, action.names, check or action.check, action.writes)


def _of(expected: Expected, change: Change, check: Any = None) -> tuple[Expected, Make]:
    return expected, partial(_case, change, check)


_BAD = (
    two_values, scaled, scaled_among_many, one_class, two_codings, from_one, zero_is_unlabelled,
    interpolated, lossy, palette_renumbered, palette_of_each_file, pipe, few_bits, frames,
    exif_as_stored, exif_square, exif_of_label_only, inner_folder, named_otherwise, other_suffix,
)  # fmt: skip
_GOOD = (system_files, good_palette, good_classes)
FAMILY = Family(
    GROUP,
    {
        **{change.__name__: _of("refused", change) for change in _BAD},
        **{f"names/{name}": _of("refused", change) for name, change in class_files.BAD.items()},
        "good/names": _of("worked", class_files.GOOD),
        "good/exif_upright": _of("worked", exif_upright, _aligned),
        "good/exif_both": _of("worked", exif_both, _aligned),
        **{f"good/{change.__name__}": _of("worked", change) for change in _GOOD},
    },
)
FIXED = FAMILY.listed()
drawn = FAMILY.drawn
