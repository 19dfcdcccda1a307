"""The pass over a folder's images that an explorer needs: vectors of regions, maps, pictures."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vice.errors import UserError
from vice.explore.compressed_vectors import Compression
from vice.explore.explorer_files import PICTURE, ExplorerFiles
from vice.explore.kept_pass import KeptPass, PassStopped, source_of
from vice.models.load import is_spherical
from vice.names import printable
from vice.predictor import Predictor
from vice.runtime.progress import progress
from vice.runtime.provenance import digest_tensors

#: About how many regions an image has, and at most how many cells its dense map.
REGIONS, CELLS = 192, 3072
#: Vectors that directions and clusters are fitted to, at most.
VECTORS = 200_000
#: Images whose vectors the directions are fitted to, and most bytes that are kept of them.
FIRST, FIRST_BYTES = 64, 2**29


@dataclass
class Passed:
    """What the pass has found.

    Attributes:
        images: Of each image that was read what the page knows: name, width, height, rows and
            columns of regions, and whether there is a larger picture.
        codes: int8 (regions, P) of each.
        vectors: (N, D), a sample of all images' cells.
        unread: Images that could not be read, and why.
    """

    images: list[tuple[str, int, int, int, int, bool]] = field(default_factory=list)
    codes: list[np.ndarray] = field(default_factory=list)
    vectors: list[Tensor] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)


@dataclass
class Embedded:
    """A picture of an image, its size, and its vectors on two grids: (D, rows, columns) each."""

    pixels: np.ndarray
    size: tuple[int, int]
    cells: Tensor
    regions: Tensor


class ExplorerPass:
    """Embeds each image once and writes what the page loads of it.

    Args:
        predictor: The model.
        images: Paths.
        names: What the page calls them.
        seed: Of the samples.
        kept: Where what was made is kept for a call that goes on.
        memory: As of `vice.Predictor.embed`.
        stopped: Whether to stop, asked before each image.
    """

    def __init__(
        self,
        predictor: Predictor,
        images: Sequence[Path],
        names: Sequence[str],
        seed: int,
        kept: KeptPass,
        memory: int | str | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self.kept = kept
        self.stopped = stopped
        self.memory = memory
        self.predictor = predictor
        self.images = images
        self.names = names
        self.rng = np.random.default_rng(seed)
        self.passed = Passed()
        self._first: dict[int, Embedded] = {}

    def fit(self) -> Compression:
        """Fits directions to a sample of the images, whose vectors are kept for `run`.

        Raises:
            UserError: None of them can be read, or the disk does not take what is kept.
            PassStopped: It was asked to stop.
        """
        order = self.rng.permutation(len(self.images))[:FIRST]
        held, drawn = 0, []
        for number in progress(order.tolist(), len(order), "embedding a sample of the images"):
            if self.stopped():
                raise PassStopped(0)
            embedded = self._sampled(number)
            if embedded is None:
                continue
            self._first[number] = embedded
            drawn.append(embedded.cells.flatten(1).T)
            held += embedded.cells.numel() * 4 + embedded.pixels.nbytes
            if held > FIRST_BYTES:
                break
        if not drawn:
            reason = next(iter(self.passed.unread.values()))
            raise UserError(f"none of {len(order)} images can be read and embedded: {reason}")
        return Compression.fit(torch.cat(drawn))

    def run(self, compression: Compression, files: ExplorerFiles) -> Passed:
        """Writes maps and pictures of all images; see `Passed`.

        Raises:
            UserError: The disk does not take them.
            PassStopped: It was asked to stop.
        """
        each = -(-VECTORS // len(self.images))
        made_by = digest_tensors({"directions": compression.directions, "steps": compression.steps})
        for number in progress(range(len(self.images)), len(self.images), "embedding images"):
            if self.names[number] in self.passed.unread:
                continue
            if self.stopped():
                raise PassStopped(len(self.passed.images))
            source = source_of(self.images[number])
            known = f"{source}-{made_by[:16]}" if source else ""
            embedded = self._first.pop(number, None)
            if self._goes_on(number, known, files):
                continue
            embedded = embedded or self._embedded(number)
            if embedded is None:
                continue
            self._write(number, embedded, compression, files)
            cells = embedded.cells.flatten(1).T
            chosen = self.rng.permutation(len(cells))[:each]
            self.passed.vectors.append(cells[torch.from_numpy(chosen.copy())])
            self._keep(number, known, len(cells))
        return self.passed

    def _keep(self, number: int, source: str, cells: int) -> None:
        """Keeps what the last image has come to."""
        passed = self.passed
        facts = np.array([len(passed.images) - 1, cells, *passed.images[-1][1:]])
        vectors = passed.vectors[-1].numpy()
        self.kept.save(
            "image", number, source, facts=facts, codes=passed.codes[-1], vectors=vectors
        )

    def _goes_on(self, number: int, source: str, files: ExplorerFiles) -> bool:
        """Whether an earlier call has come past an image, and left its files at the same place."""
        known = self.kept.load("image", number, source)
        if known is None:
            return False
        place, cells, width, height, rows, columns, large = known["facts"].tolist()
        if place != len(self.passed.images) or not files.holds(place, bool(large)):
            return False
        # Drawn all the same: what is drawn of later images follows from it.
        self.rng.permutation(cells)
        facts = (self.names[number], width, height, rows, columns, bool(large))
        self.passed.images.append(facts)
        self.passed.codes.append(known["codes"])
        self.passed.vectors.append(torch.from_numpy(known["vectors"]))
        return True

    def _sampled(self, number: int) -> Embedded | None:
        """As `_embedded`, of an image of the sample, whose vectors are kept."""
        source = source_of(self.images[number])
        known = self.kept.load("sample", number, source)
        if known is not None:
            height, width = known["size"].tolist()
            cells, regions = (torch.from_numpy(known[key]) for key in ("cells", "regions"))
            return Embedded(known["pixels"], (height, width), cells, regions)
        found = self._embedded(number)
        if found is not None:
            self.kept.save(
                "sample", number, source, pixels=found.pixels, size=np.array(found.size),
                cells=found.cells.numpy(), regions=found.regions.numpy(),
            )  # fmt: skip
        return found

    def _write(
        self, number: int, embedded: Embedded, compression: Compression, files: ExplorerFiles
    ) -> None:
        place = len(self.passed.images)
        large = files.write_pictures(place, embedded.pixels)
        codes = compression.encode(embedded.cells.flatten(1).T)
        files.write_map(place, embedded.cells.shape[1:], codes)
        self.passed.codes.append(compression.encode(embedded.regions.flatten(1).T))
        height, width = embedded.size
        rows, columns = embedded.regions.shape[1:]
        self.passed.images.append((self.names[number], width, height, rows, columns, large))

    def _embedded(self, number: int) -> Embedded | None:
        """An image's vectors, or None of one that cannot be read."""
        try:
            given = self.predictor.given(self.images[number])
            pixels = given.pixels
            dense = self.predictor.embed(given, "native", memory=self.memory)
        except UserError as error:
            self.passed.unread[self.names[number]] = str(error)
            return None
        size = (pixels.shape[0], pixels.shape[1])
        spherical = is_spherical(self.predictor.embedder)
        regions = pooled(dense, grid_of(size, REGIONS), spherical)
        native = (dense.shape[1], dense.shape[2])
        fewer = native[0] * native[1] > CELLS
        cells = pooled(dense, grid_of(size, CELLS, whole=True), spherical) if fewer else dense
        return Embedded(_shown(pixels), size, cells, regions)


def pooled(dense: Tensor, grid: tuple[int, int], spherical: bool) -> Tensor:
    """Mean vectors of the cells of a coarser grid.

    Args:
        dense: (D, h, w).
        grid: Rows and columns; of a map with fewer, as many as that has.
        spherical: Whether only directions count, which the means then are again.

    Returns:
        (D, rows, columns).
    """
    sizes = (min(grid[0], dense.shape[1]), min(grid[1], dense.shape[2]))
    means = F.adaptive_avg_pool2d(dense, sizes)
    return F.normalize(means, dim=0) if spherical else means


def grid_of(size: tuple[int, int], cells: int, *, whole: bool = False) -> tuple[int, int]:
    """Rows and columns of about so many nearly square cells; with ``whole`` at most so many."""
    rows = max(1.0, math.sqrt(cells * size[0] / size[1]))
    columns = max(1.0, cells / rows)
    rows = min(rows, float(cells))
    cut = math.floor if whole else round
    return max(1, cut(rows)), max(1, cut(columns))


def names_of(images: Sequence[Path]) -> list[str]:
    """What the page calls images: their paths below the folder that all share."""
    shared = os.path.commonpath([image.absolute().parent for image in images])
    return [printable(str(image.absolute().relative_to(shared))) for image in images]


def _shown(pixels: np.ndarray) -> np.ndarray:
    """A picture as large as the page shows it at most."""
    scale = PICTURE / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
