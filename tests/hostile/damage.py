"""Ways to spoil the bytes of a file."""

from __future__ import annotations

import numpy as np

Rng = np.random.Generator


def truncate(data: bytes, rng: Rng) -> bytes:
    """Cuts the end off, anywhere."""
    return data[: int(rng.integers(0, max(1, len(data))))]


def flip(data: bytes, rng: Rng, first: int = 0, last: int | None = None) -> bytes:
    """Flips one to eight bits between two places."""
    changed = bytearray(data)
    end = min(len(data), last or len(data))
    for place in rng.integers(min(first, end - 1), end, int(rng.integers(1, 9))):
        changed[int(place)] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def overwrite(data: bytes, rng: Rng) -> bytes:
    """Puts noise over a stretch, as a bad block does."""
    start = int(rng.integers(len(data)))
    length = int(rng.integers(1, 1 + len(data) // 4))
    return data[:start] + rng.bytes(length) + data[start + length :]


def drop(data: bytes, rng: Rng) -> bytes:
    """Leaves a stretch out."""
    start = int(rng.integers(len(data)))
    return data[:start] + data[start + int(rng.integers(1, 1 + len(data) // 4)) :]


def line_ends(data: bytes, rng: Rng) -> bytes:
    """What a transfer in text mode does."""
    return data.replace(b"\n", b"\r\n")


def noise(data: bytes, rng: Rng) -> bytes:
    """Other content of the same length."""
    return rng.bytes(len(data))


DAMAGES = (truncate, flip, overwrite, drop, line_ends, noise)


def spoil(data: bytes, rng: Rng) -> bytes:
    """Any of these, truncation and flips more often than the others."""
    ways = (truncate, truncate, flip, flip, flip, overwrite, drop, line_ends, noise)
    return ways[int(rng.integers(len(ways)))](data, rng)
