#!/usr/bin/env python
"""Scores a frozen embedder with a linear probe, through MMSegmentation."""

from __future__ import annotations

import argparse

from vice.cli import run

EXAMPLE = """example:
  python tools/eval_linear.py outputs/demo/train --dataset data/msrc21 --split-score test \\
      --out outputs/msrc21/linear
"""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "checkpoint",
        help="run folder, checkpoint file, random:PATH, random:resnet18-fpn-128, or lab",
    )
    parser.add_argument("--dataset", required=True, help="data set in the labelled-folder layout")
    parser.add_argument("--out", required=True, help="results directory")
    parser.add_argument("--split-fit", default="train", help="split to train on (train)")
    parser.add_argument("--split-score", default="val", help="split to score (val)")
    parser.add_argument("--iterations", type=int, default=12000, help="steps of SGD (12000)")
    parser.add_argument("--batch-size", type=int, default=16, help="images a step (16)")
    parser.add_argument("--bottleneck", type=int, help="width of the bottleneck variant")
    parser.add_argument(
        "--cache-gib", type=float, default=0.0, help="keep embeddings up to this many GiB (0)"
    )
    parser.add_argument("--workers", type=int, default=0, help="data loading processes (0)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="cpu, cuda, cuda:1 ... (a GPU if there is one)")
    return parser.parse_args()


def main() -> None:
    args = parse()
    from vice.plugins.mmseg.evaluate import evaluate_linear

    result = evaluate_linear(
        args.checkpoint,
        args.dataset,
        args.out,
        iterations=args.iterations,
        batch_size=args.batch_size,
        bottleneck=args.bottleneck,
        cache_bytes=int(args.cache_gib * 2**30),
        split_fit=args.split_fit,
        split_score=args.split_score,
        workers=args.workers,
        seed=args.seed,
        device=args.device,
    )
    scores = result["linear"]
    print(f"linear: mIoU {scores['miou']:.2%}, accuracy {scores['accuracy']:.2%} ({args.out})")


if __name__ == "__main__":
    run(main)
