"""Cross-entropy of pixels against fixed or trained classifiers, within and across views (PiCIE)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vice.labels import IGNORE
from vice.precision import full_precision
from vice.runtime.collectives import all_reduce_, world_size
from vice.runtime.device import Arriving
from vice.views.feature_crop import crop_resize

#: Pixels whose scores exist at a time.
_CHUNK = 2**18


def cross_entropy_sum(
    vectors: Tensor,
    classifier: Tensor,
    labels: Tensor,
    weights: Tensor,
    bias: Tensor | None = None,
    *,
    chunk: int = _CHUNK,
) -> Tensor:
    """Weighted sum over pixels of the cross-entropy between scores and labels.

    Scores are computed for a part of the pixels at a time, and once more on the way back, so that
    they never exist for all pixels.

    Args:
        vectors: (B, D, h, w) floating point.
        classifier: (K, D), fixed or trained.
        labels: (B, h, w) int64, below K; pixels of ``IGNORE`` do not count.
        weights: (K,), the weight of a label.
        bias: (K,), or None.
        chunk: About how many pixels have scores at a time; at least one image's do.

    Returns:
        A scalar, differentiable in vectors, classifier and bias: the sum over pixels of
        ``weights[label] * -log_softmax(classifier @ vector + bias)[label]``.
    """
    images = max(1, chunk // max(labels[0].numel(), 1))
    parts = zip(vectors.flatten(2).split(images), labels.flatten(1).split(images), strict=True)
    total = vectors.new_zeros(())
    for part, known in parts:
        arguments = (part, classifier, known, weights, bias)
        # Nothing is drawn in it, so no random state is kept for the second time.
        total = total + checkpoint(
            _cross_entropy, *arguments, use_reentrant=False, preserve_rng_state=False
        )
    return total


def _cross_entropy(
    vectors: Tensor, classifier: Tensor, labels: Tensor, weights: Tensor, bias: Tensor | None
) -> Tensor:
    scores = classifier @ vectors
    if bias is not None:
        scores = scores + bias[:, None]
    return F.cross_entropy(scores, labels, weights, ignore_index=IGNORE, reduction="sum")


def weight_sum(labels: Tensor, weights: Tensor) -> Tensor:
    """Sum of the weights of all labels but those of ``IGNORE``; a scalar."""
    known = labels != IGNORE
    return (weights[labels.where(known, torch.zeros_like(labels))] * known).sum()


def automatic_shares(clusters: Sequence[int]) -> list[float]:
    """Weights of the losses of several label sets: a set of K labels by how small ln K is.

    Of two sets the first has the share ln K2 / (ln K1 + ln K2), so that a loss at its start, ln K,
    counts alike. A single set has the share 1.

    Example:
        >>> from vice.losses.picie import automatic_shares
        >>> [round(share, 3) for share in automatic_shares([27, 100])]
        [0.583, 0.417]
    """
    inverse = [1 / math.log(max(number, 2)) for number in clusters]
    return [each / sum(inverse) for each in inverse]


class PiCIELoss(nn.Module):
    """Pseudo-label cross-entropy of one view, or within and across two (Cho et al. 2021).

    With unit vectors ``f1``, ``f2`` of two views that show the same places, the classifier ``C``,
    labels ``l`` and label weights ``w`` of each view, and ``CE`` the weighted mean over the pixels
    of all ranks,

        within = (CE(f1, C1, l1, w1) + CE(f2, C2, l2, w2)) / 2
        cross  = (CE(f1, C2, l2, w2) + CE(f2, C1, l1, w1)) / 2
        loss   = (within + cross) / 2

    With one view the loss is ``CE(f1, C1, l1, w1)``. With several sets of labels for the same
    vectors the loss is the sum of theirs by shares.

    Args:
        clusters: K of each label set.
        views: 1 or 2.
        shares: Weight of each set's loss; None for `automatic_shares`.
        distance: Whether the mean squared distance of the views' vectors is added, and the sum
            halved.
    """

    def __init__(
        self,
        clusters: Sequence[int],
        views: int = 2,
        *,
        shares: Sequence[float] | None = None,
        distance: bool = False,
    ) -> None:
        super().__init__()
        if views not in (1, 2) or (distance and views == 1):
            raise ValueError(f"{views} views, distance={distance}")
        self.clusters = list(clusters)
        self.views = views
        self.shares = automatic_shares(clusters) if shares is None else list(shares)
        self.distance = distance
        self.names = ("within", "cross") if views == 2 else ("within",)
        self._arriving: Arriving | None = None
        self._epoch_names: tuple[str, ...] = ()
        self._health: dict[str, float] = {}

    def forward(
        self,
        embeddings: Tensor,
        classifiers: Tensor,
        biases: Tensor,
        weights: Tensor,
        epoch: Tensor,
        boxes: Tensor,
        flips: Tensor,
        labels: Tensor,
    ) -> Tensor:
        """Loss of a batch.

        Args:
            embeddings: (V * B, D, h, w), view after view; the second view's are not cropped yet.
            classifiers: (V, sum of K, D), set after set.
            biases: (V, sum of K).
            weights: (V, sum of K).
            epoch: Numbers of the epoch that the health shows along with the step's.
            boxes: (B, 3), where the first view lies in the second, in cells of the embedding.
            flips: (B,) bool, whether the first view is mirrored.
            labels: (B, S, V, h, w) uint8, ``IGNORE`` for pixels without one.

        Returns:
            A scalar; its mean over ranks is the loss of the global batch.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            views = list(full_precision(embeddings).chunk(self.views))
            if self.views == 2:
                views[1] = crop_resize(views[1], boxes, flips, views[1].shape[-1])
            vectors = [F.normalize(view, dim=1) for view in views]
            fixed = [each.to(vectors[0]) for each in (classifiers, biases, weights.detach())]
            sets = self._sets(fixed, labels)
            terms = self._terms(vectors, sets)
        # The sums of this rank, by the weights and pixels of all of them.
        total = sum(share * terms[s].mean() for s, share in enumerate(self.shares))
        parts = [*self._means(terms)]
        if self.distance:
            apart = self._distance(*vectors)
            total = (total + apart) / 2
            parts.append(apart)
        loss: Tensor = total
        shown = torch.stack([loss, *parts]).detach() / world_size()
        self._arriving = Arriving(torch.cat([all_reduce_(shown), epoch.detach().to(shown)]))
        return loss

    def _sets(
        self, fixed: Sequence[Tensor], labels: Tensor
    ) -> list[list[tuple[Tensor, Tensor, Tensor, Tensor]]]:
        """By set and view: classifier (K, D), bias (K,), weights (K,), labels (B, h, w)."""
        wide = labels.long()
        parts = [each.split(self.clusters, dim=1) for each in fixed]
        return [
            [(*(part[s][v] for part in parts), wide[:, s, v]) for v in range(self.views)]
            for s in range(len(self.clusters))
        ]

    def _terms(
        self, vectors: list[Tensor], sets: list[list[tuple[Tensor, Tensor, Tensor, Tensor]]]
    ) -> list[Tensor]:
        """Of each set the means (vectors of a view, labels of a view), (V, V)."""
        sums = torch.stack([weight_sum(each[3], each[2]) for views in sets for each in views])
        sums = all_reduce_(sums).clamp(min=torch.finfo(sums.dtype).tiny).view(-1, self.views)
        found = []
        for s, views in enumerate(sets):
            rows = [
                torch.stack(
                    [
                        cross_entropy_sum(vector, classifier, known, weight, bias)
                        for classifier, bias, weight, known in views
                    ]
                )
                for vector in vectors
            ]
            found.append(torch.stack(rows) * world_size() / sums[s])
        return found

    def _means(self, terms: list[Tensor]) -> list[Tensor]:
        """Within, and cross where there are two views, of the sets by their shares."""
        table = torch.stack([share * t for share, t in zip(self.shares, terms, strict=True)]).sum(0)
        within = table.diagonal().mean()
        return [within] if self.views == 1 else [within, (table[0, 1] + table[1, 0]) / 2]

    @staticmethod
    def _distance(one: Tensor, two: Tensor) -> Tensor:
        count = all_reduce_(torch.full((), float(one.numel()), device=one.device))
        return (one - two).square().sum() * world_size() / count

    def name_epoch(self, names: Sequence[str]) -> PiCIELoss:
        """Says what the numbers of the epoch are called in the health."""
        self._epoch_names = tuple(names)
        return self

    @property
    def health(self) -> dict[str, float]:
        """Of the last call: ``loss``, its parts, and the epoch's numbers."""
        if self._arriving is not None:
            numbers = self._arriving.read().tolist()
            names = ("loss", *self.names, *(("distance",) if self.distance else ()))
            self._health = dict(zip((*names, *self._epoch_names), numbers, strict=False))
            self._arriving = None
        return self._health
