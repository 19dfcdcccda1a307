"""Tiles equal the whole where their context covers what cells see; else the difference is said."""

from __future__ import annotations

import dataclasses
import logging
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from vice.errors import UserError
from vice.models import build_embedder
from vice.models.checkpoint import Checkpoint
from vice.models.lab import LabEmbedder
from vice.models.timm_embedder import TimmEmbedder
from vice.predictor import Predictor
from vice.predictor.memory import FIXED
from vice.predictor.reach import Reach
from vice.predictor.tiled import TiledNetwork

CPU = torch.device("cpu")


def settled(network: nn.Module) -> nn.Module:
    """In evaluation mode, with weights that make vectors differ from place to place."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            shape = module.running_mean.shape
            module.running_mean.copy_(0.1 * torch.randn(shape, generator=generator))
            module.running_var.copy_(torch.rand(shape, generator=generator) + 0.5)
            if module.weight is not None:
                module.weight.data.copy_(torch.rand(shape, generator=generator) + 0.5)
    return network.eval().requires_grad_(False)


def made(backbone: str, decoder: str = "fpn", dim: int = 8, **options) -> nn.Module:
    torch.manual_seed(0)
    return settled(build_embedder(backbone, decoder, dim, **options))


def lite(dim: int = 8) -> nn.Module:
    """Two stages of EfficientNet-Lite0: what it scales images to is no multiple of four alone."""
    return made("timm:efficientnet_lite0", dim=dim, stages=2)


NETWORKS = {
    "resnet18, fpn": (lambda: made("resnet18"), (575, 45)),
    "resnet18, fpn, aligned corners": (lambda: made("resnet18", align_corners=True), (45, 575)),
    "resnet18, two stages": (lambda: made("resnet18", stages=2), (131, 167)),
    "resnet18, replicate": (lambda: made("resnet18", stages=2, padding="replicate"), (167, 61)),
    "efficientnet_lite0, fpn": (lite, (211, 239)),
    "efficientnet_lite0": (
        lambda: settled(TimmEmbedder("efficientnet_lite0", weights=False)),
        (45, 1007),
    ),
    "net10a": (lambda: made("net10a", "none", 512), (71, 43)),
    "lab": (LabEmbedder, (37, 53)),
}  # fmt: skip


@pytest.fixture(scope="module")
def networks():
    found = {}
    with torch.no_grad():
        for name, (make, size) in NETWORKS.items():
            network = make()
            spherical = getattr(network, "spherical", True)
            found[name] = TiledNetwork(network, network.dim, CPU, name, spherical), size
    return found


def noise(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
def test_tiles_equal_the_whole(networks, name):
    tiled, size = networks[name]
    assert tiled.reach.bounded
    core = -(-max(size) // 3)
    found = tiled._difference(noise(size), core)
    assert found.most < 1e-5 * (1 if tiled.spherical else 100)


@torch.no_grad()
@pytest.mark.parametrize(
    "name", ["resnet18, fpn", "resnet18, two stages", "efficientnet_lite0, fpn"]
)
def test_with_too_little_context_tiles_differ(networks, name):
    """With three steps of context less, tiles differ: the test before would have seen it."""
    tiled, size = networks[name]
    reach, step = tiled.reach, tiled.reach.stride
    short = TiledNetwork(tiled.network, tiled.width, CPU, name)
    short.__dict__["reach"] = dataclasses.replace(
        reach, before=reach.before - 3 * step, after=reach.after - 3 * step
    )
    assert short._difference(noise((size[0], 45)), 2 * step).most > 1e-4


class Chain(nn.Module):
    """Convolutions one after the other, for which the receptive field is known."""

    dim = 2

    def __init__(self, layers):
        super().__init__()
        width, made = 3, []
        for kernel, stride, dilation in layers:
            padding = dilation * (kernel - 1) // 2
            made.append(nn.Conv2d(width, 2, kernel, stride, padding, dilation))
            width = 2
        self.layers = nn.Sequential(*made)

    def forward(self, images):
        return self.layers(images)


@torch.no_grad()
@pytest.mark.parametrize(
    "layers",
    [
        [(3, 1, 1)],
        [(3, 2, 1), (3, 2, 1)],
        [(7, 2, 1), (3, 1, 4), (1, 2, 1)],
        [(5, 4, 1), (3, 1, 12), (3, 2, 1)],
    ],
)
def test_reach_is_that_of_the_formula(layers):
    """Start and size of a receptive field by the recurrence of Araujo et al. (2019)."""
    jump, size, start = 1, 1, 0.0
    for kernel, stride, dilation in layers:
        padding = dilation * (kernel - 1) // 2
        start -= padding * jump
        size += dilation * (kernel - 1) * jump
        jump *= stride
    reach = TiledNetwork(Chain(layers), 2, CPU, "chain").reach
    assert (reach.stride, reach.cells) == (jump, 1)
    assert reach.before == math.ceil(-start / jump) * jump
    # The last pixel that the cell at 0 sees is start + size - 1; its place ends at jump.
    assert reach.after == max(0, math.ceil((start + size - jump) / jump) * jump)


def predictor_of(network: nn.Module) -> Predictor:
    return Predictor(Checkpoint(network), "cpu", "a network")


def enough_for(predictor: Predictor, pixels: int) -> int:
    with torch.no_grad():
        return FIXED + int(pixels * predictor._in_tiles().bytes_a_pixel) + 1


@pytest.fixture(scope="module")
def quick():
    return predictor_of(made("resnet18", stages=1))


@pytest.mark.parametrize("size", [(1, 977), (977, 1), (3, 640), (331, 317), (257, 509), (640, 32)])
def test_doors_in_tiles(quick, size, tmp_path):
    image, concepts = noise(size), torch.randn(11, 8, generator=torch.Generator().manual_seed(0))
    memory = enough_for(quick, min(size[0], 180) * min(size[1], 180))
    for stride in ("image", "native"):
        whole = quick.embed(image, stride)
        tiled = quick.embed(image, stride, memory=memory)
        assert quick.tiling.exact and max(quick.tiling.tiles) > 1
        assert tiled.shape == whole.shape and (tiled - whole).abs().max() < 1e-5
        parts = list(quick.embed_tiles(image, stride, memory=memory))
        covered = torch.zeros(whole.shape[1:], dtype=torch.int64)
        for part in parts:
            covered[part.rows, part.columns] += 1
            assert torch.equal(part.values, tiled[:, part.rows, part.columns])
        assert (covered == 1).all()
    labels = quick.segment(image, concepts)
    found = quick.segment(image, concepts, memory=memory, out=tmp_path / "labels.npy")
    scores = torch.einsum("kd,dhw->khw", F.normalize(concepts, dim=1), quick.embed(image))
    best = scores.topk(2, dim=0).values
    clear = best[0] - best[1] >= 1e-5
    assert clear.float().mean() > 0.99 and torch.equal(found[clear], labels[clear])
    assert np.array_equal(np.load(tmp_path / "labels.npy"), found.numpy())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.npy"]


def test_an_image_that_fits_is_computed_as_a_whole(quick):
    image = noise((64, 80))
    assert torch.equal(quick.embed(image, memory="1GiB"), quick.embed(image))
    assert quick.tiling is None
    (part,) = quick.segment_tiles(image, torch.randn(3, 8), memory="1GiB")
    assert (part.rows, part.columns) == (slice(0, 64), slice(0, 80))


def test_too_little_memory_is_told_how_much_is_enough(quick):
    image = noise((300, 300))
    with pytest.raises(UserError, match=r"for a tile: allow \d+MiB or more$") as caught:
        quick.embed(image, "native", memory=FIXED + 2**17)
    enough = str(caught.value).partition("allow ")[2].split()[0]
    assert quick.embed(image, "native", memory=enough).shape == (8, 75, 75)


@pytest.mark.parametrize("memory", ["", "much", "2 GiBs", "-1", 0, -5, True, 1.5, "0B", "nan"])
def test_amounts_that_are_none(quick, memory):
    with pytest.raises(UserError, match="is no amount of memory: give bytes"):
        quick.embed(noise((8, 8)), memory=memory)


class Gated(nn.Module):
    """Convolutions whose result the mean over the image scales."""

    dim = 4

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.gate = nn.Conv2d(3, 4, 5, 4, 2), nn.Conv2d(4, 4, 1)

    def forward(self, images):
        dense = self.conv(images)
        return dense + self.gate(dense.mean((2, 3), keepdim=True))


def test_a_network_that_sees_the_whole_image(caplog):
    predictor = predictor_of(Gated().eval())
    image = noise((280, 160)) // np.linspace(1, 9, 280).astype(np.uint8)[:, None, None]
    memory = enough_for(predictor, 128 * 128)
    with pytest.raises(UserError, match="a network sees the whole image.*exact=True"):
        predictor.embed(image, "native", memory=memory, exact=True)
    with caplog.at_level(logging.WARNING):
        tiled = predictor.embed(image, "native", memory=memory)
        predictor.segment(image, torch.eye(4), memory=memory)
    assert caplog.text.count("sees more than a tile") == 1
    tiling = predictor.tiling
    assert not tiling.exact
    far = (tiled - predictor.embed(image, "native")).norm(dim=0)
    assert far.max() > 1e-3
    # Measured on a part in four tiles: of the order of that on the whole, not the same.
    assert 0.1 < tiling.difference.mean / float(far.mean()) < 10


@torch.no_grad()
def test_the_difference_of_deeplab_is_measured():
    network = made("resnet18", "deeplabv3plus")
    tiled = TiledNetwork(network, 8, CPU, "deeplab")
    tiled.__dict__["reach"] = Reach(8, 2, None, None)
    found = tiled._difference(noise((96, 64)), 48, 16)
    assert 1e-4 < found.mean < found.most < 2


class Odd(nn.Module):
    """Brings maps to a size that has nothing to do with the image's."""

    dim = 4

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2, 1)

    def forward(self, images):
        return F.interpolate(self.conv(images), (24, 24), mode="bilinear")


def test_a_network_that_cannot_be_tiled():
    predictor = predictor_of(Odd().eval())
    with pytest.raises(UserError, match="cannot be computed in tiles: .*leave memory out"):
        predictor.embed(noise((900, 900)), memory=FIXED + 2**20)


@pytest.mark.parametrize("there", ["an image", "text", "nothing", "a folder"])
def test_no_file_of_another_kind_is_written_over(quick, tmp_path, there):
    image, out = tmp_path / "photo.png", tmp_path / "x.npy"
    Image.fromarray(noise((8, 8))).save(image)
    if there == "an image":
        out = image
    elif there == "a folder":
        out.mkdir()
    else:
        out.write_text("" if there == "nothing" else "my notes")
    before = None if out.is_dir() else out.read_bytes()
    with pytest.raises(UserError, match="is a folder: name a file in it|holds no array of NumPy"):
        quick.embed(image, out=out)
    assert out.is_dir() or out.read_bytes() == before
    for _ in range(2):
        assert quick.embed(image, out=tmp_path / "y.npy").shape == (8, 8, 8)


def test_a_file_that_cannot_be_written(quick, tmp_path):
    with pytest.raises(UserError, match="there is no folder .*nowhere: make it first"):
        quick.embed(noise((8, 8)), out=tmp_path / "nowhere" / "x.npy")
