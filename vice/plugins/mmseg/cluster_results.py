"""What clusters leave behind: scores of each number and matching, counts, maps and pictures."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vice.clustering import Centroids
from vice.evaluation.intervals import resampled_mapping
from vice.evaluation.matchings import ON_FIT, match
from vice.evaluation.results import scores
from vice.evaluation.task import Task
from vice.plugins.mmseg.metric import CountMetric
from vice.plugins.mmseg.results import absent, draw_confusion, resample, write_samples
from vice.runtime.files import write_json
from vice.runtime.step_meter import StepMeter
from vice.scoring import CountTable


def write_clusters(
    task: Task,
    fits: dict[int, Centroids],
    fit_tables: list[CountTable],
    metric: CountMetric,
    classes: tuple[str, ...],
    meter: StepMeter,
) -> dict[str, Any]:
    """The part of a result that the tables give, with counts, maps and pictures written.

    Args:
        task: What was scored on what.
        fits: K to centroids; empty where nothing was fitted.
        fit_tables: For each K the counts on the fitted split; empty where no matching asks.
        metric: Holds the counts on the scored split.
        classes: Class names.
        meter: Gets the step of the intervals.
    """
    _write_counts(task, fit_tables, metric.tables)
    numbers = [table.num_clusters for table in metric.tables]
    mappings = {
        k: _match(task, fit_tables[i] if fit_tables else None, table)
        for i, (k, table) in enumerate(zip(numbers, metric.tables, strict=True))
    }
    images = {str(k): each for k, each in zip(numbers, metric.image_tables, strict=True)}
    resampled = {
        str(k): {name: resampled_mapping(name, each) for name, each in of.items()}
        for k, of in mappings.items()
    }
    intervals = resample(task, images, resampled, classes, meter)
    first = {f"clusters_{k}": next(iter(of.values())) for k, of in mappings.items()}
    entries = {
        str(k): {
            **_scores(task, table, mappings[k], classes, intervals[str(k)]),
            "empty_clusters": int(((fit_tables or metric.tables)[i].counts.sum(1) == 0).sum()),
            **(_fitted(fits[k]) if fits else {}),
        }
        for i, (k, table) in enumerate(zip(numbers, metric.tables, strict=True))
    }
    fitted = fit_tables[0].counts.sum(0) > 0 if fit_tables else None
    return {
        "clusters": entries,
        "absent": absent(task, classes, fitted, metric.tables[0]),
        **write_samples(metric, task, first, len(classes)),
        "pictures": [
            draw_confusion(table, mapping, classes, task, f"confusion_{k}_{name}")
            for (k, of), table in zip(mappings.items(), metric.tables, strict=True)
            for name, mapping in of.items()
        ],
    }


def _fitted(centroids: Centroids) -> dict[str, Any]:
    return {
        "kmeans": {
            "vectors": centroids.vectors_fitted,
            "distinct_vectors": centroids.distinct,
            "non_empty_clusters": centroids.occupied,
            **({"beyond_memory": beyond} if (beyond := centroids.beyond_memory) else {}),
        },
        "objective": centroids.objective,
    }


def _write_counts(task: Task, fit: list[CountTable], score: list[CountTable]) -> None:
    for table in fit:
        path = task.out_dir / f"mapping_{table.num_clusters}.json"
        write_json(path, table.greedy().tolist())
    counts = {
        name: {str(table.num_clusters): table.counts.tolist() for table in tables}
        for name, tables in (("fit", fit), ("score", score))
    }
    write_json(task.out_dir / "counts.json", counts)


def _match(task: Task, fit: CountTable | None, score: CountTable) -> dict[str, Tensor]:
    """The matchings that the protocol asks for: name to class of each cluster."""
    mappings = {}
    for name in task.protocol.matchings:
        table = fit if name in ON_FIT else score
        assert table is not None
        mappings[name] = match(name, table)
    return mappings


def _scores(
    task: Task,
    table: CountTable,
    mappings: dict[str, Tensor],
    classes: tuple[str, ...],
    intervals: dict[str, Any],
) -> dict[str, Any]:
    protocol = task.protocol
    return {
        name: {
            **scores(table, mapping, classes, intervals[name], over=protocol.miou_over),
            "mapping": mapping.tolist(),
            "fitted_on": protocol.fit_split if name in ON_FIT else protocol.score_split,
        }
        for name, mapping in mappings.items()
    }
