"""``vice info``: what is installed here, or what a model is."""

from __future__ import annotations

import os
import platform
import sys
from typing import Any

from vice._version import __version__
from vice.cli import Parser
from vice.command.install import missing
from vice.errors import UserError
from vice.model_specs import check_spec
from vice.parts import PARTS
from vice.paths import typed_text
from vice.runtime.answers import answer
from vice.runtime.threads import cores

EXAMPLE = """\
examples:
  vice info
  vice info outputs/folder
  vice info outputs/folder --card
  vice info timm:vit_small_patch16_224.dino@FILE
"""


def main() -> None:
    """Prints one or the other."""
    parser = Parser(
        description="Says what is installed here, or what a model is.",
        epilog=EXAMPLE,
    )
    parser.add_argument("model", nargs="?", type=typed_text, help="what vice.load takes")
    parser.add_argument("--card", action="store_true", help="the whole card, as for a hub")
    args = parser.parse_args()
    if args.card and not args.model:
        parser.error("--card needs a model")
    if args.model:
        check_spec(args.model)
    if args.card:
        answer(read_card(args.model))
        return
    answer(_table(describe_model(args.model) if args.model else describe_machine()))


def read_card(spec: str) -> str:
    """The card beside a model's weights; where there is none, what it would be.

    Args:
        spec: What `vice.load` takes.

    Raises:
        UserError: Nothing that can be loaded, or no model of ViCE's own.
    """
    import vice
    from vice.models.embedder import Embedder
    from vice.predictor.model_card import CARD_FILE, model_card

    checkpoint = vice.load(spec, device="cpu").checkpoint
    written = checkpoint.path and checkpoint.path.parent / CARD_FILE
    if written and written.is_file():
        return written.read_text(encoding="utf-8", errors="replace")
    if not isinstance(checkpoint.embedder, Embedder):
        raise UserError(f"{spec} is no model of ViCE's own and has no card")
    return model_card(checkpoint, name=spec)


def describe_machine() -> dict[str, str]:
    """Versions, devices, and which parts are installed."""
    import torch

    from vice.regions.compiled.shared_library import why_not
    from vice.runtime.provenance import versions

    lines = {
        "vice-embeddings": f"{__version__} in {os.path.dirname(os.path.dirname(__file__))}",
        "Python": f"{platform.python_version()} ({sys.executable})",
        "system": f"{platform.system()} {platform.machine()}, {cores()} cores",
    }
    lines |= {name: text for name, text in versions().items() if name not in ("python", "vice")}
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    lines["GPUs"] = ", ".join(gpus) or "none"
    reason = why_not()
    lines["regions on the CPU"] = f"by plain PyTorch: {reason}" if reason else "by compiled C"
    for part in PARTS:
        lines[part] = f"not installed: vice install {part}" if missing(part) else "installed"
    return lines


def describe_model(spec: str) -> dict[str, str]:
    """What a model is made of, and what its training wrote beside the weights.

    Args:
        spec: What `vice.load` takes.

    Raises:
        UserError: Nothing that can be loaded.
    """
    import vice

    predictor = vice.load(spec, device="cpu")
    embedder, checkpoint = predictor.embedder, predictor.checkpoint
    concepts = checkpoint.concepts
    parameters = sum(value.numel() for value in embedder.parameters())
    stride = _stride(embedder)
    lines = {
        "model": str(checkpoint.path or spec),
        "embedding": f"{predictor.dim} dimensions",
        **({"stride": f"{stride} pixels"} if stride else {}),
        "parameters": f"{parameters:,}",
        "concepts": "none of its own" if concepts is None else f"{len(concepts)}",
    }
    lines |= {f"network: {key}": str(value) for key, value in _plain(embedder, "config").items()}
    lines |= {f"training: {key}": str(value) for key, value in checkpoint.meta.items()}
    return lines


def _stride(embedder: Any) -> int | None:
    """Pixels from one vector to the next; of a network that does not say so, at 224 x 224."""
    import torch

    said = getattr(embedder, "stride", None)
    if isinstance(said, int):
        return said
    side = 224
    try:
        with torch.no_grad():
            height, width = embedder(torch.zeros(1, 3, side, side)).shape[-2:]
        return side // height if height == width and side % height == 0 else None
    # Somebody else's code: it may take images of one other size alone.
    except Exception:
        return None


def _plain(embedder: Any, name: str) -> dict[str, Any]:
    value = getattr(embedder, name, None)
    return dict(value) if isinstance(value, dict) else {}


def _table(lines: dict[str, str]) -> str:
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines.items())
