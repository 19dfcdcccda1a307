"""Masks of all images of a folder, with a table of what is in them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vice.errors import UserError
from vice.explore.disk_estimate import DiskEstimate
from vice.explore.embedding_files import EMBEDDINGS, EmbeddingFiles
from vice.explore.georeference import georeference, write_geotiff
from vice.explore.mask_files import (
    MOST_CONCEPTS,
    mask_names,
    mask_source,
    read_mask,
    write_mask,
)
from vice.explore.named_concepts import NamedConcepts
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
        names: Of the concepts.
        shares: (K,) each concept's share of all pixels.
        dropped: The share of pixels that belong to concepts that were dropped.
        georeferenced: How many images said where they lie on the ground, which stands in a GeoTIFF
            of their mask.
    """

    done: int = 0
    reused: int = 0
    unread: dict[str, str] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    shares: np.ndarray = field(default_factory=lambda: np.zeros(0))
    dropped: float = 0.0
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

    Returns:
        Counts and shares.

    Raises:
        UserError: The folder holds masks of another model or of other concepts, the disk does not
            take more or all, or no image can be read.
        MissingPart: The format of embeddings needs a package that is not installed.
        ValueError: Not a name for each concept, or more names for named ones.
    """
    if not isinstance(concepts, NamedConcepts):
        concepts = NamedConcepts.single(concepts, names)
    count = len(concepts.names)
    if count > MOST_CONCEPTS:
        raise UserError(f"{count} concepts: masks number at most {MOST_CONCEPTS}")
    targets = mask_names(images)
    result, total = Segmentation(names=list(concepts.names)), np.zeros(count)
    everything = 0
    make_folder(out)
    with sole_writer(out):
        _keep_record(out, predictor, concepts)
        store = embeddings and EmbeddingFiles(out / EMBEDDINGS, embeddings, predictor)
        disk = DiskEstimate(out, len(images))
        rows = []
        pairs = list(zip(images, targets, strict=True))
        for image, target in progress(pairs, len(pairs), "segmenting images"):
            mask = out / MASKS / target
            picture = (out / OVERLAYS / target).with_suffix(".jpg") if overlays else None
            source = _digest(image)
            whole = source == mask_source(mask) != "" and (not store or store.holds(target, source))
            labels = _kept(mask, picture, concepts) if whole else None
            result.reused += labels is not None
            if labels is None:
                try:
                    given = predictor.given(image)
                    made = [mask, picture]
                    if store:
                        dense, nearest = predictor.embed_and_segment(
                            given, concepts.vectors, memory=memory
                        )
                        made.append(store.write(target, dense, source))
                    else:
                        nearest = predictor.segment(given, concepts.vectors, memory=memory)
                    labels = concepts.labels(nearest.numpy())
                except UserError as error:
                    result.unread[printable(str(image))] = str(error)
                    continue
                if picture is not None:
                    _write_overlay(given.pixels, labels, concepts, picture)
                write_mask(labels, count, mask, source, colors=concepts.colors, void=concepts.void)
                disk.wrote(made)
            place = (out / GEOREFERENCED / target).with_suffix(".tif")
            result.georeferenced += _keep_place(image, mask, place, predictor)
            counts = np.bincount(labels.ravel(), minlength=count)[:count]
            total += counts
            everything += labels.size
            rest = [] if concepts.void is None else [1 - counts.sum() / labels.size]
            shares = [*(counts / labels.size), *rest]
            rows.append([printable(str(image)), target, *labels.shape, *shares])
        result.done = len(rows)
        if not rows:
            first = next(iter(result.unread.values()))
            raise UserError(f"none of {len(images)} images could be segmented: {first}")
        result.shares = total / everything
        result.dropped = 1 - float(result.shares.sum()) if concepts.void is not None else 0.0
        rest = [] if concepts.void is None else ["dropped"]
        write_text(out / SUMMARY, _table([*concepts.names, *rest], rows))
    return result


def _keep_record(out: Path, predictor: Predictor, concepts: NamedConcepts) -> None:
    """Writes what the masks of a folder are made by, or compares it with what stands there."""
    tensors = {"vectors": concepts.vectors.vectors}
    if concepts.vectors.bias is not None:
        tensors["bias"] = concepts.vectors.bias
    if concepts.is_grouped:
        tensors["groups"] = torch.from_numpy(concepts.groups)
    record: dict[str, Any] = {
        "model": predictor.name,
        "weights": digest(predictor.embedder),
        "concepts": digest_tensors(tensors, concepts.vectors.space),
        "names": list(concepts.names),
        "colors": None if concepts.colors is None else concepts.colors.tolist(),
        "void": concepts.void,
    }
    path = out / RECORD
    if not path.exists():
        if (out / MASKS).exists():
            raise UserError(f"{out / MASKS} holds files of something else: {_REMEDY}")
        write_json(path, record)
        return
    known = read_json(path, _REMEDY)
    for key, what in (("weights", "another model"), ("concepts", "other concepts"),
                      ("names", "other names"), ("colors", "other colors")):  # fmt: skip
        if known.get(key) != record[key]:
            raise UserError(f"{out} holds masks by {what}: {_REMEDY}")


def _kept(mask: Path, picture: Path | None, concepts: NamedConcepts) -> np.ndarray | None:
    """The mask that an earlier call has written, if all that goes with it is there."""
    if not mask.exists() or (picture is not None and not picture.exists()):
        return None
    try:
        labels = read_mask(mask)
    except UserError:
        return None
    if labels.ndim != 2 or not labels.size:
        return None
    whole = labels < len(concepts.names)
    if concepts.void is not None:
        whole |= labels == concepts.void
    return labels if whole.all() else None


def _digest(image: Path) -> str:
    """What tells an image file from others; empty of one that cannot be read."""
    try:
        return digest_file(image)[:16]
    except (OSError, UserError):
        return ""


def _keep_place(image: Path, mask: Path, path: Path, predictor: Predictor) -> bool:
    """Whether an image says where it lies; its mask then says it as well."""
    reading = predictor.reading
    tags = georeference(image, 1 if reading is None else reading.page)
    if tags and not (path.exists() and path.stat().st_mtime >= mask.stat().st_mtime):
        write_geotiff(mask, path, tags)
    return bool(tags)


def _write_overlay(
    pixels: np.ndarray, labels: np.ndarray, concepts: NamedConcepts, path: Path
) -> None:
    painted = colorize(labels, len(concepts.names), ignore=concepts.void, colors=concepts.colors)
    drawn = Image.fromarray(overlay(pixels, painted))
    make_folder(path.parent)
    replace_atomically(path, lambda new: drawn.save(new, format="JPEG", quality=90))


def _table(titles: list[str], rows: list[list[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "mask", "height", "width", *titles])
    for row in rows:
        writer.writerow([*row[:4], *(f"{share:.6g}" for share in row[4:])])
    return text.getvalue()
