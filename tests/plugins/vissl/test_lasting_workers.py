"""Data loading processes that last: the same samples, and the same random numbers."""

from __future__ import annotations

import os

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from vice.plugins.vissl.lasting_workers import Beginning, SharedEpoch, draw_seed, lasting
from vice.runtime.threads import WAY


class Numbered(Dataset):
    """Index, epoch and process of each sample."""

    def __init__(self) -> None:
        self.epoch = SharedEpoch()

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> tuple[int, int, int]:
        return index, self.epoch.get(), os.getpid()


class Copying:
    """As Classy Vision's wrappers, which copy batches to a GPU."""

    def __init__(self, dataloader: DataLoader) -> None:
        self.dataloader = dataloader

    def __iter__(self):
        return iter(self.dataloader)


def epochs_of(loader, dataset: Numbered) -> list[tuple[list[int], set[int], set[int]]]:
    seen = []
    for epoch in (0, 1, 5):
        dataset.epoch.set(epoch)
        index, said, process = (torch.cat(part) for part in zip(*list(loader), strict=True))
        seen.append((index.tolist(), set(said.tolist()), set(process.tolist())))
    return seen


@pytest.mark.parametrize("method", ["fork", "forkserver"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_processes_stay_and_see_each_epoch(method, wrapped):
    dataset = Numbered()
    plain = DataLoader(
        dataset, batch_size=2, num_workers=2, drop_last=True, multiprocessing_context=method
    )
    loader = lasting(Copying(plain) if wrapped else plain)
    assert type(loader) is (Copying if wrapped else DataLoader)
    found = epochs_of(loader, dataset)
    assert [said for _, said, _ in found] == [{0}, {1}, {5}]
    assert all(processes == found[0][2] for *_, processes in found)
    assert len(found[0][2]) == 2 and os.getpid() not in found[0][2]
    assert [order for order, *_ in found] == [list(range(6))] * 3


class Nice(Dataset):
    """Niceness of the process, and the number that it was begun with."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[int, int]:
        return os.nice(0), int(os.environ.get("BEGUN", -1))


def begin(number: int) -> None:
    os.environ["BEGUN"] = str(number)


@pytest.mark.parametrize("method", ["fork", "forkserver"])
@pytest.mark.parametrize("give_way", [False, True])
def test_processes_may_give_way_and_still_begin_as_they_were_to(method, give_way):
    plain = DataLoader(Nice(), num_workers=2, worker_init_fn=begin, multiprocessing_context=method)
    before, seen = os.nice(0), list(lasting(plain, give_way=give_way))
    assert {int(nice) for nice, _ in seen} == {min(before + WAY * give_way, 19)}
    assert {int(number) for _, number in seen} == {0, 1}
    assert os.nice(0) == before


def test_without_processes_nothing_changes():
    plain = DataLoader(Numbered(), batch_size=2)
    assert lasting(plain) is plain


def test_options_of_a_loader_are_kept():
    dataset, sampler = Numbered(), [3, 1, 2]
    plain = DataLoader(
        dataset,
        batch_size=2,
        sampler=sampler,
        num_workers=1,
        collate_fn=list,
        timeout=7,
        worker_init_fn=print,
        prefetch_factor=3,
        generator=torch.Generator(),
    )
    loader = lasting(plain)
    for name in (
        "dataset", "batch_size", "sampler", "num_workers", "collate_fn", "timeout", "pin_memory",
        "prefetch_factor", "generator", "drop_last",
    ):  # fmt: skip
        assert getattr(loader, name) is getattr(plain, name), name
    assert loader.worker_init_fn == Beginning(give_way=False, then=print)


def test_a_seed_is_drawn_as_processes_that_start_draw_theirs():
    torch.manual_seed(3)
    list(DataLoader(Numbered(), batch_size=7, num_workers=1))
    after = torch.get_rng_state()
    torch.manual_seed(3)
    draw_seed()
    assert torch.equal(torch.get_rng_state(), after)
