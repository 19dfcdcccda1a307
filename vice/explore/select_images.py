"""A diverse subset of a folder's images: which to label first, repetitions, and odd ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vice.errors import UserError
from vice.explore.explorer_pass import grid_of, pooled
from vice.explore.fitted_concepts import fit_vectors
from vice.explore.kept_pass import KeptPass, PassStopped, source_of
from vice.models.load import is_spherical
from vice.parts import check_packages
from vice.predictor import Predictor
from vice.runtime.progress import progress

#: About how many regions an image has, and of how many kinds they are at most.
REGIONS, KINDS = 64, 256
#: Rows and columns of the grid on which images are compared for near-duplicates.
LAYOUT = (4, 4)
#: Region vectors that kinds are fitted to.
_VECTORS = 200_000
#: Choices at random that a selection is compared with.
_DRAWS = 20


@dataclass
class Selection:
    """What was chosen; images are numbered as they were given.

    Attributes:
        chosen: Images, the most telling one first.
        coverage: Share of what all images cover, after each of them.
        random: The same of as many images chosen at random: the mean of 20 draws.
        duplicates: Groups of an image and its near-duplicates, of which it alone can be chosen.
        outliers: Images whose regions are far from all kinds, and how far, the farthest first.
        unread: Images that could not be read, and why.
    """

    chosen: list[int]
    coverage: list[float]
    random: float
    duplicates: list[list[int]]
    outliers: dict[int, float]
    unread: dict[int, str] = field(default_factory=dict)


def select_images(
    predictor: Predictor,
    images: Sequence[Path],
    count: int,
    *,
    duplicates: float = 0.95,
    seed: int = 0,
    memory: int | str | None = None,
    kept: KeptPass | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Selection:
    """Chooses images by facility location on their regions.

    Regions of all images are clustered into kinds. A set of images covers a kind by its most
    similar region, and is worth the sum over kinds, weighted by how common they are. The image that
    adds most is taken each time, which reaches at least 1 - 1/e of the best set's worth (Nemhauser,
    Wolsey, Fisher 1978).

    Args:
        predictor: The model.
        images: Paths.
        count: How many are chosen.
        duplicates: Similarity from which two images count as near-duplicates: the mean over a grid
            of 4 x 4 places of that between the regions there, 1 for the same image.
        seed: Of k-means, of its sample, and of the draws at random.
        memory: As of `vice.Predictor.embed`.
        kept: Where what was embedded is kept for a call that goes on; None: nowhere.
        stopped: Whether to stop, asked before each image.

    Raises:
        PassStopped: It was asked to stop.
        MissingPart: FAISS is not installed; said before an image is embedded.
        UserError: No image can be read, or there are fewer without near-duplicates than are wanted.
    """
    check_packages("faiss")
    regions, layouts, numbers, unread = _embedded(predictor, images, memory, kept, stopped)
    spherical = is_spherical(predictor.embedder)
    rng = np.random.default_rng(seed)
    every = torch.cat(regions)
    sample = every[torch.from_numpy(rng.permutation(len(every))[:_VECTORS].copy())].float()
    kinds = min(KINDS, max(1, len(sample) // 8))
    centers = fit_vectors(predictor, sample, kinds, seed=seed).vectors
    measure = Similarity.of(sample, spherical)
    values = [measure(each.float(), centers) for each in regions]
    affinity = np.stack([each.amax(0).numpy() for each in values]).astype(np.float64)
    owners = torch.cat([each.argmax(1) for each in values])
    weights = np.bincount(owners.numpy(), minlength=kinds) / len(owners)
    groups = _groups(torch.stack(layouts), duplicates, measure)
    repeated = {number for group in groups for number in group[1:]}
    allowed = np.array([number for number in range(len(numbers)) if number not in repeated])
    if count > len(allowed):
        raise UserError(
            f"{count} images are wanted, and {len(allowed)} of {len(numbers)} can be chosen that "
            "are no near-duplicates of others: ask for fewer, or count fewer as such (--duplicates)"
        )
    chosen, coverage = cover(affinity[allowed], weights, count)
    total = float(weights @ affinity.max(0))
    drawn = [
        float(weights @ affinity[rng.permutation(len(numbers))[:count]].max(0))
        for _ in range(_DRAWS)
    ]
    distance = np.array([1 - float(each.amax(1).mean()) for each in values])
    return Selection(
        [numbers[allowed[number]] for number in chosen],
        [value / total for value in coverage],
        float(np.mean(drawn)) / total,
        [[numbers[number] for number in group] for group in groups],
        {numbers[number]: float(distance[number]) for number in _outliers(distance)},
        unread,
    )


def cover(affinity: np.ndarray, weights: np.ndarray, count: int) -> tuple[list[int], list[float]]:
    """Greedy facility location.

    Args:
        affinity: (N, K), at least 0: how well each candidate covers each kind.
        weights: (K,) of the kinds, at least 0.
        count: How many candidates are chosen, at most N.

    Returns:
        The chosen ones in their order, and the value of the set after each:
        ``weights @ affinity[chosen].max(0)``.

    Example:
        >>> import numpy as np
        >>> from vice.explore.select_images import cover
        >>> cover(np.array([[1.0, 0.0], [0.9, 0.0], [0.0, 0.8]]), np.ones(2), 2)[0]
        [0, 2]
    """
    best = np.zeros(affinity.shape[1])
    chosen: list[int] = []
    values = []
    for _ in range(count):
        gains = np.maximum(affinity - best, 0) @ weights
        gains[chosen] = -1
        chosen.append(int(gains.argmax()))
        best = np.maximum(best, affinity[chosen[-1]])
        values.append(float(weights @ best))
    return chosen, values


@dataclass(frozen=True)
class Similarity:
    """Similarity from 0 to 1, 1 for the same vector.

    Attributes:
        spread: None for the cosine, negative ones counting as 0; else it is
            ``1 / (1 + distance / spread)``.
    """

    spread: float | None

    @classmethod
    def of(cls, vectors: Tensor, spherical: bool) -> Similarity:
        """The cosine, or that of distances by the root mean square of those from the mean."""
        if spherical:
            return cls(None)
        squares = (vectors - vectors.mean(0)).square().sum(1).mean()
        return cls(max(float(squares.sqrt()), 1e-12))

    def __call__(self, one: Tensor, other: Tensor) -> Tensor:
        """(N, M) of (N, D) and (M, D)."""
        if self.spread is None:
            return (one @ other.T).clamp_min(0)
        return 1 / (1 + torch.cdist(one, other) / self.spread)


def _embedded(
    predictor: Predictor,
    images: Sequence[Path],
    memory: int | str | None,
    kept: KeptPass | None,
    stopped: Callable[[], bool],
) -> tuple[list[Tensor], list[Tensor], list[int], dict[int, str]]:
    """Of each image its regions (n, D) in half precision and its layout (places, D)."""
    spherical = is_spherical(predictor.embedder)
    regions, layouts, unread = [], [], {}
    numbers: list[int] = []
    for number in progress(range(len(images)), len(images), "embedding images"):
        if stopped():
            raise PassStopped(len(numbers))
        source = "" if kept is None else source_of(images[number])
        known = None if kept is None else kept.load("image", number, source)
        if known is None:
            try:
                dense = predictor.embed(images[number], "native", memory=memory)
            except UserError as error:
                unread[number] = str(error)
                continue
            known = _summary(dense, spherical)
            if kept is not None:
                kept.save("image", number, source, **known)
        numbers.append(number)
        regions.append(torch.from_numpy(known["regions"]))
        layouts.append(torch.from_numpy(known["layout"]))
    if not numbers:
        raise UserError(f"none of {len(images)} images can be read: {next(iter(unread.values()))}")
    return regions, layouts, numbers, unread


def _summary(dense: Tensor, spherical: bool) -> dict[str, np.ndarray]:
    """Regions and layout of an image, (n, D) each, of its embedding (D, h, w)."""
    grid = grid_of((dense.shape[1], dense.shape[2]), REGIONS)
    # Pooling repeats cells of a map that has fewer than the layout.
    layout = torch.nn.functional.adaptive_avg_pool2d(dense, LAYOUT)
    if spherical:
        layout = torch.nn.functional.normalize(layout, dim=0)
    regions = pooled(dense, grid, spherical).flatten(1).T.half()
    return {"regions": regions.numpy(), "layout": layout.flatten(1).T.numpy()}


def _groups(layouts: Tensor, least: float, measure: Similarity) -> list[list[int]]:
    """Images (N, places, D), each with the later ones that are at least so similar to it.

    Similar to the first one, not to any: else all frames of a slow video would be one group.
    """
    free = torch.ones(len(layouts), dtype=torch.bool)
    groups = []
    for first in range(len(layouts)):
        if not free[first]:
            continue
        later = first + 1 + torch.nonzero(free[first + 1 :])[:, 0]
        total = torch.zeros(len(later))
        for place in range(layouts.shape[1]):
            total += measure(layouts[first : first + 1, place], layouts[later, place])[0]
        same = later[total / layouts.shape[1] >= least]
        if len(same):
            free[same] = False
            groups.append([first, *same.tolist()])
    return groups


def _outliers(distance: np.ndarray) -> list[int]:
    """Beyond the upper fence of a box plot (Tukey 1977), the farthest first."""
    low, high = np.percentile(distance, (25, 75))
    far = np.flatnonzero(distance > high + 1.5 * (high - low) + 1e-9)
    return far[np.argsort(-distance[far], kind="stable")].tolist()
