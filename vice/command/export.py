"""``vice export``: a model in the files of other programs."""

from __future__ import annotations

import argparse

from vice.cli import Parser, show
from vice.names import printable
from vice.paths import typed_path, typed_text

#: Formats, named here so that help needs no library.
FORMATS = {
    "onnx": "embed.onnx and segment.onnx, images of any size (needs onnx, onnxscript, onnxruntime)",
    "torchscript": "model.torchscript with embed and segment, for PyTorch without ViCE",
}
EXAMPLE = "\n".join(
    [
        "formats:",
        *(f"  {name:<12} {what}" for name, what in FORMATS.items()),
        "",
        "examples:",
        "  vice export outputs/folder --to onnx --out folder-onnx",
        "  vice export MODEL --to torchscript --concepts masks/concepts.safetensors -o out",
        "",
        "What is written is run beside the model first, at five sizes, and refused where they",
        "differ. export.json says what it takes and how far it is from the model.",
    ]
)


def main() -> None:
    """Exports; the command line is that of the process."""
    parser = Parser(
        description="Writes a model for programs that have no ViCE.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", type=typed_text, help="what vice.load takes")
    add("--to", required=True, choices=list(FORMATS), help="the format")
    add("--out", "-o", type=typed_path, required=True, metavar="DIR", help="output folder")
    add("--concepts", type=typed_path, metavar="FILE",
        help="concepts that vice segment fitted (the model's own)")  # fmt: skip
    add("--normalized", action="store_true",
        help="take float images with ImageNet's mean and deviation, not bytes")  # fmt: skip
    args = parser.parse_args()
    _export_graph(args)


def _export_graph(args: argparse.Namespace) -> None:
    import vice
    from vice.export.doors import BYTES, INPUTS, NORMALIZED
    from vice.export.write import export_graph
    from vice.models.centroids import Centroids

    concepts = None if args.concepts is None else Centroids.load(args.concepts)
    takes = NORMALIZED if args.normalized else BYTES
    predictor = vice.load(args.model, device="cpu")
    made = export_graph(predictor, args.out, args.to, takes=takes, concepts=concepts)
    show(f"{', '.join(made.files)} in {printable(str(args.out))}")
    show(f"images: {INPUTS[takes]}")
    show(f"largest difference from the model at five sizes: {made.trial.difference:.1e}")
    if not made.segments:
        show(f"{args.model} has no concepts: without --concepts there is embed alone")
