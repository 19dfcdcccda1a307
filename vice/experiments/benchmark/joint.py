"""IIC's joint by FFT, against one convolution with the images as channels."""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F
from torch import Tensor

from vice.experiments.benchmark.memory import peak_extra_bytes
from vice.experiments.benchmark.timing import Measurement, time_in_turn
from vice.losses.joint import displaced_joint

#: Pairs, classes, side of the maps, T.
_SIZE, _SMALL = (60, 45, 64, 10), (8, 15, 32, 5)


def convolved(first: Tensor, second: Tensor, displacement: int) -> Tensor:
    """The joint as IIC's authors compute it, (K, M, 2T + 1, 2T + 1)."""
    return F.conv2d(first.transpose(0, 1), second.transpose(0, 1), padding=displacement)


def iic_joint(device: str, *, small: bool) -> list[Measurement]:
    """Joint of 60 pairs at K = 45, 64 x 64 pixels and T = 10, alone and with its gradient.

    On a CPU seconds are those of the processor, with one number of threads for both.
    """
    pairs, classes, side, displacement = _SMALL if small else _SIZE
    generator = torch.Generator(device).manual_seed(0)
    maps = [
        torch.rand(pairs, classes, side, side, generator=generator, device=device).requires_grad_()
        for _ in range(2)
    ]

    def alone(way: object) -> Tensor:
        with torch.no_grad():
            return way(*maps, displacement)  # type: ignore[operator, no-any-return]

    def both(way: object) -> None:
        torch.autograd.grad(way(*maps, displacement).square().sum(), maps)  # type: ignore[operator]

    note = f"{pairs} pairs, K {classes}, {side} x {side}, T {displacement}"
    rows = []
    for name, call in (("joint", alone), ("joint and gradient", both)):
        calls = {
            way.__name__: (lambda call=call, way=way: call(way))
            for way in (convolved, displaced_joint)
        }
        clock = time.process_time if device == "cpu" else time.perf_counter
        seconds = time_in_turn(calls, device=device, clock=clock)
        slow, fast = (seconds[way] for way in calls)
        extra = peak_extra_bytes(calls["displaced_joint"], device) / 2**20
        rows.append(Measurement(f"{name}, one convolution", slow, "itself", 1.0, note))
        text = f"{slow / fast:.1f} times faster; {extra:.0f} MiB of memory"
        rows.append(Measurement(f"{name}, FFT", fast, "one convolution", fast / slow, text))
    return rows
