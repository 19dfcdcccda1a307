"""A model, three concepts and a folder of images, and a command run on them."""

from __future__ import annotations

import sys

import pytest
import torch
from PIL import Image

import vice
from tests.helpers.content import photo
from vice.command import segment
from vice.models.concepts import Concepts


@pytest.fixture(scope="module")
def predictor():
    return vice.load("lab", device="cpu")


@pytest.fixture
def concepts():
    """Black, gray and white in Lab, told apart by distance."""
    return Concepts.euclidean(torch.tensor([[0.0, 0, 0], [50, 0, 0], [100, 0, 0]]))


@pytest.fixture
def folder(tmp_path, rng):
    """Photographs in two folders, of several sizes and formats."""
    root = tmp_path / "photos"
    (root / "inner").mkdir(parents=True)
    for name, size in (("a.jpg", (40, 61)), ("b.png", (33, 20)), ("inner/a.png", (50, 50))):
        Image.fromarray(photo(rng, size)).save(root / name)
    return root


def ran(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["vice segment", *map(str, words)])
    segment.main()
    return capsys.readouterr().out


def files(root):
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())
