"""Weight matching: whether tensors are the weights of a network, all of them and no more."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

State = dict[str, Tensor]
#: Last parts of names that a forward pass does not need: counters, masks and tables that are
#: computed from the size of the image, and tokens of pre-training.
_IDLE = frozenset(
    {
        "attn_mask", "bias_mask", "inv_freq", "mask_token", "num_batches_tracked", "periods",
        "relative_position_index",
    }
)  # fmt: skip
_HEADS = frozenset({"classifier", "fc", "head", "head_dist", "heads"})
_SHOWN = 3
#: What to say of a file in which no tensor has a name.
NO_TENSORS = (
    "there are no weights in it: no tensors in dicts or lists (NumPy arrays are none); write "
    "torch.save(model.state_dict(), FILE)"
)


@dataclass(frozen=True)
class Match:
    """What a network makes of some tensors.

    Attributes:
        tensors: Weights under the network's own names.
        problem: Why they are not the network's, with the remedy; None where all is accounted for.
        share: Of the wanted weights, how many were found, 0 to 1.
        other: Whether the tensors are those of another architecture, whole in itself, rather than
            an incomplete copy of this one.
        unused: Names of what is not part of the network.
        layout: Whose names the file has.
    """

    tensors: State = field(default_factory=dict)
    problem: str | None = None
    share: float = 0.0
    other: bool = False
    unused: tuple[str, ...] = ()
    layout: str = ""


def compare(
    tensors: State, wanted: Mapping[str, Tensor], unused: State, *, layout: str, name: str
) -> Match:
    """Accounts for every weight.

    Args:
        tensors: Weights under the network's names, and maybe more.
        wanted: State of the network; values may lie on the meta device.
        unused: Weights that got no name of the network's.
        layout: Whose names the file has.
        name: What the user calls the network.
    """
    # Batch-norm counters: files of old versions of PyTorch lack them.
    needed = [key for key in wanted if not key.endswith("num_batches_tracked")]
    missing = [key for key in needed if key not in tensors]
    unlike = [key for key in needed if key in tensors and not _alike(tensors[key], wanted[key])]
    kept = {key: tensors[key] for key in wanted if key in tensors}
    share = (len(needed) - len(missing) - len(unlike)) / max(1, len(needed))
    more = changing(unused, wanted)
    problem = None
    # Another width or depth of the same family: its names are all there, and few shapes.
    other_shapes = [key for key in unlike if tensors[key].shape != wanted[key].shape]
    wider = not missing and 2 * len(other_shapes) > len(needed)
    # Quantized weights have the right shapes, and are no numbers to compute with.
    what = "another shape" if other_shapes or not unlike else "whole numbers"
    if missing or unlike:
        shapes = (f"{key} {_shape(tensors[key])}, not {_shape(wanted[key])}" for key in unlike)
        problem = (
            f"{len(missing)} are missing and {len(unlike)} have {what}, for example "
            + "; ".join([*missing, *shapes][:_SHOWN])
            + ": it is of another architecture, name that one" * wider
        )
    elif more:
        problem = (
            f"it holds {len(more)} more weights, which {name} has no place for and which change "
            f"what is computed, for example {', '.join(more[:_SHOWN])}: it is of another "
            "architecture, name that one"
        )
    other = wider or (bool(more) and not missing)
    return Match(kept, problem, share, other, tuple(sorted(unused)), layout)


def changing(unused: Mapping[str, Tensor], wanted: Collection[str]) -> list[str]:
    """Names of leftover weights that lie inside the wanted network and so belong to another one.

    More blocks, another bias, layer scale or token than the network has change what is computed,
    though all that it asks for is there. Heads and modules of other names do not.
    """
    firsts = {key.partition(".")[0] for key in wanted}
    names = []
    for key, value in unused.items():
        first, _, rest = key.partition(".")
        idle = key.rpartition(".")[2] in _IDLE or not value.is_floating_point()
        if idle or first in _HEADS or not value.any():
            continue
        token = not rest and re.search("token|embed", first) is not None
        if token or first == "norm_pre" or (first in firsts and rest):
            names.append(key)
    return sorted(names)


def _alike(value: Tensor, wanted: Tensor) -> bool:
    return value.shape == wanted.shape and value.is_floating_point() == wanted.is_floating_point()


def _shape(value: Tensor) -> str:
    kind = "" if value.is_floating_point() else f"{value.dtype}".removeprefix("torch.") + " "
    return kind + "x".join(map(str, value.shape)) if value.ndim else kind + "scalar"


def same(first: State, second: State) -> bool:
    """Whether two matches are the same network, value by value."""
    return first.keys() == second.keys() and all(
        a is second[key]
        or (a.shape == second[key].shape and torch.equal(a.float(), second[key].float()))
        for key, a in first.items()
    )
