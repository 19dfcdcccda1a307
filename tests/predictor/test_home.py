"""The home folder, which a shell puts for ~ and Python does not, at every door that takes a path."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vice
from vice.export.write import export_graph
from vice.models.centroids import Centroids


def centroids(_, place):
    Centroids(torch.eye(2), True, [0.0], 0).save(place)
    assert Centroids.load(place).vectors.tolist() == torch.eye(2).tolist()


def saved(predictor, place):
    predictor.save_pretrained(place)
    vice.load(place, device="cpu")
    vice.Predictor.from_pretrained(str(place), device="cpu")


def written(predictor, place):
    predictor.embed(np.zeros((8, 9, 3), np.uint8), out=place)


def exported(predictor, place):
    export_graph(predictor, place, "torchscript")


def photograph(predictor, place):
    Image.new("RGB", (9, 8)).save(Path(place).expanduser(), "PNG")
    assert predictor.embed(place).shape[1:] == (8, 9)
    assert predictor.segment(place).shape == (8, 9)


def photographs(predictor, place):
    home = Path(place).expanduser()
    home.mkdir()
    Image.new("RGB", (9, 8)).save(home / "a.png")
    assert [name for name, _ in predictor.embed_all(place)] == [home / "a.png"]
    ((name, _),) = predictor.embed_all([f"{place}/a.png"])
    assert name == f"{place}/a.png"


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("door", [centroids, saved, written, exported, photograph, photographs])
def test_a_place_at_home_is_there(door, kind, run_dir, tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    door(vice.load(run_dir, device="cpu"), kind("~/what"))
    assert (tmp_path / "home" / "what").exists()
    assert not list((tmp_path / "here").iterdir())


def test_an_embedder_that_names_a_file_at_home(run_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(run_dir.parent))
    found = vice.load(f"random:~/{run_dir.name}", device="cpu")
    assert found.dim == vice.load(run_dir, device="cpu").dim
