"""Hostile label maps and data sets, as an evaluation opens and reads them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.helpers import trees
from tests.hostile import runs
from tests.hostile.case import Action, Case
from tests.hostile.damage import spoil
from tests.hostile.pictures import encode, huge_png, picture

Rng = np.random.Generator
Change = Callable[[Path, Rng], object]
GROUP = "label maps"
SHARE = 0.12
LABEL = "labels/val/0.png"


def evaluate(dataset: str, out: Path, data_root: Path | None = None) -> Any:
    """Everything an evaluation reads: both splits, checked, then each image with its labels."""
    from vice.evaluation.task import make_task
    from vice.plugins.mmseg.transforms import ViceLoadImage, ViceLoadLabels

    task = make_task("lab", dataset, out, protocol="native", data_root=data_root)
    found = []
    for source, split in zip(task.open(), ("train", "val"), strict=True):
        for pair in source.pairs(split):
            record = {"img_path": str(pair.image), "seg_map_path": str(pair.label)}
            record.update(vice_dataset=source, seg_fields=[])
            found.append(ViceLoadLabels().transform(ViceLoadImage().transform(record)))
    return found


def fits(records: Any) -> str | None:
    for record in records:
        labels, size = record["gt_seg_map"], record["img"].shape[:2]
        if labels.shape != size or labels.dtype != np.uint8:
            return f"labels {labels.dtype} {labels.shape} of an image {size}"
    return None if records else "nothing was read"


def _folder(change: Change, folder: Path, rng: Rng) -> Action:
    root = runs.labelled(folder / "data", rng)
    out = runs.earlier_results(folder)
    change(root, rng)
    command = ("eval_cluster.py", "lab", "--dataset", str(root), "--out", str(out))
    return Action(
        run=lambda: evaluate(str(root), out),
        command=(*command, "--clusters", "2", "--pixels", "500"),
        names=(str(root), "data"),
        check=fits,
        writes=(out,),
    )


def _label(make: Callable[[Rng], Image.Image | bytes], path: str = LABEL) -> Change:
    def change(root: Path, rng: Rng) -> None:
        made = make(rng)
        data = made if isinstance(made, bytes) else encode(made, "PNG")
        (root / path).write_bytes(data)

    return change


def _index(values: Any, mode: str = "L") -> Callable[[Rng], Image.Image]:
    def make(rng: Rng) -> Image.Image:
        label = np.resize(np.array(values, np.uint8), (30, 40))
        image = Image.fromarray(label)
        if mode == "P":
            image.putpalette(rng.bytes(768))
        return image

    return make


def _classes(data: bytes) -> Change:
    return lambda root, rng: (root / "classes.txt").write_bytes(data)


def _remove(path: str) -> Change:
    return lambda root, rng: (root / path).unlink()


def _copy(source: str, target: str) -> Change:
    return lambda root, rng: (root / target).write_bytes((root / source).read_bytes())


def _file_for_folder(root: Path, rng: Rng) -> None:
    (root / "labels").rename(root.parent / "labels-elsewhere")
    (root / "labels").write_text("no folder")


def _folder_for_file(path: str) -> Change:
    def change(root: Path, rng: Rng) -> None:
        (root / path).unlink()
        (root / path).mkdir()

    return change


def _spoilt(root: Path, rng: Rng) -> None:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    path = files[int(rng.integers(len(files)))]
    path.write_bytes(spoil(path.read_bytes(), rng))


_GOOD: dict[str, Change] = {
    "as-it-is": lambda root, rng: None,
    "all-ignored": _label(_index([255])),
    "palette": _label(_index([0, 1, 255], "P")),
    "one-class": _label(_index([1])),
    "classes-crlf": _classes(b"dark\r\nbright\r\n"),
    "classes-numbered": _classes(b"0 dark\n1 bright\n255 void\n"),
    "classes-more-than-used": _classes(b"a\nb\nc\n"),
    "other-files": lambda root, rng: (root / "labels/val/readme.txt").write_text("hello"),
    "hidden-files": lambda root, rng: (root / "labels/val/.0.png").write_text("hello"),
    "classes-utf-16": _classes("dark\r\nbright\r\n".encode("utf-16")),
    "classes-bom": _classes(b"\xef\xbb\xbfdark\nbright\n"),
}
_BAD: dict[str, Change] = {
    "wrong-size": _label(lambda rng: Image.new("L", (41, 30))),
    "turned": _label(lambda rng: Image.new("L", (30, 40))),
    "rgb": _label(lambda rng: picture(rng)),
    "16-bit": _label(lambda rng: Image.fromarray(np.zeros((30, 40), np.uint16))),
    "one-bit": _label(lambda rng: Image.new("1", (40, 30))),
    "grey-alpha": _label(lambda rng: Image.new("LA", (40, 30))),
    "float": _label(lambda rng: encode(Image.new("F", (40, 30)), "TIFF")),
    "out-of-range": _label(_index([0, 1, 2])),
    "out-of-range-train": _label(_index([0, 254]), "labels/train/1.png"),
    "empty": _label(lambda rng: b""),
    "text": _label(lambda rng: b"no picture"),
    "no-data": _label(lambda rng: huge_png(40, 30)),
    "bomb": _label(lambda rng: huge_png(60_000, 60_000)),
    "bomb-image": _label(lambda rng: huge_png(60_000, 60_000), "images/val/0.png"),
    "header-only": _label(lambda rng: encode(Image.new("L", (40, 30)), "PNG")[:40]),
    "truncated-image": _label(lambda rng: encode(picture(rng), "PNG")[:400], "images/val/0.png"),
    "missing-label": _remove(LABEL),
    "missing-image": _remove("images/val/0.png"),
    "extra-label": _copy(LABEL, "labels/val/9.png"),
    "two-of-a-stem": _copy("images/val/0.png", "images/val/0.jpg"),
    "no-classes": _remove("classes.txt"),
    "classes-empty": _classes(b""),
    "classes-blank": _classes(b" \n\n"),
    "classes-gap": _classes(b"a\n\nb\n"),
    "classes-twice": _classes(b"a\na\n"),
    "classes-too-many": _classes(b"".join(b"c%d\n" % i for i in range(300))),
    "classes-one-too-few": _classes(b"dark\n"),
    "classes-numbers": _classes(b"1 a\n2 b\n"),
    "classes-latin-1": _classes(b"stra\xdfe\nhimmel\n"),
    "classes-utf-16-unmarked": _classes("dark\nbright\n".encode("utf-16-le")),
    "classes-folder": _folder_for_file("classes.txt"),
    "label-folder": _folder_for_file(LABEL),
    "labels-a-file": _file_for_folder,
    "no-split": lambda root, rng: (root / "labels/val").rename(root / "labels/test"),
}


def _official(kind: str, damage: str, folder: Path, rng: Rng) -> Action:
    root = getattr(trees, kind)(folder / kind)
    if kind == "camvid":
        root = (root / "CamVid").rename(folder / "data" / "camvid") if _made(folder) else root
    elif _made(folder):
        root = root.rename(folder / "data" / kind)
    name = {"cityscapes": "cityscapes27"}.get(kind, kind)
    maps = sorted(
        path for path in root.rglob("*.png") if "annot" in str(path) or "gtFine" in str(path)
    )
    chosen = [path for path in maps if "instance" not in path.name]
    victim = chosen[int(rng.integers(len(chosen)))]
    if damage == "value":
        Image.fromarray(np.full(Image.open(victim).size[::-1], 200, np.uint8)).save(victim)
    elif damage == "missing":
        victim.unlink()
    elif damage == "spoilt":
        victim.write_bytes(spoil(victim.read_bytes(), rng))
    return Action(
        run=lambda: evaluate(name, folder / "out", folder / "data"),
        names=(str(root),),
        check=fits,
    )


def _made(folder: Path) -> bool:
    (folder / "data").mkdir()
    return True


_OFFICIAL = [
    (kind, damage)
    for kind in ("cityscapes", "camvid")
    for damage in ("none", "value", "missing", "spoilt")
]
_EXPECTED = {"none": "worked", "spoilt": "either"}

FIXED = [
    *(
        Case(GROUP, f"good/{name}", partial(_folder, change), "worked")
        for name, change in _GOOD.items()
    ),
    *(
        Case(GROUP, f"bad/{name}", partial(_folder, change), "refused")
        for name, change in _BAD.items()
    ),
    *(
        Case(
            GROUP,
            f"{kind}/{damage}",
            partial(_official, kind, damage),
            _EXPECTED.get(damage, "refused"),
        )
        for kind, damage in _OFFICIAL
    ),
    *(
        Case(GROUP, f"tool/{name}", partial(_folder, _BAD[name]), "refused", process=True)
        for name in ("wrong-size", "out-of-range", "bomb")
    ),
    Case(GROUP, "tool/all-ignored", partial(_folder, _GOOD["all-ignored"]), process=True),
]


def drawn(number: int) -> Case:
    """One file of a labelled folder, or of an official release, is spoilt."""
    if number % 4 == 3:
        kind = ("cityscapes", "camvid")[number // 4 % 2]
        return Case(GROUP, f"{kind}/spoilt/{number}", partial(_official, kind, "spoilt"))
    return Case(GROUP, f"spoilt/{number}", partial(_folder, _spoilt))
