"""The steps of the demo: data, training, scores and report, each skipped when it is done."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vice.evaluation.protocols import get_protocol
from vice.experiments.demo.captions import CLASS_NOTES
from vice.experiments.demo.mosaics import make_mosaics, photographs
from vice.experiments.demo.page import write_report
from vice.experiments.demo.pictures import make_pictures
from vice.experiments.train import train
from vice.images import list_images
from vice.images.lists import survey
from vice.runtime.files import disk_errors, read_json, write_json, write_text
from vice.runtime.provenance import versions
from vice.runtime.run_folder import CARD_NAME, RESULTS_NAME, read_config
from vice.scoring import mean_over
from vice.superpixels import Superpixels
from vice.views import ViewSampler

logger = logging.getLogger(__name__)

#: Beside an evaluation: the checksum of the weights that it scored.
_SCORED = "scored_weights.txt"
_REMEDY = "delete it, and the same command makes it again"
#: Clusters beyond the number of classes, for over-clustering.
OVERCLUSTERS = 4


def run_demo(out: Path, images: Path | None = None, overrides: Sequence[str] = ()) -> Path:
    """Trains, scores where there are labels, and writes the report.

    Args:
        out: Output folder; results of an earlier call on the same images are reused.
        images: The user's own unlabelled folder; None makes mosaics of real textures.
        overrides: Further Hydra overrides of the training.

    Returns:
        Path of ``report.html``.

    Raises:
        UserError: Bad images, or an output folder that belongs to other images.
    """
    start = time.monotonic()
    if images is None:
        with disk_errors(out / "data"):
            data = make_mosaics(out / "data")
        run_dir = train("vice/demo", data / "images" / "train", out / "train", overrides)
        results = score(run_dir, data, out)
        sections = _labelled_pictures(run_dir, data, out)
    else:
        run_dir = train("vice/folder", images, out / "train", overrides)
        contents = survey(images).to_dict()
        results = {"title": f"ViCE on {images.name}", "summary": _FOLDER_SUMMARY, "found": contents}
        sections = make_pictures(run_dir, out, list_images(images), **_views(run_dir))
    results |= {
        "config": read_config(run_dir).get("VICE", {}),
        "versions": versions(),
        "training": read_json(run_dir / CARD_NAME, _REMEDY)["meta"],
        "seconds": round(time.monotonic() - start, 1),
    }
    write_json(out / RESULTS_NAME, results, indent=2)
    return write_report(out, results, sections)


_SUMMARY = (
    "A model trained without labels on mosaics of six real textures of nearly equal brightness and "
    "colour, scored on mosaics cut from other parts of the pictures. It is compared with the same "
    "network before training and with plain Lab colour."
)
_FOLDER_SUMMARY = "A model trained without labels on your own images, and what it makes of them."


def score(run_dir: Path, data: Path, out: Path) -> dict[str, Any]:
    """Linear probe and clusters of the trained model, the untrained one and Lab colour.

    Args:
        run_dir: The run folder.
        data: The mosaics.
        out: Gets ``eval/<name>/linear`` and ``eval/<name>/clusters``.

    Returns:
        The part of ``results.json`` that holds scores, shares in [0, 1].
    """
    classes = (data / "classes.txt").read_text(encoding="utf-8").split()
    counts = [len(classes), OVERCLUSTERS * len(classes)]
    table: dict[str, dict[str, Any]] = {}
    for name, spec in (("trained", str(run_dir)), ("random", f"random:{run_dir}"), ("lab", "lab")):
        logger.info("scoring %s", name)
        found = _unless_done(out / "eval" / name, run_dir, _evaluate, spec, data, counts)
        linear, clusters = found["linear"], found["clusters"]["clusters"]
        table[name] = {
            "linear": linear["linear"],
            "clusters": clusters[str(counts[0])]["hungarian"],
            f"clusters_{counts[1]}": clusters[str(counts[1])]["greedy"],
        }
    return {
        "title": "ViCE demo",
        "summary": _SUMMARY,
        "classes": classes,
        "class_notes": {name: CLASS_NOTES[name] for name in classes if name in CLASS_NOTES},
        "scores": table,
        "readouts": {
            "clusters": {"clusters": counts[0], "matching": "hungarian"},
            f"clusters_{counts[1]}": {"clusters": counts[1], "matching": "greedy"},
        },
        "clusters_matching": f"{counts[0]} clusters, Hungarian matching on val; "
        f"{counts[1]} clusters, greedy matching on train",
    }


#: Both are read out of the same passes over the images.
_READOUTS = ("linear", "clusters")


def _evaluate(
    spec: str, data: Path, clusters: Sequence[int], out_dir: Path
) -> dict[str, dict[str, Any]]:
    """A probe that is fitted to convergence, and clusters; a results directory for each."""
    # Lazy import: MMSegmentation takes seconds and is not needed for unlabelled images.
    from vice.plugins.mmseg.score import score

    changes: dict[str, dict[str, Any]] = {
        "linear": {"linear_optimizer": "lbfgs"},
        "clusters": {"kmeans_pixels": 100_000, "matchings": ("greedy", "hungarian")},
    }
    protocols = {kind: get_protocol("native", "folder", **changes[kind]) for kind in _READOUTS}
    return score(
        spec,
        data,
        out_dir,
        protocols=protocols,
        clusters=clusters,
        log_level="ERROR",
        max_maps=6,
    )


def _unless_done(
    folder: Path,
    run_dir: Path,
    evaluate: Callable[..., dict[str, dict[str, Any]]],
    *arguments: Any,
) -> dict[str, dict[str, Any]]:
    """Evaluates into a folder, or reads what an evaluation of the same weights left there.

    Times of files, which a copy changes, have no say in it.
    """
    done = {kind: folder / kind / RESULTS_NAME for kind in _READOUTS}
    note, card = folder / _SCORED, read_json(run_dir / CARD_NAME, _REMEDY)
    weights = str(card.get("sha256"))
    if (
        all(path.is_file() for path in (*done.values(), note))
        and note.read_text(encoding="utf-8") == weights
    ):
        remedy = f"delete {folder}, to score again"
        return {kind: read_json(path, remedy) for kind, path in done.items()}
    results = evaluate(*arguments, out_dir=folder)
    write_text(note, weights)
    return results


def _labelled_pictures(run_dir: Path, data: Path, out: Path) -> Any:
    classes = (data / "classes.txt").read_text(encoding="utf-8").split()
    maps = out / "eval" / "trained"
    return make_pictures(
        run_dir,
        out,
        sorted((data / "images" / "val").iterdir())[:6],
        labels=data / "labels" / "val",
        linear_maps=maps / "linear" / "maps" / "linear",
        cluster_title=f"{OVERCLUSTERS * len(classes)} clusters, greedy",
        cluster_maps=maps / "clusters" / "maps" / f"clusters_{OVERCLUSTERS * len(classes)}",
        classes=classes,
        photographs=photographs(),
        **_views(run_dir),
    )


def _views(run_dir: Path) -> dict[str, Any]:
    """The run's own view sampler and superpixels, so that pictures show what it saw."""
    options = read_config(run_dir)["VICE"]
    return {
        "sampler": ViewSampler(**options["VIEWS"]),
        "superpixels": Superpixels(**options["SUPERPIXELS"]),
    }


def verdict(results: Mapping[str, Any]) -> list[str]:
    """What the scores say, a line each, for the end of the terminal's output."""
    lines = []
    for kind in results["scores"]["trained"]:
        entries = {name: entry[kind] for name, entry in results["scores"].items()}
        figures = ", ".join(f"{name} {100 * entry['miou']:.1f}" for name, entry in entries.items())
        over = mean_over(entries.values())
        lines.append(f"  {_meaning(kind)}: {figures}{f' ({over})' if over else ''}")
    return lines


def _meaning(kind: str) -> str:
    if kind == "linear":
        return "a linear classifier on frozen embeddings"
    if kind == "clusters":
        return "as many k-means clusters as classes, matched one to one"
    return f"{kind.partition('_')[2]} k-means clusters, each named by its majority class"
