"""Whether a written file computes what its model does, at sizes that it was not traced with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vice.errors import UserError
from vice.export.doors import BYTES, Doors
from vice.normalize import normalize

#: Images (batch, height, width): multiples of 32, of 14, and of neither; more than one; the size
#: that most transformers were trained with.
TRIED = ((1, 64, 96), (2, 97, 131), (1, 56, 84), (1, 33, 200), (1, 224, 224))
#: What a graph is traced with: multiples of nothing, so that no step is left out of it.
TRACED = (2, 71, 93)
#: Most that values may differ by, as a share of the greatest one where that is above 1. Rounding
#: of the places that resizing reads from comes to 2e-4 on images of noise; a step that tracing has
#: taken for a fact, to 0.1 and more.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Trial:
    """How far a file is from its model.

    Attributes:
        difference: The greatest of `embed`, as a share of the greatest value where that is above 1.
        relabeled: Share of pixels with another concept, all of them ties within `TOLERANCE`; None
            without `segment`.
    """

    difference: float
    relabeled: float | None


def images(takes: str, size: tuple[int, int, int], seed: int = 0) -> Tensor:
    """Random images as a door takes them.

    Args:
        takes: One of `vice.export.doors.INPUTS`.
        size: (B, H, W).
        seed: Of the pixels.
    """
    batch, height, width = size
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(
        0, 256, (batch, height, width, 3), dtype=torch.uint8, generator=generator
    )
    return pixels if takes == BYTES else normalize(pixels.permute(0, 3, 1, 2))


@torch.no_grad()
def compare(
    doors: Doors,
    embed: Callable[[Tensor], Tensor],
    segment: Callable[[Tensor], Tensor] | None,
    name: str,
) -> Trial:
    """Runs a file and its model side by side.

    Args:
        doors: The model.
        embed: The file's door.
        segment: The same; None: it has none.
        name: Of the file's kind, for the message.

    Raises:
        UserError: They differ.
    """
    given = [images(doors.takes, size, seed) for seed, size in enumerate(TRIED)]
    difference = max(_differences(doors, embed, given, name))
    if segment is None:
        return Trial(difference, None)
    relabeled = [_relabeled(doors, segment, batch, name) for batch in given]
    return Trial(difference, sum(relabeled) / len(relabeled))


def _differences(
    doors: Doors, embed: Callable[[Tensor], Tensor], given: list[Tensor], name: str
) -> Iterator[float]:
    for batch, size in zip(given, TRIED, strict=True):
        wanted, found = doors.embed(batch), embed(batch)
        if found.shape != wanted.shape:
            raise _refusal(name, size, f"{tuple(found.shape)} instead of {tuple(wanted.shape)}")
        difference = float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1))
        # NaN is not below anything.
        if not difference <= TOLERANCE:
            raise _refusal(name, size, f"vectors differ by {difference:.2g}")
        yield difference


def _relabeled(
    doors: Doors, segment: Callable[[Tensor], Tensor], batch: Tensor, name: str
) -> float:
    """Share of pixels whose concept is another one, as good but for rounding."""
    scores, found = doors.scores(batch), segment(batch)
    size = (len(scores), *scores.shape[-2:])
    if found.shape != size:
        raise _refusal(name, size, f"labels are {tuple(found.shape)}")
    best, nearest = scores.max(1)
    groups = doors.grouped(torch.arange(scores.shape[1]))
    # Of the vectors of the group that was found; none, if there is no such group.
    of_found = groups[None, :, None, None] == found[:, None]
    lost = best - scores.masked_fill(~of_found, -torch.inf).amax(1)
    if float((lost / best.abs().clamp(min=1)).max()) > TOLERANCE:
        raise _refusal(name, size, "pixels have another concept")
    return float((found != doors.grouped(nearest)).float().mean())


def _refusal(name: str, size: tuple[int, ...], what: str) -> UserError:
    shape = " x ".join(map(str, size))
    return UserError(
        f"this network cannot be exported to {name}: of {shape} (images, rows, columns) {what}; "
        "nothing was written: take another --to"
    )
