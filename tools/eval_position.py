#!/usr/bin/env python
"""Says how far a frozen embedder tells where a pixel lies, and scores it with and without that."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vice.cli import RESULTS_KEPT, run, show, whole
from vice.errors import UserError
from vice.evaluation.begin import begun
from vice.evaluation.options import evaluation_parser, task_arguments
from vice.evaluation.own_readouts import position_lines
from vice.evaluation.protocol_effects import POSITION
from vice.names import printable

EXAMPLE = """\
  python tools/eval_position.py outputs/coco_highres --dataset coco27
  python tools/eval_position.py outputs/demo/train --dataset outputs/demo/data --clusters 27
"""


def main() -> None:
    parser = evaluation_parser(__doc__, EXAMPLE)
    parser.add_argument(
        "--clusters",
        type=whole(1, 10**6),
        nargs="+",
        default=[],
        help="numbers of clusters to score (none)",
    )
    # Probes on a sample are fitted to convergence: by steps there is no sample.
    parser.set_defaults(optimizer="lbfgs")
    args = parser.parse_args()
    if args.cache_gib:
        raise UserError("--cache-gib: each image is embedded once here; leave it out")
    with begun(args, lambda: _task(args)) as task:
        # MMSegmentation takes seconds to import, and neither help nor a refusal needs it.
        from vice.plugins.mmseg.evaluate_position import evaluate_position

        result = evaluate_position(**task, clusters=args.clusters)
    show("\n".join(position_lines(result["position"])))
    show(
        f"mIoU / accuracy in %, of a sample; {result['protocol']['title']}, "
        f"{printable(task['out_dir'])}"
    )


def _task(args: argparse.Namespace) -> dict[str, Any]:
    task = task_arguments(
        args, "linear", detail="_position", effects=POSITION, optimizer="linear_optimizer"
    )
    task.pop("cache_bytes")
    if args.out is None:
        # Results of which tools/compare.py makes tables lie by themselves.
        task["out_dir"] = str(Path("outputs", "position", Path(task["out_dir"]).name))
    return task


if __name__ == "__main__":
    run(main, joins=True, kept=RESULTS_KEPT)
