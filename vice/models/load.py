"""Model specs: one way to name anything that turns an image into a dense embedding."""

from __future__ import annotations

import importlib
import logging
import os
from contextlib import suppress
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from vice.errors import UserError, exits_are_errors, noted
from vice.images import Reading
from vice.model_specs import (
    KINDS,
    check_spec,
    names_code,
    refuse_empty,
    refuse_file,
    split_file,
    split_key,
)
from vice.models.embeddings import set_width
from vice.models.lab import LabEmbedder
from vice.nearest import near_path
from vice.paths import text_from_home

logger = logging.getLogger(__name__)


def load_extractor(spec: str, *, seed: int = 0, device: str = "cpu") -> nn.Module:
    """Loads a dense embedder by name, frozen and in evaluation mode.

    Args:
        spec: One of

            - a run folder or checkpoint file of ViCE, ``random:PATH``,
              ``random:resnet18-fpn-128`` or ``imagenet:resnet50-deeplabv3plus-128``
              (see `vice.models.checkpoint.load_embedder`);
            - ``torchvision:resnet50`` or ``torchvision:resnet50@FILE``, or just the file with a
              ResNet of torchvision, VISSL, MoCo and so on: its last stage (see
              `vice.models.resnet_embedder`);
            - ``timm:NAME`` or ``timm:NAME@FILE``, a model of timm with downloaded weights or
              those of a file, and ``random:timm:NAME``, the same without weights;
            - with any FILE, also a folder of Hugging Face, and ``FILE#KEY``, which of several
              weights in it, for example ``FILE#student``;
            - ``MODULE:CALLABLE``, a function without arguments that returns a module from
              (B, 3, H, W) normalised images to (B, D, h, w);
            - ``lab``, the colour floor.
        seed: Seed of random weights.
        device: Where to put it.

    Returns:
        A module from (B, 3, H, W) normalised images to (B, D, h, w), with ``dim``.

    Raises:
        UserError: The text names nothing that can be loaded, or a part of it is empty.
    """
    refuse_empty(spec)
    spec = text_from_home(spec)
    if spec == "lab":
        module: nn.Module = LabEmbedder()
    elif spec.startswith(("timm:", "random:timm:")) or names_code(spec):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = _call(spec, seed) if names_code(spec) else _timm(spec)
    elif spec.startswith("torchvision:") or _is_foreign(spec):
        module = _resnet(spec)
    else:
        from vice.models.checkpoint import load_embedder

        module = load_embedder(spec, seed=seed)
    return module.eval().requires_grad_(False).to(device)


def names_a_run(spec: str) -> bool:
    """Whether `load_extractor` would take this for a checkpoint of ViCE, prototypes and all."""
    text = spec.partition(":")[0]
    other = spec == "lab" or text in KINDS
    return not (other or names_code(spec) or _is_foreign(spec))


def require_weights(spec: str) -> None:
    """Looks for the path that `load_extractor` will read, before longer work begins.

    Raises:
        UserError: As of `load_extractor`; names without a folder are left to it.
    """
    if os.path.dirname(spec) and names_a_run(spec):
        from vice.models.checkpoint_files import find_checkpoint

        find_checkpoint(spec)


def stored_reading(spec: str) -> Reading | None:
    """How the images are read that an embedder was trained on, by its card alone.

    Args:
        spec: As in `load_extractor`; ``random:PATH`` reads images as the run does.

    Returns:
        None of 8-bit RGB, of all that ViCE has not trained, and of what is not there: loading it
        says so.

    Raises:
        UserError: What the run says of it is damaged.
    """
    path = spec.removeprefix("random:")
    if not os.path.exists(path) or not names_a_run(path):
        return None
    from vice.models.checkpoint import READING
    from vice.models.checkpoint_files import read_card

    card = read_card(path)
    stored = card.get("meta", {}).get(READING)
    return None if stored is None else Reading.of(stored, path)


def reading_as(run: str) -> Reading | None:
    """How the images of a run are read, as ``--read-as`` names it.

    Raises:
        UserError: There is no such run, or what it says of it is damaged.
    """
    if not os.path.exists(run):
        raise UserError(f"--read-as: {run} does not exist{near_path(run, 'give a run folder')}")
    return stored_reading(run)


def is_spherical(extractor: nn.Module) -> bool:
    """Whether only the direction of an embedding counts, so that clusters are spherical.

    True for every learnt embedding (ViCE normalises each pixel); a module says otherwise with an
    attribute ``spherical = False``.
    """
    return bool(getattr(extractor, "spherical", True))


def unfinished(extractor: nn.Module) -> str:
    """How far the training of weights had come; empty where that was its end, or is unknown.

    Example: ``"epoch 2 of 4"``.
    """
    return str(getattr(extractor, "provenance", {}).get("unfinished", ""))


def _timm(spec: str) -> nn.Module:
    from vice.models.timm_embedder import TimmEmbedder
    from vice.models.weight_files import holds_weights

    weights = not spec.startswith("random:")
    name, file = split_file(spec)
    if file and not weights:
        raise UserError(f"{spec}: random weights need no file")
    if file and not holds_weights(split_key(file)[0]):
        refuse_file(spec, file)
    return TimmEmbedder(name, file or None, weights=weights)


def _is_foreign(spec: str) -> bool:
    """Whether these are weights that no training of ViCE wrote."""
    from vice.models.checkpoint_files import holds_run
    from vice.models.own_files import read_metadata, reads_as_safetensors
    from vice.models.weight_files import holds_weights
    from vice.runtime.run_folder import ARCHITECTURE_NAME

    file, key = split_key(spec)
    # Path length: os.path has an answer for names too long for the disk, too; Path raises.
    if os.path.isdir(file):
        return not holds_run(file) and holds_weights(file)
    if not os.path.isfile(file):
        return False
    if reads_as_safetensors(file):
        is_vice = "vice" in read_metadata(file)
    else:
        is_vice = os.path.isfile(os.path.join(os.path.dirname(file), ARCHITECTURE_NAME))
    if is_vice and key:
        raise UserError(f"{spec}: a checkpoint of ViCE holds one network: leave #{key} out")
    return not is_vice


def _resnet(spec: str) -> nn.Module:
    from vice.models.resnet_embedder import ResNetEmbedder, load_resnet

    if not spec.startswith("torchvision:"):
        return load_resnet(spec)
    name, file = split_file(spec)
    return load_resnet(file, name) if file else ResNetEmbedder(name, "imagenet")


def _call(spec: str, seed: int) -> nn.Module:
    check_spec(spec)
    with exits_are_errors(spec), noted(f"while {spec} was called"):
        return _called(spec, seed)


def _called(spec: str, seed: int) -> nn.Module:
    module_name, _, name = spec.partition(":")
    try:
        make = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{spec}: {_missing(module_name, error)}") from error
    if isinstance(make, nn.Module):
        raise UserError(f"{spec} is a module: name what returns one, such as a function")
    try:
        signature(make).bind()
    except TypeError as error:
        raise UserError(f"{spec} cannot be called without arguments ({error})") from error
    # C functions have no signature that could be asked for.
    except ValueError:
        pass
    # Seed: what a module draws while it is imported, it draws in its first import alone.
    torch.manual_seed(seed)
    try:
        module = make()
    except ImportError as error:
        raise UserError(f"{spec}: {_missing(module_name, error)}") from error
    if not isinstance(module, nn.Module):
        raise UserError(f"{spec} returned {type(module).__name__}, not a torch.nn.Module")
    try:
        return set_width(_in_float32(Compiled.wrapped(module).eval(), spec))
    except UserError as error:
        raise UserError(f"{spec}: {error}") from error


class Compiled(nn.Module):
    """A module that is no Python any more, with the methods of one.

    TorchScript's modules have no ``requires_grad_``, and programs of `torch.export` one mode alone.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        for name in ("dim", "spherical"):
            if hasattr(module, name):
                setattr(self, name, getattr(module, name))

    @classmethod
    def wrapped(cls, module: nn.Module) -> nn.Module:
        """The module itself where it is an ordinary one."""
        exported = isinstance(module, torch.fx.GraphModule) and "train" in vars(module)
        return cls(module) if exported or isinstance(module, torch.jit.ScriptModule) else module

    def forward(self, images: Tensor) -> Any:
        """What the module returns."""
        return self.module(images)

    def train(self, mode: bool = True) -> Compiled:
        """Sets the mode where there are two."""
        with suppress(NotImplementedError):
            super().train(mode)
        return self


def _missing(module_name: str, error: Exception) -> str:
    """What is missing where code cannot be imported: itself, or a package that it imports."""
    package = error.name if isinstance(error, ModuleNotFoundError) else None
    # A part of the same package that is missing is a mistake in it, and nothing to install.
    if package and package.partition(".")[0] != module_name.partition(".")[0]:
        return f"its code imports {package}, which is not installed here: install it"
    return f"{error}; MODULE:CALLABLE must be importable, for example with its folder in PYTHONPATH"


def _in_float32(module: nn.Module, spec: str) -> nn.Module:
    """Turns weights of another type into float32, if it does not take float32 images as it is."""
    tensors = [*module.parameters(), *module.buffers()]
    kinds = {tensor.dtype for tensor in tensors if tensor.is_floating_point()} - {torch.float32}
    if kinds:
        try:
            with torch.no_grad():
                module(torch.zeros(1, 3, 224, 224))
        except RuntimeError as error:
            # Other faults are told of where a real image meets them.
            if "type" in str(error):
                names = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))
                logger.info("%s: images are float32, and so are its weights in %s now", spec, names)
                module.float()
    return module
