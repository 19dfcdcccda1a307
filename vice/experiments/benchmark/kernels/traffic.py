"""What ranks send each other in a training step: on paper, and counted on the wire."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vice.errors import UserError
from vice.experiments.benchmark.data import block_regions
from vice.experiments.benchmark.timing import Measurement
from vice.losses import DenseSwAVLoss
from vice.models import Prototypes, build_embedder

FLOAT, DOUBLE = 4, 8
#: Numbers of ranks for which the table is worked out.
RANKS = (1, 2, 4, 32, 256, 1024)
#: Steps that are counted together.
STEPS = 4
#: Maximum and sum of each of Sinkhorn's iterations.
REDUCTIONS = 2


@dataclass(frozen=True)
class Sizes:
    """What the traffic of a step depends on.

    Attributes:
        parameters: Numbers with a gradient.
        buffers: Bytes of the model's buffers; rank 0's are sent to all before each step.
        normalized: Channels of each synchronised batch normalisation; empty on a CPU.
        prototypes: K.
        iterations: Of Sinkhorn.
        group: Ranks that share batch statistics, those of a node.
    """

    parameters: int
    buffers: int
    normalized: tuple[int, ...] = ()
    prototypes: int = 128
    iterations: int = 3
    group: int = 4

    @classmethod
    def of(cls, model: nn.Module, prototypes: int, *, synchronised: bool) -> Sizes:
        """Those of an embedder with so many prototypes."""
        norms = [m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        return cls(
            parameters=sum(p.numel() for p in model.parameters()),
            buffers=sum(b.numel() * b.element_size() for b in model.buffers()),
            normalized=tuple(norms) if synchronised else (),
            prototypes=prototypes,
        )


def payload(sizes: Sizes) -> dict[str, tuple[str, int]]:
    """Bytes that each rank hands to collective calls in a step: name to (kind, bytes).

    They do not depend on the number of ranks, and neither on regions or pixels: what is exchanged
    of regions are sums over them.
    """
    counts = FLOAT
    health = (5 + sizes.prototypes) * DOUBLE
    gathered = sum(2 * channels + 1 for channels in sizes.normalized) * FLOAT
    returned = sum(2 * channels for channels in sizes.normalized) * FLOAT
    return {
        "gradients": ("sum", sizes.parameters * FLOAT),
        "buffers": ("broadcast", sizes.buffers),
        "batch statistics": ("gather of a node", gathered),
        "their gradients": ("sum of a node", returned),
        "Sinkhorn": ("sum", sizes.iterations * REDUCTIONS * sizes.prototypes * FLOAT),
        "loss and health": ("sum", counts + health),
    }


def sent(sizes: Sizes, ranks: int) -> dict[str, float]:
    """Bytes that all ranks together put on the wire in a step, by the cheapest algorithms.

    A sum over n ranks costs 2 (n - 1) times its size (ring), a broadcast and what is gathered
    from each rank n - 1 times theirs, the latter from each of n. Batch statistics stay in a node.
    """
    group = min(ranks, sizes.group)
    times = {
        "sum": 2 * (ranks - 1),
        "broadcast": ranks - 1,
        "sum of a node": ranks // group * 2 * (group - 1),
        "gather of a node": ranks * (group - 1),
    }
    return {name: times[kind] * size for name, (kind, size) in payload(sizes).items()}


def traffic(device: str, *, small: bool) -> list[Measurement]:
    """Bytes of a step at the paper's size, and those that real processes sent at a small one.

    The counters are those of the machine's own interface: other programs that use it are counted
    as well, so this is best run in a network namespace of its own.
    """
    del device, small
    with torch.device("meta"):
        model = build_embedder("resnet50", "deeplabv3plus", 128)
    paper = Sizes.of(model, 128, synchronised=True)
    paper = Sizes(**{**vars(paper), "parameters": paper.parameters + 128 * 128})
    rows = []
    for ranks in RANKS:
        parts = sent(paper, ranks)
        shares = ", ".join(f"{name} {_mib(size / ranks)}" for name, size in parts.items())
        each = sum(parts.values()) / ranks
        rows.append(
            Measurement(f"{ranks} ranks, on paper", 0.0, note=f"{_mib(each)} a rank: {shares}")
        )
    for ranks in (1, 2, 4):
        sizes, measured = count(ranks)
        expected = sum(sent(sizes, ranks).values())
        ratio = measured / expected if expected else float("nan")
        note = f"{_mib(measured)} sent by all, {_mib(expected)} expected"
        rows.append(Measurement(f"{ranks} processes, counted", 0.0, "on paper", ratio, note))
    return rows


def count(ranks: int) -> tuple[Sizes, float]:
    """Trains a small model with real processes and counts what goes over the wire.

    Args:
        ranks: Number of processes.

    Returns:
        The sizes of what was trained, and the mean bytes of a step that all ranks sent.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = torch.multiprocessing.get_context("spawn")
    result = context.SimpleQueue()
    torch.multiprocessing.spawn(_rank, (ranks, port, result), nprocs=ranks)
    sizes, measured = result.get()
    return sizes, measured


def _rank(rank: int, ranks: int, port: int, result: Any) -> None:
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=ranks)
    torch.manual_seed(0)
    model = build_embedder("resnet18", "fpn", 64)
    sizes = Sizes.of(model, 64, synchronised=False)
    wrapped = DistributedDataParallel(model) if ranks > 1 else model
    criterion = DenseSwAVLoss(2, 64, 64, queue_length=100, queue_start=0)
    weight = Prototypes(64, 64).weight.detach()
    regions = block_regions(4, 64, 16, "cpu")
    step = _Step(wrapped, criterion, weight, regions)
    step()
    step()
    dist.barrier()
    before = interface_bytes()
    for _ in range(STEPS):
        step()
    dist.barrier()
    if rank == 0:
        result.put((sizes, (interface_bytes() - before) / STEPS))
    dist.barrier()
    dist.destroy_process_group()


@dataclass
class _Step:
    model: nn.Module
    criterion: DenseSwAVLoss
    weight: Tensor
    regions: Tensor

    def __call__(self) -> None:
        batch = torch.randn(len(self.regions), 3, 64, 64)
        self.model.zero_grad()
        self.criterion(self.model(batch), self.weight, self.regions).backward()


def interface_bytes(names: Sequence[str] = ("lo",)) -> int:
    """Bytes that this machine's interfaces have sent so far.

    Raises:
        UserError: No such counters here.
    """
    try:
        lines = Path("/proc/net/dev").read_text().splitlines()
    except OSError as error:
        raise UserError("/proc/net/dev cannot be read: traffic is only counted on Linux") from error
    fields = {name.strip(): rest.split() for name, _, rest in (x.partition(":") for x in lines)}
    return sum(int(fields[name][8]) for name in names if name in fields)


def _mib(size: float) -> str:
    return f"{size / 2**20:.3g} MiB"
