"""The user's object: any image size, unit vectors, and segments that equal the slow way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import vice
from vice.errors import UserError
from vice.models.centroids import Centroids
from vice.normalize import IMAGENET_MEAN, IMAGENET_STD, normalize


@pytest.fixture(scope="module")
def predictor(run_dir):
    return vice.load(run_dir, device="cpu")


@pytest.mark.parametrize("size", [(64, 48), (37, 91), (1, 1), (3, 200)])
def test_embedding_is_dense_and_unit_length(predictor, rng, size):
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    embedding = predictor.embed(image)
    assert embedding.shape == (16, *size)
    assert embedding.dtype == torch.float32
    assert torch.allclose(embedding.norm(dim=0), torch.ones(size), atol=1e-5)
    segments = predictor.segment(image)
    assert segments.shape == size
    assert segments.dtype == torch.int64
    assert 0 <= int(segments.min()) <= int(segments.max()) < 6


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn]
)
def test_an_image_may_be_of_any_float(predictor, dtype):
    image = torch.rand(3, 30, 40).to(dtype)
    assert torch.equal(predictor.segment(image), predictor.segment(image.double()))


def test_embedding_equals_the_steps_by_hand(predictor, rng):
    image = rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)
    pixels = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    mean, std = (
        torch.tensor(IMAGENET_MEAN)[:, None, None],
        torch.tensor(IMAGENET_STD)[:, None, None],
    )
    with torch.no_grad():
        dense = predictor.embedder(((pixels - mean) / std)[None])
    native = predictor.embed(image, stride="native")
    assert native.shape == (16, 10, 14)
    assert torch.allclose(native, F.normalize(dense, dim=1)[0], atol=1e-5)
    with pytest.raises(ValueError, match="stride must be 'image' or 'native', not 4"):
        predictor.embed(image, stride=4)
    dense = F.interpolate(dense, size=(40, 56), mode="bilinear", align_corners=False)
    assert torch.allclose(predictor.embed(image), F.normalize(dense, dim=1)[0], atol=1e-5)


def test_segment_is_the_nearest_concept_of_each_pixel(predictor, rng):
    image = rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)
    embedding = predictor.embed(image).permute(1, 2, 0)
    concepts = F.normalize(torch.randn(11, 16), dim=1)
    scores = embedding @ concepts.t()
    best = scores.topk(2, dim=-1).values
    clear = (best[..., 0] - best[..., 1]) > 1e-5
    assert torch.equal(predictor.segment(image, concepts)[clear], scores.argmax(-1)[clear])
    own = embedding @ predictor.checkpoint.prototypes.weight.t()
    agree = (predictor.segment(image) == own.argmax(-1)).float().mean()
    assert agree > 0.999


def test_paths_are_read_like_arrays(predictor, rng, tmp_path):
    image = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    assert torch.equal(predictor.embed(tmp_path / "a.png"), predictor.embed(image))
    with pytest.raises(UserError, match="missing.png"):
        predictor.embed(tmp_path / "missing.png")


@pytest.mark.parametrize("shape", [(8,), (8, 8, 4), (8, 8, 2), (2, 8, 8), (1, 8, 8, 3), (0, 8, 3)])
def test_arrays_that_are_no_images(predictor, shape):
    with pytest.raises(UserError, match=r"^an image must be \(H, W, 3\)[^\n]*$"):
        predictor.embed(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    ("spec", "dim"), [("lab", 3), ("random:resnet18-fpn-8", 8), ("random:timm:resnet10t", 512)]
)
def test_what_the_scoring_tools_take_is_loaded_too(spec, dim, rng):
    from vice.models.load import load_extractor

    image = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    predictor = vice.load(spec, device="cpu")
    embedding = predictor.embed(image)
    assert embedding.shape == (dim, 24, 32)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    with torch.no_grad():
        dense = load_extractor(spec)(normalize(pixels))
    dense = F.interpolate(dense, size=(24, 32), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(embedding, dense if spec == "lab" else F.normalize(dense, dim=0))
    message = rf"{spec} holds no prototypes; pass concepts, \(K, {dim}\)"
    with pytest.raises(UserError, match=message):
        predictor.segment(image)


def test_embeddings_next_to_nothing_are_told_of(tmp_path, monkeypatch, caplog, rng):
    (tmp_path / "faint.py").write_text(
        "from torch import nn\n\n\n"
        "class Faint(nn.Conv2d):\n"
        "    def forward(self, images):\n"
        "        return super().forward(images) * 1e-12\n\n\n"
        "def load():\n"
        "    return Faint(3, 8, 4, stride=4, bias=False)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    predictor = vice.load("faint:load", device="cpu")
    image = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
    for _ in range(2):
        predictor.embed(image)
    assert caplog.text.count("its embedding is next to nothing") == 1


def test_concepts_of_any_kind(predictor, rng):
    image = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
    table = rng.normal(size=(5, 16)).astype(np.float32)
    unit = F.normalize(torch.from_numpy(table), dim=1)
    expected = predictor.segment(image, unit)
    for concepts in (table, table.astype(np.float64), table.tolist(), Centroids(unit, True)):
        assert torch.equal(predictor.segment(image, concepts), expected)
    for wrong in (table.T, table[0], table[:0], table * np.nan, "centroids"):
        with pytest.raises(UserError, match=r"\(K, 16\)"):
            predictor.segment(image, wrong)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_file_is(predictor, rng, tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        assert torch.equal(predictor.embed(image), predictor.embed(tmp_path / "a.png"))


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "cpu:x", ""])
def test_devices_that_are_not_there(run_dir, device):
    with pytest.raises(UserError, match=f"^device {device} cannot be used: [^\n]+$"):
        vice.load(run_dir, device=device)


def test_the_folder_above_a_run(run_dir, tmp_path):
    (tmp_path / "train").symlink_to(run_dir)
    with pytest.raises(UserError, match="did you mean .*train"):
        vice.load(tmp_path, device="cpu")


def test_segment_without_prototypes(tmp_path):
    from vice.models import build_embedder
    from vice.models.checkpoint import save_run

    save_run(tmp_path, build_embedder(dim=4))
    with pytest.raises(UserError, match="holds no prototypes"):
        vice.load(tmp_path).segment(np.zeros((8, 8, 3), np.uint8))


@pytest.mark.parametrize("wrap", [dict, lambda named: list(named.values()), tuple])
def test_named_vectors_are_concepts_in_their_order(wrap):
    photo = np.zeros((2, 4, 3), np.uint8)
    photo[:, 1:] = 255
    lab = vice.load("lab", device="cpu")
    embedding = lab.embed(photo)
    named = {"white": embedding[:, 0, 3], "black": embedding[:, 0, 0].numpy()}
    concepts = tuple(named.values()) if wrap is tuple else wrap(named)
    assert lab.segment(photo, concepts).tolist() == [[1, 0, 0, 0]] * 2


def test_doors_are_listed():
    assert {"load", "Predictor", "__version__"} <= set(dir(vice))
