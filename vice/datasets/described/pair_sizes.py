"""Whether labels lie over their images: sizes of both, and what EXIF has to do with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vice.datasets.described.description import APPLY, AS_STORED, NAME
from vice.datasets.label_files import Geometry
from vice.datasets.labelled_set import THREADS, ImageLabelPair
from vice.errors import UserError
from vice.images.image_windows import image_header
from vice.runtime.progress import progress


@dataclass(frozen=True)
class PairGeometry:
    """How an image and its labels lie, by their headers."""

    pair: ImageLabelPair
    image: Geometry
    label: Geometry

    def sizes(self, exif: str) -> tuple[tuple[int, int], tuple[int, int]]:
        """Width and height of both, as they are read."""
        if exif == APPLY:
            return self.image.upright, self.label.upright
        return self.image.size, self.label.size

    def said(self, exif: str) -> str:
        """What is wrong with it, for people."""
        of_image, of_label = self.sizes(exif)
        text = (
            f"{self.pair.label}: {of_label[0]}x{of_label[1]} pixels, but its image "
            f"{self.pair.image} has {of_image[0]}x{of_image[1]}"
        )
        if of_label == self.image.size and exif == APPLY:
            stored = "they have the size of its pixels as stored"
            return f"{text}: {stored}, so set exif to ignore in {NAME}"
        return f"{text}; they must match"


def look_at_pairs(
    pairs: Sequence[ImageLabelPair], of_label: Callable[[Path], Geometry], title: str
) -> list[PairGeometry]:
    """Reads the headers of images and labels.

    Args:
        pairs: All with labels.
        of_label: How labels lie.
        title: What is being done, for the log.

    Raises:
        UserError: A file cannot be read.
    """

    def look(pair: ImageLabelPair) -> PairGeometry:
        assert pair.label is not None
        size, orientation = image_header(pair.image)
        return PairGeometry(pair, Geometry(size[::-1], orientation), of_label(pair.label))

    with ThreadPoolExecutor(THREADS) as pool:
        return list(progress(pool.map(look, pairs), len(pairs), title))


def decide_exif(looks: Sequence[PairGeometry]) -> tuple[str, list[str]]:
    """Whether labels lie over images as viewers show them, by sizes of those that are turned.

    Returns:
        ``"apply"`` or ``"ignore"``, and why.
    """
    told = [look for look in looks if look.image.upright != look.image.size]
    untold = sum(look.image.orientation != 1 for look in looks) - len(told)
    turned = sum(look.label.upright == look.image.upright for look in told)
    stored = sum(look.label.size == look.image.size for look in told)
    if stored > turned:
        return AS_STORED, [
            f"{stored} labels have the size of their image as stored, not as EXIF turns it: EXIF "
            "orientations are ignored"
        ]
    if untold:
        return APPLY, [
            f"{untold} images are turned by EXIF in a way that sizes do not show: it is applied to "
            "them, and to labels only by their own"
        ]
    if turned:
        return APPLY, [f"{turned} labels have the size of their image as EXIF turns it"]
    return APPLY, []


def check_sizes(looks: Sequence[PairGeometry], exif: str) -> None:
    """Sees to it that labels have the size of their image.

    Raises:
        UserError: How many do not, and the first of them.
    """
    wrong = [look for look in looks if len(set(look.sizes(exif))) > 1]
    if wrong:
        raise UserError(
            f"{len(wrong)} of {len(looks)} labels have another size than their image; the first is "
            f"{wrong[0].said(exif)}"
        )
