"""The numbers of STEGO's loss, w and b of each kind of pairs, from correspondences without labels.

STEGO's authors found theirs by hand for DINO's features; features of another backbone correspond
otherwise. The rule here is this project's own:

* b of a crop with itself, and with its neighbor, parts the distribution of their correspondences in
  two so that the variance between both parts is greatest (Otsu 1979): what exceeds it attracts.
* b of others of the batch is what all but a hundredth of their correspondences stay below.
* The weights make a crop's own points attract as much as its neighbor's, whose w is 1, and others
  repel as much as both together attract.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vice.errors import UserError
from vice.losses.stego import PairNumbers, cosines, sample_points
from vice.methods.context import Context, Source
from vice.methods.crop_pairs import CropPair, CropPairs
from vice.models.modes import evaluating
from vice.normalize import normalize
from vice.runtime.collectives import all_reduce_
from vice.views.keyed import order_of

#: Images whose crops are looked at, and how many at a time are compared.
IMAGES, _AT_ONCE = 128, 16
#: Share of the correspondences to others that may attract.
_ATTRACTING = 0.01
#: Bins of a distribution, and what it reaches to: centered cosines may leave -1 to 1.
_BINS, _REACH = 4000, 2.0
#: What a sum of forces is not below, where nothing attracts.
_LEAST = 1e-6


@dataclass(frozen=True)
class Distribution:
    """How often correspondences of a kind have which value.

    Attributes:
        counts: float64 (bins,).
    """

    counts: np.ndarray

    @property
    def values(self) -> np.ndarray:
        """The middle of each bin."""
        edges = np.linspace(-_REACH, _REACH, len(self.counts) + 1)
        return (edges[1:] + edges[:-1]) / 2

    @property
    def shares(self) -> np.ndarray:
        """Of all correspondences."""
        return self.counts / self.counts.sum()

    def otsu(self) -> float:
        """The value that parts it so that the variance between both parts is greatest."""
        below, mean = np.cumsum(self.shares)[:-1], np.cumsum(self.shares * self.values)
        inside = (below > 0) & (below < 1)
        spread = np.full(len(below), -1.0)
        part = below[inside]
        spread[inside] = (mean[-1] * part - mean[:-1][inside]) ** 2 / (part * (1 - part))
        # Of values that part it alike, the middle: between two peaks there is nothing.
        best = np.flatnonzero(spread >= spread.max() - 1e-12)
        return float(self.values[best].mean() + _REACH / len(self.counts))

    def quantile(self, share: float) -> float:
        """The value that a share of it does not exceed."""
        return float(self.values[np.searchsorted(np.cumsum(self.shares), share)])

    def attraction(self, shift: float) -> float:
        """Mean of what exceeds b, by how much."""
        return float((self.shares * (self.values - shift).clip(min=0)).sum())

    def repulsion(self, shift: float) -> float:
        """Mean of what stays below b, by how much."""
        return float((self.shares * (shift - self.values).clip(min=0)).sum())


def numbers_from(
    own: Distribution, neighbor: Distribution, random: Distribution
) -> dict[str, PairNumbers]:
    """W and b of each kind of pairs, as this module's text says."""
    shifts = {"self": own.otsu(), "neighbor": neighbor.otsu()}
    shifts["random"] = random.quantile(1 - _ATTRACTING)
    pulled = max(neighbor.attraction(shifts["neighbor"]), _LEAST)
    weights = {
        "self": pulled / max(own.attraction(shifts["self"]), _LEAST),
        "neighbor": 1.0,
        "random": 2 * pulled / max(random.repulsion(shifts["random"]), _LEAST),
    }
    return {kind: PairNumbers(weights[kind], shift) for kind, shift in shifts.items()}


@dataclass(frozen=True)
class DrawPair:
    """Reads a pair of crops, the same one at each start."""

    pairs: CropPairs

    def __call__(self, source: Source, index: int) -> CropPair:
        """The pair of the image at an index."""
        return self.pairs.draw(source, index, np.random.default_rng([source.seed, index]), 0)


def measure(
    context: Context, pairs: CropPairs, *, batch: int, pointwise: bool
) -> dict[str, Distribution]:
    """The distributions of the correspondences of some crops, the same on every rank.

    Memory: two times C x 121 float32 of each of 128 images, on every rank.

    Args:
        context: Every rank calls this; the table of neighbors is there.
        pairs: Draws crops and points.
        batch: Images of all ranks in a batch of the pass.
        pointwise: Whether correspondences are centered, as in the loss.

    Raises:
        UserError: Fewer than two images can be read.
    """
    near = _features(context, pairs, batch)
    if near.shape[1] < 2:
        raise UserError("correspondences are measured on two images at least: give more of them")
    own, other = near
    kinds = {"self": (own, own), "neighbor": (own, other), "random": (own, own.roll(1, 0))}
    return {kind: _distribution(*two, pointwise=pointwise) for kind, two in kinds.items()}


def _features(context: Context, pairs: CropPairs, batch: int) -> Tensor:
    """Sampled features (2, n, C, P) of crops and their neighbors, of all ranks."""
    order = order_of(context.seed, 0, context.num_images)[:IMAGES]
    place = {int(index): row for row, index in enumerate(order)}
    backbone, device = context.embedder.backbone, context.device
    width = backbone.channels[-1]
    found = torch.zeros(2, len(order), width, pairs.options.points**2, device=device)
    seen = torch.zeros(len(order), device=device)
    with evaluating(backbone):
        for part in context.run(DrawPair(pairs), batch, [int(index) for index in order]):
            for index, drawn in part:
                pixels = torch.from_numpy(drawn.pixels).to(device).permute(0, 3, 1, 2)
                maps = backbone(normalize(pixels))[-1].float()
                points = torch.from_numpy(drawn.points).to(device)
                found[:, place[index]] = sample_points(maps, points)
                seen[place[index]] = 1
    found, seen = all_reduce_(found), all_reduce_(seen)
    return found[:, seen > 0]


def _distribution(first: Tensor, second: Tensor, *, pointwise: bool) -> Distribution:
    parts = list(zip(first.split(_AT_ONCE), second.split(_AT_ONCE), strict=True))
    mean = sum(float(cosines(*part).double().sum()) for part in parts)
    mean /= first.shape[0] * first.shape[2] ** 2
    counts = np.zeros(_BINS)
    for part in parts:
        values = cosines(*part)
        if pointwise:
            values = values - values.mean(-1, keepdim=True) + mean
        counts += torch.histc(values.float().cpu(), _BINS, -_REACH, _REACH).double().numpy()
    return Distribution(counts)


def in_words(numbers: Mapping[str, PairNumbers]) -> str:
    """For the log."""
    return ", ".join(
        f"{kind} w {each.weight:.4g} b {each.shift:.4g}" for kind, each in numbers.items()
    )
