#!/usr/bin/env python
"""Scores a frozen embedder with k-means clusters, through FAISS and MMSegmentation."""

from __future__ import annotations

import argparse
from typing import Any

from vice.cli import RESULTS_KEPT, number, run, show, whole
from vice.evaluation.begin import begun
from vice.evaluation.options import evaluation_parser, percent, task_arguments
from vice.evaluation.protocols import Protocol
from vice.names import printable
from vice.paths import check_there, typed_text

EXAMPLE = """\
  python tools/eval_cluster.py outputs/coco_highres --dataset coco27 --clusters 27 45 128 256
  python tools/eval_cluster.py outputs/demo/train --dataset outputs/demo/data --clusters 6 24
"""


def main() -> None:
    parser = evaluation_parser(__doc__, EXAMPLE)
    add = parser.add_argument
    add(
        "--clusters",
        type=whole(1, 10**6),
        nargs="+",
        help="numbers of clusters (27; of clusters=own: all)",
    )
    add("--pixels", type=int, help="most pixels that k-means sees (protocol)")
    add("--iterations", type=int, help="of k-means (protocol)")
    add("--memory-gib", type=number(0, 1e6), default=2.0, help="most memory of k-means in GiB (2)")
    add("--faiss-gpu", action="store_true", help="k-means on the GPU (needs faiss-gpu)")
    add("--masks", type=typed_text, help="foreground of each image, NAME.png (foreground=files)")
    args = parser.parse_args()
    with begun(args, lambda: _task(args)) as task:
        # MMSegmentation takes seconds to import, and neither help nor a refusal needs it.
        from vice.plugins.mmseg.evaluate_clusters import evaluate_clusters

        result = evaluate_clusters(
            **task,
            clusters=args.clusters,
            memory_limit=int(args.memory_gib * 2**30),
            faiss_gpu=args.faiss_gpu,
            masks=args.masks,
        )
    matchings = result["protocol"]["fields"]["matchings"]
    summary = "; ".join(
        f"{k} clusters " + ", ".join(f"{name} {percent(entry[name])}" for name in matchings)
        for k, entry in result["clusters"].items()
    )
    out = printable(task["out_dir"])
    show(f"mIoU / accuracy in %: {summary}; {result['protocol']['title']}, {out}")


def _task(args: argparse.Namespace) -> dict[str, Any]:
    if args.masks is not None:
        check_there(args.masks, "--masks: ", "folder")
    return task_arguments(
        args,
        "clusters",
        detail=lambda protocol: "".join(f"_{k}" for k in _numbers(args.clusters, protocol)),
        pixels="kmeans_pixels",
        iterations="kmeans_iterations",
    )


def _numbers(asked: list[int] | None, protocol: Protocol) -> list[int]:
    return asked or ([] if protocol.clusters == "own" else [27])


if __name__ == "__main__":
    run(main, joins=True, kept=RESULTS_KEPT)
