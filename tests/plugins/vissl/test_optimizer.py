"""The registered LARS takes the step of the formula."""

from __future__ import annotations

import pytest
import torch
from classy_vision.optim import build_optimizer

import vice.plugins.vissl  # noqa: F401


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
