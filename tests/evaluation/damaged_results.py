"""Results of every kind, each with its counts, and all that may stand in a place by mistake."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.evaluation.test_compare import linear
from tests.evaluation.test_intervals import keep
from tests.evaluation.test_own_tables import IMAGES, write_masks, write_outlines, write_position
from vice.evaluation.image_counts import save_image_tables
from vice.evaluation.intervals import resampled_mapping, score_intervals
from vice.evaluation.results import scores

Rng = np.random.Generator
Path_ = tuple[str | int, ...]
CLASSES = ("a", "b")
#: What is no value of most places.
ODD: tuple[Any, ...] = (None, 5, "x", [], {}, True, [[]])


def _counted(folder: Path, rng: Rng, kind: str, clusters: int, matchings: tuple[str, ...]) -> None:
    """Writes a result of made-up counts under a protocol."""
    tables = keep(rng.integers(1, 60, (IMAGES, clusters, len(CLASSES))))
    total, name = tables.total(), str(clusters) if kind == "clusters" else kind
    mappings = {
        m: total.identity() if m == "none" else torch.arange(clusters) % 2 for m in matchings
    } | {m: getattr(total, m)() for m in matchings if m.startswith("hungarian")}
    given = {m: resampled_mapping(m, mapping) for m, mapping in mappings.items()}
    intervals = score_intervals(tables, given)
    found = {
        m: {**scores(total, mapping, CLASSES, intervals[m]), "mapping": mapping.tolist()}
        for m, mapping in mappings.items()
    }
    key = "retrieval_matchings" if kind == "retrieval" else "matchings"
    result = linear(folder.name, **{key: list(matchings)})
    del result["linear"]
    result["dataset"]["images"]["score"] = IMAGES
    result["protocol"]["title"] = "native, iterations=500 (0123456789ab)"
    result["arguments"]["clusters"] = [clusters]
    result |= {"kind": kind, "content": {"score": {"pixels": "abc", "label_files": "def"}}}
    result["model"] = {"digest": folder.name}
    result[kind] = found
    if kind == "clusters":
        result[kind] = {name: found | {"kmeans": {"beyond_memory": 0}}}
    elif kind != "retrieval":
        result[kind] = found[matchings[0]]
    files = {name: tables}
    if kind == "linear":
        result["linear_best"], files["linear_best"] = result["linear"], tables
    folder.mkdir()
    save_image_tables(folder / "per_image.npz", files)
    (folder / "results.json").write_text(json.dumps(result))


def _masks(folder: Path, rng: Rng) -> None:
    write_masks(folder, rng, folder.name)


def _outlines(folder: Path, rng: Rng) -> None:
    write_outlines(folder, rng, folder.name)


#: Kind to what writes a result of it, whose embedder is called as the folder is.
KINDS: dict[str, Callable[[Path, Rng], object]] = {
    "linear": lambda folder, rng: _counted(folder, rng, "linear", 2, ("none",)),
    "finetune": lambda folder, rng: _counted(folder, rng, "finetune", 2, ("none",)),
    "clusters": lambda folder, rng: _counted(folder, rng, "clusters", 3, ("greedy", "hungarian")),
    "retrieval": lambda folder, rng: _counted(
        folder, rng, "retrieval", 2, ("none", "hungarian_iou")
    ),
    "position": write_position,
    "boundaries": _outlines,
    "masks": _masks,
}


def places(value: Any, above: Path_ = ()) -> Iterator[Path_]:
    """Where something stands in a result, all the way down."""
    inside = value.items() if isinstance(value, dict) else ()
    inside = enumerate(value) if isinstance(value, list) else inside
    for key, inner in inside:
        yield (*above, key)
        yield from places(inner, (*above, key))


def replaced(result: dict[str, Any], place: Path_, odd: Any) -> dict[str, Any]:
    """The result with something else in a place."""
    changed = copy.deepcopy(result)
    inner: Any = changed
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = odd
    return changed
