"""Which way of computing a network is the fastest where it is computed: tried, not guessed."""

from __future__ import annotations

import copy
import math
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
#: A way in which a small convolution takes so many of the plainest one's seconds is not tried: a
#: processor that does not multiply in bfloat16 takes tens, and minutes for a step.
HOPELESS = 3.0
#: Steps of the small convolution, its channels, and the side of its two images.
GLANCES, CHANNELS, SIDE = 5, 32, 32


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
        the seconds of that step, by way: infinite for one that is `HOPELESS`.
    """
    plain = choices[0]
    glances = glance(choices, inputs[0].device, clock=clock)
    tried = [way for way in choices if glances[way] < HOPELESS * glances[plain]]
    steps = {way: one_step(way, copy.deepcopy(network), inputs) for way in tried}
    # The first step also makes what all later ones use again.
    for step in steps.values():
        step()
    taken: dict[Execution, list[float]] = {way: [] for way in tried}
    begun = clock()
    while len(taken[plain]) < LEAST or (len(tried) > 1 and clock() - begun < SECONDS):
        for way in tried:
            taken[way].append(_seconds(steps[way], clock))
    # Minimum: whatever else a machine is busy with makes a step longer, never shorter.
    seconds = {way: min(taken.get(way, [math.inf])) for way in choices}
    return choose(seconds), seconds


def glance(
    choices: Sequence[Execution],
    device: torch.device,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Execution, float]:
    """Seconds of a small convolution, forward and backward, in each of several ways.

    One thread: several wait for one another where a core is busy, whatever they compute.
    """
    small = nn.Conv2d(CHANNELS, CHANNELS, 3).to(device)
    images = torch.zeros(2, CHANNELS, SIDE, SIDE, device=device)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        taken = {}
        for way in choices:
            step = one_step(way, copy.deepcopy(small), [images])
            taken[way] = min(_seconds(step, clock) for _ in range(GLANCES))
    finally:
        torch.set_num_threads(threads)
    return taken


def choose(seconds: Mapping[Execution, float]) -> Execution:
    """The way with the fewest seconds; the first one unless that is `WORTH` it."""
    plain, best = next(iter(seconds)), min(seconds, key=lambda way: seconds[way])
    return best if seconds[best] <= WORTH * seconds[plain] else plain


def _seconds(step: Callable[[], None], clock: Callable[[], float]) -> float:
    begun = clock()
    step()
    return clock() - begun


def one_step(way: Execution, network: nn.Module, inputs: Sequence[Tensor]) -> Callable[[], None]:
    """What takes a step of a network, forward and backward, in one way.

    Args:
        way: Changes the layout of the network's weights where it asks for that.
        network: In training mode; its gradients are replaced.
        inputs: As in `fastest`.
    """
    way.prepare_layout(network)

    def step() -> None:
        outputs = [way.run(network, images) for images in inputs]
        network.zero_grad()
        torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])
        if inputs[0].is_cuda:
            torch.cuda.synchronize(inputs[0].device)

    return step
