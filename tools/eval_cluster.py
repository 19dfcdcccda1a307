#!/usr/bin/env python
"""Scores a frozen embedder with k-means clusters, through FAISS and MMSegmentation."""

from __future__ import annotations

import argparse

from vice.cli import run

EXAMPLE = """example:
  python tools/eval_cluster.py outputs/demo/train --dataset data/msrc21 --split-score test \\
      --clusters 21 45 128 --out outputs/msrc21/clusters
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
    parser.add_argument("--clusters", type=int, nargs="+", default=[27], help="numbers (27)")
    parser.add_argument("--split-fit", default="train", help="split to fit on (train)")
    parser.add_argument("--split-score", default="val", help="split to score (val)")
    parser.add_argument(
        "--pixels", type=int, default=500_000, help="most pixels that k-means sees (500000)"
    )
    parser.add_argument("--iterations", type=int, default=20, help="of k-means (20)")
    parser.add_argument(
        "--memory-gib", type=float, default=2.0, help="most memory of k-means in GiB (2)"
    )
    parser.add_argument("--workers", type=int, default=0, help="data loading processes (0)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="cpu, cuda, cuda:1 ... (a GPU if there is one)")
    return parser.parse_args()


def main() -> None:
    args = parse()
    from vice.plugins.mmseg.evaluate import evaluate_clusters

    result = evaluate_clusters(
        args.checkpoint,
        args.dataset,
        args.out,
        clusters=args.clusters,
        max_pixels=args.pixels,
        iterations=args.iterations,
        memory_limit=int(args.memory_gib * 2**30),
        split_fit=args.split_fit,
        split_score=args.split_score,
        workers=args.workers,
        seed=args.seed,
        device=args.device,
    )
    for k, entry in result["clusters"].items():
        for kind in ("greedy", "hungarian"):
            scores, split = entry[kind], entry[kind]["fitted_on"]
            print(
                f"{k} clusters, {kind} (fitted on {split}): mIoU {scores['miou']:.2%}, "
                f"accuracy {scores['accuracy']:.2%} ({args.out})"
            )


if __name__ == "__main__":
    run(main)
