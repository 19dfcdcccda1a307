"""Hostile superpixel caches: remade or ignored, and the regions are the right ones."""

from __future__ import annotations

import io
import logging
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile import runs
from tests.hostile.case import Action, Case
from tests.hostile.damage import spoil
from tests.hostile.payloads import Payload

Rng = np.random.Generator
Change = Callable[[Path, Rng], object]
GROUP = "caches"
SHARE = 0.05
OPTIONS: dict[str, Any] = {"region_size": 8, "ruler": 10.0, "iterations": 3}


class Warnings(logging.Handler):
    """Counts what ViCE warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def twice(image: np.ndarray, cache: Path) -> Any:
    """The regions of an image, made and made again with one cache, and the warnings."""
    from vice.superpixels import Superpixels

    log, heard = logging.getLogger("vice.superpixels.cache"), Warnings()
    quiet = logging.root.manager.disable
    log.addHandler(heard)
    log.propagate = False
    logging.disable(logging.NOTSET)
    try:
        superpixels = Superpixels(**OPTIONS, cache_dir=cache)
        return superpixels(image), superpixels(image), heard.messages
    finally:
        logging.disable(quiet)
        log.propagate = True
        log.removeHandler(heard)


def _cached(change: Change, warned: bool | None, folder: Path, rng: Rng) -> Action:
    from vice.superpixels import Superpixels

    image = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
    expected = Superpixels(**OPTIONS)(image)
    cache = folder / "cache"
    maker = Superpixels(**OPTIONS, cache_dir=cache)
    maker(image)
    assert maker.cache is not None
    change(maker.cache.path(image), rng)

    def check(found: Any) -> str | None:
        first, second, warnings = found
        if not (np.array_equal(first, expected) and np.array_equal(second, expected)):
            return "other regions than without a cache"
        if len(warnings) > 2 or (warned is not None and bool(warnings) != warned):
            return f"warnings: {warnings}"
        return None

    return Action(
        run=lambda: twice(image, cache), check=check, names=(str(cache),), writes=(cache,)
    )


def _content(make: Callable[[bytes, Rng], bytes]) -> Change:
    return lambda path, rng: path.write_bytes(make(path.read_bytes(), rng))


def _arrays(**arrays: np.ndarray) -> Change:
    def change(path: Path, rng: Rng) -> None:
        file = io.BytesIO()
        np.savez(file, **arrays)
        path.write_bytes(file.getvalue())

    return change


def _objects(path: Path, rng: Rng) -> None:
    payload = np.array([Payload("system", Path.cwd())], object)
    file = io.BytesIO()
    np.savez(file, regions=payload)
    path.write_bytes(file.getvalue())


def _folder(path: Path, rng: Rng) -> None:
    path.unlink()
    path.mkdir()


def _full_folder(path: Path, rng: Rng) -> None:
    _folder(path, rng)
    (path / "something.txt").write_text("mine")


def _file_for_folder(path: Path, rng: Rng) -> None:
    path.unlink()
    path.parent.rmdir()
    path.parent.write_text("in the way")


def _link(path: Path, rng: Rng) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _of_another_image(path: Path, rng: Rng) -> None:
    """A sound entry under a wrong name, as a mixed-up copy leaves it."""
    from vice.superpixels import Superpixels

    other = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
    maker = Superpixels(**OPTIONS, cache_dir=path.parents[1])
    maker(other)
    assert maker.cache is not None
    maker.cache.path(other).rename(path)


_MAP = np.arange(40 * 48, dtype=np.int32).reshape(40, 48)
#: What is done to the entry, and whether that must be told.
_CHANGES: dict[str, tuple[Change, bool | None]] = {
    "as-it-is": (lambda path, rng: None, False),
    "gone": (lambda path, rng: path.unlink(), False),
    "empty": (_content(lambda data, rng: b""), True),
    "text": (_content(lambda data, rng: b"no map"), True),
    "plain-npy": (_content(lambda data, rng: b"\x93NUMPY\x01\x00"), True),
    "pickle": (_content(lambda data, rng: pickle.dumps(Payload("system", Path.cwd()))), True),
    "objects": (_objects, True),
    "other-name": (_arrays(labels=_MAP), True),
    "no-array": (_arrays(), True),
    "turned": (_arrays(regions=_MAP.T), True),
    "one-dimension": (_arrays(regions=_MAP.ravel()), True),
    "floats": (_arrays(regions=_MAP.astype(float)), True),
    "int64": (_arrays(regions=_MAP.astype(np.int64)), True),
    "negative-ids": (_arrays(regions=_MAP - 5000), True),
    "huge-ids": (_arrays(regions=_MAP + 2**30), True),
    "of-another-image": (_of_another_image, True),
    "folder": (_folder, True),
    "full-folder": (_full_folder, True),
    "file-for-folder": (_file_for_folder, True),
    "looping-link": (_link, True),
}


def _place(kind: str, folder: Path, rng: Rng) -> Action:
    """The cache folder itself is not what it should be."""
    image = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
    cache = {
        "file": folder / "file",
        "below": folder / "file" / "cache",
        "long": folder / ("n" * 300),
    }
    (folder / "file").write_text("a file")
    place = cache[kind]
    photos = runs.images(folder / "photos", rng)
    command = ("cache_superpixels.py", "config=vice/folder", "--workers", "1")
    settings = (
        f"config.DATA.TRAIN.DATA_PATHS=[{photos}]",
        f"config.VICE.SUPERPIXELS.cache_dir={place}",
    )
    return Action(
        run=lambda: twice(image, place), command=command + settings, names=(str(place), "cache_dir")
    )


FIXED = [
    *(
        Case(GROUP, f"entry/{name}", partial(_cached, *rest), "worked")
        for name, rest in _CHANGES.items()
    ),
    *(
        Case(GROUP, f"place/{kind}", partial(_place, kind), "refused")
        for kind in ("file", "below", "long")
    ),
    Case(GROUP, "tool/file", partial(_place, "file"), "refused", process=True),
]


def drawn(number: int) -> Case:
    """An entry whose bytes are spoilt."""
    return Case(GROUP, f"spoilt/{number}", partial(_cached, _content(spoil), None), "worked")
