"""Matchings of clusters with classes, in words."""

from __future__ import annotations

MATCHING_NAMES = {"greedy": "greedy", "hungarian": "Hungarian"}


#: What the matchings of a protocol do.
MATCHINGS = {
    "greedy": "Each cluster gets the class that most of its pixels have on the "
    "images it was fitted on; several clusters may share a class.",
    "hungarian": "Clusters and classes are paired one to one, so that the most "
    "pixels are right on the scored images themselves, whose labels it therefore sees. Clusters "
    "beyond the number of classes follow the greedy rule.",
}
