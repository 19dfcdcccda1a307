#!/usr/bin/env python
"""Scores a frozen embedder with k-means clusters, through FAISS and MMSegmentation."""

from __future__ import annotations

from vice.cli import evaluation_parser, run, task_arguments

EXAMPLE = """\
  python tools/eval_cluster.py outputs/demo/train --dataset data/msrc21 --split-score test \\
      --clusters 21 45 128 --out outputs/msrc21/clusters
"""


def main() -> None:
    parser = evaluation_parser(__doc__, EXAMPLE)
    parser.add_argument("--clusters", type=int, nargs="+", default=[27], help="numbers (27)")
    parser.add_argument(
        "--pixels", type=int, default=500_000, help="most pixels that k-means sees (500000)"
    )
    parser.add_argument("--iterations", type=int, default=20, help="of k-means (20)")
    parser.add_argument(
        "--memory-gib", type=float, default=2.0, help="most memory of k-means in GiB (2)"
    )
    args = parser.parse_args()
    # MMSegmentation takes seconds to import, and help needs none of it.
    from vice.plugins.mmseg.evaluate import evaluate_clusters

    result = evaluate_clusters(
        **task_arguments(args),
        clusters=args.clusters,
        max_pixels=args.pixels,
        iterations=args.iterations,
        memory_limit=int(args.memory_gib * 2**30),
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
