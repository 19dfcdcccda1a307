#!/usr/bin/env python
"""Puts the training images of a data set where the configs expect them.

Examples:
    python tools/prepare_data.py coco27 --root data/coco --source downloads
    python tools/prepare_data.py cityscapes --root data/cityscapes --source downloads
"""

import argparse
from pathlib import Path

from vice.cli import run
from vice.datasets.preparation import PARTS, prepare


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=sorted(PARTS))
    parser.add_argument("--root", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--source", type=Path, help="folder of the archive, or of its contents")
    args = parser.parse_args()
    print(f"{prepare(args.name, args.root, args.source)} training images under {args.root}")


if __name__ == "__main__":
    run(main)
