"""``vice export``: a model in the files of other programs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vice.cli import Parser, show
from vice.command.inputs import NAMED, check_concepts, given_concepts
from vice.export.folder import earlier_files
from vice.model_specs import check_spec
from vice.names import printable
from vice.paths import typed_path, typed_text
from vice.runtime.files import check_folder

if TYPE_CHECKING:
    from vice.predictor import Predictor

#: Formats, named here so that help needs no library.
FORMATS = {
    "onnx": "embed.onnx and segment.onnx, images of any size (needs onnx, onnxscript, onnxruntime)",
    "torchscript": "model.torchscript with embed and segment, for PyTorch without ViCE",
}
#: Libraries that take the trunk alone.
TRUNKS = {
    "torchvision": "trunk.safetensors: a ResNet's weights",
    "timm": "trunk.safetensors: those of a ResNet or a model of timm",
    "mmseg": "trunk.pth: those of a ResNet or a plain ViT, and the config of its backbone",
}
EXAMPLE = "\n".join(
    [
        "formats:",
        *(f"  {name:<12} {what}" for name, what in FORMATS.items()),
        *(f"  {name:<12} {what}" for name, what in TRUNKS.items()),
        "",
        "examples:",
        "  vice export outputs/folder --to onnx --out folder-onnx",
        "  vice export outputs/folder --to onnx --concepts concepts.json --out named-onnx",
        "  vice export MODEL --to torchscript --concepts masks/concepts.safetensors -o out",
        "",
        "What is written is run beside the model first, and refused where they differ. export.json",
        "says what goes in, and how far it is from the model.",
    ]
)
#: Said where it is stopped.
KEPT = "the same command begins again"


def main() -> None:
    """Exports; the command line is that of the process."""
    parser = Parser(
        description="Writes a model for programs that have no ViCE.",
        epilog=EXAMPLE,
    )
    add = parser.add_argument
    add("model", type=typed_text, help="what vice.load takes")
    add("--to", required=True, choices=[*FORMATS, *TRUNKS], help="the format")
    add("--out", "-o", type=typed_path, required=True, metavar="DIR", help="output folder")
    add("--concepts", type=typed_path, metavar="FILE",
        help="concepts.json, or concepts that vice segment fitted (the model's own)")  # fmt: skip
    add("--normalized", action="store_true",
        help="take float images with ImageNet's mean and deviation, not bytes")  # fmt: skip
    args = parser.parse_args()
    if args.to in TRUNKS and (args.concepts or args.normalized):
        parser.error(f"--to {args.to} is the trunk alone: it takes no --concepts and --normalized")
    check_spec(args.model)
    check_folder("--out", args.out)
    earlier = earlier_files(args.out, args.to)
    if args.concepts is not None:
        check_concepts(args.concepts)
    if args.to in FORMATS:
        _export_graph(args)
    else:
        _export_trunk(args)
    if earlier is not None:
        show("what an earlier call had exported there is replaced")


def _export_trunk(args: argparse.Namespace) -> None:
    import vice
    from vice.export.write_trunk import TRUNKS, write_trunk

    predictor = vice.load(args.model, device="cpu")
    if args.to == "mmseg":
        from vice.plugins.mmseg.trunks import mmseg_trunk

        trunk = mmseg_trunk(predictor.embedder)
    else:
        trunk = TRUNKS[args.to](predictor.embedder)
    made = write_trunk(predictor, args.out, trunk)
    show(f"{made.file}, export.json in {printable(str(args.out))}")
    for line in made.lines:
        show(f"  {line}")
    if made.missing:
        show(f"not in it, since this model has none: {', '.join(made.missing)}")
    show(f"largest difference of a feature map from the model's: {made.difference:.1e}")


def _export_graph(args: argparse.Namespace) -> None:
    import vice
    from vice.export.doors import BYTES, INPUTS, NORMALIZED
    from vice.export.write import export_graph

    takes = NORMALIZED if args.normalized else BYTES
    predictor = vice.load(args.model, device="cpu")
    given = {} if args.concepts is None else _concepts(args.concepts, predictor)
    made = export_graph(predictor, args.out, args.to, takes=takes, **given)
    show(f"{', '.join(made.files)} in {printable(str(args.out))}")
    show(f"images: {INPUTS[takes]}")
    show(f"largest difference from the model at five sizes: {made.trial.difference:.1e}")
    if "groups" in given:
        show(f"segment gives numbers of {len(given['said']['names'])} names, in export.json")
    if not made.segments:
        show(f"{args.model} has no concepts: without --concepts there is embed alone")


def _concepts(path: Path, predictor: Predictor) -> dict[str, Any]:
    """What `export_graph` is told of the concepts in a file."""
    given = given_concepts(path, predictor)
    if path.suffix.lower() != NAMED:
        return {"concepts": given.vectors}
    said = {
        "concepts": len(given.names),
        "names": list(given.names),
        "colors": given.shown.tolist(),
        "dropped": given.void,
    }
    return {"concepts": given.vectors, "groups": given.groups.tolist(), "said": said}
