"""Buffers that stay on the host, with PyTorch's meta device in the place of a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vice.losses import DenseSwAVLoss
from vice.losses.queue import RegionQueue
from vice.runtime.device import Arriving, to_device


def test_counters_stay_on_the_host_and_the_rest_moves():
    loss = DenseSwAVLoss(2, 4, 3, queue_length=5)
    loss.queue.push(torch.rand(2, 3))
    moved = loss.to("meta")
    places = {name: str(buffer.device) for name, buffer in moved.named_buffers()}
    assert places == {
        "iteration": "cpu",
        "queue.vectors": "meta",
        "queue.born": "cpu",
        "queue.pushed": "cpu",
        "queue.clock": "cpu",
    }
    assert len(moved.queue) == 2 and moved.queue.age() == 0.0


def test_they_travel_in_the_state():
    queue, other = RegionQueue(5, 3), RegionQueue(5, 3)
    queue.push(torch.rand(7, 3))
    counters = other.clock, other.born
    other.load_state_dict(queue.state_dict())
    assert int(other.clock) == 1 and len(other) == 5
    assert counters[0] is other.clock and counters[1] is other.born


def test_an_array_arrives_as_it_is():
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T
    found = to_device(array, "cpu")
    assert found.is_contiguous() and np.array_equal(found.numpy(), array)
    assert to_device(array, "meta").shape == (4, 3)


def test_a_tensor_on_its_way_is_read_once_it_is_there():
    assert Arriving(torch.arange(3)).read().tolist() == [0, 1, 2]
    with pytest.raises(NotImplementedError, match="out of meta tensor"):
        Arriving(torch.empty(3, device="meta")).read()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_nothing_between_host_and_gpu_waits():
    torch.cuda.set_sync_debug_mode("error")
    try:
        there = to_device(np.arange(3), "cuda")
        back = Arriving(there * 2)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert back.read().tolist() == [0, 2, 4]
