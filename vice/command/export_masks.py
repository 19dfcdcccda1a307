"""``vice export-masks``: masks in the formats of other programs."""

from __future__ import annotations

from vice.cli import Parser, show, whole
from vice.names import printable
from vice.parts import check_packages
from vice.paths import check_there, typed_path
from vice.runtime.files import check_folder

#: Formats, named here so that help needs no library.
FORMATS = {
    "coco": "annotations.json with run lengths (needs pycocotools)",
    "yolo": "an outline a line, and data.yaml",
    "png": "index PNGs and classes.txt",
    "cvat": "cvat.zip, Segmentation mask 1.1",
    "labelstudio": "tasks.json with brush strokes, and config.xml",
    "fiftyone": "data, labels and mask_targets.json",
}
EXAMPLE = "\n".join(
    ["formats:", *(f"  {name:<12} {what}" for name, what in FORMATS.items()), "",
     "example:", "  vice export-masks masks --to coco --out masks-coco --min-area 64"]
)  # fmt: skip
#: Said where it is stopped.
KEPT = "nothing was written; the same command begins again"


def main() -> None:
    """Exports; the command line is that of the process."""
    parser = Parser(
        description="Writes what vice segment wrote in the format of another program.",
        epilog=EXAMPLE,
    )
    add = parser.add_argument
    add("masks", type=typed_path, help="the output folder of vice segment")
    add("--to", required=True, choices=list(FORMATS), help="the format")
    add("--out", "-o", type=typed_path, required=True, metavar="DIR", help="a new folder")
    add("--min-area", type=whole(1, 10**9), default=1, metavar="N",
        help="give parts of fewer pixels to what lies around them (1)")  # fmt: skip
    args = parser.parse_args()
    check_there(args.masks, what="folder of masks")
    check_folder("--out", args.out)
    if args.to == "coco":
        check_packages("pycocotools")
    from vice.explore.export_masks import export_masks

    said = export_masks(args.masks, args.out, args.to, least=args.min_area)
    show(f"{printable(str(args.out))}: {said}")
