"""Masks of all images of a folder, with a table of what is in them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vice.errors import UserError
from vice.explore.georeference import georeference, write_geotiff
from vice.explore.mask_files import (
    MOST_CONCEPTS,
    mask_names,
    mask_source,
    read_mask,
    write_mask,
)
from vice.models.concepts import Concepts
from vice.names import printable
from vice.predictor import Predictor
from vice.runtime.files import make_folder, read_json, replace_atomically, write_json, write_text
from vice.runtime.folder_lock import sole_writer
from vice.runtime.progress import progress
from vice.runtime.provenance import digest, digest_file, digest_tensors
from vice.visualize.maps import colorize, overlay

MASKS, OVERLAYS, SUMMARY, RECORD = "masks", "overlays", "summary.csv", "segmentation.json"
GEOREFERENCED = "georeferenced"
_REMEDY = "delete it, or choose another output folder"


@dataclass
class Segmentation:
    """What has become of a folder.

    Attributes:
        done: Images that have a mask.
        reused: How many of these an earlier call had made.
        unread: Images that could not be read, and why.
        shares: (K,) each concept's share of all pixels.
        georeferenced: How many images said where they lie on the ground, which stands in a GeoTIFF
            of their mask.
    """

    done: int = 0
    reused: int = 0
    unread: dict[str, str] = field(default_factory=dict)
    shares: np.ndarray = field(default_factory=lambda: np.zeros(0))
    georeferenced: int = 0


def segment_folder(
    predictor: Predictor,
    images: Sequence[Path],
    out: Path,
    concepts: Concepts,
    *,
    names: Sequence[str] | None = None,
    overlays: bool = True,
) -> Segmentation:
    """Writes ``masks/NAME.png``, ``overlays/NAME.jpg`` and ``summary.csv``.

    Of a GeoTIFF also ``georeferenced/NAME.tif``, the mask with the georeference of its image.

    A call that was stopped goes on where it was; masks of the same image, model and concepts are
    kept. An image that cannot be read is left out, and named in the result.

    Args:
        predictor: The model.
        images: Paths; see `vice.explore.mask_files.mask_names` for their masks' names.
        out: Made if missing.
        concepts: What pixels are compared with; the mask of a pixel is its nearest one's number.
        names: Of the concepts, for the table; None numbers them.
        overlays: Whether to write pictures of the masks laid over the images.

    Returns:
        Counts and shares.

    Raises:
        UserError: The folder holds masks of another model or of other concepts, the disk does not
            take more, or no image can be read.
        ValueError: Not a name for each concept.
    """
    count = len(concepts)
    if count > MOST_CONCEPTS:
        raise UserError(f"{count} concepts: masks number at most {MOST_CONCEPTS}")
    titles = [str(number) for number in range(count)] if names is None else list(names)
    if len(titles) != count:
        raise ValueError(f"{len(titles)} names for {count} concepts")
    targets = mask_names(images)
    result, total = Segmentation(), np.zeros(count)
    make_folder(out)
    with sole_writer(out):
        _keep_record(out, predictor, concepts, titles)
        rows = []
        pairs = list(zip(images, targets, strict=True))
        for image, target in progress(pairs, len(pairs), "segmenting images"):
            mask = out / MASKS / target
            picture = (out / OVERLAYS / target).with_suffix(".jpg") if overlays else None
            source = _digest(image)
            labels = _kept(mask, picture, count) if source == mask_source(mask) != "" else None
            result.reused += labels is not None
            if labels is None:
                try:
                    given = predictor.given(image)
                    labels = predictor.segment(given, concepts).numpy()
                except UserError as error:
                    result.unread[printable(str(image))] = str(error)
                    continue
                if picture is not None:
                    _write_overlay(given.pixels, labels, count, picture)
                write_mask(labels, count, mask, source)
            result.georeferenced += _keep_place(
                image, labels, count, (out / GEOREFERENCED / target).with_suffix(".tif"), predictor
            )
            counts = np.bincount(labels.ravel(), minlength=count)
            total += counts
            rows.append([printable(str(image)), target, *labels.shape, *(counts / labels.size)])
        result.done = len(rows)
        if not rows:
            first = next(iter(result.unread.values()))
            raise UserError(f"none of {len(images)} images could be segmented: {first}")
        result.shares = total / total.sum()
        write_text(out / SUMMARY, _table(titles, rows))
    return result


def _keep_record(out: Path, predictor: Predictor, concepts: Concepts, titles: list[str]) -> None:
    """Writes what the masks of a folder are made by, or compares it with what stands there."""
    tensors = {"vectors": concepts.vectors}
    if concepts.bias is not None:
        tensors["bias"] = concepts.bias
    record: dict[str, Any] = {
        "model": predictor.name,
        "weights": digest(predictor.embedder),
        "concepts": digest_tensors(tensors, concepts.space),
        "names": titles,
    }
    path = out / RECORD
    if not path.exists():
        if (out / MASKS).exists():
            raise UserError(f"{out / MASKS} holds files of something else: {_REMEDY}")
        write_json(path, record)
        return
    known = read_json(path, _REMEDY)
    for key, what in (("weights", "another model"), ("concepts", "other concepts"),
                      ("names", "other names")):  # fmt: skip
        if known.get(key) != record[key]:
            raise UserError(f"{out} holds masks by {what}: {_REMEDY}")


def _kept(mask: Path, picture: Path | None, count: int) -> np.ndarray | None:
    """The mask that an earlier call has written, if all that goes with it is there."""
    if not mask.exists() or (picture is not None and not picture.exists()):
        return None
    try:
        labels = read_mask(mask)
    except UserError:
        return None
    return labels if labels.ndim == 2 and labels.size and labels.max() < count else None


def _digest(image: Path) -> str:
    """What tells an image file from others; empty of one that cannot be read."""
    try:
        return digest_file(image)[:16]
    except (OSError, UserError):
        return ""


def _keep_place(
    image: Path, labels: np.ndarray, count: int, path: Path, predictor: Predictor
) -> bool:
    """Whether an image says where it lies; its mask then has that as well."""
    reading = predictor.reading
    tags = georeference(image, 1 if reading is None else reading.page)
    if tags and not path.exists():
        write_geotiff(labels, count, path, tags)
    return bool(tags)


def _write_overlay(pixels: np.ndarray, labels: np.ndarray, count: int, path: Path) -> None:
    drawn = Image.fromarray(overlay(pixels, colorize(labels, count, ignore=None)))
    make_folder(path.parent)
    replace_atomically(path, lambda new: drawn.save(new, format="JPEG", quality=90))


def _table(titles: list[str], rows: list[list[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "mask", "height", "width", *titles])
    for row in rows:
        writer.writerow([*row[:4], *(f"{share:.6g}" for share in row[4:])])
    return text.getvalue()
