"""Clusters of objects, one an image, scored on the images' foreground (MaskContrast)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from torch import Tensor

from vice.clustering import warn_few_distinct
from vice.datasets import LabelledSet
from vice.errors import UserError
from vice.evaluation.intervals import (
    MATCHED_ANEW,
    ResampledScores,
    describe_interval,
    resampled_mapping,
    resampled_scores,
)
from vice.evaluation.matchings import ON_FIT, match, needs_fit_labels
from vice.evaluation.objects import (
    ObjectClusters,
    ObjectVectors,
    count_foreground,
    foreground_of,
    object_vector,
)
from vice.evaluation.results import describe, mean_scores, scores
from vice.evaluation.task import Task
from vice.labels import IGNORE
from vice.plugins.mmseg.backbone import SharedEmbedder, share_embedder
from vice.plugins.mmseg.content import check_data
from vice.plugins.mmseg.masks import read_mask
from vice.plugins.mmseg.results import absent, draw_confusion, finish
from vice.plugins.mmseg.running import dataset_config, finish_config, load_config
from vice.plugins.mmseg.sample_embeddings import EmbeddedImage, embed_images
from vice.runtime.collectives import cpu_group, from_each_rank, on_first_rank
from vice.runtime.files import write_json
from vice.runtime.run_folder import PER_IMAGE_NAME
from vice.runtime.step_meter import StepMeter
from vice.scoring import CountTable

logger = logging.getLogger(__name__)
#: Foreground of an image: bool (H, W) at the size of the network's input, and weights of its
#: pixels.
Foreground = Callable[[EmbeddedImage], tuple[Tensor, Tensor]]


def evaluate_objects(
    task: Task, clusters: Sequence[int], *, masks: str | None, cache_bytes: int
) -> dict[str, Any]:
    """Clusters the objects of one split and scores them on another, or on the same.

    Args:
        task: Its protocol has ``clusters="objects"``.
        clusters: Numbers of clusters K, the background being one.
        masks: With ``foreground="files"``, the folder of the masks, ``<stem>.png``.
        cache_bytes: Budget for keeping embeddings.

    Returns:
        As `vice.plugins.mmseg.evaluate_clusters.evaluate_clusters`; scores are means over
        ``objects_seeds``, and ``seeds`` has them one by one.

    Raises:
        UserError: A foreground that is not to be had, or what that function raises.
    """
    _check_numbers(clusters)
    start, meter, protocol = time.monotonic(), StepMeter(), task.protocol
    fit_labels = needs_fit_labels(protocol.matchings)
    sets, content = check_data(task, meter, fit_labels=fit_labels)
    shared = share_embedder(task.spec, task.seed, cache_bytes, protocol.features)
    config = load_config("cluster_folder", task)
    config.model.pop("decode_head")
    config = finish_config(config, task)
    config.model.backbone.cache_bytes = cache_bytes
    foreground = _foreground(task, shared, sets[1].classes, masks)
    with meter.step("embed the objects"):
        fit, score = _objects(config, task, shared, sets, foreground)
    with meter.step("cluster and score"):
        entries, tables = on_first_rank(
            lambda: _clusters(task, clusters, fit, score, sets[1].classes)
        )
    arguments = {"clusters": list(clusters), "masks": masks, "cache_bytes": cache_bytes}

    def write() -> dict[str, Any]:
        task.out_dir.mkdir(parents=True, exist_ok=True)
        # Pairing: objects have no counts of images, and those of an earlier result are not theirs.
        (task.out_dir / PER_IMAGE_NAME).unlink(missing_ok=True)
        counts = {str(k): table.counts.tolist() for k, table in tables.items()}
        write_json(task.out_dir / "counts.json", {"fit": {}, "score": counts})
        (first, table), name = next(iter(tables.items())), protocol.matchings[0]
        mapping = torch.tensor(entries[str(first)][name]["seeds"][0]["mapping"])
        fitted = _fitted(fit) if fit_labels else None
        result = {
            **describe("clusters", task, sets, shared.describe()),
            "content": content,
            "clusters": entries,
            "objects": {
                "fit": {**_describe(fit), "distinct_vectors": fit.distinct},
                "score": _describe(score),
            },
            "absent": absent(task, sets[1].classes, fitted, table),
            "maps": [],
            "samples": None,
            "pictures": [
                draw_confusion(table, mapping, sets[1].classes, task, f"confusion_{first}_{name}")
            ],
        }
        return finish(result, task, arguments, config, meter, start)

    return on_first_rank(write)


def _objects(
    config: Config,
    task: Task,
    shared: SharedEmbedder,
    sets: tuple[LabelledSet, LabelledSet],
    foreground: Foreground,
) -> tuple[ObjectVectors, ObjectVectors]:
    """Objects of the fitted and of the scored split; one pass where both are one."""
    protocol, classes = task.protocol, len(sets[1].classes)
    score = _embed(config, task, shared, "score", foreground, classes)
    same = protocol.fit_split == protocol.score_split and task.fit_dataset is None
    return (score if same else _embed(config, task, shared, "fit", foreground, classes)), score


def _embed(
    config: Config,
    task: Task,
    shared: SharedEmbedder,
    role: str,
    foreground: Foreground,
    classes: int,
) -> ObjectVectors:
    found: dict[int, tuple[Tensor, np.ndarray | None]] = {}
    for image in embed_images(config, task, shared, dataset_config(task, role)):
        mask, weights = foreground(image)
        label = image.label
        counts = None if label is None else count_foreground(mask, label, classes)
        found[image.index] = (object_vector(image.embedding, weights).cpu(), counts)
    for other in from_each_rank(found, cpu_group()):
        found |= other
    objects = ObjectVectors()
    for _, (vector, counts) in sorted(found.items()):
        objects.vectors.append(vector)
        if counts is not None:
            objects.counts.append(counts)
    if objects.without:
        logger.warning(
            "%d of %d images (%s) have no foreground: their object is the zero vector",
            objects.without, len(objects.vectors), role,
        )  # fmt: skip
    return objects


def _foreground(
    task: Task, shared: SharedEmbedder, classes: tuple[str, ...], masks: str | None
) -> Foreground:
    protocol = task.protocol
    if (masks is None) == (protocol.foreground == "files"):
        raise UserError(
            "foreground=files needs --masks FOLDER, and nothing else takes it: give both or neither"
        )
    if protocol.foreground == "files":
        if protocol.crop or protocol.fit_crop or protocol.fit_crops != "whole":
            raise UserError(
                "foreground=files: masks are of whole images, so nothing may be cropped"
            )
        return lambda image: _resized(read_mask(Path(str(masks)), image.sample), image.size)
    if protocol.foreground == "label":
        if classes[0] != "background":
            raise UserError(
                f"foreground=label takes class 0 for the background, but it is {classes[0]}"
            )
        return _of_label
    find = getattr(shared.embedder, "foreground", None)
    if find is None:
        raise UserError(
            f"{task.spec} has no foreground of its own (a method foreground(images) that returns "
            "raw logits (B, 1, h, w)): take maskcontrast2021_held_out with foreground=files or "
            "foreground=label"
        )
    return lambda image: foreground_of(
        find(image.image[None])[0], image.size, protocol.foreground_threshold
    )


def _of_label(image: EmbeddedImage) -> tuple[Tensor, Tensor]:
    label = image.label
    if label is None:
        raise UserError("foreground=label needs labels on the fitted split, too")
    return _resized((label != 0) & (label != IGNORE), image.size)


def _resized(mask: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    weights = F.interpolate(mask[None, None].float(), size, mode="nearest")[0, 0]
    return weights.bool(), weights


def _clusters(
    task: Task,
    clusters: Sequence[int],
    fit: ObjectVectors,
    score: ObjectVectors,
    classes: tuple[str, ...],
) -> tuple[dict[str, Any], dict[int, CountTable]]:
    """Scores of each number of clusters, and the scored table of its first seed."""
    protocol = task.protocol
    fitted, scored = (torch.stack(each.vectors).numpy() for each in (fit, score))
    warn_few_distinct(fit.distinct, len(fitted), max(clusters) - 1)
    entries: dict[str, Any] = {}
    first: dict[int, CountTable] = {}
    for k in clusters:
        by_seed: dict[str, list[dict[str, Any]]] = {name: [] for name in protocol.matchings}
        drawn: dict[str, list[ResampledScores]] = {name: [] for name in protocol.matchings}
        for seed in protocol.objects_seeds:
            found = ObjectClusters(
                fitted,
                k - 1,
                components=protocol.objects_components,
                batch=protocol.objects_batch,
                seed=seed,
            )
            images = score.tables(found.assign(scored), k)
            table = images.total()
            first.setdefault(k, table)
            mappings = {
                name: match(
                    name, fit.tables(found.assign(fitted), k).total() if name in ON_FIT else table
                )
                for name in protocol.matchings
            }
            resampled = resampled_scores(
                images,
                {name: resampled_mapping(name, mapping) for name, mapping in mappings.items()},
                over=protocol.miou_over,
            )
            for name, mapping in mappings.items():
                of = scores(table, mapping, classes, over=protocol.miou_over)
                by_seed[name].append({"seed": seed, **of, "mapping": mapping.tolist()})
                drawn[name].append(resampled[name])
        means = {name: mean_scores(found_scores) for name, found_scores in by_seed.items()}
        entries[str(k)] = {
            name: {
                **means[name],
                "interval": describe_interval(
                    _mean(drawn[name]),
                    len(score.vectors),
                    means[name] if name in MATCHED_ANEW else None,
                ),
                "seeds": found_scores,
                "fitted_on": protocol.fit_split if name in ON_FIT else protocol.score_split,
            }
            for name, found_scores in by_seed.items()
        }
    return entries, first


def _mean(drawn: Sequence[ResampledScores]) -> ResampledScores:
    """Means over seeds in each resample, so that an interval is one over images."""
    return {name: np.mean([each[name] for each in drawn], axis=0) for name in drawn[0]}


def _describe(objects: ObjectVectors) -> dict[str, int]:
    return {"images": len(objects.vectors), "without_foreground": objects.without}


def _fitted(objects: ObjectVectors) -> Tensor:
    return torch.from_numpy(np.sum(objects.counts, axis=(0, 1)) > 0)


def _check_numbers(clusters: Sequence[int]) -> None:
    if min(clusters) < 2:
        raise UserError(
            f"clusters {list(clusters)}: the background is one of them, so give at least 2"
        )
