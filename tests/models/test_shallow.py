"""IIC's shallow network, and embeddings without a decoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import vice
from vice.errors import UserError
from vice.models import build_embedder, seeded_embedder
from vice.models.checkpoint import save_run
from vice.models.plain import plain
from vice.models.shallow import ColorsAndEdges
from vice.normalize import normalize

SHALLOW = {"backbone": "net10a", "decoder": "none", "dim": 512}


def test_colors_are_as_in_the_file_and_edges_are_sobels():
    image = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    batch = torch.from_numpy(image).permute(2, 0, 1)[None]
    found = ColorsAndEdges()(normalize(batch))[0].numpy()
    np.testing.assert_allclose(found[:3], image.transpose(2, 0, 1) / 255, atol=1e-6)
    grey = np.pad(image / 255 @ [0.299, 0.587, 0.114], 1)
    across = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]])
    for channel, kernel in ((3, across), (4, across.T)):
        expected = [
            [(grey[y : y + 3, x : x + 3] * kernel).sum() for x in range(9)] for y in range(7)
        ]
        np.testing.assert_allclose(found[channel], expected, atol=1e-5)


def test_the_shallow_network_has_the_authors_size_and_border():
    embedder = seeded_embedder(0, **SHALLOW).eval()
    kernels = sum(p.numel() for p in embedder.parameters() if p.ndim == 4)
    assert (kernels, embedder.stride) == (4_500_288, 2)
    with torch.no_grad():
        dense = embedder(torch.randn(1, 3, 128, 96))
    assert dense.shape == (1, 512, 62, 46)
    # Zeros around: even classes, of a layer without bias.
    assert not dense[..., 0, :].any() and not dense[..., -1].any() and dense[..., 1:-1, 1:-1].any()
    replicated = seeded_embedder(0, **SHALLOW, padding="replicate").eval()
    with torch.no_grad():
        dense = replicated(torch.randn(1, 3, 24, 20))
    assert torch.equal(dense[..., 0], dense[..., 1]) and dense.any()


@pytest.mark.parametrize(("stages", "dim", "stride"), [(1, 64, 4), (2, 128, 8), (4, 512, 32)])
def test_without_a_decoder_the_last_map_is_the_embedding(stages, dim, stride):
    embedder = build_embedder("resnet18", "none", dim, stages=stages).eval()
    images = torch.randn(1, 3, 72, 50)
    with torch.no_grad(), plain():
        dense = embedder(images)
        assert torch.equal(dense, embedder.backbone(images)[-1])
    assert embedder.stride == stride and dense.shape[2:] == (-(-72 // stride), -(-50 // stride))
    assert build_embedder(**embedder.config).config == embedder.config


@pytest.mark.parametrize("config", [SHALLOW, {"decoder": "none", "stages": 2, "dim": 128}])
def test_ordinary_images_are_embedded_from_a_checkpoint(config, tmp_path):
    embedder = seeded_embedder(1, **config).eval()
    save_run(tmp_path, embedder)
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    found = vice.load(tmp_path, device="cpu").embed(image)
    with torch.no_grad():
        dense = embedder(normalize(torch.from_numpy(image).permute(2, 0, 1)[None]))
        dense = torch.nn.functional.interpolate(dense, (40, 56), mode="bilinear")
    expected = torch.nn.functional.normalize(dense, dim=1)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**SHALLOW, "dim": 128}, "dim must be 512, not 128"),
        ({**SHALLOW, "decoder": "fpn"}, "fpn does not go with net10a"),
        ({**SHALLOW, "weights": "imagenet"}, "without weights to start from"),
        ({**SHALLOW, "stages": 2}, "leave output_stride null"),
        ({"decoder": "none", "stages": 2, "dim": 64}, "dim must be 128, not 64"),
    ],
)
def test_what_does_not_go_together_is_told(config, message):
    with pytest.raises(UserError, match=message):
        build_embedder(**config)


def test_an_image_that_is_too_small_is_told():
    with pytest.raises(UserError, match="12x9 pixels is too small for net10a"):
        build_embedder(**SHALLOW)(torch.zeros(1, 3, 9, 12))
