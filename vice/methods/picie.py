"""PiCIE and PiCIE+H: clusters of two views, each predicted from both (Cho et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from vice.losses.picie import PiCIELoss, automatic_shares
from vice.methods.cluster_labels import EPOCH_NUMBERS, ClusterLabels, ClusterOptions
from vice.methods.signs import Measure
from vice.options import FLAG, NULL, SHARE, either, option, whole


@dataclass(frozen=True)
class PiCIEOptions(ClusterOptions):
    """Options of PiCIE."""

    over_clusters: int = option(
        0,
        either(whole(0, 0), whole(2, 255)),
        "clusters of a second set of labels (PiCIE+H: 100); 0: there is none",
    )
    over_share: float | None = option(
        None,
        either(SHARE, NULL),
        "share of the second set's loss; null: ln K / (ln K + ln of the second set's number)",
    )
    view_distance: bool = option(
        False, FLAG, "whether the mean squared distance of the views' vectors is added, and halved"
    )


class PiCIE(ClusterLabels):
    """PiCIE; see `vice.losses.picie.PiCIELoss` for what is learnt.

    Classifiers are the epoch's centroids as k-means gives them, not of unit length; labels weigh
    by how frequent they are, as in the authors' code.

    Args:
        options: `PiCIEOptions`.
        settings: Nothing of it.
    """

    Options = PiCIEOptions
    views = 2
    measures: ClassVar[Sequence[Measure]] = (
        ClusterLabels.measures[0],
        Measure("cross", "across"),
        *ClusterLabels.measures[1:],
    )

    @property
    def label_sets(self) -> list[int]:
        """The clusters that are scored with, and those of PiCIE+H."""
        over = [self.options.over_clusters] if self.options.over_clusters else []
        return [self.options.clusters, *over]

    def loss(self) -> PiCIELoss:
        """Within and across the views, of both sets of labels."""
        over = self.options.over_share
        sets = self.label_sets
        shares = automatic_shares(sets) if over is None or len(sets) == 1 else [1 - over, over]
        loss = PiCIELoss(sets, self.views, shares=shares, distance=self.options.view_distance)
        return loss.name_epoch(EPOCH_NUMBERS)
