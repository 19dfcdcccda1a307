"""Labelled folders of any layout, described and read: right to the pixel, or refused."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.helpers.label_kinds import (
    CODINGS,
    SIZE,
    Written,
    blocks,
    photo,
    write_folder,
)
from tests.hostile import own_annotations
from tests.hostile.case import Action, Expected, Family, Make
from tests.hostile.damage import spoil
from tests.hostile.label_damage import exif

Rng = np.random.Generator
GROUP = "labels of one's own"
SHARE = 0.08
#: Codings that stand for all three classes, whose tables name them.
_NAMED = [name for name, coding in CODINGS.items() if coding.values]


def described(root: Path) -> tuple[Any, dict[str, dict[str, np.ndarray]], str]:
    """A folder by its description: the set, its labels by split and image, and what is said."""
    from vice.datasets import open_dataset
    from vice.explore.describe_folder import describe_folder
    from vice.images import read_image

    said = describe_folder(root, show=1)
    data = open_dataset(root)
    found: dict[str, dict[str, np.ndarray]] = {}
    for split in data.splits():
        data.audit(split)
        for pair in data.check(split):
            size = read_image(pair.image, upright=data.upright).shape[:2]
            labels = data.read_label(pair.label, size)
            found.setdefault(split, {})[str(pair.image.relative_to(root))] = labels
    return data, found, said


def right(made: Written, result: Any, *, left_out: bool = False) -> str | None:
    """What is wrong with labels that were read; images may be left out where that is said."""
    data, found, said = result
    if set(found) != set(made.truth):
        return f"splits {sorted(found)}, not {sorted(made.truth)}: {made.notes}; {said}"
    names = np.array([*data.classes, *[""] * (256 - len(data.classes))], object)
    for split, truth in made.truth.items():
        missing = truth.keys() - found[split].keys()
        if missing and not (left_out and "left out" in said):
            return f"{sorted(missing)} not read: {made.notes}; {said}"
        if more := found[split].keys() - truth.keys():
            return f"{sorted(more)} read as images: {made.notes}; {said}"
        for name, labels in found[split].items():
            if labels.shape != truth[name].shape or (names[labels] != truth[name]).any():
                return f"{name} is not what was written: {made.notes}; {said}"
    return None


def _any(folder: Path, rng: Rng) -> Written:
    return write_folder(folder / "data", rng)


def _named(folder: Path, rng: Rng) -> Written:
    """One with a table of classes."""
    while (made := write_folder(folder / "data", rng, str(rng.choice(_NAMED)))).table is None:
        _remove(folder / "data")
    return made


def _remove(root: Path) -> None:
    import shutil

    shutil.rmtree(root)


def _one(files: list[Path], rng: Rng) -> Path:
    return files[int(rng.integers(len(files)))]


def _redraw(path: Path, change: Callable[[Image.Image], Image.Image], **options: Any) -> None:
    with Image.open(path) as image:
        changed = change(image.copy())
    changed.save(path, **options)


# What is accepted.


def _with_others(made: Written, rng: Rng) -> None:
    """Files of systems and people, beside images and labels."""
    for file in made.images[:2] + made.labels[:2]:
        for name in ("Thumbs.db", ".DS_Store", f"._{file.name}", "notes.txt", "data.json", "a.csv"):
            if rng.random() < 0.5:
                (file.parent / name).write_bytes(b"no picture")
        (file.parent / "@eaDir").mkdir(exist_ok=True)
        (file.parent / "@eaDir" / file.name).write_bytes(b"no picture")


def _lonely(made: Written, rng: Rng) -> None:
    gone = _one(made.labels, rng)
    gone.unlink()
    image = made.images[made.labels.index(gone)]
    for truth in made.truth.values():
        truth.pop(str(image.relative_to(made.root)), None)


def _turned(made: Written, rng: Rng) -> None:
    """Photographs that viewers turn, with labels drawn on what they show."""
    orientation = int(rng.choice([5, 6, 7, 8]))
    for image in made.images[::2]:
        _redraw(image, lambda each: photo(rng, SIZE[::-1]), exif=exif(orientation))


def _as_stored(made: Written, rng: Rng) -> None:
    """Photographs that viewers turn, with labels of the pixels as they are stored."""
    orientation = int(rng.choice([5, 6, 7, 8]))
    for image in made.images:
        _redraw(image, lambda each: photo(rng), exif=exif(orientation))


def _shown(made: Written, rng: Rng) -> None:
    """A colored picture of each label, in a folder of its own."""
    for label in made.labels:
        path = made.root / "label_color_vis" / label.relative_to(made.root)
        path.parent.mkdir(parents=True, exist_ok=True)
        colors = np.array([(9, 8, 7), (99, 3, 5), (1, 222, 9)], np.uint8)
        Image.fromarray(colors[blocks(rng, ignored=False)]).save(path.with_suffix(".png"))


def _linked(made: Written, rng: Rng) -> None:
    """The folder's parts are links, as on a cluster."""
    elsewhere = made.root.parent / "disk"
    elsewhere.mkdir()
    for entry in sorted(made.root.iterdir()):
        entry.rename(elsewhere / entry.name)
        entry.symlink_to(elsewhere / entry.name)


def _listed(made: Written, rng: Rng) -> None:
    """Splits by lists, of every encoding and way to name a file."""
    truth = made.truth.pop("all")
    images = sorted(truth)
    cut = 1 + int(rng.integers(len(images) - 1))
    ways: list[Callable[[str], str]] = [
        lambda name: name,
        lambda name: name.replace("/", "\\"),
        lambda name: f"./{name}",
        lambda name: f"/elsewhere/data/{name}",
        lambda name: unicodedata.normalize("NFD", name),
        lambda name: str(Path(name).with_suffix("")),
    ]
    way = ways[int(rng.integers(len(ways)))]
    end, table = str(rng.choice(["\n", "\r\n"])), rng.random() < 0.4
    encoding = str(rng.choice(["utf-8", "utf-8-sig", "utf-16"]))
    for split, chosen in (("train", images[:cut]), ("val", images[cut:])):
        lines = [way(name) for name in chosen]
        if table:
            labels = {str(i.relative_to(made.root)): m for i, m in
                      zip(made.images, made.labels, strict=True)}  # fmt: skip
            cells = [f'"{line.replace(chr(34), chr(34) * 2)}"' for line in lines]
            lines = ["mask,image,size"] + [
                f'"{labels[name].name.replace(chr(34), chr(34) * 2)}",{cell},3'
                for name, cell in zip(chosen, cells, strict=True)
            ]
        path = made.root / f"{split}.{'csv' if table else 'txt'}"
        path.write_bytes((end.join(lines) + end * int(rng.integers(3))).encode(encoding))
        made.truth[split] = {name: truth[name] for name in chosen}
    made.notes += [encoding, lines[-1]]


# What is refused.


def _other_size(made: Written, rng: Rng) -> None:
    size = [(33, 24), (32, 23), (64, 48), (24, 32)][int(rng.integers(4))]
    chosen = made.labels if rng.random() < 0.3 else [_one(made.labels, rng)]
    for label in chosen:
        _redraw(label, lambda each: each.resize(size, Image.Resampling.NEAREST))


def _cut(made: Written, rng: Rng) -> None:
    label = _one(made.labels, rng)
    data = label.read_bytes()
    label.write_bytes(data[: int(rng.choice([0, 10, len(data) // 2]))])


def _no_picture(made: Written, rng: Rng) -> None:
    path = _one(made.labels + made.images, rng)
    path.unlink()
    kind = int(rng.integers(3))
    if kind == 0:
        path.write_bytes(b"no picture at all")
    elif kind == 1:
        os.mkfifo(path)
    else:
        path.symlink_to("gone")


def _transparent(made: Written, rng: Rng) -> None:
    found = Image.new("RGBA", SIZE[::-1], (1, 1, 1, 255))
    found.putpixel((3, 4), (1, 2, 3, 0))
    found.save(_one(made.labels, rng).with_suffix(".png"))


def _frames(made: Written, rng: Rng) -> None:
    label = _one(made.labels, rng)
    with Image.open(label) as image:
        copy = image.copy()
    other = Image.fromarray(255 - np.asarray(copy)) if copy.mode == "L" else copy.rotate(180)
    copy.save(label, save_all=True, append_images=[other])


def _lossy(made: Written, rng: Rng) -> None:
    for label in made.labels:
        with Image.open(label) as image:
            picture = Image.fromarray(np.asarray(image).astype(np.uint8)).convert("RGB")
        label.unlink()
        picture.save(label.with_suffix(".jpg"), quality=90)


def _strange_value(made: Written, rng: Rng) -> None:
    label = _one(made.labels, rng)
    with Image.open(label) as image:
        values = np.array(image)
        mode = image.mode
    values[5:8, 5:9] = 77 if values.ndim == 2 else [77, 9, 31, 255][: values.shape[2]]
    changed = Image.fromarray(values)
    if mode == "P":
        changed.putpalette(bytes(range(256)) * 3)
    changed.save(label)


def _bad_table(made: Written, rng: Rng) -> None:
    assert made.table is not None
    path = made.table
    text = path.read_bytes()
    lines = {
        "empty": b"",
        "blank": b" \n\n",
        "junk": bytes(range(256)),
        "cut": text[: len(text) // 2] if path.suffix == ".json" else b"0,sky\n0,grass\n",
        "deep": b"[" * 100_000 if path.suffix == ".json" else b"",
        "prose": b"This is the table of all classes that we have labelled so far.\n",
    }
    path.write_bytes(lines[str(rng.choice(list(lines)))])


def _stem_twice(made: Written, rng: Rng) -> None:
    """Another image of the same stem, beside it."""
    image = _one(made.images, rng)
    photo(rng).save(image.with_suffix(".bmp"))


def _bad_list(made: Written, rng: Rng) -> None:
    names = sorted(made.truth["all"])
    names.insert(int(rng.integers(len(names) + 1)), "not/there_7.png")
    (made.root / "train.txt").write_text("\n".join(names))


def _spoilt(made: Written, rng: Rng) -> None:
    files = sorted(path for path in made.root.rglob("*") if path.is_file())
    path = _one(files, rng)
    path.write_bytes(spoil(path.read_bytes(), rng))


def _good(
    change: Callable[[Written, Rng], None], draw: Callable[[Path, Rng], Written], *, left: bool,
    folder: Path, rng: Rng,
) -> Action:  # fmt: skip
    made = draw(folder, rng)
    change(made, rng)
    return Action(
        run=lambda: described(made.root),
        check=partial(right, made, left_out=left),
        writes=(made.root / "dataset.yaml",),
    )


def _names(made: Written) -> tuple[str, ...]:
    """What a refusal may name: a file of the folder, or its table by its own name."""
    return (str(made.root), made.table.name if made.table else str(made.root))


def _bad(
    change: Callable[[Written, Rng], None], draw: Callable[[Path, Rng], Written], folder: Path,
    rng: Rng,
) -> Action:  # fmt: skip
    made = draw(folder, rng)
    change(made, rng)
    return Action(
        run=lambda: described(made.root),
        names=_names(made),
        # Of a folder of one file that is broken, nobody can tell labels from images.
        check=partial(right, made, left_out=True),
    )


def _indices(folder: Path, rng: Rng) -> Written:
    return write_folder(folder / "data", rng, "index")


def _plain(folder: Path, rng: Rng) -> Written:
    """One without folders of splits."""
    while "all" not in (made := write_folder(folder / "data", rng)).truth:
        _remove(folder / "data")
    return made


def _sound(result: Any) -> str | None:
    return None if all(each.dtype == np.uint8 for found in result[1].values()
                       for each in found.values()) else "no labels"  # fmt: skip


def _either(folder: Path, rng: Rng) -> Action:
    made = _any(folder, rng)
    _spoilt(made, rng)
    return Action(lambda: described(made.root), names=_names(made), check=_sound)


def _works(change: Any, draw: Any = _any, *, left: bool = False) -> tuple[Expected, Make]:
    return "worked", lambda folder, rng: _good(change, draw, left=left, folder=folder, rng=rng)


def _of(change: Any, draw: Any = _any) -> tuple[Expected, Make]:
    return "refused", partial(_bad, change, draw)


def _coded(name: str) -> tuple[Expected, Make]:
    return _works(lambda made, rng: None, lambda folder, rng: write_folder(folder / "d", rng, name))


FAMILY = Family(
    GROUP,
    {
        **{f"good/{name}": _coded(name) for name in CODINGS},
        "good/others": _works(_with_others),
        "good/lonely": _works(_lonely),
        "good/turned": _works(_turned),
        "good/as-stored": _works(_as_stored),
        "good/shown": _works(_shown),
        "good/linked": _works(_linked),
        "good/listed": _works(_listed, _plain),
        "bad/other-size": _of(_other_size),
        "bad/cut": ("either", partial(_bad, _cut, _any)),
        "bad/no-picture": ("either", partial(_bad, _no_picture, _any)),
        "bad/transparent": ("either", partial(_bad, _transparent, _named)),
        "bad/frames": ("either", partial(_bad, _frames, _indices)),
        "bad/lossy": _of(_lossy),
        "bad/strange-value": _of(_strange_value, _named),
        "bad/table": _of(_bad_table, _named),
        "bad/stem-twice": _of(_stem_twice),
        "bad/list": _of(_bad_list, _plain),
        "spoilt": ("either", _either),
        **own_annotations.GENERATORS,
    },
)
FIXED = FAMILY.listed()
drawn = FAMILY.drawn
