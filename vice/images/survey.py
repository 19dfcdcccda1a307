"""What a set of images holds, looked at before any work: formats, ranges, and how much content."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from vice.errors import UserError
from vice.images.clipping import Clipping
from vice.images.fingerprints import Duplicates, Fingerprint, count_duplicates, fingerprint
from vice.images.lists import list_images
from vice.images.read import decode_image
from vice.images.reading import Reading
from vice.images.refusals import ImageError
from vice.runtime.progress import progress
from vice.runtime.threads import cores

logger = logging.getLogger(__name__)

THREADS = 8
#: Images that are looked at before a training.
SAMPLE = 64
#: Share of images of one colour, or of repetitions, above which hardly anything can be learnt.
MOST_EMPTY = 0.5
MOST_REPEATED = 0.9


@dataclass
class Survey:
    """What was found.

    Attributes:
        total: How many images there are.
        looked: How many were looked at.
        forms: Format to the number of its images.
        spans: Format to the least and the greatest sample of its images.
        notes: What was passed over or converted, to the number of images.
        refused: Of each image that cannot be used, why.
        prints: Of the others, in order.
        clipping: Of those that a scale is stated for, how many values lie outside of it.
    """

    total: int
    looked: int = 0
    forms: Counter[str] = field(default_factory=Counter)
    spans: dict[str, tuple[float, float]] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)
    refused: list[ImageError] = field(default_factory=list)
    prints: list[Fingerprint] = field(default_factory=list)
    clipping: Clipping = field(default_factory=Clipping)

    def duplicates(self) -> Duplicates:
        """Flat images and repetitions among those that were looked at."""
        return count_duplicates(self.prints)

    def checksum(self) -> str:
        """SHA-256 over the sizes and pixels of all images, in their order, as they are read."""
        exact = b"".join(each.exact.to_bytes(8, "little") for each in self.prints)
        return hashlib.sha256(exact).hexdigest()

    def __str__(self) -> str:
        kinds = [
            f"{count} {form}, values {self.spans[form][0]:g} to {self.spans[form][1]:g}"
            for form, count in self.forms.most_common()
        ]
        kinds += [f"{len(self.refused)} that cannot be used"] * bool(self.refused)
        notes = "".join(f"; {note} ({count})" for note, count in self.notes.most_common())
        part = f"{self.looked} of {self.total} images" if self.looked < self.total else "all images"
        clipped = f"; {self.clipping}" if self.clipping.values else ""
        return f"{part} looked at: {'; '.join(kinds)}{notes}{clipped}"

    def describe(self) -> dict[str, object]:
        """Formats, ranges, notes and content, for a file."""
        return {
            "formats": {
                form: {"images": count, "least": self.spans[form][0], "most": self.spans[form][1]}
                for form, count in self.forms.items()
            },
            "notes": dict(self.notes),
            **({"clipping": self.clipping.describe()} if self.clipping.values else {}),
            **self.duplicates().describe(),
        }


@dataclass(frozen=True)
class _ImageFacts:
    form: str
    span: tuple[float, float]
    notes: tuple[str, ...]
    print_: Fingerprint
    outside: int
    values: int


def survey_images(
    paths: Sequence[str | Path],
    label: str = "looking at images",
    most: int | None = None,
    reading: Reading | None = None,
) -> Survey:
    """Reads images as everything else does, and keeps what they are.

    Args:
        paths: Image files.
        label: What is being done, for the log.
        most: At most so many, evenly spread over ``paths``; None reads all.
        reading: As in `vice.images.read_image`.

    Returns:
        What was found; images that cannot be used are counted, not raised.
    """
    survey = Survey(len(paths))
    if most is not None and len(paths) > most:
        paths = [paths[i] for i in np.linspace(0, len(paths) - 1, most).astype(int)]
    with ThreadPoolExecutor(min(THREADS, cores())) as pool:
        looked_at = pool.map(partial(_look_at, reading=reading), paths)
        # Progress: a sample is too quickly done for any.
        for facts in looked_at if most else progress(looked_at, len(paths), label):
            _add(survey, facts)
    return survey


def _look_at(path: str | Path, reading: Reading | None) -> _ImageFacts | ImageError:
    try:
        decoded = decode_image(path, reading=reading)
    except ImageError as error:
        return error
    pixels = decoded.pixels
    span = decoded.span or (float(pixels.min()), float(pixels.max()))
    return _ImageFacts(
        decoded.form, span, decoded.notes, fingerprint(pixels), decoded.outside, decoded.values
    )


def _add(survey: Survey, facts: _ImageFacts | ImageError) -> None:
    survey.looked += 1
    if isinstance(facts, ImageError):
        survey.refused.append(facts)
        return
    survey.forms[facts.form] += 1
    survey.notes.update(facts.notes)
    low, high = survey.spans.get(facts.form, facts.span)
    survey.spans[facts.form] = min(low, facts.span[0]), max(high, facts.span[1])
    survey.prints.append(facts.print_)
    if facts.values:
        survey.clipping.add(facts.outside, facts.values)


def content_warnings(duplicates: Duplicates, *, scored: bool = False) -> list[str]:
    """What is wrong with the content of images, and what to do.

    Args:
        duplicates: What was counted.
        scored: Whether they are a data set's, of which nobody may leave some out.

    Returns:
        One line for each sign; none where most images show something, and not all the same.
    """
    flat = "there is nothing to learn from them; remove them, or look at how they were made"
    alike = "give more different images, such as every n-th frame"
    if scored:
        flat, alike = "scores of them say little", "scores are of fewer pictures than it seems"
    said = []
    if duplicates.flat > MOST_EMPTY * duplicates.images:
        said.append(
            f"{duplicates.flat} of {duplicates.images} images are of one colour but for noise: "
            f"{flat}"
        )
    copies = duplicates.repeated + duplicates.near
    if duplicates.images > 1 and copies > MOST_REPEATED * (duplicates.images - 1):
        said.append(
            f"{copies} of {duplicates.images} images are the same pictures as others "
            f"({duplicates.repeated} exactly, {duplicates.near} nearly, as frames of a video are): "
            f"{alike}"
        )
    return said


def look_at_images(path: str | Path, reading: Reading | None = None) -> None:
    """Says what a sample of the images to train on holds, and refuses what cannot be trained on.

    Args:
        path: Folder or list of images.
        reading: As in `vice.images.read_image`.

    Raises:
        UserError: More than half of the images that were looked at cannot be used.
    """
    survey = survey_images(list_images(path), most=SAMPLE, reading=reading)
    refused = survey.refused
    if 2 * len(refused) > survey.looked:
        raise UserError(
            f"{path}: {len(refused)} of {survey.looked} images that were looked at cannot be "
            f"trained on; the first is {refused[0]}"
        )
    logger.info("%s: %s", path, survey)
    if refused:
        logger.warning(
            "%d of %d images that were looked at cannot be used and will be skipped; the first is "
            "%s", len(refused), survey.looked, refused[0],
        )  # fmt: skip
    for warning in content_warnings(survey.duplicates()):
        logger.warning("ALARM: of those that were looked at, %s", warning)
