#!/usr/bin/env python
"""Trains ViCE on a small data set on CPU, scores it and writes a report with pictures.

Examples:
    python tools/demo.py
    python tools/demo.py --images path/to/photos --out outputs/photos
"""

import argparse
from pathlib import Path

from vice.cli import IN_CONFIG, Parser, run, show
from vice.images import list_images
from vice.parts import check_packages, check_part
from vice.paths import typed_path
from vice.runtime.files import check_folder
from vice.runtime.folder_lock import sole_writer
from vice.runtime.own_folder import keep_others_from_demo

#: Said where it is stopped.
KEPT = "what is done stays, and the same command goes on"


def parse() -> argparse.Namespace:
    parser = Parser(description=__doc__, otherwise=IN_CONFIG)
    parser.add_argument(
        "--out",
        type=typed_path,
        help="output folder (outputs/demo, or outputs/demo-<name of IMAGES>)",
    )
    parser.add_argument(
        "--images", type=typed_path, help="your own folder of images, without labels"
    )
    parser.add_argument("overrides", nargs="*", help="KEY=VALUE for the training's config")
    args = parser.parse_args()
    if args.out is None:
        name = f"demo-{args.images.resolve().name}" if args.images else "demo"
        args.out = Path("outputs") / name
    return args


def main() -> None:
    args = parse()
    check_folder("--out", args.out)
    keep_others_from_demo(args.out)
    if args.images is not None:
        list_images(args.images)
    check_part("training")
    if args.images is None:
        check_part("scoring")
        check_packages("skimage", "scipy")
    # Pictures come last, after all that takes time.
    check_packages("yaml", "matplotlib", "faiss")
    # PyTorch takes seconds to import, and help does without.
    from vice.experiments.demo.steps import run_demo, verdict
    from vice.runtime.files import read_json
    from vice.runtime.run_folder import RESULTS_NAME

    with sole_writer(args.out):
        report = run_demo(args.out, args.images, args.overrides)
    results = read_json(args.out / RESULTS_NAME, "delete it, and call this again")
    show(f"\nDone in {results['seconds']:.0f} s. Open {report} in a browser.")
    show(
        f"Checkpoint: {args.out / 'train'} (vice.load reads it); figures: {args.out / RESULTS_NAME}"
    )
    if "scores" in results:
        show("mIoU in % on images that no fit has seen; higher is better, chance is about 10:")
        show("\n".join(verdict(results)))
        show("trained: this run; random: the same network untrained; lab: colour alone.")


if __name__ == "__main__":
    run(main, kept=KEPT)
