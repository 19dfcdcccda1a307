"""Masks of all images of a folder, with a table of what is in them."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vice.errors import UserError
from vice.explore.disk_estimate import DiskEstimate
from vice.explore.embedding_files import EMBEDDINGS, EmbeddingFiles
from vice.explore.in_order import WORKERS, in_order
from vice.explore.kept_pass import source_of
from vice.explore.mask_files import MOST_CONCEPTS, mask_names, mask_source
from vice.explore.mask_way import GEOREFERENCED, MASKS, OVERLAYS, MaskWay, OnTheWay
from vice.explore.named_concepts import NamedConcepts
from vice.explore.summary_table import SummaryTable, images_of_masks
from vice.models.concepts import Concepts
from vice.models.load import unfinished
from vice.names import find_shown, printable
from vice.predictor import Predictor
from vice.runtime.files import disk_errors, make_folder, read_json, write_json
from vice.runtime.folder_lock import sole_writer
from vice.runtime.own_folder import keep_others
from vice.runtime.progress import progress
from vice.runtime.provenance import digest_tensors
from vice.runtime.run_folder import MASKS_RECORD_NAME

SUMMARY, RECORD = "summary.csv", MASKS_RECORD_NAME
#: Folder of the tables of parts, which several processes make.
PARTS = "parts"
#: In the record, how many images the table lacks.
LEFT = "left"
#: What is written beside the record.
_WRITTEN = (MASKS, OVERLAYS, GEOREFERENCED, EMBEDDINGS, SUMMARY)
logger = logging.getLogger(__name__)
_REMEDY = "delete it, or choose another output folder"


@dataclass
class Segmentation:
    """What has become of a folder.

    Attributes:
        done: Images that have a mask.
        reused: How many of these an earlier call had made.
        unread: Images that could not be read, and why.
        names: Of the concepts.
        shares: (K,) each concept's share of all pixels.
        dropped: The share of pixels that belong to concepts that were dropped.
        left: Images that it was stopped before.
        georeferenced: How many images said where they lie on the ground, which stands in a GeoTIFF
            of their mask.
    """

    done: int = 0
    reused: int = 0
    unread: dict[str, str] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    shares: np.ndarray = field(default_factory=lambda: np.zeros(0))
    dropped: float = 0.0
    left: int = 0
    georeferenced: int = 0


def segment_folder(
    predictor: Predictor,
    images: Sequence[Path],
    out: Path,
    concepts: Concepts | NamedConcepts,
    *,
    names: Sequence[str] | None = None,
    overlays: bool = True,
    embeddings: str | None = None,
    memory: int | str | None = None,
    workers: int = WORKERS,
    part: tuple[int, int] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Segmentation:
    """Writes ``masks/NAME.png``, ``overlays/NAME.jpg``, ``summary.csv``, and embeddings if wished.

    Of a GeoTIFF also ``georeferenced/NAME.tif``, the mask with the georeference of its image.

    A call that was stopped goes on where it was; masks of the same image, model and concepts are
    kept. An image that cannot be read is left out, and named in the result.

    Args:
        predictor: The model.
        images: Paths; see `vice.explore.mask_files.mask_names` for their masks' names.
        out: Made if missing.
        concepts: What pixels are compared with; the mask of a pixel is its nearest one's number,
            or `vice.explore.named_concepts.DROPPED` where that was dropped.
        names: Of the concepts, for the table; None numbers them, and named ones have theirs.
        overlays: Whether to write pictures of the masks laid over the images.
        embeddings: A key of `vice.explore.embedding_files.FORMS` to write the embeddings as well.
        memory: As of `vice.Predictor.segment`.
        workers: Threads that read images ahead and write results; 0: one thing after the other.
            At most ``2 * workers + 2`` images are held at a time.
        part: ``(k, n)`` with k from 1: every n-th image from the k-th on, beside other processes
            that do the others; the table is then ``parts/k-of-n/summary.csv``. A call without it
            makes the whole table of what is there.
        stopped: Whether to stop, asked before each image. Then, and whatever else ends the call,
            the table has what is finished, and the record how many images are left.

    Returns:
        Counts and shares.

    Raises:
        UserError: The folder holds masks of another model, other concepts or images, the disk does
            not take more or all, or no image can be read.
        MissingPart: The format of embeddings needs a package that is not installed.
        ValueError: Not a name for each concept, more names for named ones, or no such part.
    """
    k, n = part or (1, 1)
    if not 1 <= k <= n:
        raise ValueError(f"part {k} of {n}")
    if not isinstance(concepts, NamedConcepts):
        concepts = NamedConcepts.single(concepts, names)
    count = len(concepts.names)
    if count > MOST_CONCEPTS:
        raise UserError(f"{count} concepts: masks number at most {MOST_CONCEPTS}")
    everything = list(zip(images, mask_names(images), strict=True))
    pairs = everything[k - 1 :: n]
    if not pairs:
        raise UserError(f"part {k} of {n} has no image: there are {len(images)}")
    make_folder(out)
    with sole_writer(out):
        record = _keep_record(out, predictor, concepts)
        _check_images(out, everything, slice(k - 1, None, n))
        if part is None and not (out / PARTS).exists():
            _remove_halves(out)
    place = out if part is None else out / PARTS / f"{k}-of-{n}"
    with sole_writer(place):
        store = EmbeddingFiles(out / EMBEDDINGS, embeddings, predictor) if embeddings else None
        way = MaskWay(predictor, concepts, out, overlays, store, memory)
        made = in_order(
            pairs, way.read, way.segment, way.write, workers=workers, stopped=stopped
        )  # fmt: skip
        found = _Counts(concepts, DiskEstimate(out, len(images)), place / SUMMARY, len(pairs))
        try:
            found.take(progress(made, len(pairs), "segmenting images"))
        except BaseException:
            with contextlib.suppress(UserError):
                _say_left(out, record, part is None, found.left)
            raise
        _say_left(out, record, part is None, found.left)
        nothing = not (found.table.rows or found.left)
        # Other parts may rely on the record before there is a mask.
        kept = any(os.path.lexists(out / name) for name in (PARTS, *_WRITTEN))
        if nothing and part is None and not kept:
            (out / RECORD).unlink()
    return found.result()


def _check_images(out: Path, pairs: Sequence[tuple[Path, Path]], part: slice) -> None:
    """Refuses to write over masks of other images, and says how many of such stay.

    Args:
        out: The output folder.
        pairs: All images and their masks.
        part: Which of them this call is for.

    Raises:
        UserError: A mask is of an image at another place, with other content.
    """
    known = {
        target: image
        for table in (out / SUMMARY, *sorted((out / PARTS).glob(f"*/{SUMMARY}")))
        for image, target in images_of_masks(table)
    }
    for image, target in pairs[part]:
        before, now = known.get(printable(str(target))), printable(str(image))
        mask = out / MASKS / target
        if before in (None, now) or os.path.abspath(before) == os.path.abspath(now):
            continue
        # Moved images are the same; what cannot be read has no mask.
        if mask.exists() and source_of(image) not in ("", mask_source(mask)):
            raise UserError(
                f"{out}: {MASKS}/{target} is of another image, {before}, and would be written over "
                f"by that of {now}: choose another output folder"
            )
    given = {printable(str(target)) for _, target in pairs}
    others = (find_shown(str(out / MASKS / target)) for target in set(known) - given)
    left = sum(map(os.path.exists, others))
    if left:
        logger.warning(
            "%s: masks of %d other images, of an earlier call, stay there, and are in no line of "
            "%s any more", out, left, SUMMARY,
        )  # fmt: skip


def _remove_halves(out: Path) -> None:
    """Removes what a call has left half written that was killed; nobody else writes here."""
    for folder in (MASKS, OVERLAYS, GEOREFERENCED, EMBEDDINGS):
        for path in (out / folder).rglob("*.part"):
            with disk_errors(path, any_os_error=True):
                path.unlink()


class _Counts:
    """Counts what comes off the way, and writes the table.

    Args:
        concepts: Of the masks.
        disk: Is told of what was written.
        path: The table.
        images: How many are to come.
    """

    def __init__(
        self, concepts: NamedConcepts, disk: DiskEstimate, path: Path, images: int
    ) -> None:
        self.images = self.left = images
        self.disk = disk
        self.void = concepts.void is not None
        self.table = SummaryTable(path, concepts.names, void=self.void)
        self.found = Segmentation(names=list(concepts.names))
        self.total, self.everything = np.zeros(len(concepts.names)), 0

    def take(self, images: Iterable[OnTheWay]) -> None:
        """Takes all; what was taken stands in the table, whatever ends them."""
        with self.table:
            for each in images:
                self.left -= 1
                self._count(each)

    def _count(self, each: OnTheWay) -> None:
        found = self.found
        if each.counts is None:
            found.unread[printable(str(each.image))] = each.reason
            return
        if each.files:
            self.disk.wrote(each.files)
        found.reused += each.reused
        found.georeferenced += each.georeferenced
        pixels = each.size[0] * each.size[1]
        self.total += each.counts
        self.everything += pixels
        void = [1 - each.counts.sum() / pixels] if self.void else []
        shares = [*(each.counts / pixels), *void]
        self.table.add(str(each.image), each.target, each.size, shares)

    def result(self) -> Segmentation:
        """All together.

        Raises:
            UserError: No image could be read.
        """
        found = self.found
        found.done, found.left = self.table.rows, self.left
        if found.done:
            found.shares = self.total / self.everything
            found.dropped = 1 - float(found.shares.sum()) if self.void else 0.0
        elif not found.left:
            first = next(iter(found.unread.values()))
            raise UserError(f"none of {self.images} images could be segmented: {first}")
        return found


def _say_left(out: Path, record: dict[str, Any], whole: bool, left: int) -> None:
    """Lets the record say how many images the whole table lacks; nothing where it has them all."""
    if whole and record.get(LEFT, 0) != left:
        plain = {key: value for key, value in record.items() if key != LEFT}
        write_json(out / RECORD, {**plain, LEFT: left} if left else plain)


def _keep_record(out: Path, predictor: Predictor, concepts: NamedConcepts) -> dict[str, Any]:
    """Writes what the masks of a folder are made by, or compares it with what stands there."""
    tensors = {"vectors": concepts.vectors.vectors}
    if concepts.vectors.bias is not None:
        tensors["bias"] = concepts.vectors.bias
    if concepts.is_grouped:
        tensors["groups"] = torch.from_numpy(concepts.groups)
    record: dict[str, Any] = {
        "model": predictor.name,
        "weights": predictor.weights,
        "concepts": digest_tensors(tensors, concepts.vectors.space),
        "names": list(concepts.names),
        "colors": None if concepts.colors is None else concepts.colors.tolist(),
        "void": concepts.void,
    }
    if early := unfinished(predictor.embedder):
        record["unfinished"] = early
    path = out / RECORD
    if not path.exists():
        keep_others(out, _WRITTEN, ours=False)
        write_json(path, record)
        return record
    known = read_json(path, _REMEDY)
    for key, what in (("weights", "another model"), ("concepts", "other concepts"),
                      ("names", "other names"), ("colors", "other colors")):  # fmt: skip
        if known.get(key) != record[key]:
            raise UserError(f"{out} holds masks by {what}: {_REMEDY}")
    return known
