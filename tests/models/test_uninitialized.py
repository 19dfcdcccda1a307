from __future__ import annotations

import pytest
import torch
from torch import nn

from vice.models import Prototypes, build_embedder, seeded_embedder
from vice.models.checkpoint import load_checkpoint, save_run
from vice.models.uninitialized import Uninitialized

LAYERS = [
    lambda: nn.Linear(5, 4),
    lambda: nn.Conv2d(3, 4, 3),
    lambda: nn.ConvTranspose2d(3, 4, 2),
    lambda: nn.Embedding(4, 5),
    lambda: nn.BatchNorm2d(4),
    lambda: nn.MultiheadAttention(8, 2),
    lambda: Prototypes(4, 6),
]
FILLS = ["normal_", "uniform_", "kaiming_normal_", "kaiming_uniform_", "xavier_normal_",
         "xavier_uniform_", "trunc_normal_"]  # fmt: skip


@pytest.mark.parametrize("make", LAYERS)
def test_no_layer_draws_and_all_are_what_they_were(make):
    before = torch.random.get_rng_state()
    with Uninitialized():
        made = make()
    assert torch.equal(before, torch.random.get_rng_state())
    usual = make()
    assert type(made) is type(usual)
    shapes = {name: value.shape for name, value in usual.state_dict().items()}
    assert {name: value.shape for name, value in made.state_dict().items()} == shapes
    assert all(p.requires_grad for p in made.parameters())
    # What is drawn is left out, and nothing else: constants are there.
    if isinstance(usual, nn.BatchNorm2d):
        assert all(torch.equal(v, usual.state_dict()[n]) for n, v in made.state_dict().items())


@pytest.mark.parametrize("fill", FILLS)
def test_no_way_to_fill_a_tensor_draws_and_all_give_it_back(fill):
    tensor, draw = torch.full((4, 3), 7.0), getattr(nn.init, fill)
    before = torch.random.get_rng_state()
    with Uninitialized():
        assert draw(tensor) is tensor
        assert draw(tensor=tensor) is tensor
    assert torch.equal(before, torch.random.get_rng_state())
    draw(tensor)
    assert not torch.equal(before, torch.random.get_rng_state()), "outside it draws again"


@pytest.mark.parametrize(
    ("backbone", "decoder"),
    [
        ("resnet18", "fpn"),
        ("resnet50", "deeplabv3plus"),
        ("net10a", "none"),
        ("timm:mobilenetv3_small_050", "fpn"),
        ("timm:convnext_atto", "fpn"),
        ("timm:vit_tiny_patch16_224", "pup"),
    ],
)
def test_a_saved_network_is_loaded_whole_and_draws_nothing(backbone, decoder, tmp_path):
    if backbone.startswith("timm:"):
        pytest.importorskip("timm")
    options = {"dim": 512 if decoder == "none" else 8}
    made = seeded_embedder(1, backbone=backbone, decoder=decoder, **options)
    with torch.no_grad():
        for name, value in made.state_dict().items():
            # As training leaves statistics: other numbers than those of a new layer.
            if "running" in name:
                value.add_(1)
    prototypes = Prototypes(made.dim, 6)
    save_run(tmp_path, made, prototypes)
    before = torch.random.get_rng_state()
    checkpoint = load_checkpoint(tmp_path)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(checkpoint.required_concepts().vectors, prototypes.weight)
    loaded = checkpoint.embedder
    state = made.state_dict()
    assert loaded.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())
    # Buffers that no file holds are made as they always are.
    fresh = dict(build_embedder(**made.config).named_buffers())
    kept = {name: value for name, value in loaded.named_buffers() if name not in state}
    assert all(torch.equal(value, fresh[name]) for name, value in kept.items())
    images = torch.zeros(1, 3, 64, 64)
    torch.testing.assert_close(loaded.eval()(images), made.eval()(images))
