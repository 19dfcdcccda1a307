#!/usr/bin/env python
"""Measures what the parts cost and prints tables; ratios hold within one run.

Examples:
    python tools/benchmark.py --small                     # a minute or two on a CPU
    python tools/benchmark.py --out docs/growth.png       # all rows, on the GPU if there is one
    python tools/benchmark.py pooling step --device cuda
    python tools/benchmark.py scoring --labelled data/msrc21 --device cpu   # all read-outs
"""

import platform
from collections.abc import Callable
from importlib import import_module
from typing import Any

from vice.cli import Parser, run
from vice.model_specs import check_spec
from vice.nearest import did_you_mean
from vice.paths import check_there, typed_path, typed_text
from vice.runtime.answers import answer
from vice.runtime.device_names import NAMES, check_device, check_device_name
from vice.runtime.files import check_folder

#: Where each part is, below ``vice.experiments.benchmark``.
PARTS = {
    "pooling": "pooling:pooling",
    "step": "step:step",
    "compiled": "step:compiled",
    "profile": "step:operators",
    "whole_step": "whole_step:whole_step",
    "networks": "networks:networks",
    "superpixels": "images:superpixels",
    "views": "images:views",
    "loading": "loading:loading",
    "scoring": "scoring:nearest",
    "kmeans": "scoring:kmeans",
    "kmeans_epoch": "kmeans_epoch:kmeans_epoch",
    "iic_joint": "joint:iic_joint",
    "methods": "methods:methods",
    "predictor": "predictor:predictor",
    "predictor_memory": "predictor:peaks",
    "growth": "growth:growth",
    "kernels": "kernels.compiled:kernels",
    "traffic": "kernels.traffic:traffic",
}


def part_of(place: str) -> Callable[..., Any]:
    # PyTorch takes seconds to import, and help does without.
    module, _, name = place.partition(":")
    found: Callable[..., Any] = getattr(import_module(f"vice.experiments.benchmark.{module}"), name)
    return found


def main() -> int:
    parser = Parser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (all)")
    parser.add_argument("--small", action="store_true", help="small sizes, for a CPU")
    parser.add_argument("--device", help=f"{NAMES} (a GPU of CUDA if there is one)")
    add = parser.add_argument
    add("--out", type=typed_path, help="picture of the growth")
    add("--images", type=typed_path, help="photographs, to sample their superpixels")
    add("--labelled", type=typed_path, help="labelled folder, to time all read-outs of --spec on")
    add(
        "--spec",
        type=typed_text,
        default="random:resnet18-fpn-128",
        help="(random:resnet18-fpn-128)",
    )
    add("--bsds", type=typed_path, help="BSDS500, to compare superpixels by outlines")
    args = parser.parse_args()
    unknown = sorted(set(args.parts) - set(PARTS))
    if unknown:
        near = did_you_mean(unknown[0], PARTS, f"choose of {', '.join(PARTS)}")
        parser.error(f"no part {unknown[0]!r}{near}")
    check_spec(args.spec)
    if args.device is not None:
        check_device_name(args.device, "--device")
    for option in ("images", "labelled", "bsds"):
        if getattr(args, option) is not None:
            check_there(getattr(args, option), f"--{option}: ", "folder")
    if args.out is not None:
        check_folder("--out", args.out.parent)
    import torch

    from vice.experiments.benchmark.timing import FAILED, measured, to_markdown

    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    kind = check_device(device, "--device").type
    processor = f"{kind.upper()}, {platform.machine()}"
    name = torch.cuda.get_device_name() if kind == "cuda" else processor
    answer(f"{name}, torch {torch.__version__}, small={args.small}\n")
    more = {"growth": {"picture": args.out}, "superpixels": {"folder": args.images}}
    failed = False
    for part in args.parts or PARTS:
        rows = measured(part_of(PARTS[part]), device, small=args.small, **more.get(part, {}))
        failed |= rows[0].part == FAILED
        answer(to_markdown(part, rows, absolute=device != "cpu"))
    if args.labelled is not None:
        asked = {"folder": args.labelled, "spec": args.spec}
        rows = measured(part_of("readouts:readouts"), device, small=args.small, **asked)
        failed |= rows[0].part == FAILED
        answer(to_markdown("read-outs", rows, absolute=device != "cpu"))
    if args.bsds is not None:
        rows = part_of("images:superpixel_outlines")(args.bsds)
        answer(to_markdown("outlines", rows, absolute=False))
    return int(failed)


if __name__ == "__main__":
    run(main)
