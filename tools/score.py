#!/usr/bin/env python
"""Scores a frozen embedder by several read-outs that share the passes over the images.

Each gets a results directory, with the numbers of its own tool (eval_linear.py, eval_cluster.py,
eval_retrieval.py, eval_position.py, eval_boundaries.py). A probe shares passes where it is fitted
to convergence (--set linear_optimizer=lbfgs), retrieval where its protocol shows the same images
(--retrieval-protocol native); else they keep their own, and the log says so.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from vice.cli import number, run, show, whole
from vice.errors import UserError
from vice.evaluation.begin import begun
from vice.evaluation.compare import readouts
from vice.evaluation.options import evaluation_parser, percent, score_arguments
from vice.evaluation.own_readouts import boundary_line, position_lines
from vice.evaluation.published import PROTOCOLS
from vice.names import printable
from vice.paths import check_there, typed_text

EXAMPLE = """\
  python tools/score.py outputs/demo/train --dataset outputs/demo/data --linear --clusters 6 24 \\
      --set linear_optimizer=lbfgs
  python tools/score.py outputs/demo/train --dataset outputs/demo/data --clusters 24 \\
      --position 24 --retrieval --retrieval-protocol native --boundaries path/to/bsds500
"""
#: Said where it is stopped.
KEPT = "results that are written stay, others are as they were; the same command begins again"


def main() -> None:
    parser = evaluation_parser(__doc__, EXAMPLE)
    add = parser.add_argument
    add("--linear", action="store_true", help="a linear probe")
    add(
        "--clusters",
        type=whole(1, 10**6),
        nargs="*",
        metavar="K",
        help="numbers of k-means clusters (of clusters=own none)",
    )
    add("--retrieval", action="store_true", help="dense nearest-neighbour retrieval")
    add(
        "--retrieval-protocol",
        choices=sorted(PROTOCOLS),
        metavar="NAME",
        help="its protocol, if not hummingbird2023",
    )
    add(
        "--position",
        type=whole(1, 10**6),
        nargs="*",
        metavar="K",
        help="the positional bias, and a converged probe and K clusters without it",
    )
    add(
        "--boundaries",
        type=typed_text,
        metavar="FOLDER",
        help="outlines of the clusters' segments (without --clusters, of the checkpoint's own) "
        "against those that people drew, see eval_boundaries.py; its split val",
    )
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
    asked = {
        "linear": args.linear,
        "clusters": args.clusters is not None,
        "retrieval": args.retrieval,
        "position": args.position is not None,
    }
    kinds = [kind for kind, wanted in asked.items() if wanted]
    if not kinds and not args.boundaries:
        raise UserError(
            "nothing to read out: give --linear, --clusters, --retrieval, --position or "
            "--boundaries"
        )
    if args.retrieval_protocol and not args.retrieval:
        raise UserError("--retrieval-protocol is that of --retrieval: give that, too")
    if args.label_free and not args.clusters:
        raise UserError("--label-free compares views by clusters: give --clusters too")
    with begun(args, lambda: _task(args, kinds)) as task:
        # MMSegmentation takes seconds to import, and neither help nor a refusal needs it.
        from vice.plugins.mmseg.score import score

        results = score(
            **task,
            clusters=args.clusters or (),
            position_clusters=args.position or (),
            boundaries=args.boundaries,
            label_free=args.label_free,
            memory_limit=int(args.memory_gib * 2**30),
        )
    for kind in (kind for kind in kinds if kind != "position"):
        result = results[kind]
        found = ", ".join(f"{name} {percent(of)}" for name, of in readouts(result).items())
        out = printable(result["arguments"]["out_dir"])
        show(f"{kind}: mIoU / accuracy in %: {found}; {result['protocol']['title']}, {out}")
    if "position" in kinds:
        result = results["position"]
        show("\n".join(f"position: {line}" for line in position_lines(result["position"])))
        show(
            f"position: {result['protocol']['title']}, {printable(result['arguments']['out_dir'])}"
        )
    for name, result in results.get("boundaries", {}).items():
        show(f"boundaries {name}: {boundary_line(result)}")
    if args.label_free:
        found = results["label_free"]
        shown = ", ".join(f"{name} {value:.3g}" for name, value in found["scores"].items())
        show(f"label-free: {shown or 'none, ' + found['skipped']}")


def _task(args: argparse.Namespace, kinds: Sequence[str]) -> dict[str, Any]:
    if args.boundaries is not None:
        check_there(args.boundaries, "--boundaries: ", "folder")
    task = score_arguments(args, kinds, args.retrieval_protocol)
    if args.clusters == [] and task["protocols"]["clusters"].clusters != "own":
        raise UserError("--clusters: give one number of clusters or more, such as --clusters 27")
    return task


if __name__ == "__main__":
    run(main, joins=True, kept=KEPT)
