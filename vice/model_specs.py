"""The grammar of model specs, and a look at what one names before anything heavy is imported.

`vice.models.load` says what each form means. Nothing here needs PyTorch.
"""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from vice.errors import UserError
from vice.nearest import close_names, did_you_mean, near_path
from vice.paths import EMPTY
from vice.runtime.run_folder import STATE_SUFFIX, WEIGHTS_NAME

_GIVE = "give a run folder or a file"
#: An address such as ``https://...`` or ``s3://...``.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_SLASHES = "/\\"
#: Code: ``FOLDER/MODULE.py``, and what is called of it; or a name with dots.
_CODE = re.compile(
    r"(?P<folder>(?:.*[/\\])?)(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*?)"
    r"(?P<suffix>(?:\.py)?)(?::(?P<name>[^\W\d]\w*))?"
)
#: Endings of files of weights.
_OF_FILES = ("bin", "ckpt", "pkl", "pt", "pth", "safetensors", "tar", "torch")

#: Backbones of torchvision, and the shallow one of IIC.
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
SHALLOW = "net10a"
DECODERS = ("fpn", "deeplabv3plus", "deeplabv3", "pup", "projection", "none")
#: Takes the decoder that goes with the backbone.
AUTO = "auto"
#: Plain color, the floor.
LAB = "lab"
#: What stands before the first colon where a name follows.
KINDS = ("random", "timm", "torchvision", "imagenet")
#: Whole files of a Hugging Face folder, and the indexes of its shards, preferred ones first.
FOLDER_NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
#: A backbone of timm.
TIMM = "timm:"
#: How specs of a name begin that may have a file: NAME@FILE.
NAMED = (TIMM, f"random:{TIMM}", "torchvision:")


def split_key(text: str | Path) -> tuple[str, str]:
    """Parts ``FILE#KEY``.

    Args:
        text: Of a file or folder whose own name may hold ``#``.

    Returns:
        The file and the key, which is empty where none is given. Of several readings the one with
        the longest name of a file that exists is taken.

    Raises:
        UserError: Nothing follows the ``#``.
    """
    text = str(text)
    if os.path.exists(text):
        return text, ""
    cut = text.rfind("#")
    while cut > 0:
        if os.path.exists(text[:cut]):
            if not text[cut + 1 :].strip():
                raise UserError(f"{text}: what follows # is {EMPTY}")
            return text[:cut], text[cut + 1 :]
        cut = text.rfind("#", 0, cut)
    return text, ""


def names_code(spec: str) -> bool:
    """Whether a module would be imported and called: MODULE:CALLABLE."""
    module, separator, name = spec.partition(":")
    names = [*module.split("."), name]
    return bool(separator) and module not in KINDS and all(part.isidentifier() for part in names)


def split_file(spec: str) -> tuple[str, str]:
    """Parts ``timm:NAME@FILE``, ``random:timm:NAME`` and ``torchvision:NAME@FILE``.

    Args:
        spec: Begins with one of `NAMED`.

    Returns:
        The name and the file, which is empty where there is no ``@``.

    Raises:
        UserError: The name is empty, or nothing follows an ``@`` or a ``#``.
    """
    name, at, file = spec.removeprefix("random:").partition(":")[2].partition("@")
    _require_part(spec, "follows the colon", name)
    if at:
        _require_part(spec, "follows @", file)
        split_key(file)
    return name, file


def refuse_empty(spec: str) -> None:
    """Refuses a spec of no characters, and one of whose parts none are left.

    Args:
        spec: As in `vice.models.load.load_extractor`.

    Raises:
        UserError: Such as for ``timm:NAME@``, which would be taken for ``timm:NAME``.
    """
    if not spec.strip():
        raise UserError(f"the model's name is {EMPTY}")
    kind, colon, rest = spec.partition(":")
    if spec.startswith(NAMED):
        split_file(spec)
    elif kind in KINDS and colon:
        _require_part(spec, "follows the colon", rest)
        parts = rest.split("-")
        if len(parts) == 3 and not os.path.exists(rest):
            for part in parts:
                _require_part(spec, "stands beside -", part.removeprefix(TIMM))
    elif split_key(spec)[0] == spec and colon and not os.path.exists(spec):
        _require_part(spec, "stands before the colon", kind)
        _require_part(spec, "follows the colon", rest)


def _require_part(spec: str, place: str, part: str) -> None:
    if not part.strip():
        raise UserError(f"{spec}: what {place} is {EMPTY}")


def check_spec(spec: str) -> None:
    """Looks for the files, modules and names of a spec; loading it looks at the rest.

    Args:
        spec: As in `vice.models.load.load_extractor`.

    Raises:
        UserError: A part of it is empty, there is no such file or module, or a backbone or decoder
            is unknown.
    """
    refuse_empty(spec)
    kind, _, rest = spec.partition(":")
    if spec == LAB:
        return
    if names_code(spec):
        _check_module(spec, kind.partition(".")[0], rest)
    elif spec.startswith(NAMED):
        name, file = split_file(spec)
        if kind == "torchvision":
            check_backbone(name)
        if file and not os.path.exists(split_key(file)[0]):
            refuse_file(spec, file)
    elif kind in ("random", "imagenet") and not (kind == "random" and os.path.exists(rest)):
        fresh_config(kind, rest)
    else:
        path = rest if kind == "random" else spec
        if not os.path.exists(split_key(path)[0]):
            refuse_missing(path)
        if path.endswith(".py"):
            raise UserError(f"{path} is code{other_form(path)}")
        if os.path.isdir(path) and not _may_hold_weights(Path(path)):
            refuse_folder(path)


def _may_hold_weights(folder: Path) -> bool:
    """Whether a file of some name of weights is in a folder; what it holds is another question."""
    named = any((folder / name).is_file() for name in (WEIGHTS_NAME, *FOLDER_NAMES))
    return named or any(folder.glob(f"*{STATE_SUFFIX}"))


def fresh_config(kind: str, text: str) -> dict[str, str | int]:
    """Backbone, decoder and dimensions of ``BACKBONE-DECODER-DIM``.

    Args:
        kind: ``"random"`` or ``"imagenet"``, for the message.
        text: What follows it.

    Raises:
        UserError: It is nothing of the kind, or a name is unknown.
    """
    parts = text.split("-")
    if len(parts) != 3 or not parts[2].isdigit():
        raise UserError(
            f"'{kind}:{text}' is neither a checkpoint's path nor BACKBONE-DECODER-DIM "
            f"(for example {kind}:resnet18-fpn-128)" + (other_form(text) or near_path(text))
        )
    backbone, decoder, dim = parts
    if backbone != SHALLOW and not backbone.startswith(TIMM):
        check_backbone(backbone)
    check_decoder(decoder)
    return {"backbone": backbone, "decoder": decoder, "dim": int(dim)}


def check_backbone(name: object) -> None:
    """Raises a `UserError` where a backbone is no ResNet of torchvision."""
    if name not in RESNETS:
        choice = f"choose one of {', '.join(RESNETS)}, or timm:NAME"
        near = did_you_mean(str(name), (*RESNETS, SHALLOW), choice)
        raise UserError(f"backbone {name!r} is unknown{near}")


def check_decoder(name: object) -> None:
    """Raises a `UserError` where a decoder is unknown."""
    if name not in (*DECODERS, AUTO):
        near = did_you_mean(str(name), DECODERS, f"choose one of {', '.join(DECODERS)}")
        raise UserError(f"decoder {name!r} is unknown{near}")


def refuse_missing(path: str | Path) -> NoReturn:
    """Says that a checkpoint is not there.

    Raises:
        UserError: Always.
    """
    text = str(path)
    kind, colon, rest = text.partition(":")
    kinds = [f"{near}:{rest}" for near in close_names(kind, KINDS) if colon]
    kinds += [LAB] if text.casefold() == LAB else []
    near = f"; did you mean {' or '.join(kinds)}?" if kinds else other_form(text)
    near = near or near_path(path) or did_you_mean(text, (LAB,), _GIVE)
    raise UserError(f"checkpoint {path} does not exist{near}")


def other_form(text: str) -> str:
    """What to give in place of a path that is an address, or code; empty of any other."""
    if _ADDRESS.match(text):
        return "; it is an address: download it first, and give the file"
    if not (code := _CODE.fullmatch(text)):
        return ""
    folder, module, suffix, name = code["folder"], code["module"], code["suffix"], code["name"]
    if not (folder or suffix or name):
        module, _, name = module.rpartition(".")
        top = module.partition(".")[0]
        # A file of weights has a dot as well.
        known = top and (os.path.isfile(f"{top}.py") or _is_importable(top))
        if not known or name in _OF_FILES:
            return ""
    elif not (suffix or name):
        return ""
    place = f"the folder {folder.rstrip(_SLASHES) or folder}" if folder else "its folder"
    return (
        f"; code is named MODULE:CALLABLE, here {module}:{name or 'CALLABLE'}, with {place} in "
        "PYTHONPATH"
    )


def _is_importable(top: str) -> bool:
    """Whether there is a module of that name, which is not imported."""
    try:
        return find_spec(top) is not None
    except (ImportError, ValueError):  # a module of that name may be half there
        return True


def refuse_folder(folder: str | Path) -> NoReturn:
    """Says that a folder holds no weights, and which one in it does.

    Raises:
        UserError: Always.
    """
    folder = Path(folder)
    below = sorted(str(file.parent) for file in folder.glob(f"*/{WEIGHTS_NAME}"))
    if below:
        more = f" (or one of {len(below) - 1} others beside it)" if len(below) > 1 else ""
        raise UserError(f"{folder} is no run folder; did you mean {below[0]}{more}?")
    others = sorted(file.name for file in folder.glob(f"*{STATE_SUFFIX}"))
    raise UserError(
        f"{folder} holds no {WEIGHTS_NAME} and no state of a training (*{STATE_SUFFIX})"
        + (f"; name the file to load, such as {others[0]}" if others else "")
        + "; is it a run folder, and has its first epoch ended?"
    )


def refuse_file(spec: str, file: str) -> NoReturn:
    """Says that the file of a spec is not there.

    Raises:
        UserError: Always.
    """
    near = other_form(file) or near_path(file)
    raise UserError(f"{spec}: {file} does not exist or holds no weights{near}")


def _check_module(spec: str, top: str, rest: str) -> None:
    if spec.partition(":")[0].endswith(".py"):
        raise UserError(f"{spec} names a file{other_form(spec)}")
    if not _is_importable(top):
        kinds = [f"{kind}:{rest}" for kind in close_names(top, KINDS)]
        meant = f"; did you mean {' or '.join(kinds)}?" if kinds else ""
        raise UserError(
            f"{spec}: No module named {top!r}; MODULE:CALLABLE must be importable, for example "
            f"with its folder in PYTHONPATH{meant}"
        )
