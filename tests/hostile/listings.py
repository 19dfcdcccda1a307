"""Folders and lists with more in them than images: what is used and what is not must be said."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile import runs
from tests.hostile.case import Action, Expected, Family, Make
from tests.hostile.pictures import encode, picture

Rng = np.random.Generator
#: Words that must stand in the line about a place.
Wanted = list[str]
Lay = Callable[[Path, Rng], Wanted]
GROUP = "listings"
SHARE = 0.03


def said(path: Path) -> dict[str, Any]:
    """A training's look at its data: the lines, and what the run folder gets."""
    from omegaconf import OmegaConf

    from vice.images import lists as image_lists
    from vice.plugins.vissl.config.inputs import announce_data

    lines: list[str] = []
    image_lists._said.clear()
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    log, disabled = logging.getLogger("vice.images.lists"), logging.root.manager.disable
    kept, log.propagate = log.level, False
    logging.disable(logging.NOTSET)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        health = {"held_out": 1, "held_out_paths": [str(path)]}
        config = {"DATA": {"TRAIN": {"DATA_PATHS": [str(path)]}}, "VICE": {"HEALTH": health}}
        found = announce_data(OmegaConf.create(config))
        return {"lines": lines, "found": found, "listed": image_lists.list_images(path)}
    finally:
        log.setLevel(kept)
        log.propagate = True
        log.removeHandler(handler)
        logging.disable(disabled)


def _check(wanted: Wanted, result: Any) -> str | None:
    lines, found = result["lines"], result["found"]
    if len(lines) != 1 or "\n" in lines[0]:
        return f"one place was named {len(lines)} times: {lines}"
    missing = [word for word in wanted if word not in lines[0]]
    if missing:
        return f"{missing} not in: {lines[0]}"
    if found["train"] != found["held_out"][0] or found["train"]["files"] != len(result["listed"]):
        return f"the run folder would say {found['train']}"
    return None


def _case(lay: Lay, folder: Path, rng: Rng) -> Action:
    path = folder / "data"
    wanted = lay(runs.images(path, rng, int(rng.integers(1, 4))), rng)
    path = folder / "list.txt" if (folder / "list.txt").exists() else path
    return Action(
        run=lambda: said(path),
        command=(
            "cache_superpixels.py", "config=vice/folder", "--workers", "1",
            f"config.DATA.TRAIN.DATA_PATHS=[{path}]", "config.VICE.SUPERPIXELS.cache_dir=cache",
        ),
        names=(str(path), path.name),
        check=partial(_check, wanted),
    )  # fmt: skip


def _put(folder: Path, name: str, data: bytes = b"x") -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _good(rng: Rng) -> bytes:
    return encode(picture(rng), "PNG")


def plain(folder: Path, rng: Rng) -> Wanted:
    count = len(list(folder.iterdir()))
    return [f"{folder}: {count} images (.png {count})"]


def other_formats(folder: Path, rng: Rng) -> Wanted:
    counts: Counter[str] = Counter()
    for number in range(int(rng.integers(1, 60))):
        suffix = str(rng.choice([".NEF", ".nef", ".CR2", ".dng", ".mp4", ".jxl"]))
        _put(folder, f"IMG_{number}{suffix}")
        counts[suffix] += 1
    return ["ignored: ", *(f"{suffix} {number}" for suffix, number in counts.items())]


def no_suffix(folder: Path, rng: Rng) -> Wanted:
    count = int(rng.integers(1, 5))
    for number in range(count):
        _put(folder, f"photo{number}", _good(rng))
    return [f"ignored: without suffix {count}"]


def many_suffixes(folder: Path, rng: Rng) -> Wanted:
    count = int(rng.integers(20, 50))
    for number in range(count):
        _put(folder, f"x.{number:03d}")
    return ["ignored: .000 1", f"others {count - 8}"]


def odd_suffixes(folder: Path, rng: Rng) -> Wanted:
    for number, suffix in enumerate(("x" * 200, "\n", "\x1b[31m", "jpg?a=1&b=2&c=3")):
        _put(folder, f"{number}.{suffix}")
    os.close(os.open(os.fsencode(folder) + b"/a.\xdf\xdf", os.O_CREAT))
    return ["odd suffix 5"]


def hidden(folder: Path, rng: Rng) -> Wanted:
    count = int(rng.integers(1, 5))
    for number in range(count):
        _put(folder, str(rng.choice(["._{}.png", ".{}.jpg", ".{}/a.png"])).format(number), b"x")
    return [f"{count} hidden"]


def of_systems(folder: Path, rng: Rng) -> Wanted:
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "sub/Thumbs.db"):
        _put(folder, name)
    return [".db 2", ".ini 1", "1 hidden"]


def broken_links(folder: Path, rng: Rng) -> Wanted:
    count = int(rng.integers(1, 4))
    for number in range(count):
        target = str(rng.choice(["gone.jpg", "/gone/x", "link0.jpg"]))
        (folder / f"link{number}.jpg").symlink_to(target)
    return [f"{count} broken link{'s' * (count > 1)}", f".jpg {count}"]


def empty_files(folder: Path, rng: Rng) -> Wanted:
    count = int(rng.integers(1, 4))
    for number in range(count):
        _put(folder, f"deep/er/{number}.TIF", b"")
    return [f"{count} empty file{'s' * (count > 1)}", f".TIF {count}"]


def not_files(folder: Path, rng: Rng) -> Wanted:
    os.mkfifo(folder / "pipe.png")
    return ["1 not a file"]


def links_back(folder: Path, rng: Rng) -> Wanted:
    (folder / "sub").mkdir()
    (folder / "sub" / "back").symlink_to(folder)
    return [" images (.png "]


def list_with_missing(folder: Path, rng: Rng) -> Wanted:
    present = [str(path) for path in sorted(folder.iterdir())]
    lost = [f"{folder}/{n}.jpg" for n in range(int(rng.integers(1, 6)))]
    lines = [str(line) for line in rng.permutation([*present, *lost])]
    (folder.parent / "list.txt").write_text("\n".join(lines) + "\n")
    return [f"{len(lines)} images", f"{len(lost)} missing", f".png {len(present)}"]


def list_of_odd_lines(folder: Path, rng: Rng) -> Wanted:
    lines = ["data/0.png", "# comment", "data", "data/void.png", "data/0.png"]
    _put(folder, "void.png", b"")
    (folder.parent / "list.txt").write_text("\n".join(lines))
    return ["5 images", "1 missing", "1 not a file", "1 empty file"]


def _emptied(lay: Lay) -> Lay:
    """Only what a generator lays: no good image."""

    def change(folder: Path, rng: Rng) -> Wanted:
        for path in folder.iterdir():
            path.unlink()
        return lay(folder, rng)

    return change


def _of(expected: Expected, lay: Lay) -> tuple[Expected, Make]:
    return expected, partial(_case, lay)


_GOOD = (
    plain, other_formats, no_suffix, many_suffixes, odd_suffixes, hidden, of_systems, broken_links,
    empty_files, not_files, links_back, list_with_missing, list_of_odd_lines,
)  # fmt: skip
_ALONE = (other_formats, no_suffix, hidden, broken_links, empty_files, not_files)
FAMILY = Family(
    GROUP,
    {
        **{lay.__name__: _of("worked", lay) for lay in _GOOD},
        **{f"alone/{lay.__name__}": _of("refused", _emptied(lay)) for lay in _ALONE},
    },
)
FIXED = FAMILY.listed()
drawn = FAMILY.drawn
