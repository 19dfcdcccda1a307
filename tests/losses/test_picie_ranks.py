"""PiCIE's loss and k-means: a batch over 1, 2 and 4 processes is the same batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from tests.helpers.processes import spawn
from tests.losses.test_picie import random_batch
from tests.test_minibatch_kmeans import fit
from vice.losses.picie import PiCIELoss

#: Every point kept on the disk, a sample of them, and groups that are fewer than the first ones.
FITS = (
    {"init_groups": 2, "init_points": None},
    {"init_groups": 2, "init_points": 100},
    {"init_groups": 9, "init_points": 10**6, "update_groups": 2},
)


def share_of_a_batch(rank: int, ranks: int) -> dict[str, object]:
    batch = random_batch()
    own = slice(rank * 4 // ranks, (rank + 1) * 4 // ranks)
    embeddings = torch.cat([part[own] for part in batch["embeddings"].chunk(2)]).requires_grad_()
    batch |= {name: batch[name][own] for name in ("boxes", "flips", "labels")}
    classifiers = batch["classifiers"].requires_grad_()
    loss = PiCIELoss([3, 5], distance=True).name_epoch(["kmeans_loss"])
    loss(**{**batch, "embeddings": embeddings}).backward()
    return {
        "loss": loss.health,
        "embeddings": embeddings.grad.numpy(),
        "classifiers": classifiers.grad.numpy(),
    }


def everything(rank: int, ranks: int, scratch: str) -> tuple[dict, list[dict]]:
    fitted = [fit(rank, ranks, 4, {**options, "scratch": scratch}) for options in FITS]
    return share_of_a_batch(rank, ranks), fitted


def in_groups(rank: int, ranks: int, scratch: str) -> dict[int, Any]:
    """The same in a group of the first two processes, and in one of all."""
    found = {}
    for size in (2, ranks):
        if rank < size:
            where = f"file://{scratch}/meeting{size}"
            dist.init_process_group("gloo", init_method=where, rank=rank, world_size=size)
            found[size] = everything(rank, size, scratch)
            dist.barrier()
            dist.destroy_process_group()
    return found


def test_a_batch_over_two_and_four_ranks_is_the_same_batch(tmp_path):
    whole = everything(0, 1, str(tmp_path))
    found = spawn(in_groups, 4, str(tmp_path))
    for ranks in (2, 4):
        compare(whole, [each[ranks] for each in found[:ranks]])
    assert [path.name for path in tmp_path.iterdir() if "meeting" not in path.name] == []


def compare(whole: Any, parts: list[Any]) -> None:
    ranks = len(parts)
    one = whole[0]
    for part, _ in parts:
        assert part["loss"] == pytest.approx(one["loss"], abs=1e-6)
        assert part["loss"]["kmeans_loss"] == 0.25
    # Ranks average gradients; the pixels' own are each rank's.
    mean = np.mean([part["classifiers"] for part, _ in parts], axis=0)
    np.testing.assert_allclose(mean, one["classifiers"], atol=1e-6)
    views = [np.split(part["embeddings"] / ranks, 2) for part, _ in parts]
    joined = np.concatenate([view[v] for v in (0, 1) for view in views])
    np.testing.assert_allclose(joined, one["embeddings"], atol=1e-6)
    for _, fitted in parts:
        for found, alone, options in zip(fitted, whole[1], FITS, strict=True):
            np.testing.assert_allclose(found["centroids"], alone["centroids"], atol=1e-6)
            np.testing.assert_allclose(found["counts"], alone["counts"], rtol=1e-12)
            assert found["loss"] == pytest.approx(alone["loss"], abs=1e-7)
            assert (found["labels"] != alone["labels"]).sum() == 0
            assert found["exact"] == alone["exact"] == (options["init_points"] != 100)
