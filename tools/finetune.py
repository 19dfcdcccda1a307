#!/usr/bin/env python
"""Fine-tunes an embedder on a fraction of the labels and scores it, through MMSegmentation."""

from __future__ import annotations

import argparse
from typing import Any

from vice.cli import RESULTS_KEPT, number, run, show, whole
from vice.datasets.subsets import check_fraction
from vice.evaluation.begin import begun
from vice.evaluation.options import evaluation_parser, percent, task_arguments
from vice.images import list_images
from vice.names import printable
from vice.paths import typed_path

EXAMPLE = """\
  python tools/finetune.py outputs/coco_highres --dataset coco27 --fraction 0.01 --subset-seed 0
  python tools/finetune.py RUN --dataset path/to/labelled/folder --images selected/selected.txt
  python tools/finetune.py imagenet:resnet50-deeplabv3plus-128 --dataset coco27 --fraction 0.01
"""


def main() -> None:
    parser = evaluation_parser(__doc__, EXAMPLE)
    add = parser.add_argument
    add("--fraction", type=float, default=1.0, help="share of the train images (1)")
    add("--subset-seed", type=whole(0, 2**31 - 1), default=0, help="which subset of that size (0)")
    add("--images", type=typed_path, help="list of the images to train on instead (vice select)")
    add("--backbone-lr-mult", type=number(0, 1e3), default=0.1, help="of the backbone (0.1)")
    add(
        "--crop",
        type=whole(0, 2**16),
        default=512,
        help="side of the random train crop, 0 for none (512)",
    )
    add("--iterations", type=int, help="steps (protocol)")
    add("--batch-size", type=int, help="images a step (protocol)")
    args = parser.parse_args()
    if args.cache_gib:
        parser.error("--cache-gib: embeddings change while they are trained")
    check_fraction(args.fraction)
    if args.images is not None and (args.fraction, args.subset_seed) != (1.0, 0):
        parser.error("--images takes the place of --fraction and --subset-seed: give one")
    subset = args.images.stem if args.images else f"{args.fraction}_{args.subset_seed}"
    with begun(args, lambda: _task(args, subset)) as task:
        # MMSegmentation takes seconds to import, and neither help nor a refusal needs it.
        from vice.plugins.mmseg.finetune import finetune

        result = finetune(
            **task,
            fraction=args.fraction,
            subset_seed=args.subset_seed,
            images=args.images,
            backbone_lr_mult=args.backbone_lr_mult,
            crop=args.crop,
        )
    show(
        f"fine-tuned on {result['subset']['images']} images: mIoU / accuracy in %: "
        f"{percent(result['finetune'])}; {result['protocol']['title']}, "
        f"{printable(task['out_dir'])}"
    )


def _task(args: argparse.Namespace, subset: str) -> dict[str, Any]:
    if args.images is not None:
        list_images(args.images)
    task = task_arguments(
        args,
        "finetune",
        detail=f"_{subset}",
        iterations="linear_iterations",
        batch_size="linear_batch",
    )
    task.pop("cache_bytes")
    return task


if __name__ == "__main__":
    run(main, joins=True, kept=RESULTS_KEPT)
