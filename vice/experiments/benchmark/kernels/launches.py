"""Which kernels a step launches, with which arguments, and what Triton makes of them; no GPU."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.compiler import compile as build
from triton.runtime.jit import JITFunction, create_function_from_signature

from vice.errors import UserError
from vice.experiments.benchmark.kernels.sass import Code, follow, instructions
from vice.regions import RegionIndex, index_regions
from vice.regions.kernels import FusedMeans, FusedRepresentatives

#: The ways to pool, forward and backward.
WAYS = ("pixel", "region", "representatives")


class Launch(NamedTuple):
    """One launch of a kernel.

    Attributes:
        kernel: The function.
        grid: Programs along each axis.
        positional: Its arguments.
        named: Compile-time constants and options.
    """

    kernel: Any
    grid: tuple[int, ...]
    positional: tuple[Any, ...]
    named: dict[str, Any]

    @property
    def name(self) -> str:
        """The kernel's own, without the underscore."""
        return str(self.kernel.fn.__name__).strip("_")

    def bytes_of_tensors(self) -> int:
        """What its arguments hold, each once."""
        tensors = [each for each in self.positional if isinstance(each, Tensor)]
        return sum(each.numel() * each.element_size() for each in tensors)


@contextmanager
def recorded() -> Iterator[list[Launch]]:
    """Notes what would be launched, instead of launching it; results are not computed."""
    launched: list[Launch] = []

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **named: Any) -> None:
        launched.append(Launch(self, tuple(grid), args, named))

    launching = JITFunction.run
    JITFunction.run = run
    try:
        yield launched
    finally:
        JITFunction.run = launching


def launches(
    way: str,
    regions: Tensor,
    *,
    dim: int = 128,
    stride: int = 4,
    dtype: torch.dtype,
    through: bool = True,
) -> list[Launch]:
    """What one of ``WAYS`` launches, forward and backward.

    Args:
        way: Unit pixels, raw pixels, or representatives of as many prototypes as dimensions.
        regions: (B, h, w) region maps on the CPU.
        dim: D of the embedding (B, D, h / stride, w / stride), which is in channels_last.
        stride: Pixels between cells.
        dtype: Of the embedding.
        through: Whether the gradient of the coherence reaches representatives, which costs more.
    """
    maps, height, width = regions.shape
    shape = (maps, height // stride, width // stride, dim)
    cells = torch.ones(shape, dtype=dtype).permute(0, 3, 1, 2).requires_grad_()
    numbered = index_regions(regions)
    with recorded() as launched:
        _pool(way, cells, numbered, through=through).sum().backward()
    if not launched:
        raise UserError("TRITON_INTERPRET is set: unset it to see what Triton compiles")
    return launched


def _pool(way: str, cells: Tensor, numbered: RegionIndex, *, through: bool) -> Tensor:
    if way == "representatives":
        prototypes = F.normalize(torch.ones(cells.shape[1], cells.shape[1]), dim=1)
        options = {"align_corners": False, "through": through}
        vectors, coherence = FusedRepresentatives.apply(cells, prototypes, numbered, options)
        return torch.cat([vectors, coherence.unsqueeze(1)], 1)
    options = {"normalize": way == "pixel", "align_corners": False}
    means: Tensor = FusedMeans.apply(cells, numbered, options)
    return means


def compiled(launch: Launch, capability: int = 90) -> Any:
    """The kernel as Triton would compile it at this launch.

    Triton's own rules say what it assumes of the arguments: strides of 1, numbers that 16 divides,
    pointers that are aligned. Without them no load would be wider than a number.

    Args:
        launch: What is launched.
        capability: Of the GPU, for example 90.
    """
    target = GPUTarget("cuda", capability, 32)
    backend = make_backend(target)
    kernel, named = launch.kernel, launch.named
    bind = create_function_from_signature(kernel.signature, kernel.params, backend)
    bound, assumed, options = bind(*launch.positional, **named)
    options, types, constants, attributes = kernel._pack_args(
        backend, named, bound, assumed, options
    )
    source = ASTSource(kernel, types, constants, attributes)
    return build(source, target=target, options=options.__dict__)


def disassembled(kernel: Any) -> Code:
    """Machine code of a compiled kernel.

    Raises:
        UserError: The disassembler is missing.
    """
    tool = _tool()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(kernel.asm["cubin"])
        code = follow(instructions(_output(tool, "-sass", str(path))))
        usage = _output(tool, "-res-usage", str(path))
    fields = {name: int(value) for name, value in re.findall(r"\b([A-Z]+):(\d+)", usage)}
    code.registers, code.stack = fields["REG"], fields["STACK"] + fields.get("LOCAL", 0)
    code.shared = fields["SHARED"]
    return code


def _tool() -> str:
    try:
        return str(knobs.nvidia.cuobjdump.path)
    except RuntimeError:
        path = shutil.which("cuobjdump", path="/usr/local/cuda/bin")
    if path is None:
        raise UserError(
            "cuobjdump is neither in Triton's wheel nor in /usr/local/cuda/bin: install the CUDA "
            "toolkit, or set TRITON_CUOBJDUMP_PATH to it"
        )
    return path


def _output(tool: str, *arguments: str) -> str:
    done = subprocess.run([tool, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{tool} {arguments[0]} failed: {done.stderr.strip()[-300:]}")
    return done.stdout
