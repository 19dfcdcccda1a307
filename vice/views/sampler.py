"""Views of one image that share regions: crops, region maps, mask noise and boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import lru_cache

import cv2
import numpy as np
import torch

from vice.errors import UserError
from vice.images import nearest, resize
from vice.options import PIXELS, POSITIVE, SHARE, either, list_of, number, option, whole
from vice.views.geometry import (
    content_edges,
    content_weights,
    contextual_boxes,
    draw_point,
    mask_rectangles,
    resolution_boxes,
)

#: Crops of an image have few lengths, and those of the next one the same.
_nearest = lru_cache(maxsize=2048)(nearest)
#: Ids of bytes, that of no region included: OpenCV counts and looks up bytes in half the time.
_BYTES = 256
#: In place of the id of a region that is masked in a view.
_MASKED = np.int32(-2)


class NoMutualRegions(RuntimeError):
    """No draw of views shared a single region; take another image."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where M views of one image lie and what they share, before a pixel is cut.

    Attributes:
        regions: int32 (M, h, w); ids that every view shows unmasked, -1 everywhere else.
        noise: bool (M, h, w); pixels that are to become noise.
        boxes: int32 (M, 4); x0, y0, x1, y1 in image pixels, ends exclusive.
        flipped: bool (M,); views mirrored left to right.
        tries: Draws it took, at least 1.
    """

    regions: np.ndarray
    noise: np.ndarray
    boxes: np.ndarray
    flipped: np.ndarray
    tries: int

    def __len__(self) -> int:
        """Number of views."""
        return len(self.boxes)


@dataclass(frozen=True, kw_only=True)
class Views(Placement):
    """M views of one image.

    Attributes:
        images: uint8 (M, h, w, 3), RGB; view 0 is the primary view.
    """

    images: np.ndarray


@dataclass(eq=False)
class ViewSampler:
    """Draws views around a point of content, with masked superpixels and mutual regions.

    1. A content point is drawn from a map of edges, and view boxes around it
       (`vice.views.geometry`); crops are resized to the common size, images anti-aliased, maps
       with the nearest pixel.
    2. In each view every superpixel that a random rectangle touches is masked. A random
       `preserve_ratio` of the ids that all views show is exempt, the same ids in all views.
    3. Ids that all views show unmasked are mutual, all others become -1. If there is none,
       everything is drawn again.
    4. Each view is mirrored with `flip_probability`, image and maps together.

    Each field below says what it is and is an argument by that name. Here one view is enough, and
    whatever a field's rule allows; what is beyond belongs to configurations.

    Attributes:
        shape: `size` as (height, width).

    Raises:
        UserError: A parameter is out of range.

    Source: ViCE (BMVC) section 3.2 and algorithm 1.

    Example:
        >>> import numpy as np
        >>> from vice.superpixels import grid
        >>> from vice.views import ViewSampler
        >>> rng = np.random.default_rng(0)
        >>> image = rng.integers(0, 256, (32, 32, 3), np.uint8)
        >>> sampler = ViewSampler(num_views=2, size=32, scale=(1, 1))  # each view: all of it
        >>> views = sampler(image, grid(32, 32, region_size=16), rng)
        >>> views.images.shape, views.boxes.tolist()
        ((2, 32, 32, 3), [[0, 0, 32, 32], [0, 0, 32, 32]])
        >>> first, second = (set(ids.flat) - {-1} for ids in views.regions)
        >>> first == second
        True
    """

    _: KW_ONLY
    num_views: int = option(5, whole(2, 1000), "views of an image, M")
    size: int | Sequence[int] = option(
        400,
        either(PIXELS, list_of(PIXELS, 2, 2)),
        "side of the square views, or [height, width], in pixels",
    )
    scale: tuple[float, float] = option(
        (0.5, 2.0),
        list_of(POSITIVE, 2, 2),
        "least and greatest size of a crop, as a multiple of size; clipped to the image side by "
        "side, so that a crop may have another aspect ratio than its view",
    )
    mask_intensity: float = option(
        0.25, SHARE, "greatest side of a mask rectangle, as a share of the view's; 0: no masks"
    )
    preserve_ratio: float = option(
        0.25, SHARE, "share of mutual regions that are exempt from masking, rounded up"
    )
    flip_probability: float = option(0.5, SHARE, "chance of each view to be mirrored")
    resolution_probability: float = option(
        0.0,
        SHARE,
        "chance of an image to get views of one center and different zooms instead of shifted ones "
        "(the authors' release)",
    )
    resolution_ratios: Sequence[float] = option(
        (0.5, 1.0, 2.0, 4.0, 8.0),
        list_of(POSITIVE, 2, 1000),
        "borders of the bins that those zooms are drawn from, increasing",
    )
    canny_low: float = option(10.0, number(0, 1e6), "lower threshold of the map of edges")
    canny_high: float = option(50.0, number(0, 1e6), "upper threshold of the map of edges")
    edge_floor: float = option(
        0.005, POSITIVE, "weight of points far from edges, where an edge weighs 1"
    )
    max_tries: int = option(
        10, whole(1, 10**4), "draws of views that share no region, before another image is taken"
    )
    shape: tuple[int, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        size = self.size
        self.shape = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        self.size = self.shape
        self.scale = (float(self.scale[0]), float(self.scale[1]))
        self.resolution_ratios = tuple(float(ratio) for ratio in self.resolution_ratios)
        self._check()

    def _check(self) -> None:
        shares = ("mask_intensity", "preserve_ratio", "flip_probability", "resolution_probability")
        for name in shares:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"views: {name} {getattr(self, name)} must be in [0, 1]")
        for name, value in (("num_views", self.num_views), ("max_tries", self.max_tries)):
            if value < 1:
                raise UserError(f"views: {name} {value} must be at least 1")
        if min(self.shape) < 1:
            raise UserError(f"views: size {self.shape} must be at least 1 pixel a side")
        if not 0.0 < self.scale[0] <= self.scale[1]:
            raise UserError(f"views: scale {self.scale} must be (least, greatest), both positive")
        ratios = self.resolution_ratios
        rising = len(ratios) > 1 and ratios[0] > 0 and all(np.diff(ratios) > 0)
        if not rising:
            raise UserError(f"views: resolution_ratios {ratios} must be positive and increasing")
        if self.edge_floor <= 0:
            raise UserError(f"views: edge_floor {self.edge_floor} must be positive")

    def edges(self, image: np.ndarray) -> np.ndarray:
        """The map of edges of an image, uint8 (H, W): all of a draw that depends on it alone."""
        return content_edges(image, canny_low=self.canny_low, canny_high=self.canny_high)

    def __call__(
        self,
        image: np.ndarray,
        regions: np.ndarray,
        rng: np.random.Generator,
        edges: np.ndarray | None = None,
    ) -> Views:
        """Draws the views of one image and cuts them.

        Arguments and errors are those of `place`.

        Returns:
            The views.
        """
        placed = self.place(image, regions, rng, edges)
        return Views(images=self.cut(image, placed), **vars(placed))

    def place(
        self,
        image: np.ndarray,
        regions: np.ndarray,
        rng: np.random.Generator,
        edges: np.ndarray | None = None,
    ) -> Placement:
        """Draws views and leaves it to others to cut them (`vice.views.crop_resize`).

        Args:
            image: uint8 RGB, (H, W, 3).
            regions: Integer (H, W), ids from 0; -1 means "no region" and is never mutual.
            rng: The only source of randomness; cutting draws nothing from it.
            edges: What `edges` gives for the image, if it is at hand.

        Returns:
            All of the views but their pixels.

        Raises:
            NoMutualRegions: `max_tries` draws shared no region.
            UserError: Image and regions do not fit each other, or ids are unusable.
        """
        num_ids, lowest = _check_inputs(image, regions)
        # The last entry of tables is that of pixels without a region.
        regions = np.where(regions < 0, num_ids, regions) if lowest < 0 else regions
        if num_ids < _BYTES:
            regions = regions.astype(np.uint8)
        weights = content_weights(self.edges(image) if edges is None else edges, self.edge_floor)
        for attempt in range(1, self.max_tries + 1):
            boxes = self._boxes(weights, rng)
            flipped = rng.random(self.num_views) < self.flip_probability
            labels = self._resize_regions(regions, boxes, flipped)
            masked, mutual = self._mask(labels, num_ids, rng)
            if not mutual.any():
                continue
            kept = np.where(mutual, np.arange(num_ids + 1, dtype=np.int32), np.int32(-1))
            # Masked ids are never mutual: one look at a table says whether and which of the two.
            own = _look_up(np.where(masked, _MASKED, kept), labels)
            noise = own == _MASKED
            np.maximum(own, -1, out=own)
            return Placement(regions=own, noise=noise, boxes=boxes, flipped=flipped, tries=attempt)
        raise NoMutualRegions(
            f"{self.max_tries} draws of {self.num_views} views of a {image.shape[1]} x "
            f"{image.shape[0]} image shared no region"
        )

    def cut(self, image: np.ndarray, placed: Placement) -> np.ndarray:
        """Cuts views with OpenCV, which `vice.views.crop_resize.cut_views` does on a GPU.

        Args:
            image: uint8 RGB, (H, W, 3).
            placed: Where its views lie.

        Returns:
            uint8 (M, h, w, 3).
        """
        images = np.empty((len(placed), *self.shape, 3), np.uint8)
        for view, (x0, y0, x1, y1) in enumerate(placed.boxes.tolist()):
            crop = resize(image[y0:y1, x0:x1], *self.shape)
            if placed.flipped[view]:
                # NumPy takes twenty times as long to reverse pixels of three bytes.
                cv2.flip(crop, 1, dst=images[view])
            else:
                images[view] = crop
        return images

    def _boxes(self, weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        point = draw_point(weights, rng)
        shape = (weights.shape[0], weights.shape[1])
        if rng.random() < self.resolution_probability:
            ratios = self.resolution_ratios
            return resolution_boxes(point, shape, self.shape, ratios, self.num_views, rng)
        return contextual_boxes(point, shape, self.shape, self.scale, self.num_views, rng)

    def _resize_regions(
        self, regions: np.ndarray, boxes: np.ndarray, flipped: np.ndarray
    ) -> np.ndarray:
        dtype = np.uint8 if regions.dtype == np.uint8 else np.int32
        labels = np.empty((self.num_views, *self.shape), dtype)
        for view, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
            rows = _nearest(y1 - y0, self.shape[0]) + y0
            columns = _nearest(x1 - x0, self.shape[1]) + x0
            columns = columns[::-1] if flipped[view] else columns
            labels[view] = regions.take(rows, axis=0).take(columns, axis=1)
        return labels

    def _mask(
        self, labels: np.ndarray, num_ids: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ids masked in each view, (M, num_ids + 1), and ids all views show, (num_ids + 1,).

        The last entry of each table is that of no region, which is neither masked nor mutual.
        """
        shown = np.zeros((self.num_views, num_ids + 1), bool)
        touched = np.zeros_like(shown)
        rectangles = mask_rectangles(self.num_views, self.shape, self.mask_intensity, rng)
        for view, (x0, y0, x1, y1) in enumerate(rectangles.tolist()):
            shown[view] = _counts(labels[view], num_ids + 1) > 0
            touched[view][labels[view, y0:y1, x0:x1]] = True
        shown[:, -1] = touched[:, -1] = False
        mutual = np.asarray(shown.all(axis=0))
        touched[:, self._preserved(mutual, rng)] = False
        return touched, np.asarray(mutual & ~touched.any(axis=0))

    def _preserved(self, mutual: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        ids = np.flatnonzero(mutual)
        return rng.permutation(ids)[: int(np.ceil(self.preserve_ratio * len(ids)))]


def _counts(labels: np.ndarray, length: int) -> np.ndarray:
    """How many pixels each of so many ids has."""
    if labels.dtype == np.uint8:
        return cv2.calcHist([labels], [0], None, [_BYTES], [0, _BYTES])[:length, 0]
    counts: np.ndarray = torch.bincount(torch.from_numpy(labels).view(-1), minlength=length).numpy()
    return counts


def _look_up(tables: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Entries of each view's table, int32 (M, n), at its labels, (M, h, w)."""
    out = np.empty(labels.shape, np.int32)
    if labels.dtype == np.uint8:
        padded = np.zeros((len(tables), _BYTES), np.int32)
        padded[:, : tables.shape[1]] = tables
        for table, view, entries in zip(padded, labels, out, strict=True):
            cv2.LUT(view, table, dst=entries)
        return out
    # PyTorch: twice as quick as NumPy's take.
    for table, view, entries in zip(tables, labels, out, strict=True):
        index, to = torch.from_numpy(view).view(-1), torch.from_numpy(entries).view(-1)
        torch.index_select(torch.from_numpy(table), 0, index, out=to)
    return out


def _check_inputs(image: np.ndarray, regions: np.ndarray) -> tuple[int, int]:
    """Checks image and regions; returns the number of ids and the lowest one."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise UserError(
            f"views: an image must be uint8 RGB (H, W, 3), got {image.dtype} {image.shape}"
        )
    if regions.shape != image.shape[:2] or not np.issubdtype(regions.dtype, np.integer):
        raise UserError(
            f"views: regions must be integers (H, W) = {image.shape[:2]} as the image, "
            f"got {regions.dtype} {regions.shape}"
        )
    low, high = int(regions.min()), int(regions.max())
    if low < -1 or high > 4 * regions.size + 65536:
        raise UserError(
            f"views: region ids {low}..{high} must lie in -1..{4 * regions.size + 65536}; "
            "vice.superpixels.relabel makes them contiguous"
        )
    return high + 1, low
