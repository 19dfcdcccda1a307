"""Concepts of every kind: the nearest one of each pixel, and in a checkpoint."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

import vice
from vice.errors import UserError
from vice.models import Concepts, Prototypes, seeded_embedder
from vice.models.centroids import Centroids
from vice.models.checkpoint import load_checkpoint, save_run
from vice.models.concepts import argmax_upsampled
from vice.normalize import normalize

DIM = 4
_GENERATOR = torch.Generator().manual_seed(0)


def drawn(*shape):
    return torch.randn(*shape, generator=_GENERATOR)


KINDS = {
    "prototypes": Prototypes.of(F.normalize(drawn(5, DIM))).concepts(),
    "spherical": Centroids(F.normalize(drawn(6, DIM)), True).concepts(),
    "euclidean": Centroids(drawn(6, DIM), False).concepts(),
    "unit pixels and points": Concepts(drawn(5, DIM)),
    "raw points": Concepts(drawn(5, DIM), space="raw"),
    "a linear layer": Concepts(drawn(5, DIM), drawn(5), "raw"),
    "a linear layer on unit pixels": Concepts(drawn(5, DIM), drawn(5), "unit"),
}


def by_loops(concepts, embedding):
    """Numbers of the nearest concepts in float64, a pixel and a concept at a time."""
    _, height, width = embedding.shape
    labels = np.zeros((height, width), np.int64)
    for y, x in itertools.product(range(height), range(width)):
        pixel = np.asarray(embedding[:, y, x], np.float64)
        if concepts.space == "unit":
            pixel = pixel / np.sqrt(sum(value * value for value in pixel))
        scores = []
        for k, vector in enumerate(np.asarray(concepts.vectors, np.float64)):
            bias = 0.0 if concepts.bias is None else float(concepts.bias[k])
            scores.append(sum(a * b for a, b in zip(pixel, vector, strict=True)) + bias)
        labels[y, x] = int(np.argmax(scores))
    return torch.from_numpy(labels)


@pytest.mark.parametrize("kind", KINDS)
def test_nearest_of_pixels_and_vectors(kind):
    embedding = 3 * drawn(1, DIM, 7, 9).double()
    expected = by_loops(KINDS[kind], embedding[0])
    found = KINDS[kind].nearest_map(embedding, (7, 9))
    assert found.dtype == torch.int64 and torch.equal(found[0], expected)
    vectors = embedding[0].flatten(1).t()
    for most in (1, 2000, 2**29):
        assert torch.equal(KINDS[kind].nearest(vectors, max_bytes=most), expected.flatten())


def test_euclidean_is_the_least_distance():
    points = drawn(9, DIM)
    pixels = drawn(1, DIM, 6, 5)
    distances = torch.cdist(pixels[0].flatten(1).t().double(), points.double())
    expected = distances.argmin(1).view(1, 6, 5)
    assert torch.equal(Concepts.euclidean(points).nearest_map(pixels, (6, 5)), expected)


def test_half_the_distance_breaks_ties_as_the_whole_one_does():
    # Points on a lattice: many pixels are as far from one as from another, in every bit.
    generator = torch.Generator().manual_seed(0)
    points = torch.randint(-2, 3, (40, 3), generator=generator).float()
    pixels = torch.randint(-4, 5, (1, 3, 30, 30), generator=generator).float() / 2
    whole = F.conv2d(pixels, 2 * points[:, :, None, None], -points.square().sum(1))
    tied = (whole == whole.amax(1, keepdim=True)).sum(1) > 1
    assert tied.float().mean() > 0.3
    found = Concepts.euclidean(points)
    assert torch.equal(found.nearest_map(pixels, (30, 30)), whole.argmax(1))
    expected = argmax_upsampled(whole, (61, 47))
    assert torch.equal(found.nearest_map(pixels, (61, 47)), expected)
    many, finer = 3 * drawn(200, 64), drawn(1, 64, 20, 30)
    whole = F.conv2d(finer, 2 * many[:, :, None, None], -many.square().sum(1))
    found = Concepts.euclidean(many).nearest_map(finer, (80, 120))
    assert torch.equal(found, argmax_upsampled(whole, (80, 120)))


@pytest.mark.parametrize("size", [(9, 7), (33, 26), (36, 28), (5, 30), (1, 1), (4, 3)])
@pytest.mark.parametrize("most", [1, 3000, 2**27])
@pytest.mark.parametrize("kind", ["spherical", "a linear layer on unit pixels"])
def test_rows_that_are_scored_when_they_are_needed(size, most, kind):
    embedding = drawn(2, DIM, 9, 7).double()
    scores = KINDS[kind].scores(embedding)
    expected = F.interpolate(scores, size, mode="bilinear", align_corners=False).argmax(1)
    found = KINDS[kind].nearest_map(embedding, size, max_bytes=most, max_score_bytes=0)
    assert torch.equal(found, expected)


def test_memory_is_bounded_where_concepts_are_many(monkeypatch):
    held = []
    scores = Concepts.scores

    def watched(self, embeddings):
        found = scores(self, embeddings)
        held.append(found.numel() * found.element_size())
        return found

    monkeypatch.setattr(Concepts, "scores", watched)
    concepts = Concepts(drawn(3000, DIM))
    concepts.nearest_map(drawn(1, DIM, 40, 30), (160, 120), max_bytes=2**23, max_score_bytes=2**23)
    assert len(held) > 1 and max(held) <= 2**23


@pytest.mark.parametrize(
    ("vectors", "options"),
    [
        (torch.ones(3), {}),
        (torch.ones(0, 3), {}),
        (torch.ones(2, 3), {"bias": torch.ones(3)}),
        (torch.ones(2, 3), {"bias": torch.ones(2, 1)}),
        (torch.ones(2, 3), {"space": "log"}),
    ],
)
def test_what_does_not_go_together(vectors, options):
    with pytest.raises(ValueError, match="concepts|space"):
        Concepts(vectors, **options)


def test_another_width_is_named():
    for call in (lambda c: c.scores(torch.ones(1, 3, 2, 2)), lambda c: c.nearest(torch.ones(5, 3))):
        with pytest.raises(UserError, match="3 dimensions but the centroids have 4"):
            call(KINDS["euclidean"])


@pytest.fixture(scope="module")
def embedder():
    return seeded_embedder(0, backbone="resnet18", decoder="fpn", dim=DIM)


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_holds_any_kind(kind, embedder, tmp_path, rng):
    saved = KINDS[kind]
    path = save_run(tmp_path, embedder, saved, {"seed": 3})
    loaded = load_checkpoint(path)
    assert torch.equal(loaded.concepts.vectors, saved.vectors)
    assert loaded.concepts.space == saved.space
    assert (loaded.concepts.bias is None) == (saved.bias is None)
    assert saved.bias is None or torch.equal(loaded.concepts.bias, saved.bias)
    image = rng.integers(0, 256, (30, 42, 3), dtype=np.uint8)
    predictor = vice.load(path, device="cpu")
    found = predictor.segment(image)
    assert torch.equal(found, predictor.segment(image, saved))
    with torch.no_grad():
        batch = torch.from_numpy(image).permute(2, 0, 1)[None]
        dense = predictor.embedder(normalize(batch))
    score = by_loops(saved, dense[0])
    assert torch.equal(saved.nearest_map(dense, dense.shape[2:])[0], score)


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_is_new_is_added_to_a_file(kind, embedder, tmp_path):
    """Vectors of unit space without a bias make the file that they have always made."""
    saved = KINDS[kind]
    save_run(tmp_path, embedder, saved, {})
    tensors, card = load_file(tmp_path / "vice.safetensors"), _card(tmp_path)
    own = {name for name in tensors if not name.startswith("embedder.")}
    bias = {"prototypes.bias"} if saved.bias is not None else set()
    assert own == {"prototypes.weight", *bias}
    assert set(card) - {"space"} == {"embedder", "format", "meta", "num_prototypes", "sha256"}
    assert card.get("space") == (None if saved.space == "unit" else "raw")
    old = load_checkpoint(tmp_path).prototypes
    assert (old is None) == (saved.space == "raw" or bool(bias))
    if old is not None:
        save_run(tmp_path / "again", embedder, old, {})
        again = tmp_path / "again" / "vice.safetensors"
        assert again.read_bytes() == (tmp_path / "vice.safetensors").read_bytes()


def test_prototypes_of_a_checkpoint_share_the_memory(embedder, tmp_path):
    save_run(tmp_path, embedder, KINDS["prototypes"], {})
    checkpoint = load_checkpoint(tmp_path)
    checkpoint.prototypes.weight.data.zero_()
    assert not checkpoint.concepts.vectors.any()
    assert not checkpoint.prototypes.weight.requires_grad


def test_concepts_that_are_no_prototypes_are_not_scored_as_such(embedder, tmp_path):
    save_run(tmp_path, embedder, KINDS["euclidean"], {})
    checkpoint = load_checkpoint(tmp_path)
    with pytest.raises(UserError, match="not compared by direction alone"):
        checkpoint.required_directions()
    assert len(checkpoint.required_concepts()) == 6


@pytest.mark.parametrize(
    ("tensors", "card", "message"),
    [
        ({"prototypes.bias": torch.ones(4)}, {}, r"bias of its prototypes is torch.float32 \(4,\)"),
        ({"prototypes.bias": torch.ones(5).long()}, {}, "bias of its prototypes is torch.int64"),
        ({"prototypes.bias": torch.full((5,), torch.nan)}, {}, "prototypes.bias holds values that"),
        ({}, {"space": "log"}, "a space 'log' that is unknown here; known are unit, raw"),
        ({}, {"space": ["unit"]}, "a space .* that is unknown here"),
    ],
)
def test_damaged_concepts_are_named(embedder, tmp_path, tensors, card, message):
    path = save_run(tmp_path, embedder, KINDS["prototypes"], {})
    changed = {name: value for name, value in _card(tmp_path).items() if name != "sha256"}
    text = json.dumps({**changed, **card})
    save_file({**load_file(path), **tensors}, path, metadata={"vice": text})
    with pytest.raises(UserError, match=message):
        load_checkpoint(path)


def _card(folder):
    return json.loads((folder / "vice.json").read_text())
