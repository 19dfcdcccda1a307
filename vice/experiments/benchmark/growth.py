"""How the cost of pooling and of the loss grows with each of their sizes."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from vice.experiments.benchmark.data import block_regions
from vice.experiments.benchmark.pooling import both_ways
from vice.experiments.benchmark.timing import Measurement, time_in_turn
from vice.losses import DenseSwAVLoss
from vice.models import Prototypes

BASE = {"views": 2, "pixels": 192, "region": 16, "dim": 64, "prototypes": 64}
SWEEPS = {
    "region": (43, 21, 9, 5, 3),
    "pixels": (96, 192, 384),
    "views": (2, 4, 8),
    "dim": (32, 64, 128, 256),
    "prototypes": (32, 128, 512),
}
#: Views of the first sweep, whatever the scale: 100 to 20,164 regions.
REGION_PIXELS = 425
NAMES = {"region": "regions a view", "pixels": "pixels of a view", "dim": "dimensions"}


def growth(device: str, *, small: bool, picture: Path | None = None) -> list[Measurement]:
    """Time of the loss, forward and backward, when one size grows.

    Returns:
        For each sweep the exponent between its first and last value: 1 is linear.
    """
    scale = 1 if small or device == "cpu" else 4
    curves: dict[str, list[tuple[float, float]]] = {}
    for name, values in SWEEPS.items():
        curves[name] = []
        for value in values:
            sizes = {**BASE, "pixels": BASE["pixels"] * scale, name: value}
            if name == "pixels":
                sizes["pixels"] = value * scale
            if name == "region":
                sizes["pixels"] = REGION_PIXELS
            curves[name].append((_amount(name, sizes), _cost(sizes, device, small)))
    if picture is not None:
        plot(curves, picture)
    rows = []
    for name, curve in curves.items():
        (first, cheap), (last, dear) = curve[0], curve[-1]
        exponent = math.log(dear / cheap) / math.log(last / first)
        what = NAMES.get(name, name)
        note = f"{what} from {first:,.0f} to {last:,.0f}: time to the power {exponent:.2f}"
        rows.append(Measurement(what, dear, f"{first:,.0f}", dear / cheap, note))
    return rows


def _amount(name: str, sizes: dict[str, int]) -> float:
    if name == "region":
        return math.ceil(sizes["pixels"] / sizes["region"]) ** 2
    return sizes[name] ** 2 if name == "pixels" else sizes[name]


def _cost(sizes: dict[str, int], device: str, small: bool) -> float:
    side, views = sizes["pixels"], sizes["views"]
    leaf = torch.randn(views, sizes["dim"], side // 4, side // 4, device=device, requires_grad=True)
    regions = block_regions(1, side, sizes["region"], device).expand(views, -1, -1).contiguous()
    criterion = DenseSwAVLoss(views, sizes["prototypes"], sizes["dim"]).to(device)
    # Validation is off: the check for enough regions would forbid the sweep's sparsest corner.
    criterion.iteration += 1
    weight = Prototypes(sizes["dim"], sizes["prototypes"]).to(device).weight
    call = both_ways(lambda: criterion(leaf, weight, regions), leaf)
    return time_in_turn({"loss": call}, device=device, seconds=0.2 if small else 0.5)["loss"]


def plot(curves: dict[str, list[tuple[float, float]]], path: Path) -> None:
    """Draws relative cost against relative size, both logarithmic."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    widest = 1.0
    for name, curve in curves.items():
        sizes = [size / curve[0][0] for size, _ in curve]
        widest = max(widest, *sizes)
        axes.loglog(
            sizes, [cost / curve[0][1] for _, cost in curve], "o-", label=NAMES.get(name, name)
        )
    axes.loglog([1, widest], [1, widest], "--", color="grey", label="linear")
    axes.set_xlabel("size, relative to the smallest")
    axes.set_ylabel("time of the loss, relative")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
