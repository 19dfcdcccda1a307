"""Which way of computing a network is the fastest where it is computed: tried, not guessed."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from vice.models.execution import Execution

#: Seconds in which every way is tried in turn, after a first step of each that is not counted.
SECONDS = 3.0
#: Steps of each way that are counted, however long they take.
LEAST = 2
#: A way is taken in place of the plainest one if its step takes at most so much of that one's.
WORTH = 0.95
#: A way whose step with few images takes so many of the plainest one's is not tried with all: a
#: processor that does not multiply in bfloat16 takes ten, and minutes beside another busy program.
HOPELESS = 3.0
#: Images of an input that each way is given first: normalization of a batch needs two.
FEW = 2


def fastest(
    network: nn.Module,
    inputs: Sequence[Tensor],
    choices: Sequence[Execution],
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Execution, dict[Execution, float]]:
    """Takes steps, forward and backward, in each of several ways; nothing is compiled for it.

    Args:
        network: A network of images, in training mode; copies of it are tried.
        inputs: What it is given in a step, each (B, 3, h, w) float, on its device.
        choices: The ways, the plainest first.
        clock: What seconds are read from.

    Returns:
        The way whose quickest step was the quickest, the plainest one where the gain is small; and
        the seconds of that step, by way. Of a way that is `HOPELESS` they are worked out from steps
        with few images.
    """
    plain = choices[0]
    networks = {way: copy.deepcopy(network) for way in choices}
    few = {way: _step(way, networks[way], [images[:FEW] for images in inputs]) for way in choices}
    # The first step also makes what all later ones use again.
    first = {way: min(_seconds(step, clock) for _ in range(2)) for way, step in few.items()}
    tried = [way for way in choices if way == plain or first[way] < HOPELESS * first[plain]]
    steps = {way: _step(way, networks[way], inputs) for way in tried}
    for step in steps.values():
        step()
    taken: dict[Execution, list[float]] = {way: [] for way in tried}
    begun = clock()
    while len(taken[plain]) < LEAST or (len(tried) > 1 and clock() - begun < SECONDS):
        for way in tried:
            taken[way].append(_seconds(steps[way], clock))
    # Minimum: whatever else a machine is busy with makes a step longer, never shorter.
    share = min(taken[plain]) / first[plain]
    seconds = {way: min(taken.get(way, [first[way] * share])) for way in choices}
    return choose(seconds), seconds


def choose(seconds: Mapping[Execution, float]) -> Execution:
    """The way with the fewest seconds; the first one unless that is `WORTH` it."""
    plain, best = next(iter(seconds)), min(seconds, key=lambda way: seconds[way])
    return best if seconds[best] <= WORTH * seconds[plain] else plain


def _seconds(step: Callable[[], None], clock: Callable[[], float]) -> float:
    begun = clock()
    step()
    return clock() - begun


def _step(way: Execution, network: nn.Module, inputs: Sequence[Tensor]) -> Callable[[], None]:
    way.prepare_layout(network)

    def step() -> None:
        outputs = [way.run(network, images) for images in inputs]
        network.zero_grad()
        torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])
        if inputs[0].is_cuda:
            torch.cuda.synchronize(inputs[0].device)

    return step
