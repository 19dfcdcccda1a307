#!/usr/bin/env python
"""Scores a frozen embedder by several read-outs that share the passes over the images.

Each gets a results directory, with the numbers of its own tool (eval_linear.py, eval_cluster.py,
eval_retrieval.py). A probe shares passes where it is fitted to convergence
(--set linear_optimizer=lbfgs); trained by steps, it keeps its own.
"""

from __future__ import annotations

from vice.cli import number, run
from vice.errors import UserError
from vice.evaluation.compare import readouts
from vice.evaluation.options import evaluation_parser, percent, score_arguments
from vice.names import printable

EXAMPLE = """\
  python tools/score.py outputs/demo/train --dataset outputs/demo/data --linear --clusters 6 24 \\
      --set linear_optimizer=lbfgs
"""


def main() -> None:
    parser = evaluation_parser(__doc__, EXAMPLE)
    add = parser.add_argument
    add("--linear", action="store_true", help="a linear probe")
    add("--clusters", type=int, nargs="+", metavar="K", help="numbers of k-means clusters")
    add("--retrieval", action="store_true", help="dense nearest-neighbour retrieval")
    add(
        "--label-free",
        action="store_true",
        help="how alike two views of scored images are, by the first K clusters",
    )
    add(
        "--memory-gib",
        type=number(0, 1e6),
        default=4.0,
        help="most memory of kept embeddings of the train split in GiB; with less than they take "
        "it is embedded twice (4)",
    )
    args = parser.parse_args()
    asked = {"linear": args.linear, "clusters": args.clusters, "retrieval": args.retrieval}
    kinds = [kind for kind, wanted in asked.items() if wanted]
    if not kinds:
        raise UserError("nothing to read out: give --linear, --clusters or --retrieval")
    if args.label_free and not args.clusters:
        raise UserError("--label-free compares views by clusters: give --clusters too")
    # PyTorch and MMSegmentation take seconds to import, and help needs neither.
    from vice.runtime.rendezvous import join_from_environment

    with join_from_environment(args.device) as args.device:
        task = score_arguments(args, kinds)
        from vice.plugins.mmseg.score import score

        results = score(
            **task,
            clusters=args.clusters or (),
            label_free=args.label_free,
            memory_limit=int(args.memory_gib * 2**30),
        )
    for kind in kinds:
        result = results[kind]
        found = ", ".join(f"{name} {percent(of)}" for name, of in readouts(result).items())
        out = printable(result["arguments"]["out_dir"])
        print(f"{kind}: mIoU / accuracy in %: {found}; {result['protocol']['title']}, {out}")
    if args.label_free:
        shown = ", ".join(
            f"{name} {value:.3g}" for name, value in results["label_free"]["scores"].items()
        )
        print(f"label-free: {shown}")


if __name__ == "__main__":
    run(main, joins=True)
