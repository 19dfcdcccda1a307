"""A trunk's weights as a file of another library, once that library has computed the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vice.errors import UserError
from vice.export.facts import KEY, as_text, facts
from vice.export.folder import FILES, earlier_files, library_of, put
from vice.export.trunks import Trunk, own_maps, timm_trunk, torchvision_trunk
from vice.models.own_files import write_safetensors
from vice.paths import from_home
from vice.predictor import Predictor

TRUNKS: dict[str, Callable[[nn.Module], Trunk]] = {
    "torchvision": torchvision_trunk,
    "timm": timm_trunk,
}
#: Most that feature maps may differ by, as a share of the greatest value.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class WrittenTrunk:
    """What was written.

    Attributes:
        file: Its name.
        lines: The Python that loads it.
        missing: Beginnings of the names that the other library's network has besides.
        difference: The greatest of its feature maps from the model's, as a share of the greatest
            value.
    """

    file: str
    lines: list[str]
    missing: list[str]
    difference: float


def write_trunk(predictor: Predictor, folder: str | Path, trunk: Trunk) -> WrittenTrunk:
    """Writes a trunk's weights; an earlier one for the same library is replaced.

    Args:
        predictor: The model that it is of, on the CPU.
        folder: Made if missing.
        trunk: What it is in the other library.

    Raises:
        UserError: The other library's network computes something else, or the folder cannot be
            written, or holds something else.
    """
    to = library_of(trunk.call)
    folder = from_home(folder)
    earlier_files(folder, to)
    missing, difference = _tried(predictor, trunk)
    (name,) = FILES[to]
    lines = _lines(trunk, name, bool(missing))
    said = facts(
        predictor,
        format=to,
        network_there=trunk.call,
        input=f"float32 (B, 3, H, W), RGB from 0 to 1, less {trunk.mean}, by {trunk.deviation}",
        not_in_it=missing,
        difference=difference,
        load=lines,
    )

    def write(new: str) -> None:
        if name.endswith(".pth"):
            # Its library reads no other.
            meta = {KEY: as_text(said)}
            torch.save({"meta": meta, "state_dict": dict(trunk.tensors)}, new)
        else:
            write_safetensors(new, trunk.tensors, {"format": "pt", KEY: as_text(said)})

    put(folder, to, {name: write}, said)
    return WrittenTrunk(name, lines, missing, difference)


@torch.no_grad()
def _tried(predictor: Predictor, trunk: Trunk) -> tuple[list[str], float]:
    """What the other network has besides, and how far its maps are from the model's."""
    with torch.random.fork_rng(devices=[]):
        network: Any = trunk.build()
    # Not chained: backbones of MMSegmentation return nothing there.
    network.eval()
    keys = network.load_state_dict(dict(trunk.tensors), strict=False)
    if keys.unexpected_keys:
        raise UserError(
            f"{trunk.call} has no {keys.unexpected_keys[0]}, which this model's trunk has: export "
            "to onnx or torchscript instead"
        )
    batch, height, width = trunk.size
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(batch, 3, height, width, generator=generator)
    wanted = own_maps(predictor.embedder, images)
    found = trunk.maps(network, trunk.normalized(images))
    same = [a.shape for a in wanted] == [b.shape for b in found]
    difference = (
        max(
            float((a - b).abs().max() / a.abs().max().clamp(min=1e-6))
            for a, b in zip(wanted, found, strict=True)
        )
        if same
        else float("nan")
    )
    # NaN is not below anything.
    if not difference <= TOLERANCE:
        raise UserError(
            f"{trunk.call} computes other maps than this model's trunk ({difference:.2g} of the "
            "greatest value): export to onnx or torchscript instead"
        )
    return sorted({f"{key.partition('.')[0]}." for key in keys.missing_keys}), difference


def _lines(trunk: Trunk, name: str, partly: bool) -> list[str]:
    reader = (
        f'torch.load("{name}", weights_only=True)["state_dict"]'
        if name.endswith(".pth")
        else f'safetensors.torch.load_file("{name}")'
    )
    more = ", strict=False" if partly else ""
    return [f"network = {trunk.call}", f"network.load_state_dict({reader}{more})"]
