"""Invariant information clustering: mutual information of a pair's classes (Ji et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vice.losses.joint import displaced_joint
from vice.precision import full_precision
from vice.runtime.collectives import sum_over_ranks, world_size
from vice.runtime.device import Arriving

#: What probabilities are not below before their logarithm is taken.
_LEAST = torch.finfo(torch.float64).eps
#: Share of the largest overlap below which one is rounding of the transforms, by dtype.
_OVERLAP = {torch.float32: 1e-5, torch.float64: 1e-10}
#: Numbers of the health of a step, in their order.
_NAMES = (
    "loss", "entropy", "largest_cluster", "counted", "displacements", "empty",
    "batches", "skipped_batches",
)  # fmt: skip


def information_loss(joint: Tensor, entropy_weight: float = 1.0) -> Tensor:
    """Negative mutual information of classes i and j by their co-occurrence.

    With S the symmetric and normalized table and r, c its marginals,
    ``-sum of S (ln S - w ln r - w ln c)``: at ``w = 1`` between -ln K and 0; above it, even
    marginals count for more.

    Args:
        joint: (..., K, K), not negative, each table with a sum above 0.
        entropy_weight: w, lambda in the authors' code.

    Returns:
        (...), same dtype.
    """
    share = joint / joint.sum((-2, -1), keepdim=True)
    share = (share + share.mT) / 2
    rows, columns = share.sum(-1, keepdim=True), share.sum(-2, keepdim=True)
    share, rows, columns = (each.clamp(min=_LEAST) for each in (share, rows, columns))
    information = share.log() - entropy_weight * (rows.log() + columns.log())
    return -(share * information).sum((-2, -1))


def warp(maps: Tensor, matrices: Tensor) -> Tensor:
    """Maps as a linear transform of the square from -1 to 1 shows them; zeros outside.

    Args:
        maps: (B, K, H, W).
        matrices: (B, 2, 2); pixel p of the result is the one at ``matrix @ p``, the centers of the
            corner pixels lying at -1 and 1.

    Returns:
        As ``maps``.
    """
    linear = F.pad(matrices.to(maps), (0, 1))
    grid = F.affine_grid(linear, list(maps.shape), align_corners=True)
    return F.grid_sample(maps, grid, "bilinear", "zeros", align_corners=True)


class IICLoss(nn.Module):
    """Two images of a place, and its neighborhood, get one class, and all classes are used.

    Class maps of the second image are brought to the frame of the first, and both are masked; the
    co-occurrences of their classes at each displacement (`vice.losses.joint.displaced_joint`) are
    summed over the images of all ranks, and the loss is the mean of `information_loss` over the
    displacements, or that of the sum over them (``collapsed``).

    Displacements at which the masks do not overlap are left out of the mean; a batch without any
    has a loss of 0 and no gradient, and is counted (``skipped_batches``).

    Memory, beside that of the joint: four times the class maps of the batch at the size of the
    images, 2 B K H W numbers of float32 each.

    Args:
        clusters: K of each head.
        entropy_weights: w of each head.
        sub_heads: Layers of a head; the loss is the mean of theirs.
        displacement: T, in pixels.
        collapsed: See above.
    """

    batches: Tensor
    skipped: Tensor

    def __init__(
        self,
        clusters: Sequence[int],
        entropy_weights: Sequence[float] = (1.0, 1.0),
        *,
        sub_heads: int = 1,
        displacement: int = 10,
        collapsed: bool = False,
    ) -> None:
        super().__init__()
        self.clusters = list(clusters)
        self.entropy_weights = list(entropy_weights)
        self.sub_heads, self.displacement, self.collapsed = sub_heads, displacement, collapsed
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self.register_buffer("skipped", torch.zeros((), dtype=torch.int64))
        self._arriving: Arriving | None = None
        self._head = 0
        self._health: dict[str, float] = {}

    def forward(
        self, scores: Tensor, idle: Tensor, mask: Tensor, matrices: Tensor, head: int, passed: int
    ) -> Tensor:
        """Loss of a batch of pairs.

        Args:
            scores: (2 B, S * K, h, w) of all first images, then of all second ones, before the
                softmax; sub-head after sub-head.
            idle: 0, of what takes no part in this step.
            mask: (B, H, W) bool, pixels of the first images that count; the maps are brought to
                this size.
            matrices: (B, 2, 2), from the first image's frame to that of the second, see `warp`.
            head: Which of ``clusters`` is trained.
            passed: Passes over the images that are over.

        Returns:
            A scalar, the same on all ranks.
        """
        with torch.autocast(scores.device.type, enabled=False):
            wide = full_precision(scores)
            maps = self._maps(wide, mask.shape[1:])
            counted = mask.unsqueeze(1).to(wide)
            losses, numbers = [], None
            for each in maps:
                first, second = each.chunk(2)
                second = warp(second, matrices)
                joint = self._joint(first * counted, second * counted)
                loss, overlaps, empty = self._loss(joint, self.entropy_weights[head])
                losses.append(loss)
                numbers = numbers or (joint.detach(), overlaps, empty)
        total = torch.stack(losses).mean() + idle.sum().to(wide)
        assert numbers is not None
        self._note(total.detach(), mask, *numbers, head=head, passed=passed)
        return total

    def _maps(self, scores: Tensor, size: torch.Size) -> list[Tensor]:
        """Class maps of each sub-head, (2 B, K, H, W)."""
        parts = scores.chunk(self.sub_heads, dim=1)
        maps = (part.softmax(1) for part in parts)
        return [F.interpolate(each, size, mode="bilinear", align_corners=False) for each in maps]

    def _joint(self, first: Tensor, second: Tensor) -> Tensor:
        # Rounding of the transforms may leave less than nothing.
        joint = displaced_joint(first, second, self.displacement).clamp(min=0)
        joint = sum_over_ranks(joint)
        return joint.sum((0, 1), keepdim=True) if self.collapsed else joint

    @staticmethod
    def _loss(joint: Tensor, entropy_weight: float) -> tuple[Tensor, Tensor, Tensor]:
        """Mean over displacements, how many overlap, and whether none does."""
        overlap = joint.detach().sum((2, 3), keepdim=True)
        known = overlap > _OVERLAP[joint.dtype] * overlap.amax()
        count = known.sum()
        # No 0 / 0: where nothing overlaps, tables of ones are taken and left out of the mean.
        losses = information_loss(joint.where(known, torch.ones_like(joint)), entropy_weight)
        total = losses.where(known[..., 0, 0], torch.zeros_like(losses)).sum()
        return total / count.clamp(min=1), count, count == 0

    @torch.no_grad()
    def _note(
        self,
        loss: Tensor,
        mask: Tensor,
        joint: Tensor,
        overlaps: Tensor,
        empty: Tensor,
        *,
        head: int,
        passed: int,
    ) -> None:
        """Sends the numbers of the step on their way to the host."""
        self.batches += 1
        self.skipped += empty
        middle = joint[joint.shape[0] // 2, joint.shape[1] // 2]
        share = (middle.sum(0) + middle.sum(1)) / (2 * middle.sum()).clamp(min=_LEAST)
        entropy = torch.special.entr(share).sum()
        counted = sum_over_ranks(mask.float().mean()) / world_size()
        numbers = (
            loss, entropy, share.amax(), counted, overlaps, empty, self.batches, self.skipped,
        )  # fmt: skip
        self._arriving = Arriving(torch.stack([each.to(loss).reshape(()) for each in numbers]))
        self._head, self._passed = head, passed

    @property
    def health(self) -> dict[str, float]:
        """Of the last call.

        ``learnt``: how far the loss is on its way from classes that know nothing of each other (0)
        to its ``minimum`` (1), (1 - 2 w) ln K. ``clusters_in_use``: exp of the entropy of the
        marginal without displacement.
        """
        if self._arriving is not None:
            numbers = self._arriving.read().tolist()
            self._health = self._named(dict(zip(_NAMES, map(float, numbers), strict=True)))
            self._arriving = None
        return self._health

    def _named(self, numbers: dict[str, float]) -> dict[str, float]:
        weight, most = self.entropy_weights[self._head], math.log(self.clusters[self._head])
        start, minimum = 2 * (1 - weight) * most, (1 - 2 * weight) * most
        return {
            **numbers,
            "minimum": minimum,
            "learnt": (start - numbers["loss"]) / (start - minimum),
            "clusters_in_use": math.exp(numbers["entropy"]),
            "skipped_share": numbers["skipped_batches"] / max(numbers["batches"], 1.0),
            "head": float(self._head),
            "passed": float(self._passed),
        }
