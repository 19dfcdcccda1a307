"""Matchings of clusters with classes, in words."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from vice.scoring import CountTable

MATCHING_NAMES = {
    "greedy": "greedy",
    "hungarian": "Hungarian",
    "argmax_iou": "argmax IoU",
    "hungarian_iou": "Hungarian IoU",
    "none": "none",
}


#: What the matchings of a protocol do.
MATCHINGS = {
    "greedy": "Each cluster gets the class that most of its pixels have on the "
    "images it was fitted on; several clusters may share a class.",
    "hungarian": "Clusters and classes are paired one to one, so that the most "
    "pixels are right on the scored images themselves, whose labels it therefore sees. Clusters "
    "beyond the number of classes follow the greedy rule.",
    "argmax_iou": "Each cluster gets the class with which its intersection over union is greatest "
    "on the images it was fitted on; several clusters may share a class.",
    "hungarian_iou": "Clusters and classes are paired one to one, so that the sum of their "
    "intersections over union is greatest on the scored images themselves, whose labels it "
    "therefore sees. Clusters beyond the number of classes follow the argmax IoU rule.",
    "none": "Predictions are classes, and count as they are.",
}
#: Matchings that are taken on the fitted split; the others are taken on the scored one.
ON_FIT = ("greedy", "argmax_iou")


def match(name: str, table: CountTable) -> Tensor:
    """Class of each cluster of a table by a matching.

    Args:
        name: A key of ``MATCHINGS``.
        table: Of the fitted split for those of ``ON_FIT``, else of the scored one.

    Returns:
        int64 (K,).
    """
    if name not in MATCHINGS:
        raise ValueError(f"matching {name!r} is none of {', '.join(MATCHINGS)}")
    mapping: Tensor = table.identity() if name == "none" else getattr(table, name)()
    return mapping


def needs_fit_labels(names: Iterable[str]) -> bool:
    """Whether one of some matchings is taken on the fitted split."""
    return any(name in ON_FIT for name in names)
