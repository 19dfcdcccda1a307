from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from vice.experiments.reproduce.outcome import Outcome, RowOutcome
from vice.experiments.reproduce.pictures import write_pictures
from vice.experiments.reproduce.plan import ReproducePlan
from vice.experiments.reproduce.tables import Experiment, PaperTable, load_scale
from vice.models.centroids import Centroids
from vice.visualize import palette

#: Black, grey and white in Lab, and the classes that they stand for: 2, 0 and 1.
CENTROIDS = torch.tensor([[0.0, 0, 0], [50, 0, 0], [100, 0, 0]])
CLASSES = ["a", "b", "c"]


@pytest.fixture
def data(tmp_path):
    """Seven images, the left third of each black, the middle grey, the right white."""
    root = tmp_path / "set"
    for part in ("images", "labels"):
        (root / part / "val").mkdir(parents=True)
    for number in range(7):
        image = np.repeat(np.array([0, 119, 255], np.uint8), 30)[None, :, None]
        Image.fromarray(np.broadcast_to(image, (120, 90, 3)).copy()).save(
            root / "images" / "val" / f"{number}.png"
        )
        labels = np.full((120, 90), number % 3, np.uint8)
        labels[:10] = 255
        Image.fromarray(labels).save(root / "labels" / "val" / f"{number}.png")
    (root / "classes.txt").write_text("\n".join(CLASSES))
    return root


def scored(folder, data, numbers, spec="lab"):
    folder.mkdir(parents=True)
    dataset = {"name": "set", "root": str(data), "splits": {"score": "val"}}
    result = {"kind": "clusters", "spec": spec, "classes": CLASSES, "dataset": dataset}
    (folder / "results.json").write_text(json.dumps(result))
    for number in numbers:
        vectors = CENTROIDS.repeat(number // 3, 1)
        Centroids(vectors, spherical=False).save(folder / f"centroids_{number}.safetensors")
        mapping = [2, 0, 1] * (number // 3)
        (folder / f"mapping_{number}.json").write_text(json.dumps(mapping))
    return RowOutcome(results=[folder.parent / "none", folder])


def table(*names):
    return PaperTable("name", "Title", "", "", "", tuple(Experiment(name) for name in names))


def test_every_row_shows_the_same_images_in_the_colors_of_classes(tmp_path, data, caplog):
    rows = {
        "few": scored(tmp_path / "a" / "few", data, [3]),
        "nothing": RowOutcome(),
        "usual": scored(tmp_path / "a" / "usual", data, [3, 27, 30]),
        "gone": scored(tmp_path / "a" / "gone", data, [3], spec=str(tmp_path / "no run")),
    }
    plan = ReproducePlan(tmp_path / "out", load_scale("quick"))
    file = write_pictures(table(*rows), Outcome(rows), plan, 3)
    assert file == tmp_path / "out" / "tables" / "name-quick.png"
    (line,) = [each for each in caplog.messages if "left out of the pictures" in each]
    assert "no run" in line
    sheet = np.asarray(Image.open(file))
    # Rows and columns of pictures of 120 x 90, found by what lies between them.
    white = (sheet == 255).all(2)
    colors = palette(3)
    mapped = np.concatenate([np.repeat(colors[[each]], 30, 0) for each in (2, 0, 1)])
    found = [
        (top, left)
        for top in range(sheet.shape[0] - 119)
        for left in range(sheet.shape[1] - 89)
        if (sheet[top, left : left + 90] == mapped).all()
        and (sheet[top : top + 120, left : left + 90] == mapped).all()
    ]
    # Two rows of three images.
    assert len(found) == 6 and len({top for top, _ in found}) == 2
    assert not white.all()
    # Images 0, 2 and 4 of seven, by the labels that they have: classes 0, 2 and 1.
    columns = sorted({left for _, left in found})
    top = next(
        y for y in range(sheet.shape[0]) if (sheet[y + 10 : y + 120, columns[0]] == colors[0]).all()
    )
    shown = [sheet[top + 50, left + 45].tolist() for left in columns]
    assert shown == colors[[0, 2, 1]].tolist()
    assert (sheet[top : top + 10, columns[0] : columns[0] + 90] == 0).all()


def test_without_clusters_or_images_nothing_is_drawn(tmp_path, data):
    plan = ReproducePlan(tmp_path / "out", load_scale("quick"))
    assert write_pictures(table("row"), Outcome({"row": RowOutcome()}), plan, 3) is None
    rows = {"row": scored(tmp_path / "a" / "row", data, [3])}
    assert write_pictures(table("row"), Outcome(rows), plan, 0) is None
    assert not (tmp_path / "out").exists()
