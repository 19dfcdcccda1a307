"""Hostile images: read, trained on, and given to a model."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile.case import Action, Case
from tests.hostile.damage import spoil
from tests.hostile.pictures import SIZE, SOUND, encode, huge_png, picture, with_exif

Rng = np.random.Generator
Put = Callable[[Path, Rng], Path]
GROUP = "images"
SHARE = 0.22


def read(path: Path) -> Any:
    """What every part of ViCE does first."""
    from vice.images import list_images, read_image

    return [read_image(file) for file in list_images(path)]


def train_on(folder: Path) -> Any:
    """Views of every image of a folder, as the workers of a training draw them."""
    import vice.plugins.vissl  # noqa: F401
    from tests.helpers.methods import SETTINGS
    from vice.plugins.vissl.dataset import ViceImages

    sizes = {"mode": "highres", "min_side": 32, "max_side": 64}
    options = {**SETTINGS, "STANDARDIZE": sizes}
    source = ViceImages({"VICE": options, "SEED_VALUE": 0}, str(folder), "TRAIN", "", "")
    return [source[index][0] for index in range(len(source))]


def is_rgb(images: Any) -> str | None:
    """Every image is 8-bit RGB and of a known size."""
    for image in images:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            return f"read as {image.dtype} {image.shape}"
    return None


def of_size(images: Any, turned: bool) -> str | None:
    """One image of the size it was written in, and not all of one colour."""
    wanted = (*(SIZE if turned else SIZE[::-1]), 3)
    if images[0].shape != wanted:
        return f"read as {images[0].shape}, not {wanted}"
    return None if images[0].std() > 1 else "read as one colour"


def drawn_from_good_ones(samples: Any, count: int) -> str | None:
    """Every place of the folder has given finite views of some image."""
    if len(samples) != count:
        return f"{len(samples)} samples of {count} files"
    shapes = {sample.drawn.views.images.shape for sample in samples}
    return None if shapes == {(2, 24, 24, 3)} else f"views of shapes {shapes}"


def _reading(put: Put, folder: Path, rng: Rng) -> Action:
    path = put(folder, rng)
    command = ("cache_superpixels.py", "config=vice/folder", "--workers", "1")
    settings = (
        f"config.DATA.TRAIN.DATA_PATHS=[{folder}]",
        "config.VICE.SUPERPIXELS.cache_dir=cache",
    )
    return Action(
        run=lambda: read(path),
        command=command + settings,
        names=(path.name, str(path), str(folder)),
        check=is_rgb,
    )


def _training(put: Put, folder: Path, rng: Rng) -> Action:
    put(folder, rng)
    for number in range(2):
        (folder / f"good{number}.png").write_bytes(encode(picture(rng), "PNG"))
    from vice.images import list_images

    count = len(list_images(folder))
    return Action(run=lambda: train_on(folder), check=lambda s: drawn_from_good_ones(s, count))


def _sound(kind: str, folder: Path, rng: Rng) -> Action:
    suffix, make = SOUND[kind]
    path = folder / f"picture{suffix}"
    path.write_bytes(make(rng))
    turned = kind.startswith("jpeg-orientation") and int(kind.rpartition("-")[2]) in (5, 6, 7, 8)
    return Action(run=lambda: read(path), check=lambda images: of_size(images, turned))


def _content(data: bytes | Callable[[Rng], bytes], name: str = "picture.jpg") -> Put:
    def put(folder: Path, rng: Rng) -> Path:
        path = folder / name
        path.write_bytes(data if isinstance(data, bytes) else data(rng))
        return path

    return put


def _spoilt(folder: Path, rng: Rng) -> Path:
    suffix, make = list(SOUND.values())[int(rng.integers(len(SOUND)))]
    return _content(spoil(make(rng), rng), f"picture{suffix}")(folder, rng)


def _shaped(width: int, height: int) -> Put:
    return _content(lambda rng: encode(picture(rng, (width, height)), "PNG"), "picture.png")


def _folder_as_file(folder: Path, rng: Rng) -> Path:
    (folder / "inner.jpg").mkdir()
    return folder / "inner.jpg"


def _link(target: str) -> Put:
    def put(folder: Path, rng: Rng) -> Path:
        os.symlink(target, folder / "link.jpg")
        return folder / "link.jpg"

    return put


def _looping_folder(folder: Path, rng: Rng) -> Path:
    (folder / "deep").mkdir()
    os.symlink("..", folder / "deep" / "back")
    return _content(encode(picture(rng), "PNG"), "deep/picture.png")(folder, rng).parent


def _named(name: str | bytes) -> Put:
    def put(folder: Path, rng: Rng) -> Path:
        path = Path(os.fsdecode(os.path.join(os.fsencode(folder), os.fsencode(name))))
        path.write_bytes(encode(picture(rng), "PNG"))
        return path

    return put


_PNG = SOUND["png"][1]
#: Files that are no pictures, and how they are put there.
_BAD: dict[str, Put] = {
    "empty": _content(b""),
    "text": _content(b"this is no picture\n"),
    "html": _content(b"<!DOCTYPE html><html><body>404 Not Found</body></html>"),
    "zeros": _content(bytes(4096)),
    "pickle": _content(b"cos\nsystem\n(S'touch code_ran'\ntR."),
    "eps": _content(b"%!PS-Adobe-3.0 EPSF-3.0\n(touch code_ran) run\n", "picture.png"),
    "no-data": _content(huge_png(40, 30), "picture.png"),
    "bomb": _content(huge_png(60_000, 60_000), "picture.png"),
    "bomb-wide": _content(huge_png(2**31 - 1, 2**31 - 1), "picture.png"),
    "large-promise": _content(huge_png(12_000, 12_000), "picture.png"),
    "folder-as-file": _folder_as_file,
    "broken-link": _link("nowhere.jpg"),
    "looping-link": _link("link.jpg"),
    "jpeg-header-only": _content(lambda rng: SOUND["jpeg"][1](rng)[:200]),
    "svg": _content(b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>"),
}
#: Odd, and sound.
_ODD: dict[str, Put] = {
    "wrong-suffix": _content(_PNG),
    "one-pixel": _shaped(1, 1),
    "one-column": _shaped(1, 700),
    "one-row": _shaped(700, 1),
    "very-long": _shaped(20_000, 1),
    "broken-exif": _content(
        lambda rng: with_exif(rng, b"MM\x00*\x00\x00\x00\x08\xff\xff" + bytes(9))
    ),
    "exif-noise": _content(lambda rng: with_exif(rng, rng.bytes(64))),
    "trailing-bytes": _content(lambda rng: _PNG(rng) + b"more", "picture.png"),
    "looping-folder": _looping_folder,
    "spaces": _named("  a picture  .png"),
    "newline": _named("two\nlines.png"),
    "unicode": _named("Bäume_木_🌳.png"),
    "not-utf8": _named(b"b\xe4ume_\xff.png"),
    "dash": _named("-rf.png"),
    "brackets": _named("a[1],{b}='c'.png"),
    "shell": _named("$(touch code_ran);`touch code_ran`.png"),
    "very-long-name": _named("n" * 250 + ".png"),
    "suffix-in-capitals": _named("PICTURE.PNG"),
}


def _reports(put: Put, folder: Path, rng: Rng) -> Action:
    """A prediction of one image, by a run folder."""
    from tests.hostile.runs import run_folder

    run, path = run_folder(folder), put(folder, rng)

    def predict() -> Any:
        import vice

        return vice.load(run, "cpu").segment(path)

    return Action(run=predict, names=(path.name, str(path)))


FIXED = [
    *(Case(GROUP, f"sound/{kind}", partial(_sound, kind), "worked") for kind in SOUND),
    *(Case(GROUP, f"odd/{name}", partial(_reading, put), "worked") for name, put in _ODD.items()),
    *(
        Case(GROUP, f"odd/{name}/train", partial(_training, put), "worked")
        for name, put in _ODD.items()
    ),
    *(Case(GROUP, f"bad/{name}", partial(_reading, put), "refused") for name, put in _BAD.items()),
    *(
        Case(GROUP, f"bad/{name}/train", partial(_training, put), "worked")
        for name, put in _BAD.items()
    ),
    *(
        Case(GROUP, f"bad/{name}/predict", partial(_reports, put), "refused")
        for name, put in _BAD.items()
    ),
    *(
        Case(GROUP, f"tool/{name}", partial(_reading, _BAD[name]), process=True)
        for name in ("bomb", "folder-as-file")
    ),
    Case(GROUP, "tool/not-utf8", partial(_reading, _ODD["not-utf8"]), process=True),
]


def drawn(number: int) -> Case:
    """A spoilt file of a random kind: read, trained on, or given to a model."""
    make = (_reading, _reading, _training, _reports)[number % 4]
    expected = "worked" if make is _training else "either"
    return Case(GROUP, f"spoilt/{number}", partial(make, _spoilt), expected)
