"""The nearest neighbors of every crop by the features of a frozen backbone, kept in a file."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vice.errors import UserError
from vice.methods.context import Context
from vice.models.modes import evaluating
from vice.neighbours import nearest_neighbours
from vice.normalize import normalize
from vice.runtime.collectives import all_reduce_, on_first_rank, rank, world_size
from vice.runtime.files import make_folder, replace_atomically
from vice.runtime.numpy_files import open_npz

logger = logging.getLogger(__name__)

#: The table of a run, in its folder.
FILE = "neighbors.npz"
#: Neighbors of a crop that are kept, itself first.
KEPT = 30
#: Crops that go through the backbone at a time, and that are looked for between two questions
#: whether the run is to stop.
_FORWARD, _QUERIES = 32, 4096
#: More than tables that fit into memory take.
_MOST_BYTES = 2**34


def digest_weights(backbone: nn.Module) -> str:
    """Hexadecimal digits that depend on names, shapes and values of all weights and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(backbone.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def table_key(said: Mapping[str, Any]) -> str:
    """Twenty hexadecimal digits of all that a table follows from."""
    text = "".join(f"{name}={value}\n" for name, value in sorted(said.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def read_table(folder: Path, key: str | None = None, name: str = FILE) -> np.ndarray:
    """The table of a run.

    Args:
        folder: Of the run.
        key: Only a table of this key is taken.
        name: Of the file.

    Returns:
        int32 (crops, k): numbers of crops, itself first, -1 where there is none.

    Raises:
        UserError: There is no such table.
    """
    try:
        with open_npz(folder / name, _MOST_BYTES) as arrays:
            table, found = arrays["table"], str(arrays["key"])
    except Exception as error:
        raise UserError(f"{folder / name}: no table of neighbors ({error})") from error
    if table.dtype != np.int32 or table.ndim != 2 or key not in (None, found):
        raise UserError(f"{folder / name}: a table of other neighbors")
    return np.asarray(table)


def ensure_table(
    context: Context,
    key: str,
    read: Callable[..., Any],
    *,
    batch: int,
    shared: str | None,
    dropped: float = 0.0,
) -> None:
    """Makes sure that the run's folder holds the table of a key: it is found, or made.

    Args:
        context: Every rank calls this.
        key: Of all that the table follows from.
        read: Reads all crops of an image, uint8 (crops, side, side, 3).
        batch: Images of all ranks in a batch of the pass.
        shared: Folder that runs share tables in, if there is one.
        dropped: Share of the channels that are dropped, for each crop anew.
    """
    name = f"neighbors-{key}.npz"
    places = [(context.folder, FILE)] + ([(Path(shared), name)] if shared else [])

    def find() -> bool:
        for folder, file in places:
            try:
                table = read_table(folder, key, file)
            except UserError:
                continue
            if (folder, file) != places[0]:
                write_table(context.folder / FILE, table, key)
            logger.info("neighbors of %d crops are in %s", len(table), folder / file)
            return True
        return False

    if on_first_rank(find):
        return
    table = make_table(context, read, batch=batch, dropped=dropped)

    def write() -> None:
        for folder, file in places:
            write_table(folder / file, table, key)

    on_first_rank(write)


def write_table(path: Path, table: np.ndarray, key: str) -> None:
    """Writes a table in one step, and makes its folder.

    Raises:
        UserError: The disk does not take it.
    """

    def write(name: str) -> None:
        with open(name, "wb") as file:
            np.savez(file, table=table, key=np.array(key))

    make_folder(path.parent)
    replace_atomically(path, write)


def make_table(
    context: Context, read: Callable[..., Any], *, batch: int, dropped: float = 0.0
) -> np.ndarray:
    """The nearest crops of each crop by the cosine of their mean features, exactly.

    Memory, beside the images of a batch: the features of all crops, on every rank.

    Args:
        context: Every rank calls this.
        read: As in `ensure_table`.
        batch: As there.
        dropped: As there.

    Returns:
        As `read_table`. Crops of images that cannot be read have no neighbor, and are none.

    Raises:
        UserError: No image can be read.
    """
    vectors, seen = _embed(context, read, batch, dropped)
    known = seen.nonzero()[:, 0]
    if not len(known):
        raise UserError("none of the images can be read: there are no neighbors to look for")
    found = torch.zeros(len(vectors), min(KEPT, len(known)), dtype=torch.int64, device=known.device)
    among = vectors[known]
    for own in known[rank() :: world_size()].split(_QUERIES):
        context.check()
        near = known[nearest_neighbours(vectors[own], among, found.shape[1])[1]]
        found[own] = _itself_first(own, near)
    # Each rank looks for the neighbors of its own crops; others have zeros for them.
    table = all_reduce_(found)
    table[~seen] = -1
    return table.cpu().numpy().astype(np.int32)


def _itself_first(own: Tensor, near: Tensor) -> Tensor:
    """(n,) crops and their neighbors (n, k), with the crop moved, or put, before the others."""
    # Crops that are copies of each other have no order; the stable sort leaves the others' as is.
    last = (near == own[:, None]).long().argsort(dim=1, stable=True)
    return torch.cat([own[:, None], near.gather(1, last)[:, :-1]], 1)


def _embed(
    context: Context, read: Callable[..., Any], batch: int, dropped: float
) -> tuple[Tensor, Tensor]:
    """Unit mean features (crops, C) of all images, and which were seen, of all ranks."""
    vectors, seen = (torch.zeros(size, device=context.device) for size in ((0, 0), (0,)))
    backbone = context.embedder.backbone
    with evaluating(backbone):
        for part in context.run(read, batch):
            if not part:
                continue
            crops = len(part[0][1])
            means = _means(backbone, np.concatenate([each for _, each in part]), context.device)
            if not len(seen):
                vectors = means.new_zeros(context.num_images * crops, means.shape[1])
                seen = means.new_zeros(len(vectors))
            for (index, _), own in zip(part, means.split(crops), strict=True):
                rows = slice(index * crops, (index + 1) * crops)
                vectors[rows], seen[rows] = _dropped(own, index, dropped, context.seed), 1
    vectors, seen = _sized_everywhere(vectors, seen)
    return all_reduce_(vectors), all_reduce_(seen) > 0


def _means(backbone: nn.Module, crops: np.ndarray, device: torch.device) -> Tensor:
    pixels = torch.from_numpy(crops).to(device).permute(0, 3, 1, 2)
    parts = [backbone(normalize(part))[-1].float().mean((2, 3)) for part in pixels.split(_FORWARD)]
    return F.normalize(torch.cat(parts), dim=1)


def _dropped(means: Tensor, index: int, share: float, seed: int) -> Tensor:
    """Without some channels, drawn for each crop by its key."""
    if not share:
        return means
    kept = np.random.default_rng([seed, index]).random(tuple(means.shape)) >= share
    return F.normalize(means * torch.from_numpy(kept).to(means), dim=1)


def _sized_everywhere(vectors: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Room of the same size on ranks that had no image of their own to read."""
    rows, width = all_reduce_(torch.tensor(vectors.shape, device=seen.device), "max").tolist()
    if len(seen) == rows:
        return vectors, seen
    return vectors.new_zeros(rows, width), seen.new_zeros(rows)
