"""Small summaries of images that show which hold nothing, and which are the same picture.

A summary is made where an image is decoded anyway, takes a third of a kilobyte, draws no random
number, and says of two images whether they are equal (every pixel) or near duplicates: the same
picture in another size, format or compression, a little brighter, mirrored, or with a few pixels
changed; neighbouring frames of a slow video, too. Crops are not found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Standard deviation of the pixels, in grey levels of 255, below which an image holds nothing.
FLAT_DEVIATION = 2.0
#: Of the 128 bits of a difference hash, how many may differ between near duplicates.
MOST_BITS = 12
#: Mean difference of 8x8 thumbnails, in grey levels of 255, between near duplicates.
MOST_LEVELS = 6.0
_SIDE = 8
#: Bytes of a hash that are sorted by first, and entries that each is compared with in that order.
_BAND_BYTES, _NEIGHBORS = 2, 12


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Summary of one image.

    Attributes:
        exact: Hash of size and pixels; equal for equal images.
        bits: 16 bytes, a bit for each of 8x8 cells whether its right neighbour is brighter, and
            then whether its lower neighbour is.
        thumbnail: 192 bytes, uint8 (8, 8, 3): means over the cells of an 8x8 grid.
        deviation: Greatest standard deviation of a channel, in grey levels.
    """

    exact: int
    bits: bytes
    thumbnail: bytes
    deviation: float

    @property
    def flat(self) -> bool:
        """Whether the image is of one colour, but for noise."""
        return self.deviation < FLAT_DEVIATION


def fingerprint(image: np.ndarray) -> Fingerprint:
    """Summarises an image.

    Args:
        image: uint8 (H, W, 3).

    Returns:
        The summary.

    Source: difference hash, N. Krawetz, 2013.
    """
    import cv2

    pixels = np.ascontiguousarray(image)
    # Area average in one pass over the image; its cells can be divided into eight and into nine.
    small = _shrunk(pixels, 9 * _SIDE, 9 * _SIDE)
    digest = hashlib.sha1(repr(pixels.shape).encode(), usedforsecurity=False)
    digest.update(pixels.data)
    _, deviation = cv2.meanStdDev(pixels)
    # Upsampling: small images are not averaged but enlarged, and their cells are copies of pixels.
    wide = cv2.cvtColor(_shrunk(small, _SIDE, _SIDE + 1), cv2.COLOR_RGB2GRAY)
    high = cv2.cvtColor(_shrunk(small, _SIDE + 1, _SIDE), cv2.COLOR_RGB2GRAY)
    right, below = wide[:, 1:] > wide[:, :-1], high[1:] > high[:-1]
    return Fingerprint(
        int.from_bytes(digest.digest()[:8], "little"),
        np.packbits([right.ravel(), below.ravel()]).tobytes(),
        _shrunk(small, _SIDE, _SIDE).tobytes(),
        float(deviation.max()),
    )


def _shrunk(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    from vice.images.read import resize

    return resize(pixels, height, width, "area")


@dataclass(frozen=True)
class Duplicates:
    """What a set of images holds more than once.

    Attributes:
        images: How many images.
        flat: How many are of one colour, but for noise.
        repeated: How many equal one that came before.
        near: How many are no repetition and have a near duplicate among the others. Flat images
            are left out, and of groups of hundreds some may be missed.
    """

    images: int
    flat: int
    repeated: int
    near: int

    @property
    def different(self) -> int:
        """Images that equal none before them."""
        return self.images - self.repeated

    def describe(self) -> dict[str, int]:
        """The counts by name, for a file."""
        return {
            "images": self.images,
            "flat": self.flat,
            "exact_duplicates": self.repeated,
            "near_duplicates": self.near,
        }


def count_duplicates(prints: Sequence[Fingerprint]) -> Duplicates:
    """Counts flat images, exact and near duplicates.

    Args:
        prints: Of all images.

    Returns:
        The counts.
    """
    first = list({each.exact: each for each in prints}.values())
    near = near_duplicates([each for each in first if not each.flat])
    return Duplicates(
        len(prints), sum(each.flat for each in prints), len(prints) - len(first), int(near.sum())
    )


def count_shared(ours: Sequence[Fingerprint], theirs: Sequence[Fingerprint]) -> tuple[int, int]:
    """How many images of one set are, exactly and nearly, in another.

    Flat images are equal to many and count only where they are equal.

    Args:
        ours: Those that are counted.
        theirs: Those that are looked among.

    Returns:
        Images that equal one of the others, and images that do not but have a near duplicate.
    """
    there = {each.exact for each in theirs}
    same = sum(each.exact in there for each in ours)
    mine = [each for each in ours if each.exact not in there and not each.flat]
    others = list({each.exact: each for each in theirs if not each.flat}.values())
    group = np.repeat([0, 1], [len(mine), len(others)])
    near = near_duplicates([*mine, *others], group)
    return same, int(near[: len(mine)].sum())


def near_duplicates(prints: Sequence[Fingerprint], group: np.ndarray | None = None) -> np.ndarray:
    """Which images have a near duplicate, as they are or mirrored.

    Two images are near duplicates if at most `MOST_BITS` bits of their difference hashes differ
    and their thumbnails differ by at most `MOST_LEVELS` grey levels on average. Candidates
    are neighbours in the order of 16 of the 128 bits, for each of eight such parts; so the time is
    N log N, and the memory that of the summaries.

    Args:
        prints: Of N images.
        group: (N,) integers; only images of different groups are compared. None compares all.

    Returns:
        bool (N,).
    """
    count = len(prints)
    near = np.zeros(count, bool)
    if count < 2:
        return near
    packed, thumbs = _with_mirrored(prints)
    group = np.arange(count) if group is None else group
    owner = np.tile(np.arange(count), 2)
    for first in range(0, packed.shape[1], _BAND_BYTES):
        # Sorted order: entries of one part lie together, and those that agree in more adjoin.
        turned = np.roll(packed, -first, axis=1)
        keys = np.ascontiguousarray(turned[:, :8]).view(">u8")[:, 0].astype(np.uint64)
        order = np.argsort(keys, kind="stable")
        band = keys[order] >> np.uint64(64 - 8 * _BAND_BYTES)
        for step in range(1, min(_NEIGHBORS, 2 * count - 1) + 1):
            fit = np.flatnonzero(band[step:] == band[:-step])
            entry, other = order[fit], order[fit + step]
            new = ~(near[owner[entry]] & near[owner[other]])
            new &= group[owner[entry]] != group[owner[other]]
            entry, other = entry[new], other[new]
            alike = np.bitwise_count(packed[entry] ^ packed[other]).sum(1) <= MOST_BITS
            entry, other = entry[alike], other[alike]
            gap = np.abs(thumbs[entry].astype(np.int16) - thumbs[other]).mean(1)
            same = gap <= MOST_LEVELS
            near[owner[entry[same]]] = near[owner[other[same]]] = True
    return near


def _with_mirrored(prints: Sequence[Fingerprint]) -> tuple[np.ndarray, np.ndarray]:
    """Hashes (2 N, 16) and thumbnails (2 N, 192), uint8: as they are, then mirrored."""
    packed = np.frombuffer(b"".join(each.bits for each in prints), np.uint8).reshape(-1, 16)
    thumbs = np.frombuffer(b"".join(each.thumbnail for each in prints), np.uint8)
    thumbs = thumbs.reshape(-1, _SIDE, _SIDE, 3)
    bits = np.unpackbits(packed, axis=1).reshape(-1, 2, _SIDE, _SIDE)[..., ::-1].copy()
    # Mirror image: what was brighter than its right neighbour is so no longer, but for equal ones.
    bits[:, 0] = 1 - bits[:, 0]
    mirrored = np.packbits(bits.reshape(len(prints), -1), axis=1)
    both = np.concatenate([thumbs, thumbs[:, :, ::-1]])
    return np.concatenate([packed, mirrored]), both.reshape(len(both), -1)
