"""The home folder, which a shell puts for ~ and Python does not, at doors that take a path."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import resnet18

import vice
from tests.helpers.variations import variations
from vice.datasets import open_dataset
from vice.export.write import export_graph
from vice.images import list_images
from vice.models.building import build_embedder
from vice.models.centroids import Centroids
from vice.models.checkpoint import load_checkpoint, load_embedder, save_run
from vice.models.load import load_extractor


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


def run(predictor, place):
    predictor.save_pretrained(place)
    load_checkpoint(place)
    load_embedder(place)
    load_extractor(place)
    load_extractor(f"random:{place}")
    save_run(place, predictor.checkpoint.embedder, predictor.checkpoint.concepts, {})


def initial(predictor, place):
    predictor.save_pretrained(place)
    file = f"{place}/backbone.pth"
    torch.save(resnet18().state_dict(), Path(file).expanduser())
    assert build_embedder("resnet18", weights=file).weight_source


def labelled(_, place):
    home = Path(place).expanduser()
    for kind in ("images", "labels"):
        (home / kind / "val").mkdir(parents=True)
        Image.new("L", (9, 8)).save(home / kind / "val" / "a.png")
    (home / "classes.txt").write_text("one\ntwo\n")
    assert len(open_dataset(place).pairs("val")) == 1


def listed(_, place):
    home = Path(place).expanduser()
    home.mkdir()
    Image.new("RGB", (9, 8)).save(home / "a.png")
    assert list_images(place) == [home / "a.png"]


DOORS = [
    centroids,
    saved,
    written,
    exported,
    photograph,
    photographs,
    run,
    labelled,
    listed,
    initial,
]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The folder that is worked in, beside a home folder."""
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.mark.parametrize("door", DOORS)
def test_a_place_at_home_is_there(door, run_dir, here):
    door(vice.load(run_dir, device="cpu"), "~/what")
    assert (here.parent / "home" / "what").exists()
    assert not list(here.iterdir())


class Named:
    """A path of another library."""

    def __init__(self, name):
        self.name = name

    def __fspath__(self):
        return self.name


@pytest.mark.parametrize(
    ("name", "kind"), variations(product(("a:~", "k=~root", "./~", "a~b"), (str, Path, Named)), 2)
)
def test_any_other_place_is_the_one_that_is_named(name, kind, run_dir, here):
    predictor = vice.load(run_dir, device="cpu")
    predictor.save_pretrained(kind(name))
    if name == "a:~":
        exported(predictor, kind(f"{name}/graph"))
    written(predictor, kind(f"{name}/array.npy"))
    Centroids(torch.eye(2), True, [0.0], 0).save(kind(f"{name}/fit"))
    there = here / name
    for file in ("vice.safetensors", "array.npy", "fit"):
        assert (there / file).is_file()
    assert (there / "graph").exists() == (name == "a:~")
    assert list(here.iterdir()) == [there]
    assert not list((here.parent / "home").iterdir())
    if kind is Path:
        assert vice.load(kind(name), device="cpu").checkpoint.path.parent == Path(name)
    if kind is not Named:
        Image.new("RGB", (9, 8)).save(there / "a.png")
        assert predictor.embed(kind(f"{name}/a.png")).shape[1:] == (8, 9)


def test_an_embedder_that_names_a_file_at_home(run_dir, monkeypatch):
    monkeypatch.setenv("HOME", str(run_dir.parent))
    found = vice.load(f"random:~/{run_dir.name}", device="cpu")
    assert found.dim == vice.load(run_dir, device="cpu").dim
