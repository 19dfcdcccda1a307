#!/usr/bin/env python
"""Scores a frozen embedder by dense nearest-neighbour retrieval, through MMSegmentation.

The protocol is hummingbird2023 where none is named; retrieval takes any other, too.
"""

from __future__ import annotations

from vice.cli import RESULTS_KEPT, number, run, show, whole
from vice.datasets.subsets import check_fraction
from vice.evaluation.begin import begun
from vice.evaluation.compare import share_of_images
from vice.evaluation.options import evaluation_parser, percent, task_arguments
from vice.names import printable

EXAMPLE = """\
  python tools/eval_retrieval.py outputs/coco_highres --dataset coco27
  python tools/eval_retrieval.py outputs/demo/train --dataset outputs/demo/data --protocol native
  python tools/eval_retrieval.py outputs/coco_highres --dataset coco27 --fraction 0.01
"""


def main() -> None:
    parser = evaluation_parser(__doc__, EXAMPLE)
    parser.set_defaults(protocol="hummingbird2023")
    add = parser.add_argument
    add("--fraction", type=float, default=1.0, help="share of the train images (1)")
    add("--subset-seed", type=whole(0, 2**31 - 1), default=0, help="which subset of that size (0)")
    add(
        "--memory-gib",
        type=number(0, 1e6),
        default=2.0,
        help="most memory of the train patches and the search in GiB (2)",
    )
    args = parser.parse_args()
    check_fraction(args.fraction)
    detail = "" if args.fraction == 1 else f"_{args.fraction}_{args.subset_seed}"
    with begun(args, lambda: task_arguments(args, "retrieval", detail=detail)) as task:
        # MMSegmentation takes seconds to import, and neither help nor a refusal needs it.
        from vice.plugins.mmseg.evaluate_retrieval import evaluate_retrieval

        result = evaluate_retrieval(
            **task,
            fraction=args.fraction,
            subset_seed=args.subset_seed,
            memory_limit=int(args.memory_gib * 2**30),
        )
    matchings = result["protocol"]["fields"]["retrieval_matchings"]
    share = share_of_images(result["arguments"])
    summary = ", ".join(f"{name} {percent(result['retrieval'][name])}" for name in matchings)
    show(
        f"retrieval: mIoU / accuracy in %, by matching: {summary}; "
        f"{result['protocol']['title']}{share and f', {share}'}, {printable(task['out_dir'])}"
    )


if __name__ == "__main__":
    run(main, joins=True, kept=RESULTS_KEPT)
