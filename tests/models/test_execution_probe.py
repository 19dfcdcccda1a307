"""The probe of ways of computing a network: what it takes, and what it leaves alone."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from vice.models import build_embedder
from vice.models.execution import AUTO, Execution
from vice.models.execution_probe import HOPELESS, LEAST, choose, fastest

PLAIN, LAST = Execution(), Execution(channels_last=True)
HALF = Execution(precision="bfloat16")


def test_what_is_undecided_is_decided_among():
    both = Execution(precision=AUTO, channels_last=AUTO)
    assert both.undecided and not PLAIN.undecided
    ways = both.choices()
    assert ways[0] == PLAIN and len(set(ways)) == 4 and not any(way.undecided for way in ways)
    assert Execution(channels_last=AUTO).choices() == [PLAIN, LAST]
    assert {way.channels_last for way in Execution(AUTO, True, True).choices()} == {True}
    assert all(way.compiled for way in Execution(AUTO, True, True).choices())
    assert LAST.choices() == [LAST]
    with pytest.raises(ValueError, match="still to be decided"):
        both.prepare(torch.nn.Conv2d(3, 8, 1))


@pytest.mark.parametrize(
    ("seconds", "best"),
    [((1.0, 0.5, 0.4), HALF), ((1.0, 0.5, 0.6), LAST), ((1.0, 0.99, 0.97), PLAIN),
     ((1.0, 3.0, 2.0), PLAIN)],
)  # fmt: skip
def test_a_way_is_taken_only_where_it_is_faster(seconds, best):
    assert choose(dict(zip((PLAIN, LAST, HALF), seconds, strict=True))) == best


def test_all_ways_take_steps_and_the_network_stays():
    torch.manual_seed(0)
    network = build_embedder("resnet18", "fpn", 8, stages=1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    calls: list[float] = []
    seconds = itertools.count()

    def clock() -> float:
        calls.append(float(next(seconds)))
        return calls[-1]

    # A clock that goes on by a second a look: every step takes one, and none is worth it.
    best, taken = fastest(network, [torch.randn(2, 3, 32, 32)], [PLAIN, HALF], clock=clock)
    assert best == PLAIN and taken == {PLAIN: 1.0, HALF: 1.0}
    assert len(calls) >= 4 * LEAST
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_hopeless_way_takes_steps_of_a_small_convolution_alone():
    network, took = torch.nn.Conv2d(3, 4, 1), {PLAIN: 1.0, LAST: 0.5, HALF: HOPELESS}
    now, steps = [0.0], []

    class Slow(Execution):
        """A way whose steps take what the table says, by the clock of the test."""

        def run(self, network, images):
            steps.append((self.way, len(images)))
            now[0] += took[self.way]
            return network(images)

    ways = {}
    for way in took:
        ways[way] = Slow(**vars(way))
        object.__setattr__(ways[way], "way", way)
    best, seconds = fastest(
        network, [torch.randn(5, 3, 4, 4)], list(ways.values()), clock=lambda: now[0]
    )
    assert best == ways[LAST] and list(seconds.values()) == [1.0, 0.5, math.inf]
    assert {count for way, count in steps if way == HALF} == {2}
    assert steps.count((LAST, 5)) == steps.count((PLAIN, 5)) > LEAST
