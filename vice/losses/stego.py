"""Codes correspond where features of a frozen backbone do (STEGO)."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vice.labels import IGNORE
from vice.precision import full_precision
from vice.runtime.collectives import all_gather, all_reduce_, rank, sum_over_ranks, world_size
from vice.runtime.device import Arriving

#: Pairs of images: an image with itself, with a neighbor of it, and with a random one.
PAIRS = ("self", "neighbor", "random")
#: What S is not above where it is stabilized.
_STABLE = 0.8
#: Numbers of a step that are means over the ranks, in their order.
_MEANS = (
    "loss", "correspondence", "probe", "linear",
    *(f"{kind}_{pairs}" for pairs in PAIRS for kind in ("loss", "feature", "above", "code")),
)  # fmt: skip


class PairNumbers(NamedTuple):
    """The weight w of a kind of pairs, and the correspondence b from which codes attract."""

    weight: float
    shift: float


@dataclass(frozen=True)
class Places:
    """Where images are compared, what with, and what their pixels are labelled.

    Attributes:
        own: (B, P, 2) points (x, y) of the image, from -1 to 1.
        other: (B, P, 2) points of the image that it is compared with.
        order: (B, draws) numbers; of all ranks together their order is a permutation a draw.
        labels: uint8 (B, H, W), or (B, 0, 0) without any.
    """

    own: Tensor
    other: Tensor
    order: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> Places:
        """The same on another device."""
        moved = {
            each.name: getattr(self, each.name).to(device, non_blocking=True)
            for each in fields(self)
        }
        return replace(self, **moved)


def sample_points(maps: Tensor, points: Tensor) -> Tensor:
    """Maps at points, bilinearly; -1 and 1 are the centers of the outermost cells.

    Args:
        maps: (B, C, h, w).
        points: (B, P, 2), (x, y).

    Returns:
        (B, C, P).
    """
    grid = points.to(maps)[:, None]
    return F.grid_sample(maps, grid, "bilinear", "border", align_corners=True)[:, :, 0]


def cosines(first: Tensor, second: Tensor) -> Tensor:
    """(B, C, P) and (B, C, Q) to the cosines (B, P, Q) of their vectors."""
    return torch.einsum("bcp,bcq->bpq", F.normalize(first, dim=1), F.normalize(second, dim=1))


def centered(features: Tensor) -> Tensor:
    """Spatial centering: each point's mean over the other image's points becomes the batch's.

    Args:
        features: F, (B, P, Q); as large on every rank, and the batch's mean is that of all ranks.

    Returns:
        (B, P, Q).
    """
    mean = all_reduce_(features.detach().mean()) / world_size()
    return features - features.mean(-1, keepdim=True) + mean


def correspondence_loss(
    features: Tensor,
    codes: Tensor,
    shift: float,
    *,
    zero_clamp: bool = True,
    stabilize: bool = False,
) -> Tensor:
    """``-mean of S (F - b)``: codes are alike where features correspond by more than b.

    Args:
        features: F, cosines of features (B, P, Q), `centered` or not.
        codes: S, cosines of codes (B, P, Q).
        shift: b.
        zero_clamp: Whether S below 0 counts as 0, so that codes are not pushed beyond orthogonal.
        stabilize: Whether S above 0.8 counts as 0.8.

    Returns:
        A scalar.
    """
    least, most = 0.0 if zero_clamp else None, _STABLE if stabilize else None
    if (least, most) != (None, None):
        codes = codes.clamp(least, most)
    return -(codes * (features - shift)).mean()


def derangement(order: Tensor) -> Tensor:
    """Whom each image is compared with: the order of some numbers, but nobody with itself.

    Fixed points of the permutation move on by one, so that it is none any more (the authors' code).

    Args:
        order: (N,) different numbers.

    Returns:
        int64 (N,).
    """
    places = torch.arange(len(order), device=order.device)
    drawn = order.argsort()
    return (drawn + (drawn == places)) % len(order)


class StegoLoss(nn.Module):
    """Distills correspondences of features into codes (Hamilton et al. 2022).

    The features f and codes s of an image are sampled at random points, those of a neighbor or of
    another image of the batch, g and t, at others; with their cosines F and S the loss of a pair is
    `correspondence_loss`. The sum over the kinds of pairs, each times its weight, is joined by

    * the cluster probe, ``-mean of max_k cos(s, mu_k)`` over the cells of the images, and
    * a linear probe, the cross-entropy of labelled pixels, if there are labels,

    which do not reach the codes. Random pairs are drawn among the images of all ranks, so that two
    ranks with half a batch each train as one with the whole.

    Args:
        own: w and b of an image with itself.
        neighbor: The same of an image with a neighbor.
        random: The same of an image with another one of the batch.
        pointwise: Whether F is `centered`.
        zero_clamp: As in `correspondence_loss`.
        stabilize: As there.
    """

    def __init__(
        self,
        own: PairNumbers = PairNumbers(0.1, 0.12),
        neighbor: PairNumbers = PairNumbers(1.0, 0.2),
        random: PairNumbers = PairNumbers(0.1538476246415498, 1.0),
        *,
        pointwise: bool = True,
        zero_clamp: bool = True,
        stabilize: bool = False,
    ) -> None:
        super().__init__()
        self.numbers = dict(
            zip(PAIRS, map(PairNumbers._make, (own, neighbor, random)), strict=True)
        )
        self.pointwise = pointwise
        self.how = {"zero_clamp": zero_clamp, "stabilize": stabilize}
        self._arriving: Arriving | None = None
        self._health: dict[str, float] = {}

    def forward(
        self, codes: Tensor, features: Tensor, scores: Tensor, logits: Tensor, places: Places
    ) -> Tensor:
        """Loss of a batch.

        Args:
            codes: (2 B, D, h, w), of all images and then of a neighbor of each.
            features: (2 B, C, h, w), of the backbone.
            scores: (B, K, h, w), cosines of the images' detached codes with the probe's clusters.
            logits: (B, classes, h, w) of the linear probe on these; no classes: there is none.
            places: Of these images.

        Returns:
            A scalar; its mean over ranks is the loss of the global batch.
        """
        with torch.autocast(codes.device.type, enabled=False):
            wide = full_precision(codes)
            parts = self._pairs(wide, features.detach().to(wide), places)
            weighted = [self.numbers[pairs].weight * part.loss for pairs, part in parts.items()]
            corresponding = torch.stack(weighted).sum()
            probe = -scores.to(wide).amax(1).mean()
            linear = _labelled(logits.to(wide), places.labels)
        total: Tensor = corresponding + probe + linear
        self._note(total, corresponding, probe, linear, parts, scores)
        return total

    def _pairs(self, codes: Tensor, features: Tensor, places: Places) -> dict[str, _Part]:
        """The loss of each kind of pairs."""
        (f, g), (s, t) = (
            (sample_points(own, places.own), sample_points(near, places.other))
            for own, near in (features.chunk(2), codes.chunk(2))
        )
        parts = {"self": self._part("self", f, f, s, s)}
        parts["neighbor"] = self._part("neighbor", f, g, s, t)
        others = _Others(features.chunk(2)[0], codes.chunk(2)[0])
        order = torch.cat(all_gather(places.order))
        drawn = []
        for draw in range(order.shape[1]):
            feature, code = others.at(derangement(order[:, draw]), places.other)
            drawn.append(self._part("random", f, feature, s, code))
        parts["random"] = _Part(*(torch.stack(each).mean(0) for each in zip(*drawn, strict=True)))
        return parts

    def _part(self, pairs: str, f: Tensor, g: Tensor, s: Tensor, t: Tensor) -> _Part:
        shift = self.numbers[pairs].shift
        feature, code = cosines(f, g), cosines(s, t)
        wanted = centered(feature) if self.pointwise else feature
        loss = correspondence_loss(wanted, code, shift, **self.how)
        above = (wanted > shift).to(feature).mean()
        return _Part(loss, feature.mean(), above, code.detach().mean())

    @torch.no_grad()
    def _note(
        self,
        total: Tensor,
        corresponding: Tensor,
        probe: Tensor,
        linear: Tensor,
        parts: dict[str, _Part],
        scores: Tensor,
    ) -> None:
        """Adds up over the ranks what `health` is worked out from when it is read."""
        numbers = [
            total,
            corresponding,
            probe,
            linear,
            *(n for part in parts.values() for n in part),
        ]
        means = torch.stack([each.detach().double() for each in numbers]) / world_size()
        counts = F.one_hot(scores.argmax(1).flatten(), scores.shape[1]).sum(0).double()
        sums = all_reduce_(torch.cat([means, counts]))
        share = sums[len(means) :] / sums[len(means) :].sum().clamp(min=1)
        used = torch.special.entr(share).sum().exp()
        self._arriving = Arriving(torch.cat([sums[: len(means)], used[None], share.amax()[None]]))

    @property
    def health(self) -> dict[str, float]:
        """Of the last call; reading it waits until that has been computed.

        Of each kind of pairs ``loss_...``, and the means of the cosines of features ``feature_...``
        and of codes ``code_...``, and the share of the former ``above_...`` the kind's b.
        ``clusters_in_use``: exp of the entropy of the probe's clusters over the cells.
        """
        if self._arriving is not None:
            names = (*_MEANS, "clusters_in_use", "largest_cluster")
            self._health = dict(zip(names, self._arriving.read().tolist(), strict=True))
            self._arriving = None
        return self._health


class _Part(NamedTuple):
    """Of a kind of pairs: the loss, mean cosine of features, their share above b, that of codes."""

    loss: Tensor
    feature: Tensor
    above: Tensor
    code: Tensor


class _Others:
    """Features and codes of the images of all ranks, through whose codes gradients go.

    Args:
        features: (B, C, h, w), this rank's.
        codes: (B, D, h, w), this rank's.
    """

    def __init__(self, features: Tensor, codes: Tensor) -> None:
        self.count, self.first = len(codes), rank() * len(codes)
        self.features = torch.cat(all_gather(features)) if world_size() > 1 else features
        self.codes = codes
        if world_size() > 1:
            room = codes.new_zeros(world_size() * len(codes), *codes.shape[1:])
            own = torch.arange(self.first, self.first + self.count, device=codes.device)
            self.codes = sum_over_ranks(room.index_copy(0, own, codes))

    def at(self, partners: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Those of this rank's partners, (B, C, P) and (B, D, P)."""
        own = partners[self.first : self.first + self.count]
        return sample_points(self.features[own], points), sample_points(self.codes[own], points)


def _labelled(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the labelled pixels of all ranks; 0 without a probe."""
    if not logits.shape[1]:
        return logits.sum()
    scores = F.interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=False)
    wanted = labels.long()
    wanted = wanted.masked_fill(wanted >= logits.shape[1], IGNORE)
    total = F.cross_entropy(scores, wanted, ignore_index=IGNORE, reduction="sum")
    known = all_reduce_((wanted != IGNORE).sum().to(total))
    return total * world_size() / known.clamp(min=1)
