"""The registered LARS takes the step of the formula, and fused steps are PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from classy_vision.optim import build_optimizer

from vice.plugins.vissl.optimizer import fuse_on_cpu


@pytest.mark.parametrize("nesterov", [False, True])
def test_two_steps_of_the_formula(nesterov):
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(4, 3, dtype=torch.float64))
    bias = torch.nn.Parameter(torch.zeros(4, dtype=torch.float64))
    optimizer = build_optimizer(
        {
            "name": "vice_lars",
            "momentum": 0.9,
            "nesterov": nesterov,
            "larc_config": {"trust_coefficient": 0.001, "eps": 1e-8, "clip": False},
        }
    )
    rate, decay = 0.3, 0.01
    optimizer.set_param_groups([{"params": [weight, bias], "lr": rate, "weight_decay": decay}])
    expected = {
        name: [value.detach().clone(), None] for name, value in (("weight", weight), ("bias", bias))
    }
    for step in range(2):
        optimizer.zero_grad()
        inputs = torch.randn(5, 3, dtype=torch.float64)
        (inputs @ weight.t() + bias).pow(2).sum().backward()
        for name, value in (("weight", weight), ("bias", bias)):
            held, buffer = expected[name]
            gradient = value.grad
            norm, size = float(gradient.norm()), float(held.norm())
            trust = 0.001 * size / (norm + decay * size + 1e-8) if norm and size else 1.0
            change = trust * (gradient + decay * held)
            buffer = change if buffer is None else 0.9 * buffer + change
            used = change + 0.9 * buffer if nesterov else buffer
            expected[name] = [held - rate * used, buffer]
        optimizer.step(where=step / 2)
        assert torch.allclose(weight, expected["weight"][0], rtol=1e-9)
        assert torch.allclose(bias, expected["bias"][0], rtol=1e-9)


ORDERS = (torch.contiguous_format, torch.channels_last)
CONFIGS = {
    "adam": {"name": "adam", "lr": 0.01, "weight_decay": 0.1},
    "adamw": {"name": "adamw", "lr": 0.01, "weight_decay": 0.1},
    "sgd": {"name": "sgd", "lr": 0.01, "weight_decay": 0.1, "momentum": 0.9, "nesterov": True},
    "vice_lars": {"name": "vice_lars", "momentum": 0.9},
}


def steps(name, fused, count=3, state=None, order=torch.contiguous_format):
    """Weights after some steps, one of them without gradients at first, and the optimizer."""
    torch.manual_seed(0)
    values = [torch.randn(shape) for shape in ((40, 30), (7,), (2, 3, 3, 4))]
    values[-1] = values[-1].contiguous(memory_format=order)
    weights = [torch.nn.Parameter(value) for value in values]
    optimizer = build_optimizer({**CONFIGS[name]})
    optimizer.set_param_groups([{"params": weights, "lr": 0.01, "weight_decay": 0.1}])
    if fused:
        fuse_on_cpu(optimizer.optimizer, torch.device("cpu"))
    if state is not None:
        optimizer.optimizer.load_state_dict(state)
    for step in range(count):
        for number, weight in enumerate(weights):
            # Row-major, whatever order the weight has.
            slope = torch.linspace(-1, 1, weight.numel()).view(weight.shape) * (number + step)
            weight.grad = slope if number or step else None
        optimizer.step(where=0.0)
    return weights, optimizer.optimizer


@pytest.mark.parametrize("name", CONFIGS)
def test_fused_steps_are_those_of_pytorch(name):
    found, optimizer = steps(name, True)
    expected, _ = steps(name, False)
    assert bool(optimizer.param_groups[0].get("fused")) == name.startswith("adam")
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_order_in_memory_does_not_matter(name):
    """Neither of weights, nor of a state that was saved in another one."""
    expected, _ = steps(name, True)
    state = {order: steps(name, True, 2, order=order)[1].state_dict() for order in ORDERS}
    for order in ORDERS:
        found, _ = steps(name, True, order=order)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other)
    first, second = (steps(name, True, 1, state[order])[0] for order in ORDERS)
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("begun", [True, False])
def test_a_run_goes_on_as_its_state_was_saved(name, begun):
    """States of earlier versions are not fused, and end with the bits that they would have had."""
    state = steps(name, begun, 2)[1].state_dict()
    _, optimizer = steps(name, True, 0, state)
    assert optimizer.param_groups[0].get("fused") == state["param_groups"][0].get("fused")


def test_on_a_gpu_pytorch_chooses():
    _, optimizer = steps("adam", False)
    fuse_on_cpu(optimizer, torch.device("cuda"))
    assert not optimizer.param_groups[0]["fused"]
