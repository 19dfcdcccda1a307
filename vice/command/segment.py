"""``vice segment``: masks of a folder of images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vice.cli import Parser, show, whole
from vice.errors import UserError
from vice.names import printable
from vice.paths import typed_path, typed_text
from vice.runtime.device_names import NAMES

if TYPE_CHECKING:
    from vice.models.concepts import Concepts
    from vice.predictor import Predictor

EXAMPLE = """\
examples:
  vice segment outputs/folder photos --out masks
  vice segment timm:vit_small_patch16_224.dino@FILE photos --clusters 12 --out masks
  vice segment outputs/folder photos --concepts masks/concepts.safetensors --out more

masks/NAME.png has a pixel's concept as its value, overlays/NAME.jpg shows it over the image, and
summary.csv has each concept's share of each image; of GeoTIFFs georeferenced/NAME.tif is the mask
with their georeference. The same command goes on where it was stopped.
"""
#: Fitted concepts, beside the masks.
CONCEPTS_NAME = "concepts.safetensors"


def main() -> None:
    """Segments; the command line is that of the process."""
    parser = Parser(
        description="Gives each pixel of a folder's images its most similar concept.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", type=typed_text, help="what vice.load takes")
    add("images", nargs="+", type=typed_path, help="folders, text files with a path a line, images")
    add("--out", "-o", type=typed_path, required=True, metavar="DIR", help="output folder")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--clusters", type=whole(1, 65536), metavar="K",
        help="fit so many concepts to the images (the model's own concepts)")  # fmt: skip
    which.add_argument("--concepts", type=typed_path, metavar="FILE",
        help="concepts that an earlier call fitted, or that scoring fitted")  # fmt: skip
    add("--seed", type=whole(0, 2**31 - 1), default=0, help="of fitted concepts (0)")
    add("--no-overlays", action="store_true", help="write the masks alone")
    add("--device", help=f"{NAMES} (a GPU if there is one)")
    args = parser.parse_args()
    # PyTorch takes seconds to import, and help does without.
    import vice
    from vice.explore.segment_folder import GEOREFERENCED, segment_folder
    from vice.images import list_images
    from vice.images.lists import announce, survey

    for place in args.images:
        announce(survey(place))
    own = args.out.absolute()
    images = [
        path
        for path in dict.fromkeys(path for place in args.images for path in list_images(place))
        # Output below the images: what an earlier call has drawn is none of them.
        if own not in path.absolute().parents
    ]
    predictor = vice.load(args.model, device=args.device)
    concepts = _concepts(args, predictor, images)
    found = segment_folder(predictor, images, args.out, concepts, overlays=not args.no_overlays)
    shown = f"{found.done} masks of {len(concepts)} concepts in {printable(str(args.out))}"
    if found.reused:
        shown += f" ({found.reused} were there)"
    show(shown)
    common = found.shares.argsort()[::-1][:5]
    show("most common: " + ", ".join(f"{k} {100 * found.shares[k]:.1f} %" for k in common))
    if found.georeferenced:
        show(f"georeference kept: {found.georeferenced} masks in {GEOREFERENCED}")
    if found.unread:
        show(f"not read: {len(found.unread)} images")
        for reason in list(found.unread.values())[:5]:
            show(f"  {reason}")


def _concepts(args: argparse.Namespace, predictor: Predictor, images: list[Path]) -> Concepts:
    from vice.explore.fitted_concepts import fit_concepts
    from vice.models.centroids import Centroids
    from vice.runtime.files import make_folder

    path = args.concepts or args.out / CONCEPTS_NAME
    if args.clusters is None and args.concepts is None:
        if predictor.checkpoint.concepts is None:
            raise UserError(
                f"{args.model} has no concepts of its own: give --clusters or --concepts"
            )
        return predictor.checkpoint.concepts
    if args.clusters is not None and not path.exists():
        make_folder(path.parent)
        fit_concepts(predictor, images, args.clusters, seed=args.seed).save(path)
    fitted = Centroids.load(path)
    if args.clusters not in (None, len(fitted)):
        raise UserError(
            f"{path} holds {len(fitted)} concepts, not {args.clusters}: choose another output "
            "folder"
        )
    if fitted.vectors.shape[1] != predictor.dim:
        raise UserError(
            f"{path} holds vectors of {fitted.vectors.shape[1]} dimensions, {args.model} has "
            f"{predictor.dim}: they were fitted with another model"
        )
    return fitted.concepts()
