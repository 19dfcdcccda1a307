"""The way of one image to its mask: read, segmented, written."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from vice.errors import UserError
from vice.explore.embedding_files import EmbeddingFiles
from vice.explore.georeference import georeference, write_geotiff
from vice.explore.kept_pass import source_of
from vice.explore.mask_files import mask_notes, mask_source, read_mask, write_mask
from vice.explore.named_concepts import NamedConcepts
from vice.predictor import Predictor
from vice.runtime.files import make_folder, replace_atomically
from vice.visualize.maps import colorize, overlay

MASKS, OVERLAYS, GEOREFERENCED = "masks", "overlays", "georeferenced"


@dataclass
class OnTheWay:
    """An image, and how far it has come.

    Attributes:
        image: The file.
        target: Name of its mask, below the folder of masks.
        source: What tells the image from others; empty where the file cannot be read.
        labels: (H, W), the concepts of its pixels; None until they are known.
        reused: Whether an earlier call has written them.
        given: Its pixels, from when they were read until all is written.
        dense: The embedding that is to be written.
        reason: Why it could not be read or segmented.
        counts: int64 (K,), pixels of each concept, once all is written.
        size: (H, W).
        files: What was written.
        georeferenced: Whether the image says where it lies on the ground.
    """

    image: Path
    target: Path
    source: str = ""
    labels: np.ndarray | None = None
    reused: bool = False
    given: Any = None
    dense: Tensor | None = None
    reason: str = ""
    counts: np.ndarray | None = None
    size: tuple[int, int] = (0, 0)
    files: list[Path] = field(default_factory=list)
    georeferenced: bool = False


@dataclass(frozen=True)
class MaskWay:
    """Steps of images to their masks; `read` and `write` may run in other threads.

    Attributes:
        predictor: The model.
        concepts: What pixels are compared with.
        out: Where all is written.
        overlays: Whether pictures of the masks laid over the images are.
        store: Where embeddings are; None: nowhere.
        memory: As of `vice.Predictor.segment`.
    """

    predictor: Predictor
    concepts: NamedConcepts
    out: Path
    overlays: bool
    store: EmbeddingFiles | None
    memory: int | str | None

    def read(self, pair: tuple[Path, Path]) -> OnTheWay:
        """Reads an image, or what an earlier call has made of it."""
        way = OnTheWay(*pair, source=source_of(pair[0]))
        known = way.source != "" and way.source == mask_source(self._mask(way))
        if known and (self.store is None or self.store.holds(way.target, way.source)):
            way.labels = _kept(self._mask(way), self._picture(way), self.concepts)
            way.reused = way.labels is not None
            if way.reused:
                self.predictor.notes.add(way.image, mask_notes(self._mask(way)))
        if not way.reused:
            try:
                way.given = self.predictor.given(way.image)
            except UserError as error:
                way.reason = str(error)
        return way

    def segment(self, way: OnTheWay) -> OnTheWay:
        """Finds the concepts of its pixels."""
        if way.given is None:
            return way
        vectors = self.concepts.vectors
        try:
            if self.store is None:
                nearest = self.predictor.segment(way.given, vectors, memory=self.memory)
            else:
                way.dense, nearest = self.predictor.embed_and_segment(
                    way.given, vectors, memory=self.memory
                )
            way.labels = self.concepts.labels(nearest.numpy())
        except UserError as error:
            way.reason = str(error)
        return way

    def write(self, way: OnTheWay) -> OnTheWay:
        """Writes what is new, the mask last, and counts; pixels are let go."""
        if way.labels is not None and not way.reused:
            self._write_new(way)
        if way.labels is not None:
            count = len(self.concepts.names)
            place = (self.out / GEOREFERENCED / way.target).with_suffix(".tif")
            way.georeferenced = _keep_place(way.image, self._mask(way), place, self.predictor)
            way.counts = np.bincount(way.labels.ravel(), minlength=count)[:count]
            way.size = (way.labels.shape[0], way.labels.shape[1])
        way.given = way.dense = way.labels = None
        return way

    def _write_new(self, way: OnTheWay) -> None:
        assert way.labels is not None
        picture, mask = self._picture(way), self._mask(way)
        if self.store is not None and way.dense is not None:
            try:
                way.files.append(self.store.write(way.target, way.dense, way.source))
            except UserError as error:
                way.reason, way.labels = str(error), None
                return
        if picture is not None:
            _write_overlay(way.given.pixels, way.labels, self.concepts, picture)
            way.files.append(picture)
        concepts = self.concepts
        write_mask(
            way.labels, len(concepts.names), mask, way.source,
            notes=self.predictor.notes.of(way.image), colors=concepts.colors, void=concepts.void,
        )  # fmt: skip
        way.files.append(mask)

    def _mask(self, way: OnTheWay) -> Path:
        return self.out / MASKS / way.target

    def _picture(self, way: OnTheWay) -> Path | None:
        return (self.out / OVERLAYS / way.target).with_suffix(".jpg") if self.overlays else None


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
