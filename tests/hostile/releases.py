"""Downloads of PASCAL VOC, SBD and ADE20K that are not whole, not the official ones, or changed."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers import trees
from tests.hostile.case import Action, Expected, Family, Make
from tests.hostile.labels import evaluate, fits

Rng = np.random.Generator
Change = Callable[[Path, Rng], object]
GROUP = "releases"
SHARE = 0.03
LISTS = "VOCdevkit/VOC2012/ImageSets/Segmentation"
MASKS = "VOCdevkit/VOC2012/SegmentationClass"
MATS = "benchmark_RELEASE/dataset/cls"
ANNOTATIONS = "ADEChallengeData2016/annotations"


def _one(folder: Path, rng: Rng, pattern: str = "*") -> Path:
    files = sorted(path for path in folder.glob(pattern) if path.is_file())
    return files[int(rng.integers(len(files)))]


def _list(change: Callable[[list[str], Rng], list[str] | bytes | None]) -> Change:
    """Another list of one of the official splits; None: none at all."""

    def edit(root: Path, rng: Rng) -> None:
        path = _one(root / LISTS, rng)
        lines = change(path.read_text().split(), rng)
        if lines is None:
            path.unlink()
        else:
            path.write_bytes(lines if isinstance(lines, bytes) else "\n".join(lines).encode())

    return edit


def _trainaug_with_val(root: Path, rng: Rng) -> None:
    ids = list(trees.VOC_IDS["train"] + trees.VOC_IDS["sbd"][:2])
    ids[int(rng.integers(len(ids)))] = trees.VOC_IDS["val"][0]
    (root / LISTS / "trainaug.txt").write_text("\n".join(ids))


def _masks(
    folder: str, change: Callable[[Image.Image, Rng], Any], pattern: str = "*.png"
) -> Change:
    """Other label maps in place of all of a folder, or of one by chance."""

    def edit(root: Path, rng: Rng) -> None:
        files = sorted((root / folder).glob(pattern))
        chosen = files if rng.integers(2) else [files[int(rng.integers(len(files)))]]
        for path in chosen:
            with Image.open(path) as image:
                made = change(image.copy(), rng)
            if isinstance(made, bytes):
                path.write_bytes(made)
            else:
                made.save(path, "PNG")

    return edit


def _values(change: Callable[[np.ndarray], Any]) -> Callable[[Image.Image, Rng], Image.Image]:
    def edit(image: Image.Image, rng: Rng) -> Image.Image:
        made = Image.fromarray(np.asarray(change(np.asarray(image))).astype(np.uint8))
        if image.mode == "P" and made.mode == "L":
            made.putpalette(image.getpalette())
        return made

    return edit


def _rgb(image: Image.Image, rng: Rng) -> Image.Image:
    return image.convert(str(rng.choice(["RGB", "RGBA"])))


def _numbered_anew(image: Image.Image, rng: Rng) -> Image.Image:
    """Colors saved as a palette image, so that an index is whatever came first."""
    if image.mode == "P":
        # Borders: without them, no index is beyond the classes.
        plain = image.point(lambda value: value % 255) if rng.integers(2) else image
        plain.putpalette(image.getpalette())
        return plain.convert("RGB").quantize(int(rng.integers(22, 200)))
    colors = np.frombuffer(np.random.default_rng(5).bytes(768), np.uint8).reshape(256, 3)
    return Image.fromarray(colors[np.asarray(image)]).quantize(256)


def _shrunk(image: Image.Image, rng: Rng) -> Image.Image:
    """A grey file that a program has given a palette of the grey values in it."""
    used, stored = np.unique(np.asarray(image), return_inverse=True)
    order = rng.permutation(len(used))
    made = Image.fromarray(np.argsort(order)[stored].reshape(image.size[::-1]).astype(np.uint8))
    made.putpalette(used[order].repeat(3).astype(np.uint8).tobytes())
    return made


def _jpeg(image: Image.Image, rng: Rng) -> bytes:
    data = io.BytesIO()
    image.convert("L").save(data, "JPEG", quality=int(rng.integers(30, 95)))
    return data.getvalue()


def _sixteen_bit(image: Image.Image, rng: Rng) -> Image.Image:
    return Image.fromarray(np.asarray(image).astype(np.uint16))


def _turned(image: Image.Image, rng: Rng) -> Image.Image:
    turns = (Image.Transpose.ROTATE_90, Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270)
    return image.transpose(turns[int(rng.integers(3))])


def _sized(image: Image.Image, rng: Rng) -> Image.Image:
    width, height = image.size
    factor = int(rng.integers(2, 4))
    return image.resize((width * factor, height * factor), Image.Resampling.NEAREST)


def _cut(image: Image.Image, rng: Rng) -> Image.Image:
    return image.crop((0, 0, image.width, image.height - int(rng.integers(4, 20))))


def _unlink(folder: str, pattern: str = "*") -> Change:
    return lambda root, rng: _one(root / folder, rng, pattern).unlink()


def _unlink_pair(root: Path, rng: Rng) -> None:
    path = _one(root / ANNOTATIONS, rng, "*/*.png")
    path.unlink()
    (root / "ADEChallengeData2016/images" / path.parent.name / f"{path.stem}.jpg").unlink()


def _mat(content: Callable[[Rng], Any]) -> Change:
    """Another file of SBD in place of one that is read."""

    def edit(root: Path, rng: Rng) -> None:
        from scipy.io import savemat

        path = _one(root / MATS, rng, "2008*.mat")
        made = content(rng)
        if isinstance(made, float):
            path.write_bytes(path.read_bytes()[: int(made * path.stat().st_size)])
        elif isinstance(made, bytes):
            path.write_bytes(made)
        else:
            savemat(path, made)

    return edit


def _segmentation(*shape: int, dtype: Any = np.uint8, value: int = 0) -> Change:
    return _mat(lambda rng: {"GTcls": {"Segmentation": np.full(shape, value, dtype)}})


def _archive(name: str, folder: str, damage: Callable[[Path, Rng], object]) -> Change:
    """What is unpacked becomes an archive, and that is damaged."""

    def edit(root: Path, rng: Rng) -> None:
        pack = trees.zipped if name.endswith(".zip") else trees.tarred
        pack(root / folder, folder, root / name)
        (root / folder).rename(root / "elsewhere")
        damage(root / name, rng)

    return edit


def _truncate(path: Path, rng: Rng) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * rng.uniform(0.1, 0.9))])


def _spoil(path: Path, rng: Rng) -> None:
    data = bytearray(path.read_bytes())
    start = int(rng.integers(len(data) // 8, len(data) // 2))
    data[start : start + 400] = rng.bytes(400)
    path.write_bytes(data)


def _text(path: Path, rng: Rng) -> None:
    path.write_text("<html>sign in to download</html>")


def _escape(inside: str) -> Callable[[Path, Rng], object]:
    """A member that would be written outside of the data set's folder."""

    def edit(path: Path, rng: Rng) -> None:
        name = f"{inside}/{'../' * int(rng.integers(1, 6))}{rng.choice(['', 'x/'])}escaped.jpg"
        if path.suffix == ".zip":
            with zipfile.ZipFile(path, "a") as archive:
                archive.writestr(name, b"escaped")
        else:
            with tarfile.open(path, "a") as archive:
                member = tarfile.TarInfo(name)
                member.size = 7
                archive.addfile(member, io.BytesIO(b"escaped"))

    return edit


def _prepare(name: str, change: Change, folder: Path, rng: Rng) -> Action:
    source, data = folder / "downloads", folder / "data"
    (trees.voc if name == "voc21" else trees.ade)(source)
    change(source, rng)
    root = data / ("voc" if name == "voc21" else "ade20k")

    def run() -> Any:
        from vice.datasets.preparation import prepare

        with pytest.MonkeyPatch.context() as patch:
            trees.shrink(patch)
            prepare(name, root, source, threads=2)
            return evaluate(name, folder / "out", data)

    return Action(run=run, names=("data/", "downloads/"), check=fits, writes=(data,))


_VOC_TAR = partial(_archive, "VOCtrainval_11-May-2012.tar", "VOCdevkit")
_SBD_TGZ = partial(_archive, "benchmark.tgz", "benchmark_RELEASE")
_ADE_ZIP = partial(_archive, "ADEChallengeData2016.zip", "ADEChallengeData2016")
_VOC: dict[str, tuple[Expected, Change]] = {
    "as-it-is": ("worked", lambda root, rng: None),
    "list-longer": ("refused", _list(lambda ids, rng: [*ids, "2011_000001"])),
    "list-shorter": ("refused", _list(lambda ids, rng: ids[:-1])),
    "list-twice": ("refused", _list(lambda ids, rng: [*ids, ids[0]])),
    "list-other-id": ("refused", _list(lambda ids, rng: [*ids[:-1], "2011_000001"])),
    "list-missing": ("refused", _list(lambda ids, rng: None)),
    "list-binary": ("refused", _list(lambda ids, rng: b"\xff" + rng.bytes(40))),
    "trainaug-with-val": ("refused", _trainaug_with_val),
    "masks-rgb": ("refused", _masks(MASKS, _rgb)),
    "masks-numbered-anew": ("refused", _masks(MASKS, _numbered_anew)),
    "masks-grey-of-colors": ("refused", _masks(MASKS, lambda image, rng: image.convert("L"))),
    "masks-jpeg": ("refused", _masks(MASKS, _jpeg)),
    "masks-scaled": ("refused", _masks(MASKS, _values(lambda stored: stored * 12 % 251))),
    "masks-turned": ("refused", _masks(MASKS, _turned)),
    "masks-cut": ("refused", _masks(MASKS, _cut)),
    "masks-larger": ("worked", _masks(MASKS, _sized)),
    "mask-missing": ("refused", _unlink(MASKS)),
    "mat-missing": ("refused", _unlink(MATS, "2008*")),
    "mat-cut": ("refused", _mat(lambda rng: float(rng.uniform(0, 0.8)))),
    "mat-text": ("refused", _mat(lambda rng: b"<html>sign in to download</html>")),
    "mat-instances": ("refused", _mat(lambda rng: {"GTinst": {"Segmentation": np.zeros((9, 9))}})),
    "mat-other-class": ("refused", _segmentation(36, 44, value=21)),
    "mat-rgb": ("refused", _segmentation(36, 44, 3)),
    "mat-float": ("refused", _segmentation(36, 44, dtype=np.float64)),
    "mat-turned": ("refused", _segmentation(44, 36)),
    "tar-cut": ("refused", _VOC_TAR(_truncate)),
    "tar-text": ("refused", _VOC_TAR(_text)),
    "tar-escapes": ("refused", _VOC_TAR(_escape("VOCdevkit/VOC2012/JPEGImages"))),
    "tgz-cut": ("refused", _SBD_TGZ(_truncate)),
    "tgz-spoilt": ("refused", _SBD_TGZ(_spoil)),
}
_ADE: dict[str, tuple[Expected, Change]] = {
    "as-it-is": ("worked", lambda root, rng: None),
    "shifted": (
        "refused",
        _masks(ANNOTATIONS, _values(lambda stored: stored - np.uint8(1)), "*/*.png"),
    ),
    "shifted-up": (
        "refused",
        _masks(ANNOTATIONS, _values(lambda stored: stored + np.uint8(1)), "*/*.png"),
    ),
    "rgb": ("refused", _masks(ANNOTATIONS, _rgb, "*/*.png")),
    "numbered-anew": ("refused", _masks(ANNOTATIONS, _numbered_anew, "*/*.png")),
    "shrunk": ("refused", _masks(ANNOTATIONS, _shrunk, "*/*.png")),
    "jpeg": ("refused", _masks(ANNOTATIONS, _jpeg, "*/*.png")),
    "sixteen-bit": ("refused", _masks(ANNOTATIONS, _sixteen_bit, "*/*.png")),
    "turned": ("refused", _masks(ANNOTATIONS, _turned, "*/*.png")),
    "larger": ("refused", _masks(ANNOTATIONS, _sized, "*/*.png")),
    "annotation-missing": ("refused", _unlink(ANNOTATIONS, "*/*.png")),
    "pair-missing": ("refused", _unlink_pair),
    "zip-cut": ("refused", _ADE_ZIP(_truncate)),
    "zip-text": ("refused", _ADE_ZIP(_text)),
    "zip-escapes": ("refused", _ADE_ZIP(_escape("ADEChallengeData2016/images/training"))),
}
_SETS = {"voc21": _VOC, "ade150": _ADE}
GENERATORS: dict[str, tuple[Expected, Make]] = {
    f"{name}/{kind}": (expected, partial(_prepare, name, change))
    for name, kinds in _SETS.items()
    for kind, (expected, change) in kinds.items()
}
_FAMILY = Family(GROUP, GENERATORS)
FIXED, drawn = _FAMILY.listed(), _FAMILY.drawn
