"""Label Studio's brush strokes: run lengths of an RGBA picture in a stream of bits.

The stream: 32 bits, how many bytes the picture has; 5 bits, bits of a value less one; four times 4
bits, bits that a length may take less one; then for each run one bit (1: one value repeated), two
bits (which of the four), the length less one, and the value. It is a list of bytes, filled with
zeros.
"""

from __future__ import annotations

import numpy as np

#: Bits that lengths may take.
_SIZES = (3, 4, 8, 16)
_CHANNELS, _ON, _VALUE_BITS = 4, 255, 8


def encode_brush(mask: np.ndarray) -> list[int]:
    """A mask as Label Studio stores it.

    Args:
        mask: bool (H, W).

    Returns:
        Bytes, as numbers.
    """
    flat = mask.ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=~flat[:1]))
    lengths = np.diff(starts, append=len(flat)) * _CHANNELS
    bits = [_bits(flat.size * _CHANNELS, 32), _bits(_VALUE_BITS - 1, 5)]
    bits += [_bits(size - 1, 4) for size in _SIZES]
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        value = _bits(_ON if flat[start] else 0, _VALUE_BITS)
        while length:
            part = min(length, 2 ** _SIZES[-1])
            index = next(n for n, size in enumerate(_SIZES) if part <= 2**size)
            bits += ["1", _bits(index, 2), _bits(part - 1, _SIZES[index]), value]
            length -= part
    stream = "".join(bits)
    stream += "0" * (-len(stream) % 8)
    return list(int(stream, 2).to_bytes(len(stream) // 8, "big"))


def _bits(number: int, width: int) -> str:
    return f"{number:0{width}b}"
