#!/usr/bin/env python
"""Scores a frozen embedder with a linear probe, through MMSegmentation."""

from __future__ import annotations

from vice.cli import RESULTS_KEPT, run, show
from vice.evaluation.begin import begun
from vice.evaluation.options import evaluation_parser, percent, task_arguments
from vice.names import printable

EXAMPLE = """\
  python tools/eval_linear.py outputs/coco_highres --dataset coco27 --protocol vice2022_highres
  python tools/eval_linear.py outputs/demo/train --dataset outputs/demo/data --iterations 500
"""


def main() -> None:
    parser = evaluation_parser(__doc__, EXAMPLE)
    parser.add_argument("--iterations", type=int, help="steps of the probe (protocol)")
    parser.add_argument("--batch-size", type=int, help="images a step (protocol)")
    parser.add_argument("--bottleneck", type=int, help="width of the bottleneck variant")
    args = parser.parse_args()
    changed = {
        "iterations": "linear_iterations",
        "batch_size": "linear_batch",
        "bottleneck": "linear_bottleneck",
    }
    with begun(args, lambda: task_arguments(args, "linear", **changed)) as task:
        # MMSegmentation takes seconds to import, and neither help nor a refusal needs it.
        from vice.evaluation.compare import BEST_NAME
        from vice.plugins.mmseg.evaluate_linear import evaluate_linear

        result = evaluate_linear(**task)
    best = result.get(BEST_NAME)
    if best is not None:
        show(
            f"epoch {best['epoch']} of {best['epochs']}, the best on the {best['chosen_on']}: "
            f"mIoU / accuracy in %: {percent(best)}"
        )
    show(
        f"linear: mIoU / accuracy in %: {percent(result['linear'])}; "
        f"{result['protocol']['title']}, {printable(task['out_dir'])}"
    )


if __name__ == "__main__":
    run(main, joins=True, kept=RESULTS_KEPT)
