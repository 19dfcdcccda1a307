"""Images beyond 8-bit RGB under a stated scale: read as arithmetic says, or refused in one line."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.helpers.image_kinds import (
    UPRIGHT,
    Kind,
    draw_kind,
    draw_samples,
    expected,
    write_kind,
)
from tests.hostile import configs
from tests.hostile.case import Action, Expected, Family, Make
from tests.hostile.damage import spoil

Rng = np.random.Generator
GROUP = "images of one's own"
SHARE = 0.08
_FOREIGN = (bytes(128) + b"DICM", b"v/1\x01", b"\x93NUMPY", b"\x89HDF\r\n", b"\xff\x0a",
            b"#?RADIANCE\n", b"\0\0\0\x0cJXL ")  # fmt: skip
_SCALES = ("", "p1", "p99,p1", "5,5", "4095,0", "p0,p101", "nan,1", "0,inf", "0;4095", "a,b",
           "p1,99", "0,1,2", "-p1,p2", "1e400,2e400", "p1, p99 %")  # fmt: skip


@dataclass
class Scenes:
    """A folder of images of one kind, and how they are asked to be read.

    Attributes:
        folder: The folder.
        kind: Of the files.
        files: The images.
        bands: Asked for, from 1; empty for all.
        page: Asked for.
        scale: Asked for.
        upright: Samples of that page as they are shown, all bands of the file.
    """

    folder: Path
    kind: Kind
    files: list[Path]
    bands: tuple[int, ...]
    page: int
    scale: str
    upright: list[np.ndarray]

    @property
    def asked(self) -> Any:
        from vice.images import ImageReading

        return ImageReading(self.scale, self.bands, self.page if self.page > 1 else None)

    @property
    def read(self) -> list[int]:
        """Indices of the bands that are read."""
        if self.bands:
            return [band - 1 for band in self.bands]
        return list(range(self.kind.bands - _has_alpha(self.kind)))

    def limits(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Black and white of each band that is read, by the definition of percentiles."""
        low, high = (float(part.lstrip("p")) for part in self.scale.split(","))
        if not self.scale.startswith("p"):
            return (low,) * len(self.read), (high,) * len(self.read)
        found = []
        for band in self.read:
            values = np.concatenate([each[..., band].ravel() for each in self.upright])
            values = values[np.isfinite(values)].astype(np.float64)
            found.append(np.quantile(values, [low / 100, high / 100], method="inverted_cdf"))
        black, white = zip(*found, strict=True)
        return tuple(map(float, black)), tuple(map(float, white))

    def wanted(self, number: int) -> tuple[np.ndarray, int]:
        """8-bit RGB of an image, and how far a reader may be off."""
        black, white = self.limits()
        stored, alpha = self.upright[number], None
        if _has_alpha(self.kind) and not self.bands:
            alpha = stored[..., -1] / (2.0 ** (8 * stored.itemsize) - 1)
        return expected(stored[..., self.read], black, white, alpha), int(alpha is not None)


def _has_alpha(kind: Kind) -> bool:
    return kind.alpha or (kind.container == "png" and kind.bands == 4)


def _scenes(folder: Path, rng: Rng, kind: Kind | None = None) -> Scenes:
    chosen = draw_kind(rng) if kind is None else kind
    place = folder / "scenes"
    place.mkdir()
    files, upright = [], []
    page = int(rng.integers(chosen.pages)) + 1
    for number in range(2):
        samples = draw_samples(chosen, rng, 24 + number, 32)
        files.append(write_kind(place / f"scene é {number}", chosen, samples))
        upright.append(UPRIGHT[chosen.orientation](samples[page - 1]))
    bands: tuple[int, ...] = ()
    if chosen.bands - _has_alpha(chosen) not in (1, 3) or rng.random() < 0.5:
        count = int(rng.choice([1, 3]))
        bands = tuple(rng.integers(1, chosen.bands + 1, count).tolist())
    low, high = chosen.span
    scale = "p2,p98"
    if rng.random() < 0.5:
        scale = f"{low + 0.1 * (high - low):.3f},{low + 0.8 * (high - low):.3f}"
    return Scenes(place, chosen, files, bands, page, scale, upright)


@cache
def _embedder() -> Any:
    from vice.models.checkpoint import load_embedder

    return load_embedder("random:resnet18-fpn-8")


def _measured(scenes: Scenes) -> Any:
    from vice.images.measure import measure

    return measure(scenes.folder, scenes.asked)


def _model(folder: Path, reading: Any) -> Any:
    import vice
    from vice.models.checkpoint import READING, save_run

    save_run(folder / "run", _embedder(), meta={READING: reading.to_dict()})
    return vice.load(folder / "run", "cpu")


# Doors, each from scenes to pictures in the order of their files.


def _by_path(scenes: Scenes, folder: Path) -> list[np.ndarray]:
    from vice.images import read_image

    reading = _measured(scenes)
    return [read_image(file, reading=reading) for file in scenes.files]


def _by_windows(scenes: Scenes, folder: Path) -> list[np.ndarray]:
    from vice.images import read_image
    from vice.images.image_windows import open_image_windows

    reading, found = _measured(scenes), []
    for file in scenes.files:
        windows = open_image_windows(file, reading, 0)
        if windows is None:
            found.append(read_image(file, reading=reading))
            continue
        height, width = windows.size
        parts = [windows.read((top, min(top + 7, height)), (0, width))
                 for top in range(0, height, 7)]  # fmt: skip
        found.append(np.concatenate(parts))
    return found


def _by_model(scenes: Scenes, folder: Path) -> list[np.ndarray]:
    predictor = _model(folder, _measured(scenes))
    return [predictor.given(file).pixels for file in scenes.files]


def _by_training(scenes: Scenes, folder: Path) -> list[np.ndarray]:
    """As a training reads them, by the words of the command line."""
    from vice.images import read_image, reading_of
    from vice.plugins.vissl.config.configure import configure

    words = [
        *configs.SMALL,
        f"config.DATA.TRAIN.DATA_PATHS=['{scenes.folder}']",
        f"config.CHECKPOINT.DIR='{folder}/new'",
        f"config.VICE.DATASET.scale='{scenes.scale}'",
        f"config.VICE.DATASET.bands=[{','.join(map(str, scenes.bands))}]",
    ]
    words += [f"config.VICE.DATASET.page={scenes.page}"] * (scenes.page > 1)
    _, config = configure(words)
    reading = reading_of(config.VICE)
    return [read_image(file, reading=reading) for file in scenes.files]


_DOORS = (_by_path, _by_path, _by_windows, _by_model, _by_training)


def _right(scenes: Scenes, found: list[np.ndarray]) -> str | None:
    for number, pixels in enumerate(found):
        wanted, slack = scenes.wanted(number)
        if pixels.dtype != np.uint8 or pixels.shape != wanted.shape:
            return f"read as {pixels.dtype} {pixels.shape}: {scenes}"
        gap = int(np.abs(pixels.astype(int) - wanted).max())
        if gap > slack:
            return f"off by {gap} levels: {scenes.kind} {scenes.asked}"
    return None


def _good(folder: Path, rng: Rng) -> Action:
    scenes = _scenes(folder, rng)
    door = _DOORS[int(rng.integers(len(_DOORS)))]
    return Action(run=lambda: door(scenes, folder), check=partial(_right, scenes))


def _refused(change: Callable[[Scenes, Rng], Any], folder: Path, rng: Rng) -> Action:
    """Something is wrong with what is asked for, or with all of the files."""
    scenes = _scenes(folder, rng)
    changed = change(scenes, rng) or scenes
    door = _DOORS[int(rng.integers(len(_DOORS)))]
    names = (str(scenes.folder), "scale", "bands", "band ", "page", "config.VICE.DATASET")
    return Action(run=lambda: door(changed, folder), names=names)


def _no_band(scenes: Scenes, rng: Rng) -> Scenes:
    more = scenes.kind.bands + int(rng.integers(1, 9))
    return dataclasses.replace(scenes, bands=(1, more, 1))


def _no_page(scenes: Scenes, rng: Rng) -> Scenes:
    return dataclasses.replace(scenes, page=scenes.kind.pages + int(rng.integers(1, 9)))


def _odd_bands(scenes: Scenes, rng: Rng) -> Scenes:
    odd = [(1, 2), (0,), (-1, 2, 3), (1, 2, 3, 4)]
    return dataclasses.replace(scenes, bands=odd[int(rng.integers(4))])


def _odd_scale(scenes: Scenes, rng: Rng) -> Scenes:
    return dataclasses.replace(scenes, scale=str(rng.choice(_SCALES)))


def _one_value(scenes: Scenes, rng: Rng) -> Scenes:
    for file in scenes.files:
        samples = draw_samples(scenes.kind, rng, 20, 20)
        samples[...] = 1
        write_kind(file, scenes.kind, samples)
    return dataclasses.replace(scenes, scale="p1,p99")


def _nothing(scenes: Scenes, rng: Rng) -> Scenes:
    """Floating point of which no value is a number."""
    kind = Kind(dtype="float32", bits=32, bands=3)
    for file in scenes.files:
        file.unlink()
        samples = np.full((1, 20, 20, 3), rng.choice([np.nan, np.inf, -np.inf]), np.float32)
        write_kind(file, kind, samples)
    return dataclasses.replace(scenes, kind=kind, bands=(), page=1)


def _foreign(scenes: Scenes, rng: Rng) -> None:
    for file in scenes.files:
        file.write_bytes(_FOREIGN[int(rng.integers(len(_FOREIGN)))] + rng.bytes(300))


def _empty(scenes: Scenes, rng: Rng) -> None:
    for file in scenes.files:
        file.write_bytes(b"")


def _stranger(folder: Path, rng: Rng) -> Action:
    """A model gets a file of another sample type, number of bands, or bit depth."""
    kind = Kind(bits=12, bands=int(rng.choice([1, 3, 5])))
    scenes = _scenes(folder, rng, kind)
    others = [
        dataclasses.replace(kind, bands=kind.bands + 1),
        dataclasses.replace(kind, dtype="float32", bits=32),
        dataclasses.replace(kind, dtype="uint8", bits=8),
        dataclasses.replace(kind, dtype="int16"),
        kind,
    ]
    place = int(rng.integers(len(others)))
    samples = draw_samples(others[place], rng, 30, 30)
    if place == len(others) - 1:
        # 16 bits where 12 were, and a dark file of a few levels.
        samples = samples * 16 if rng.random() < 0.5 else samples // 512
    other = write_kind(folder / "other", others[place], samples)
    reading = _measured(dataclasses.replace(scenes, scale="0,4095", bands=(1,), page=1))
    door = int(rng.integers(3))

    def run() -> Any:
        from vice.images import read_image

        if door == 0:
            return read_image(other, reading=reading)
        model = _model(folder, reading)
        return model.embed(other if door == 1 else samples[0])

    return Action(run=run, names=(other.name, "image", "array"))


def _mixed(folder: Path, rng: Rng) -> Action:
    """A folder of two kinds is read as most of it is, and the rest of it is named."""
    kind = Kind(bits=12, bands=5)
    scenes = _scenes(folder, rng, kind)
    for number in range(2):
        other = dataclasses.replace(kind, bands=4 + 2 * number, dtype=("uint8", "uint16")[number],
                                    bits=(8, 16)[number])  # fmt: skip
        write_kind(scenes.folder / f"z{number}", other, draw_samples(other, rng, 20, 20))
    asked = dataclasses.replace(scenes, bands=(3, 2, 1), page=1, scale="0,4095")

    def run() -> list[np.ndarray]:
        from vice.errors import UserError
        from vice.images import read_image

        reading = _measured(asked)
        for file in sorted(scenes.folder.glob("z*")):
            try:
                read_image(file, reading=reading)
            except UserError:
                continue
            raise AssertionError(f"{file} was read as another kind")
        return [read_image(file, reading=reading) for file in scenes.files]

    return Action(run=run, check=partial(_right, asked))


def _spoilt(folder: Path, rng: Rng) -> Action:
    from vice.images import read_image

    scenes = _scenes(folder, rng)
    reading = _measured(scenes)
    file = scenes.files[0]
    file.write_bytes(spoil(file.read_bytes(), rng))

    def sound(found: list[np.ndarray]) -> str | None:
        fine = all(each.dtype == np.uint8 and each.shape[2] == 3 for each in found)
        return None if fine else "no picture"

    return Action(run=lambda: [read_image(file, reading=reading)], names=(file.name,), check=sound)


def _of(change: Callable[[Scenes, Rng], Any]) -> tuple[Expected, Make]:
    return "refused", partial(_refused, change)


FAMILY = Family(
    GROUP,
    {
        **{f"good/{number}": ("worked", _good) for number in range(8)},
        "good/mixed": ("worked", _mixed),
        "bad/no-band": _of(_no_band),
        "bad/no-page": _of(_no_page),
        "bad/odd-bands": _of(_odd_bands),
        "bad/odd-scale": _of(_odd_scale),
        "bad/one-value": _of(_one_value),
        "bad/nothing": _of(_nothing),
        "bad/foreign": _of(_foreign),
        "bad/empty": _of(_empty),
        "bad/stranger": ("refused", _stranger),
        "spoilt": ("either", _spoilt),
    },
)
FIXED = FAMILY.listed()
drawn = FAMILY.drawn
