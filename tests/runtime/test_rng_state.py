from __future__ import annotations

import random

import numpy as np
import torch

from vice.runtime.rng_state import get_random_state, set_random_state

CPU = torch.device("cpu")


def draw() -> tuple:
    return random.random(), np.random.rand(), torch.rand(3).tolist()


def test_every_generator_goes_on_where_it_was():
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    draw()
    state = get_random_state(CPU)
    assert all(not value.is_floating_point() for value in state.values())
    expected = [draw() for _ in range(700)]
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    set_random_state(state, CPU)
    assert [draw() for _ in range(700)] == expected
