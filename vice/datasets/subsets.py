"""Subsets of a list for few-shot experiments: a rule instead of files that get lost."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from vice.errors import UserError
from vice.images import list_images
from vice.names import name_bytes, printable


def check_fraction(fraction: float) -> None:
    """Raises a `UserError` unless a fraction is above 0 and at most 1."""
    if not 0 < fraction <= 1:
        raise UserError(f"fraction {fraction} is not above 0 and at most 1")


def take_subset(names: Sequence[str], fraction: float, seed: int) -> frozenset[str]:
    """A reproducible random subset.

    Each name is ranked by the SHA-256 of ``"<seed>:<name>"``, and the first are taken. So the
    subset depends on nothing but names, fraction and seed, and a smaller fraction of the same seed
    lies within a larger one.

    Args:
        names: All names, in any order, none twice.
        fraction: In (0, 1]; the number is rounded down (0.1 % of 49,629 are 49), at least 1.
        seed: Which subset.

    Returns:
        The chosen names.

    Raises:
        UserError: A fraction out of range.
    """
    check_fraction(fraction)
    # Floating-point error: 0.29 * 100 is 28.999..., and rounding down would make it 28.
    count = max(1, int(round(len(names) * fraction, 6)))
    ranked = sorted(names, key=lambda name: hashlib.sha256(name_bytes(f"{seed}:{name}")).digest())
    return frozenset(ranked[:count])


def take_listed(images: Mapping[str, Path], path: str | Path) -> frozenset[str]:
    """The subset whose files a list names, such as ``vice select`` writes.

    Args:
        images: File of each name.
        path: A text file with a path a line, or a folder.

    Returns:
        The chosen names.

    Raises:
        UserError: The list cannot be read, or names a file that none of the images is.
    """
    asked = {each.resolve(): each for each in list_images(path)}
    own = {file.resolve(): name for name, file in images.items()}
    foreign = [each for file, each in asked.items() if file not in own]
    if foreign:
        raise UserError(
            f"{printable(str(path))}: {len(foreign)} of its {len(asked)} images are none of the "
            f"{len(own)} that can be fitted on, such as {printable(str(foreign[0]))}; "
            "list files of the data set itself"
        )
    return frozenset(own[file] for file in asked)
