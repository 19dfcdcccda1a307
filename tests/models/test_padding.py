"""Borders in low precision against PyTorch's own way, and against float64."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from vice.models import build_embedder
from vice.models.padding import PaddedConv2d, set_padding
from vice.models.plain import plain

MODES = ["zeros", "replicate", "reflect", "circular"]
SHAPES = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": (3, 5), "padding": (1, 2), "stride": 2},
    {"kernel_size": 3, "padding": 2, "dilation": 2, "groups": 4},
    {"kernel_size": 1},
    {"kernel_size": 3, "padding": 1, "bias": False},
]


def padded(mode: str, shape: dict[str, object]) -> nn.Conv2d:
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 8, **shape)
    set_padding(conv, mode)
    return conv


def results(conv: nn.Conv2d, given: Tensor) -> list[Tensor]:
    """Values, and gradients of the image, the weight and the bias."""
    conv.zero_grad()
    image = given.clone().requires_grad_()
    found = conv(image)
    weights = torch.arange(found.numel()).view_as(found).sin()
    (found.float() * weights).sum().backward()
    return [found.detach(), image.grad, *(each.grad for each in conv.parameters())]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_values_are_pytorchs_and_gradients_too(
    mode: str, shape: dict[str, object], order: torch.memory_format
) -> None:
    conv = padded(mode, shape)
    given = torch.randn(2, 8, 13, 17).contiguous(memory_format=order)
    for kind in (None, torch.bfloat16):
        with torch.autocast("cpu", kind or torch.bfloat16, enabled=kind is not None):
            found = results(conv, given)
            with plain():
                wanted = results(conv, given)
        assert [each.dtype for each in found] == [each.dtype for each in wanted]
        for one, other in zip(found, wanted, strict=True):
            # Layout: of another one oneDNN adds up in another order. In bfloat16 gradients are sums
            # of at most four.
            tolerance = 1e-6 if kind is None else 1e-2
            assert (one - other).norm() <= tolerance * other.norm()


def test_it_is_pytorchs_own_layer_with_that_padding() -> None:
    conv = padded("replicate", SHAPES[1])
    own = nn.Conv2d(8, 8, **SHAPES[1], padding_mode="replicate")
    own.load_state_dict(conv.state_dict())
    given = torch.randn(2, 8, 13, 17)
    assert torch.equal(conv(given), own(given))
    for twin in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))):
        assert torch.equal(twin(given), own(given))


def test_every_convolution_of_a_network_is_one() -> None:
    embedder = build_embedder("resnet18", "fpn", 8, padding="replicate")
    convs = [module for module in embedder.modules() if isinstance(module, nn.Conv2d)]
    assert convs
    assert all(type(conv) is PaddedConv2d and conv.padding_mode == "replicate" for conv in convs)


def test_gradients_are_right_to_the_last_digit_in_float64() -> None:
    conv = padded("replicate", SHAPES[0]).double()
    image = torch.randn(1, 8, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(conv, image)
