#!/usr/bin/env python
"""Trains ViCE on a small data set on CPU, scores it and writes a report with pictures.

Examples:
    python tools/demo.py --out outputs/demo
    python tools/demo.py --out outputs/photos --images path/to/photos
"""

import argparse
import json
from pathlib import Path

from vice.cli import run


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("outputs/demo"), help="output folder")
    parser.add_argument("--images", type=Path, help="your own folder of images, without labels")
    parser.add_argument("overrides", nargs="*", help="KEY=VALUE for the training's config")
    return parser.parse_args()


def main() -> None:
    args = parse()
    from vice.demo.steps import RESULTS_NAME, run_demo, verdict

    report = run_demo(args.out, args.images, args.overrides)
    results = json.loads((args.out / RESULTS_NAME).read_text())
    print(f"\nDone in {results['seconds']:.0f} s. Open {report} in a browser.")
    print(
        f"Checkpoint: {args.out / 'train'} (vice.load reads it); figures: {args.out}/results.json"
    )
    if "scores" in results:
        print("\n".join(verdict(results)))
        print(
            "trained = this run; random = the same network before training; lab = colour alone. "
            "Higher is better; chance is about 10."
        )


if __name__ == "__main__":
    run(main)
