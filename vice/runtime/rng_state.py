"""RNG state of every global random number generator, as tensors."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor


def get_random_state(device: torch.device) -> dict[str, Tensor]:
    """State of Python's, NumPy's and PyTorch's generators, and of the device's.

    Args:
        device: A GPU has a generator of its own.

    Returns:
        Name to an integer tensor; `set_random_state` takes it back.
    """
    version, words, _ = random.getstate()
    kind, keys, position, _, _ = np.random.get_state()
    assert version == 3 and kind == "MT19937"
    state = {
        "python": torch.tensor(words, dtype=torch.int64),
        "numpy": torch.tensor([*map(int, keys), int(position)], dtype=torch.int64),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Puts every generator back to where it was.

    A second normal deviate that Python or NumPy may have had in store is forgotten.

    Args:
        state: What `get_random_state` gave; generators that it does not name stay as they are.
        device: Where its GPU state belongs.
    """
    random.setstate((3, tuple(state["python"].tolist()), None))
    *keys, position = state["numpy"].tolist()
    np.random.set_state(("MT19937", np.array(keys, np.uint32), position, 0, 0.0))
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
