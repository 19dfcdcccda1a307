"""Buffers of a rank's own, of a module and its submodules, come back to the rank they were of."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vice.runtime import rank_buffers
from vice.runtime.rank_buffers import RankBuffers


class Own(RankBuffers):
    """A counter, and the statistics of a submodule."""

    begun = False

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))
        self.norm = nn.BatchNorm1d(2)

    def begin(self) -> None:
        self.begun = True


def state_of(ranks: int) -> dict[str, object]:
    """What the first of several ranks writes; every buffer of rank r is 10 r + 1."""
    first = Own()
    for value in first.buffers():
        value.fill_(1)
    first._of_ranks = {
        name: [torch.full_like(value, 10 * rank + 1) for rank in range(ranks)]
        for name, value in first.named_buffers()
    }
    return first.state_dict()


@pytest.mark.parametrize(("rank", "value", "begun"), [(0, 1, False), (1, 11, False), (2, 1, True)])
def test_each_rank_takes_its_own_and_a_new_one_begins(rank, value, begun, monkeypatch):
    monkeypatch.setattr(rank_buffers, "rank", lambda group: rank)
    own = Own()
    own.load_state_dict(state_of(2))
    assert {float(each) for buffer in own.buffers() for each in buffer.flatten()} == {value}
    assert own.begun is begun
    # A state of a single rank, and what was gathered, are of the past after that.
    own.load_state_dict({**state_of(2), "_extra_state": {}})
    assert {float(each) for buffer in own.buffers() for each in buffer.flatten()} == {1}
    own.forget()
    assert own.get_extra_state() == {}
