#!/usr/bin/env python
"""Scores a frozen embedder with a linear probe, through MMSegmentation."""

from __future__ import annotations

from vice.cli import evaluation_parser, run, task_arguments

EXAMPLE = """\
  python tools/eval_linear.py outputs/demo/train --dataset data/msrc21 --split-score test \\
      --out outputs/msrc21/linear
"""


def main() -> None:
    parser = evaluation_parser(__doc__, EXAMPLE)
    parser.add_argument("--iterations", type=int, default=12000, help="steps of SGD (12000)")
    parser.add_argument("--batch-size", type=int, default=16, help="images a step (16)")
    parser.add_argument("--bottleneck", type=int, help="width of the bottleneck variant")
    parser.add_argument(
        "--cache-gib", type=float, default=0.0, help="keep embeddings up to this many GiB (0)"
    )
    args = parser.parse_args()
    # MMSegmentation takes seconds to import, and help needs none of it.
    from vice.plugins.mmseg.evaluate import evaluate_linear

    result = evaluate_linear(
        **task_arguments(args),
        iterations=args.iterations,
        batch_size=args.batch_size,
        bottleneck=args.bottleneck,
        cache_bytes=int(args.cache_gib * 2**30),
    )
    scores = result["linear"]
    print(f"linear: mIoU {scores['miou']:.2%}, accuracy {scores['accuracy']:.2%} ({args.out})")


if __name__ == "__main__":
    run(main)
