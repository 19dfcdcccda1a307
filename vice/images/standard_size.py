"""The size that images are brought to before anything else: its options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from vice.options import PIXELS, one_of, option, whole

Mode = Literal["highres", "lowres", "none"]


@dataclass(frozen=True)
class StandardSize:
    """Options of `vice.images.standardize`, which says what the modes do."""

    mode: Mode = option("highres", one_of(*get_args(Mode)), "how images are brought to a size")
    min_side: int = option(500, PIXELS, "least length of the shorter side, in pixels (highres)")
    max_side: int = option(
        2048, whole(1, 2**16), "greatest length of the longer side, in pixels (highres)"
    )
    square: int = option(320, PIXELS, "side of the result, in pixels (lowres)")
