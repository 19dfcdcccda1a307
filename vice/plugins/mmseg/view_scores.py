"""Label-free scores of an embedder that was clustered: two views of scored images."""

from __future__ import annotations

import dataclasses
import logging
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device

from vice.datasets import open_dataset
from vice.datasets.labelled_set import list_checksum
from vice.datasets.subsets import take_subset
from vice.errors import UserError
from vice.evaluation.label_free import HeldOutViews
from vice.evaluation.task import Task
from vice.models.centroids import Centroids
from vice.plugins.mmseg.backbone import share_embedder
from vice.runtime.collectives import on_first_rank
from vice.runtime.files import read_json, write_json
from vice.runtime.run_folder import SCORES_NAME

logger = logging.getLogger(__name__)
#: Most images whose views are compared, a subset of the scored split.
MOST_IMAGES = 200


def measure_views(task: Task, clusters: int, out_dir: Path) -> dict[str, Any]:
    """How alike two views of an image are, with the centroids of k-means as concepts.

    The views are those of a training by default settings, drawn once, so that embedders compare.
    They change size, place and color, and so are embedded for themselves, on the first rank.

    Args:
        task: Of clusters that were fitted.
        clusters: Number of clusters K.
        out_dir: Gets ``label_free.json``.

    Returns:
        ``scores`` (see `vice.evaluation.label_free.LabelFreeScores`), ``clusters``, ``images``,
        ``checksum`` of their list, ``seed`` and ``seconds``; ``scores`` is empty, and ``skipped``
        says why, for an embedding that is clustered by distance and not by direction.
    """

    def measure() -> dict[str, Any]:
        start = time.monotonic()
        data = open_dataset(task.dataset, task.data_root)
        names = data.names(task.protocol.score_split, labels=False)
        kept = take_subset(names, min(1.0, MOST_IMAGES / len(names)), 0)
        chosen = [name for name in names if name in kept]
        found = {
            "spec": task.spec,
            "dataset": str(task.dataset),
            "clusters": clusters,
            "images": len(chosen),
            "checksum": list_checksum(chosen),
            "seed": task.seed,
        }
        centroids = Centroids.load(str(task.out_dir / f"centroids_{clusters}.safetensors"))
        if centroids.spherical:
            scores = _scores(task, centroids, [data.root / name for name in chosen])
            found |= {"scores": scores, "seconds": round(time.monotonic() - start, 2)}
        else:
            skipped = "the embedding is clustered by distance, and views are compared by direction"
            logger.warning("no label-free scores: %s", skipped)
            found |= {"scores": {}, "skipped": skipped}
        write_json(out_dir / SCORES_NAME, found)
        return found

    return on_first_rank(measure)


def remove_views(out_dir: Path, spec: str, dataset: str) -> None:
    """Removes the file of an earlier call that is of another model or data set, and says so.

    Args:
        out_dir: May hold ``label_free.json``; those of earlier versions say not of what they are.
        spec: The model whose clusters are scored now.
        dataset: As it was asked for.
    """
    file = out_dir / SCORES_NAME
    try:
        found = read_json(file, "")
    except UserError:
        return
    if (found.get("spec"), found.get("dataset")) != (spec, dataset):
        file.unlink(missing_ok=True)
        of = found.get("spec", "a model that is not named")
        logger.warning("%s is removed: it is of %s, on %s", file, of, found.get("dataset", "a set"))


def _scores(task: Task, centroids: Centroids, images: list[Path]) -> dict[str, float]:
    device = torch.device(task.device or get_device())
    shared = share_embedder(task.spec, task.seed, features=task.protocol.features)
    embedder = shared.embed.to(device)
    read = {} if task.reading is None else {"measured": task.reading.to_dict()}
    views = HeldOutViews(images, {"STANDARDIZE": {}, "DATASET": read}, task.seed)
    return dataclasses.asdict(views.measure(embedder, centroids.concepts().to(device)))
