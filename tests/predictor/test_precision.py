"""Half precision: vectors near those of float32, as a whole, in tiles and of many; or refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import vice
from tests.helpers.variations import variations
from vice.errors import UserError
from vice.models import build_embedder
from vice.models.checkpoint import Checkpoint
from vice.predictor import Predictor, precision


@pytest.fixture(scope="module")
def embedder():
    torch.manual_seed(0)
    return build_embedder("resnet18", dim=8, stages=1).eval()


def _predictor(embedder, name):
    try:
        return Predictor(Checkpoint(embedder), precision=name)
    except UserError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("name", "steps"), variations([("bfloat16", 2**-8), ("float16", 2**-11)], 2)
)
def test_vectors_differ_by_rounding(embedder, rng, name, steps):
    image = rng.integers(0, 256, (96, 112, 3), np.uint8)
    half, plain = _predictor(embedder, name), Predictor(Checkpoint(embedder))
    wanted = plain.embed(image)
    found = half.embed(image)
    (many,) = (vectors for _, vectors in half.embed_all([image]))
    tiled = half.embed(image, memory="97MiB")
    assert half.tiling is not None and torch.equal(many, found)
    # Computed in 16 bits: near the vectors, and not the same.
    for each in (found, tiled):
        gap = (each - wanted).norm(dim=0).max()
        assert 0 < gap < 40 * steps and each.dtype == torch.float32
    assert (half.segment(image, wanted[:, ::48, ::56].flatten(1).T) >= 0).all()


def test_results_of_sixteen_bits(embedder, rng, tmp_path):
    image = rng.integers(0, 256, (40, 48, 3), np.uint8)
    predictor = Predictor(Checkpoint(embedder))
    wanted = predictor.embed(image)
    for dtype in (torch.float16, torch.bfloat16):
        assert torch.equal(predictor.embed(image, dtype=dtype), wanted.to(dtype))
        ((_, vectors),) = predictor.embed_all([image], dtype=dtype)
        assert torch.equal(vectors, wanted.to(dtype))
    mapped = predictor.embed(image, dtype=torch.float16, out=tmp_path / "v.npy")
    assert np.load(tmp_path / "v.npy").dtype == np.float16
    assert torch.equal(mapped, wanted.half())
    with pytest.raises(ValueError, match="has no bfloat16"):
        predictor.embed(image, dtype=torch.bfloat16, out=tmp_path / "w.npy")
    with pytest.raises(ValueError, match=r"dtype must be one of .*torch\.float16"):
        predictor.embed(image, dtype=torch.float64)


def test_what_a_device_does_not_compute_in(monkeypatch):
    with pytest.raises(UserError, match="'half' is none of float32, bfloat16, float16"):
        vice.load("lab", device="cpu", precision="half")
    # As a PyTorch that warns and goes on in float32.
    monkeypatch.setattr(precision, "computed_in", lambda half, device: torch.no_grad())
    with pytest.raises(UserError, match="cpu does not compute in float16"):
        vice.load("lab", device="cpu", precision="float16")
