"""Labelled splits of a folder that nothing is fitted to or scored on are named."""

from __future__ import annotations

import logging
import shutil

import numpy as np
import pytest
from PIL import Image

from vice.evaluation.task import make_task


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for kind in ("images", "labels"):
            (tmp_path / "data" / kind / split).mkdir(parents=True)
        image = rng.integers(0, 255, (12, 14, 3)).astype(np.uint8)
        label = rng.integers(0, 2, (12, 14)).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / "data" / "images" / split / f"{split}.png")
        Image.fromarray(label).save(tmp_path / "data" / "labels" / split / f"{split}.png")
    (tmp_path / "data" / "classes.txt").write_text("dark\nbright\n")
    return tmp_path / "data"


def opened(folder, tmp_path, caplog, **more):
    caplog.clear()
    caplog.set_level(logging.INFO)
    task = make_task("lab", str(folder), tmp_path / "out", **more)
    return task.unused_splits(task.open(fit_labels=True)[1]), caplog.text


@pytest.mark.parametrize(
    ("changes", "unused"),
    [
        ({}, ["test"]),
        ({"score_split": "test"}, ["val"]),
        ({"score_split": "test+val"}, []),
    ],
)
def test_what_is_not_used_is_said_once(folder, tmp_path, caplog, changes, unused):
    found, said = opened(folder, tmp_path, caplog, changes=changes)
    assert found == unused
    assert said.count("used for nothing") == bool(unused)
    assert all(f"labels of {split} are" in said for split in unused)


def test_another_set_that_is_fitted_on_leaves_its_own_train_unused(folder, tmp_path, caplog):
    other = shutil.copytree(folder, tmp_path / "other")
    found, said = opened(folder, tmp_path, caplog, fit_dataset=str(other))
    assert found == ["test", "train"] and "labels of test, train are" in said


def test_where_all_is_used_nothing_is_said(folder, tmp_path, caplog):
    for kind in ("images", "labels"):
        shutil.rmtree(folder / kind / "test")
    assert opened(folder, tmp_path, caplog) == ([], caplog.text)
    assert "used for nothing" not in caplog.text
