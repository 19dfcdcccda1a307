#!/usr/bin/env python
"""Times `vice segment` on a folder against the bare forward passes, and measures its memory.

Pictures are made up, JPEG of 640 x 480. Two calls, with few and with more images, are timed by the
clock and in seconds of the processor; their difference is what an image takes, without the start.
The network alone then sees as many pictures of that size, one by one, as the command does. Masks,
overlays and the table are written; concepts are given, so that nothing is fitted.

Example:
    python -m tests.campaigns.segment_speed --images 100 --memory 100 2000
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

import vice
from tests.helpers.content import photo
from vice.cli import run
from vice.models.centroids import Centroids

SIZE, FEW, CONCEPTS = (480, 640), 10, 24
#: Different pictures; the others are links to them.
PICTURES = 20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="random:resnet18-fpn-128", help="what vice.load takes")
    parser.add_argument("--images", type=int, default=100, help="how many are timed (100)")
    parser.add_argument("--memory", type=int, nargs="*", default=[], help="numbers of images")
    args = parser.parse_args()
    predictor = vice.load(args.model, device="cpu")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder / "pictures")
        generator = torch.Generator().manual_seed(0)
        vectors = F.normalize(torch.randn(CONCEPTS, predictor.dim, generator=generator))
        Centroids(vectors, spherical=True).save(folder / "concepts.safetensors")
        counts = (FEW, FEW + args.images)
        few, more = (segmented(args.model, folder, count) for count in counts)
        seconds, busy, _ = (after - before for before, after in zip(few, more, strict=True))
        clock, alone = bare(predictor.embedder, args.images)
        print(
            f"{args.images} images, {os.cpu_count()} cores, {torch.get_num_threads()} threads: "
            f"{args.images / seconds:.1f} a second, {clock / seconds:.2f} of the network alone by "
            f"the clock, {alone / busy:.2f} in seconds of the processor"
        )
        for count in args.memory:
            print(f"{count} images: at most {segmented(args.model, folder, count)[2]:.0f} MiB")


def draw(folder: Path) -> None:
    """Writes the pictures."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(PICTURES):
        Image.fromarray(photo(rng, SIZE)).save(folder / f"{number}.jpg", quality=90)


def segmented(model: str, folder: Path, count: int) -> tuple[float, float, float]:
    """Seconds by the clock and of the processor, and MiB, of a call on so many images."""
    images, out = folder / f"images{count}", folder / f"masks{count}"
    images.mkdir(exist_ok=True)
    for number in range(count):
        link = images / f"{number:05d}.jpg"
        if not link.exists():
            # Hard links: each is a file of its own to whoever lists them.
            os.link(folder / "pictures" / f"{number % PICTURES}.jpg", link)
    line = [
        sys.executable, "-m", "vice", "segment", model, images, "--device", "cpu",
        "--concepts", folder / "concepts.safetensors", "--out", out,
    ]  # fmt: skip
    start = time.perf_counter()
    process = subprocess.Popen(list(map(str, line)), stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    taken = time.perf_counter() - start
    if status or len(list((out / "masks").rglob("*.png"))) != count:
        raise RuntimeError(f"vice segment ended with status {status}")
    return taken, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


@torch.inference_mode()
def bare(network: torch.nn.Module, count: int) -> tuple[float, float]:
    """Seconds by the clock and of the processor of so many forward passes."""
    images = torch.rand(count + 2, 3, *SIZE)
    for image in images[:2]:
        network(image[None])
    clock, busy = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    for image in images[2:]:
        network(image[None])
    after = resource.getrusage(resource.RUSAGE_SELF)
    spent = after.ru_utime - busy.ru_utime + after.ru_stime - busy.ru_stime
    return time.perf_counter() - clock, spent


if __name__ == "__main__":
    run(main)
