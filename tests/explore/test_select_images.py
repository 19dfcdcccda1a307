"""A diverse subset: one image of each kind, near-duplicates apart, odd ones named."""

from __future__ import annotations

import itertools
import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import vice
from tests.helpers.content import photo
from vice.command import select
from vice.errors import UserError
from vice.explore.select_images import Similarity, _groups, cover, select_images

#: Colors of three kinds, how many images have each, and one that no other has.
KINDS = (((200, 30, 30), 8), ((30, 180, 40), 6), ((40, 60, 200), 4))


@pytest.fixture(scope="module")
def predictor():
    return vice.load("lab", device="cpu")


@pytest.fixture
def images(tmp_path, rng):
    made = []
    for kind, (color, count) in enumerate(KINDS):
        for number in range(count):
            # Half of an image is of its kind, somewhere; the rest is gray of some lightness.
            picture = np.full((48, 48, 3), rng.integers(60, 200), np.uint8)
            top, left = rng.integers(0, 17, 2)
            picture[top : top + 32, left : left + 32] = color + rng.integers(-8, 9, 3)
            made.append(tmp_path / f"{kind}-{number}.png")
            Image.fromarray(picture).save(made[-1])
    return made


def test_one_of_each_kind_comes_first(images, predictor):
    found = select_images(predictor, images, 3, duplicates=1)
    assert sorted(images[number].name[0] for number in found.chosen) == ["0", "1", "2"]
    assert found.duplicates == [] and found.unread == {}
    assert list(found.coverage) == sorted(found.coverage) and found.coverage[-1] <= 1
    assert found.coverage[-1] > found.random
    whole = select_images(predictor, images, len(images), duplicates=1)
    assert sorted(whole.chosen) == list(range(len(images)))
    assert whole.coverage[:3] == found.coverage and whole.coverage[-1] == pytest.approx(1)


def test_near_duplicates_and_outliers(images, predictor, tmp_path):
    with Image.open(images[2]) as image:
        image.save(tmp_path / "again.jpg", quality=90)
        image.resize((96, 96)).save(tmp_path / "larger.png")
    Image.fromarray(np.full((48, 48, 3), (255, 255, 0), np.uint8)).save(tmp_path / "odd.png")
    (tmp_path / "broken.png").write_bytes(b"")
    odd = tmp_path / "odd.png"
    given = [*images, tmp_path / "again.jpg", tmp_path / "larger.png", tmp_path / "broken.png", odd]
    found = select_images(predictor, given, 4, duplicates=0.9)
    group = next(group for group in found.duplicates if 2 in group)
    assert {len(images), len(images) + 1} <= set(group)
    assert len(images) + 2 in found.unread and len(found.unread) == 1
    for group in found.duplicates:
        assert not set(group[1:]) & set(found.chosen)


def test_what_no_other_shows_is_an_outlier(predictor, tmp_path):
    made = []
    for number in range(40):
        level = 100 + number % 5
        made.append(tmp_path / f"{number}.png")
        Image.fromarray(np.full((32, 32, 3), level, np.uint8)).save(made[-1])
    Image.fromarray(photo(np.random.default_rng(0), (32, 32))).save(tmp_path / "odd.png")
    found = select_images(predictor, [*made, tmp_path / "odd.png"], 2, duplicates=1.0)
    assert next(iter(found.outliers)) == 40


def test_near_duplicates_are_like_the_first_of_their_group():
    """Points on a line, a step apart: of a chain each second one begins a group."""
    layouts = torch.arange(5.0)[:, None, None]
    assert _groups(layouts, 0.5, Similarity(1.0)) == [[0, 1], [2, 3]]
    assert _groups(layouts, 0.3, Similarity(1.0)) == [[0, 1, 2], [3, 4]]
    assert _groups(layouts, 0.6, Similarity(1.0)) == []


def test_greedy_choice_is_as_good_as_proven(rng):
    """Against the best of all sets, which 1 - 1/e of is the least that greed reaches."""
    for _ in range(20):
        affinity, weights = rng.random((8, 12)) ** 4, rng.random(12)
        chosen, values = cover(affinity, weights, 3)
        best = max(
            weights @ affinity[list(few)].max(0) for few in itertools.combinations(range(8), 3)
        )
        assert values[-1] == pytest.approx(weights @ affinity[chosen].max(0))
        assert (1 - 1 / np.e) * best <= values[-1] <= best + 1e-12
        assert len(set(chosen)) == 3


def test_the_command(images, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    words = ["vice select", "lab", str(tmp_path), "-n", "3", "-o", str(out), "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", [*words, "--duplicates", "1"])
    select.main()
    said = capsys.readouterr().out
    assert said.startswith(f"3 of {len(images)} images in {out / 'selected.txt'}\nthey cover ")
    lines = (out / "selected.txt").read_text().splitlines()
    record = json.loads((out / "selection.json").read_text())
    assert record["selected"] == lines and set(lines) <= set(map(str, images))
    assert vice.images.list_images(out / "selected.txt") == [*map(type(images[0]), lines)]
    # What somebody may be labelling by stays, unless the same comes out again.
    select.main()
    assert (out / "selected.txt").read_text().splitlines() == lines
    more = images[0].with_name("more.png")
    for change, other in (
        (lambda: words.__setitem__(4, "2"), "another -n"),
        (lambda: words.extend(["--seed", "1"]), "another --seed"),
        (lambda: more.write_bytes(images[0].read_bytes()), "other images"),
        (lambda: words.__setitem__(1, "random:resnet18-fpn-8"), "another model"),
    ):
        kept, there = list(words), more.exists()
        change()
        monkeypatch.setattr(sys, "argv", [*words, "--duplicates", "1"])
        with pytest.raises(UserError, match=f"was selected with {other}: delete it, or choose"):
            select.main()
        words[:] = kept
        if more.exists() and not there:
            more.unlink()
    assert (out / "selected.txt").read_text().splitlines() == lines
    (out / "selected.txt").write_text("\n".join(lines[:2]) + "\n")
    monkeypatch.setattr(sys, "argv", [*words, "--duplicates", "1"])
    with pytest.raises(UserError, match="is another list than this command has written"):
        select.main()
    monkeypatch.setattr(sys, "argv", [*words[:4], "19", *words[5:], "--duplicates", "1"])
    with pytest.raises(UserError, match="19 images are wanted, and there are 18"):
        select.main()
