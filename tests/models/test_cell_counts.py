"""Counting without the map of pixels gives what counting the map does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vice.models import cell_counts, cell_winners
from vice.models.cell_counts import count_nearest
from vice.models.upsampling import RowsBetween, argmax_all

CLASSES = 4
#: (h, w) of the scores to (H, W) of the image: whole and broken strides, both odd and even.
SIZES = [((20, 34), (80, 136)), ((13, 33), (50, 131)), ((2, 2), (9, 128)), ((9, 64), (31, 130))]


def counted(scores, labels):
    """The counts of a map in which everything is upsampled."""
    size = tuple(labels.shape)
    rows = RowsBetween.of(torch.arange(size[0]), scores[None], size[0])
    clusters = argmax_all(scores[None], rows, size[1], 2**21)[0].numpy()
    table = np.zeros((len(scores), CLASSES), int)
    keep = labels.numpy() != 255
    np.add.at(table, (clusters[keep], labels.numpy()[keep]), 1)
    return table.tolist()


def labels_of(size, rng):
    """Patches of classes and of what is ignored, with single pixels in them."""
    coarse = rng.integers(0, CLASSES + 1, (size[0] // 7 + 1, size[1] // 9 + 1))
    labels = coarse.repeat(7, 0).repeat(9, 1)[: size[0], : size[1]]
    labels[rng.random(size) < 0.02] = 1
    return torch.from_numpy(np.where(labels == CLASSES, 255, labels))


def maps_of(size, rng):
    """Sets of concepts by name: smooth, without any agreement, and with ties of each kind."""
    torch.manual_seed(int(rng.integers(2**31)))
    coarse = torch.randn(1, 30, max(2, size[0] // 4), max(2, size[1] // 4))
    smooth = F.interpolate(coarse, size, mode="bicubic")[0]
    near = smooth.clone()
    near[1::2] = torch.nextafter(near[::2], torch.tensor(9.0))
    return {
        "smooth": smooth,
        "a single one": smooth[:1],
        "noise": torch.randn(12, *size),
        "twins": torch.cat([smooth[:9], smooth[:9]]),
        "last place": near,
        "lattice": torch.randint(-2, 3, (9, *size)).float(),
        "far from zero": 1e4 + smooth,
        "tiny": smooth * 1e-36,
        "constant": torch.full((5, *size), 0.3),
        "a crowd of ties": torch.zeros(300, *size),
        "a crowd": torch.randn(300, *size),
        "a crowd in pairs": torch.randn(150, *size).repeat(2, 1, 1),
        "a crowd to the last place": 1 + 1e-6 * torch.randn(200, *size),
    }


@pytest.mark.parametrize(("map_size", "size"), SIZES)
@pytest.mark.parametrize("ignored", ["none", "some", "all"])
@pytest.mark.parametrize("crowd", [False, True])
def test_counts_are_those_of_the_whole_map(map_size, size, ignored, crowd, monkeypatch):
    if crowd:
        monkeypatch.setattr(cell_counts, "_FEW", -1)
        monkeypatch.setattr(cell_counts, "_MOST_CANDIDATES", -1)
        # Long rows come in parts.
        monkeypatch.setattr(cell_winners, "_LONGEST", 2**12)
    rng = np.random.default_rng(len(ignored) + sum(size))
    labels = labels_of(size, rng)
    if ignored != "some":
        labels = labels % 5 % CLASSES if ignored == "none" else torch.full_like(labels, 255)
    maps = maps_of(map_size, rng)
    for name, scores in maps.items():
        found = count_nearest([scores], labels.to(torch.uint8), CLASSES)
        assert found is not None and found[0].tolist() == counted(scores, labels), name


def test_several_sets_at_once_are_each_alone():
    rng = np.random.default_rng(5)
    map_size, size = SIZES[1]
    maps, labels = maps_of(map_size, rng), labels_of(size, rng)
    names = ["a crowd", "smooth", "twins", "a crowd of ties", "noise", "a single one"]
    together = count_nearest([maps[name] for name in names], labels, CLASSES)
    assert together is not None
    for name, table in zip(names, together, strict=True):
        assert table.tolist() == counted(maps[name], labels)


def test_most_of_a_smooth_map_is_decided_by_its_corners(monkeypatch):
    """What it saves: only few pixels are upsampled, and of few concepts."""
    asked = []
    best = cell_counts._best

    def watched(corners, *rest):
        asked.append(len(corners))
        return best(corners, *rest)

    monkeypatch.setattr(cell_counts, "_best", watched)
    scores = maps_of((20, 34), np.random.default_rng(0))["smooth"]
    assert count_nearest([scores], torch.zeros(80, 136, dtype=torch.int64), CLASSES) is not None
    assert asked[0] < 0.1 * scores.numel()


@pytest.mark.parametrize(
    "change",
    [
        lambda scores, labels: (scores.double(), labels),
        lambda scores, labels: (scores.fill_(torch.nan), labels),
        lambda scores, labels: (scores.index_fill_(0, torch.tensor(3), torch.inf), labels),
        lambda scores, labels: (scores.index_fill_(0, torch.tensor(3), -torch.inf), labels),
        lambda scores, labels: (scores * 1e38, labels),
        lambda scores, labels: (scores, labels + 4),
        lambda scores, labels: (scores, labels - 1),
        lambda scores, labels: (scores, labels[:, :100]),
        lambda scores, labels: (scores[:, :1], labels),
    ],
)
def test_what_may_not_be_the_same_is_left_to_the_whole_map(change):
    scores, labels = torch.randn(8, 20, 34), torch.zeros(80, 136, dtype=torch.int64)
    assert count_nearest([scores], labels, CLASSES) is not None
    scores, labels = change(scores, labels)
    assert count_nearest([scores], labels, CLASSES) is None
