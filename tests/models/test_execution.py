"""Ways of computing a network leave what it is alone."""

from __future__ import annotations

from functools import partialmethod

import pytest
import torch
from torch import nn

from vice.errors import UserError
from vice.models import build_embedder
from vice.models.execution import Execution


def embedder():
    torch.manual_seed(0)
    return build_embedder("resnet18", "fpn", 8, stages=1)


@pytest.mark.parametrize(
    ("ways", "tolerance"),
    [
        ({"channels_last": True}, 1e-5),
        ({"precision": "bfloat16"}, 5e-2),
        ({"channels_last": True, "precision": "bfloat16"}, 5e-2),
        ({"compiled": True}, 1e-5),
    ],
)
def test_outputs_gradients_and_names_stay(ways, tolerance, monkeypatch):
    # The graph is captured as always; generating code for it would take minutes.
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="eager"))
    plain, other = embedder(), embedder()
    way = Execution(**ways)
    assert way.prepare(other) is other
    images = torch.randn(2, 3, 32, 40, generator=torch.Generator().manual_seed(1))
    expected, found = plain(images), way.run(other, images)
    assert found.dtype == (torch.bfloat16 if "precision" in ways else torch.float32)
    scale = expected.abs().max()
    assert (found.float() - expected).abs().max() <= tolerance * scale
    expected.square().mean().backward()
    found.float().square().mean().backward()
    assert list(other.state_dict()) == list(plain.state_dict())
    for (name, one), two in zip(plain.named_parameters(), other.parameters(), strict=True):
        assert two.grad.dtype == torch.float32
        error = (two.grad - one.grad).norm() / one.grad.norm().clamp(min=1e-6)
        assert error < 4 * tolerance or one.grad.norm() < 1e-6, name


def test_the_layout_is_set():
    way = Execution(channels_last=True)
    network = way.prepare(embedder())
    weight = network.backbone.stem[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    found = way.run(network, torch.randn(1, 3, 16, 16))
    assert found.shape == (1, 8, 4, 4)


def test_an_unknown_precision():
    with pytest.raises(UserError, match="'half' must be null, bfloat16 or auto"):
        Execution(precision="half")
