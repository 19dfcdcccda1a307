#!/usr/bin/env python
"""Scores the outlines of a model's segments against those that several people drew.

The folder has images/<split>/ID.jpg and labels/<split>/ID_ANNOTATOR.png, numbers of segments.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from vice.cli import RESULTS_KEPT, Parser, run, show, whole
from vice.evaluation.outlined_images import require_images
from vice.evaluation.own_readouts import boundary_line
from vice.model_specs import check_spec
from vice.names import printable
from vice.parts import check_packages
from vice.paths import check_there, typed_text
from vice.runtime.device_names import NAMES, check_device, check_device_name
from vice.runtime.files import check_folder
from vice.runtime.own_folder import keep_others_from_results

EXAMPLE = """\
example:
  python tools/eval_boundaries.py outputs/coco_highres --dataset path/to/bsds500
  python tools/eval_boundaries.py lab --dataset path/to/bsds500 --clusters 27 --fit-split val
"""


def main() -> None:
    parser = Parser(
        description=__doc__,
        epilog=EXAMPLE,
    )
    add = parser.add_argument
    add("checkpoint", type=typed_text, help="what vice.load takes")
    add("--dataset", required=True, type=typed_text, help="the folder")
    add("--split", default="val", help="split to score (val)")
    concepts = parser.add_mutually_exclusive_group()
    concepts.add_argument(
        "--clusters", type=whole(1, 10**6), help="fit so many clusters (the checkpoint's own)"
    )
    concepts.add_argument("--centroids", type=typed_text, help="centroids of tools/eval_cluster.py")
    add("--fit-split", default="train", help="split that clusters are fitted on (train)")
    add("--tolerance", type=whole(0, 1000), default=2, help="pixels between outlines (2)")
    add("--out", type=typed_text, help="results directory (outputs/boundaries/...)")
    add("--seed", type=whole(0, 2**31 - 1), default=0)
    add("--device", help=f"{NAMES} (a GPU of CUDA if there is one)")
    args = parser.parse_args()
    out = args.out or str(Path("outputs", "boundaries", _name(args)))
    check_folder("--out", out)
    keep_others_from_results(Path(out))
    check_spec(args.checkpoint)
    if args.device is not None:
        check_device_name(args.device, "--device")
    if args.centroids is not None:
        check_there(args.centroids, "--centroids: ", "centroid file")
    for split in [args.split] + [args.fit_split] * (args.clusters is not None):
        require_images(args.dataset, split)
    check_packages("scipy", *["faiss"] * (args.clusters is not None))
    if args.device is not None:
        check_device(args.device, "--device")
    # PyTorch takes seconds to import, and help needs it not.
    from vice.evaluation.evaluate_boundaries import evaluate_boundaries

    result = evaluate_boundaries(
        args.checkpoint,
        args.dataset,
        out,
        split=args.split,
        clusters=args.clusters,
        fit_split=args.fit_split,
        centroids=args.centroids,
        tolerance=args.tolerance,
        seed=args.seed,
        device=args.device,
    )
    show(f"{boundary_line(result)}, {printable(out)}")


def _name(args: argparse.Namespace) -> str:
    data = Path(args.dataset).resolve().name
    fitted = f"k{args.clusters}-{args.fit_split}" if args.clusters else args.centroids or "own"
    parts = [data, args.split, args.checkpoint, fitted, f"t{args.tolerance}", f"seed{args.seed}"]
    return "-".join(re.sub(r"[^\w.]+", "_", part).strip("_") for part in parts)


if __name__ == "__main__":
    run(main, kept=RESULTS_KEPT)
