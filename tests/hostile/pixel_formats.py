"""Images of every kind of samples and bands: read rightly, or refused since nobody can know."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.helpers.tiffs import tiff
from tests.hostile import configs, runs
from tests.hostile.case import Action, Expected, Family, Make
from tests.hostile.labels import evaluate
from tests.hostile.pictures import SIZE, encode, picture

Rng = np.random.Generator
#: Suffix, bytes, and for what can be read the pixels, (H, W) or (H, W, 3).
Drawn = tuple[str, bytes, np.ndarray | None]
GROUP = "pixel formats"
SHARE = 0.04


def _samples(rng: Rng, bands: int = 3, bits: int = 16) -> np.ndarray:
    """A picture of blocks with all of its range in use, uint16 (H, W, bands)."""
    blocks = rng.integers(0, 65536, (6, 8, bands)).astype(np.float64)
    blocks[0, 0], blocks[-1, -1] = 0, 65535
    # Nearest blocks, and noise in the low bits, which a reader may drop.
    wide = np.kron(blocks, np.ones((5, 5, 1))) + rng.integers(-200, 200, (30, 40, bands))
    return (np.clip(wide, 0, 65535).astype(np.uint16)) >> (16 - bits)


def _png(samples: np.ndarray, sbit: bytes = b"") -> bytes:
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[samples.shape[2]]
    data = cv2.imencode(".png", np.ascontiguousarray(samples[..., order]))[1].tobytes()
    body = b"sBIT" + sbit
    chunk = struct.pack(">I", len(sbit)) + body + struct.pack(">I", zlib.crc32(body))
    return data[:33] + chunk * bool(sbit) + data[33:]


def _pnm(samples: np.ndarray, most: int) -> bytes:
    kind = b"P5" if samples.shape[2] == 1 else b"P6"
    return kind + b"\n40 30\n%d\n" % most + samples.astype(">u2").tobytes()


def _container(rng: Rng, samples: np.ndarray) -> tuple[str, bytes]:
    """A file that says of its samples nothing but that they lie in 16 bits."""
    kind = int(rng.integers(3))
    if kind == 0:
        return ".png", _png(samples)
    if kind == 1:
        return ".pgm", _pnm(samples, 65535)
    return ".tif", tiff(samples, 1 if samples.shape[2] == 1 else 2, big_endian=rng.random() < 0.5)


def _low_bits(rng: Rng) -> Drawn:
    samples = _samples(rng, int(rng.choice([1, 3])), int(rng.integers(8, 16)))
    return *_container(rng, samples), None


def _hot_pixels(rng: Rng) -> Drawn:
    samples = _samples(rng, int(rng.choice([1, 3])), 12)
    samples[rng.integers(30), rng.integers(40), 0] = 65535
    return *_container(rng, samples), None


def _infrared(rng: Rng) -> Drawn:
    wide = _samples(rng, 4)
    samples = wide if rng.random() < 0.5 else (wide >> 8).astype(np.uint8)
    extra = () if rng.random() < 0.5 else (0,)
    return ".tif", tiff(samples, 2, extra=extra, planar=int(rng.integers(1, 3))), None


def _many_bands(rng: Rng) -> Drawn:
    bands = int(rng.choice([2, 5, 6, 8, 12, 13]))
    wide = np.repeat(_samples(rng, 1), bands, 2)
    samples = wide if rng.random() < 0.5 else (wide >> 8).astype(np.uint8)
    photometric = int(rng.choice([1, 2])) if bands > 3 else 1
    extra = (0,) * (bands - (3 if photometric == 2 else 1)) if rng.random() < 0.7 else ()
    return ".tif", tiff(samples, photometric, extra=extra, planar=int(rng.integers(1, 3))), None


def _signed(rng: Rng) -> Drawn:
    kind = rng.choice([np.int8, np.int16, np.int32])
    values = _samples(rng, 1).astype(np.int64) - int(rng.choice([0, 20_000]))
    return ".tif", tiff(values.astype(kind), 1), None


def _wide_integers(rng: Rng) -> Drawn:
    values = (_samples(rng, 1) >> int(rng.integers(0, 9))).astype(np.uint32)
    return ".tif", tiff(values, 1), None


def _any_floats(rng: Rng) -> Drawn:
    unit = _samples(rng, 1) / 65535
    low, span = ((0, 255), (0, 65535), (-1, 2), (-40, 90), (0, 0.3), (200, 0.001))[rng.integers(6)]
    return ".tif", tiff((low + span * unit).astype(np.float32), 1), None


def _holes(rng: Rng) -> Drawn:
    values = (_samples(rng, 1) / 65535).astype(np.float32)
    share = float(rng.choice([0.001, 0.5, 1.0]))
    holes = rng.random(values.shape) < share
    holes[0, 0] = True
    values[holes] = rng.choice([np.nan, np.inf, -np.inf])
    return ".tif", tiff(values, 1), None


def _odd_floats(rng: Rng) -> Drawn:
    kind = (np.float16, np.float64, np.complex64)[rng.integers(3)]
    return ".tif", tiff((_samples(rng, 1) / 65535).astype(kind), 1), None


def _color_spaces(rng: Rng) -> Drawn:
    photometric = rng.choice([8, 9, 10, 34892, 32803, 12345, -1])
    samples = (_samples(rng, 1 if photometric == 32803 else 3) >> 8).astype(np.uint8)
    return ".tif", tiff(samples, None if photometric < 0 else int(photometric)), None


def _inks(rng: Rng) -> Drawn:
    samples = (_samples(rng, 5) >> 8).astype(np.uint8)
    if rng.random() < 0.5:
        return ".tif", tiff(samples[..., :4], 5, tags={332: (2,)}), None
    return ".tif", tiff(samples, 5, extra=(int(rng.integers(3)),)), None


def _stack(rng: Rng) -> Drawn:
    wide = _samples(rng, 1)
    samples = wide if rng.random() < 0.5 else (wide >> 8).astype(np.uint8)
    return ".tif", tiff(samples, int(rng.integers(2)), pages=int(rng.integers(2, 14))), None


def _sensor_preview(rng: Rng) -> Drawn:
    samples = (_samples(rng) >> 8).astype(np.uint8)
    return ".tif", tiff(samples, 2, tags={254: (1,)}, pages=int(rng.integers(1, 3))), None


def _foreign(rng: Rng) -> Drawn:
    head = (bytes(128) + b"DICM", b"\0\0\0\x18ftypheic", b"v/1\x01", b"\x93NUMPY", b"\xff\x0a")
    return ".png", head[rng.integers(5)] + rng.bytes(500), None


def _false_depth(rng: Rng) -> Drawn:
    samples = _samples(rng, 1) | 1
    samples[::3] += 2
    return ".png", _png(samples, b"\x0a"), None


def _full(rng: Rng) -> Drawn:
    samples = _samples(rng, int(rng.choice([1, 3])))
    return *_container(rng, samples), _shown(samples)


def _from_white(rng: Rng) -> Drawn:
    samples = _samples(rng, 1)
    return ".tif", tiff(samples, 0), np.rint((65535.0 - samples[..., 0]) / 257)


def _stated(rng: Rng) -> Drawn:
    bits = int(rng.integers(9, 15))
    samples = _samples(rng, int(rng.choice([1, 3])), bits) >> int(rng.integers(0, 3))
    if rng.random() < 0.5:
        return ".pgm", _pnm(samples, 2**bits - 1), _shown(samples, 2**bits - 1)
    if rng.random() < 0.5:
        twelve = _samples(rng, 1, 12) >> int(rng.integers(0, 3))
        return ".tif", tiff(twelve, 1, bits=12), _shown(twelve, 4095)
    sbit = bytes([bits]) * samples.shape[2]
    return ".png", _png(samples << (16 - bits), sbit), _shown(samples << (16 - bits))


def _alpha(rng: Rng) -> Drawn:
    samples = _samples(rng, 4)
    share = samples[..., 3:] / 65535
    wanted = np.rint((samples[..., :3] * share + 65535 * (1 - share)) / 257)
    if rng.random() < 0.5:
        return ".png", _png(samples), wanted
    extra = int(rng.integers(1, 3))
    if extra == 1:
        colors = np.rint(samples[..., :3] * share)
        samples = np.concatenate([colors, samples[..., 3:]], 2).astype(np.uint16)
    if rng.random() < 0.5:
        samples = (samples >> 8).astype(np.uint8)
        wanted = None if extra == 1 else _over_white(samples)
        return ".tif", tiff(samples, 2, extra=(extra,)), wanted
    return ".tif", tiff(samples, 2, extra=(extra,)), wanted


def _over_white(samples: np.ndarray) -> np.ndarray:
    share = samples[..., 3:] / 255
    return np.rint(samples[..., :3] * share + 255 * (1 - share))


def _unit_floats(rng: Rng) -> Drawn:
    values = (_samples(rng, 1) / 65535).astype(np.float32)
    return ".tif", tiff(values, 1, big_endian=rng.random() < 0.5), np.rint(values[..., 0] * 255.0)


def _plain(rng: Rng) -> Drawn:
    samples = (_samples(rng) >> 8).astype(np.uint8)
    planar, pages = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    return ".tif", tiff(samples, 2, planar=planar, pages=pages), samples.astype(float)


def _shown(samples: np.ndarray, white: int = 65535) -> np.ndarray:
    values = np.rint(samples * (255.0 / white))
    return values[..., 0] if values.shape[2] == 1 else values


_UNCLEAR: dict[str, Callable[[Rng], Drawn]] = {
    "low-bits": _low_bits,
    "hot-pixels": _hot_pixels,
    "infrared": _infrared,
    "many-bands": _many_bands,
    "signed": _signed,
    "wide-integers": _wide_integers,
    "any-floats": _any_floats,
    "holes": _holes,
    "odd-floats": _odd_floats,
    "color-spaces": _color_spaces,
    "inks": _inks,
    "stack": _stack,
    "sensor-preview": _sensor_preview,
    "foreign": _foreign,
    "false-depth": _false_depth,
}
_CLEAR: dict[str, Callable[[Rng], Drawn]] = {
    "full": _full,
    "from-white": _from_white,
    "stated": _stated,
    "alpha": _alpha,
    "unit-floats": _unit_floats,
    "plain": _plain,
}


def _reading(path: Path, folder: Path, rng: Rng) -> Callable[[], Any]:
    from vice.images import read_image

    return lambda: read_image(path)


def _predicting(path: Path, folder: Path, rng: Rng) -> Callable[[], Any]:
    run = runs.run_folder(folder)

    def predict() -> Any:
        import vice

        return vice.load(run, "cpu").segment(path)

    return predict


def _training(path: Path, folder: Path, rng: Rng) -> Callable[[], Any]:
    """Three such files and a good one: a training would run on that one alone."""
    photos = runs.images(folder / "photos", rng, 1)
    for number in range(3):
        (photos / f"{number}-{path.name}").write_bytes(path.read_bytes())
    settings = [f"config.DATA.TRAIN.DATA_PATHS=[{photos}]", f"config.CHECKPOINT.DIR={folder}/new"]

    def start() -> Any:
        from vice.plugins.vissl.config.configure import configure

        return configure([*configs.SMALL, *settings])

    return start


def _scoring(path: Path, folder: Path, rng: Rng) -> Callable[[], Any]:
    root = runs.labelled(folder / "data", rng)
    image = root / "images/val/0.png"
    image.rename(folder / "before.png")
    image.with_suffix(path.suffix).write_bytes(path.read_bytes())
    return lambda: evaluate(str(root), folder / "results")


_DOORS = (_reading, _reading, _predicting, _training, _scoring)


def _refused(draw: Callable[[Rng], Drawn], folder: Path, rng: Rng) -> Action:
    suffix, data, _ = draw(rng)
    path = folder / f"odd{suffix}"
    path.write_bytes(data)
    door = _DOORS[rng.integers(len(_DOORS))]
    return Action(run=door(path, folder, rng), names=(path.name, "images/val", "photos"))


def _read(draw: Callable[[Rng], Drawn], folder: Path, rng: Rng) -> Action:
    suffix, data, wanted = draw(rng)
    path = folder / f"good{suffix}"
    path.write_bytes(data)
    return Action(run=_reading(path, folder, rng), check=partial(_is, wanted))


def _is(wanted: np.ndarray | None, image: np.ndarray) -> str | None:
    if image.dtype != np.uint8 or image.shape != (*SIZE[::-1], 3):
        return f"read as {image.dtype} {image.shape}"
    if wanted is None:
        return None
    wide = wanted if wanted.ndim == 3 else wanted[..., None]
    gap = float(np.abs(image - wide).max())
    # Pillow rounds what it scales or composes itself.
    return None if gap <= 1 else f"off by {gap} grey levels"


def _array(folder: Path, rng: Rng) -> Action:
    """What is no 8-bit RGB array, given to a model."""
    run = runs.run_folder(folder)
    wide = _samples(rng)
    given: Any = (
        wide,
        wide / 255,
        (wide >> 8).astype(np.int16),
        (_samples(rng, 4) >> 8).astype(np.uint8),
        (wide > 9).astype(bool),
    )[rng.integers(5)]

    def embed() -> Any:
        import vice

        return vice.load(run, "cpu").embed(given)

    return Action(run=embed, names=("an image must be", "an image of"))


def _mixed(folder: Path, rng: Rng) -> Action:
    """One unclear image among many good ones is skipped, and the training starts."""
    photos = runs.images(folder / "photos", rng, 5)
    names = list(_UNCLEAR)
    suffix, data, _ = _UNCLEAR[names[rng.integers(len(names))]](rng)
    (photos / f"odd{suffix}").write_bytes(data)
    (photos / "good.jpg").write_bytes(encode(picture(rng), "JPEG"))
    settings = [f"config.DATA.TRAIN.DATA_PATHS=[{photos}]", f"config.CHECKPOINT.DIR={folder}/new"]

    def start() -> Any:
        from vice.plugins.vissl.config.configure import configure

        return configure([*configs.SMALL, *settings])

    return Action(run=start)


_GENERATORS: dict[str, tuple[Expected, Make]] = {
    **{name: ("refused", partial(_refused, draw)) for name, draw in _UNCLEAR.items()},
    **{name: ("worked", partial(_read, draw)) for name, draw in _CLEAR.items()},
    "array": ("refused", _array),
    "one-of-many": ("worked", _mixed),
}
FAMILY = Family(GROUP, _GENERATORS)
FIXED = FAMILY.listed()
drawn = FAMILY.drawn
