"""The same images under every row of a table: what its clusters take each pixel for."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vice.datasets import open_dataset
from vice.errors import UserError, one_line
from vice.experiments.reproduce.outcome import Outcome
from vice.experiments.reproduce.plan import ReproducePlan
from vice.experiments.reproduce.report import picture_file
from vice.experiments.reproduce.tables import PaperTable
from vice.images import read_image
from vice.models.centroids import Centroids
from vice.predictor.loading import load
from vice.runtime.files import read_json
from vice.runtime.progress import progress
from vice.runtime.run_folder import RESULTS_NAME
from vice.visualize import colorize, contact_sheet, save_png

logger = logging.getLogger(__name__)

#: The number of clusters that is shown where a row has it, as in the papers; else its least.
SHOWN = 27
#: Height of an image on the sheet, in pixels.
_HEIGHT = 120
_REMEDY = "delete its folder to evaluate again"


def write_pictures(
    table: PaperTable, outcome: Outcome, plan: ReproducePlan, count: int
) -> Path | None:
    """Draws ``tables/<table>-<scale>.png``: images, their labels, and a line a row.

    Images are spread evenly over the scored split. A pixel has the color of the class that its
    cluster stands for (greedy mapping, of the images that were fitted on), black where the label
    is void. The first seed's last checkpoint is shown.

    Args:
        table: What was run.
        outcome: What has come of it.
        plan: As it was run.
        count: How many images.

    Returns:
        Path of the picture; None where no row has clusters.
    """
    found = {row.name: _clusters(outcome.rows[row.name].results) for row in table.rows}
    rows = {name: folder for name, folder in found.items() if folder is not None}
    if not rows or not count:
        return None
    results = {name: read_json(folder / RESULTS_NAME, _REMEDY) for name, folder in rows.items()}
    first = next(iter(results.values()))
    shown = _images(first["dataset"], plan, count)
    classes = len(first["classes"])
    images = [image for image, _ in shown]
    lines = [images, [colorize(labels, classes) for _, labels in shown]]
    titles = ["images", "labels"]
    for name in progress(list(rows), len(rows), f"{table.name}: pictures", every_seconds=0):
        number, drawn = _drawn(results[name], rows[name], images)
        if drawn:
            titles.append(f"{name}, {number} clusters")
            lines.append([colorize(each, classes) for each in drawn])
    sheet = contact_sheet(lines, row_titles=titles, height=_HEIGHT)
    return save_png(sheet, picture_file(table, plan))


def _clusters(folders: list[Path]) -> Path | None:
    """The first results directory with k-means clusters."""
    for folder in folders:
        file = folder / RESULTS_NAME
        if (
            file.is_file()
            and read_json(file, _REMEDY).get("kind") == "clusters"
            and _numbers(folder)
        ):
            return folder
    return None


def _numbers(folder: Path) -> list[int]:
    """Numbers of clusters that are there with centroids and the classes they stand for."""
    files = folder.glob("centroids_*.safetensors")
    numbers = sorted(int(file.stem.rpartition("_")[2]) for file in files)
    return [each for each in numbers if (folder / f"mapping_{each}.json").is_file()]


def _images(
    dataset: Mapping[str, Any], plan: ReproducePlan, count: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    known = plan.dataset(dataset["name"])
    data = open_dataset(known if known != dataset["name"] else dataset["root"], plan.data_root)
    pairs = data.pairs(dataset["splits"]["score"])
    kept = min(count, len(pairs))
    shown = []
    for pair in (pairs[place * len(pairs) // kept] for place in range(kept)):
        assert pair.label is not None
        image = read_image(pair.image)
        shown.append((image, data.read_label(pair.label, image.shape[:2])))
    return shown


def _drawn(
    result: Mapping[str, Any], folder: Path, images: list[np.ndarray]
) -> tuple[int, list[np.ndarray]]:
    """Number of clusters, and the class of each pixel of the images; none if it cannot be drawn."""
    numbers = _numbers(folder)
    number = SHOWN if SHOWN in numbers else numbers[0]
    mapping = np.array(json.loads((folder / f"mapping_{number}.json").read_text()), np.uint8)
    try:
        predictor = load(result["spec"], "cpu")
        concepts = Centroids.load(folder / f"centroids_{number}.safetensors")
        return number, [mapping[predictor.segment(image, concepts).numpy()] for image in images]
    except UserError as error:
        logger.warning("left out of the pictures: %s", one_line(error))
        return number, []
