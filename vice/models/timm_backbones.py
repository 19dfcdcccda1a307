"""Backbones of timm, convolutional and transformer, as feature maps of images of any size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from vice.errors import OptionError, UserError
from vice.model_specs import TIMM
from vice.models.downloads import hub_asked_once
from vice.models.strides import steps
from vice.models.timm_weights import load_weights
from vice.models.uninitialized import Uninitialized
from vice.nearest import close_names
from vice.normalize import IMAGENET_MEAN, IMAGENET_STD

#: Strides of the feature pyramid of a convolutional network, in pixels.
PYRAMID = (4, 8, 16, 32)
#: Memoization: the shapes that `TimmBackbone.probe` has found, by class, layers and shapes of
#: weights: a name may mean another network meanwhile.
_PROBED: dict[tuple[Any, ...], tuple[torch.Size, ...]] = {}


class TimmBackbone(nn.Module):
    """A timm model that takes images as the rest of ViCE has them.

    They are brought from ImageNet's mean and deviation to those that the model was trained with.

    Args:
        name: Name of the model in timm, for example ``"vit_small_patch14_dinov2"``.
        weights: ``None`` for random weights, which come from the global generator, ``"imagenet"``
            for timm's download (whatever the model was trained on), or a file of its weights,
            ``FILE#KEY`` where it holds several.

    Attributes:
        name: The same.
        net: The model.
        patch: Side of a patch (rows, columns) in pixels; 1 without patches.
        weight_source: Where in a file the weights were, for results.json; None without a file.

    Raises:
        UserError: timm is missing or does not know the model, or the weights cannot be had.
    """

    def __init__(self, name: str, weights: str | None = None) -> None:
        super().__init__()
        self.name = name
        self.net = _create(name, download=weights == "imagenet")
        file = weights if weights != "imagenet" else None
        self.weight_source = load_weights(self.net, file, TIMM + name) if file else None
        patch = getattr(getattr(self.net, "patch_embed", None), "patch_size", 1)
        self.patch: tuple[int, int] = (patch, patch) if isinstance(patch, int) else tuple(patch)
        statistics = self.net.pretrained_cfg
        mean = torch.tensor(statistics.get("mean", IMAGENET_MEAN)).view(3, 1, 1)
        std = torch.tensor(statistics.get("std", IMAGENET_STD)).view(3, 1, 1)
        ours = torch.tensor(IMAGENET_MEAN).view(3, 1, 1), torch.tensor(IMAGENET_STD).view(3, 1, 1)
        self.register_buffer("scale", ours[1] / std, persistent=False)
        self.register_buffer("shift", (ours[0] - mean) / std, persistent=False)

    def intermediates(
        self, images: Tensor, indices: int | list[int], whole: tuple[int, int], *, norm: bool
    ) -> list[Tensor]:
        """Feature maps of some layers.

        Args:
            images: (B, 3, H, W) float, normalised with ImageNet's mean and deviation.
            indices: Positions of the layers in timm's list, or how many of the last ones.
            whole: Images are scaled up to a multiple of this (rows, columns), so that the maps
                cover them exactly.
            norm: Whether a transformer's last normalisation is applied.

        Returns:
            A map (B, C, h, w) a layer.
        """
        sizes = zip(images.shape[-2:], whole, strict=True)
        size = [steps(length, step) * step for length, step in sizes]
        if size != list(images.shape[-2:]):
            images = F.interpolate(images, size, mode="bilinear", align_corners=False)
        features: list[Tensor] = self.net.forward_intermediates(
            images * self.scale + self.shift,
            indices=indices,
            norm=norm,
            output_fmt="NCHW",
            intermediates_only=True,
        )
        return features

    def probe(self, name: str) -> tuple[torch.Size, ...]:
        """Shapes (1, C, h, w) of the maps of a small image; `forward` must be ready.

        Raises:
            UserError: The model cannot take images of any size.
        """
        key = (type(self), name, *getattr(self, "indices", ()))
        key += tuple(value.shape for value in self.state_dict().values())
        if key not in _PROBED:
            _PROBED[key] = self._shapes(name)
        return _PROBED[key]

    def _shapes(self, name: str) -> tuple[torch.Size, ...]:
        side = probe_side(self.patch)
        training = self.training
        self.eval()
        try:
            maps = self._on_meta(torch.zeros(1, 3, side, 2 * side, device="meta"))
        except Exception as error:
            raise UserError(
                f"timm:{name} gives no feature map of an image of {side} pixels "
                f"({str(error) or type(error).__name__}); choose a plain ViT or a convolutional "
                "network"
            ) from error
        self.train(training)
        return tuple(found.shape for found in ([maps] if isinstance(maps, Tensor) else maps))

    def _on_meta(self, image: Tensor) -> Any:
        """Maps of an image on the meta device: nothing is computed but their shapes."""
        named = (*self.named_parameters(), *self.named_buffers())
        state = {name: value.to("meta") for name, value in named}
        with torch.no_grad():
            try:
                return functional_call(self, state, (image,))
            except Exception:
                # Data-dependent control flow: some models look at numbers, which meta has none of.
                return self(torch.zeros(image.shape))


def probe_side(patch: tuple[int, int]) -> int:
    """Height in pixels of a small image that divides into patches and into any usual stride."""
    return 2 * math.lcm(32, *patch)


class TimmPyramid(TimmBackbone):
    """The feature maps of a convolutional timm model at strides 4, 8, 16 and 32.

    Layers behind the last map are dropped, so that every parameter takes part.

    Args:
        name: As in `TimmBackbone`.
        weights: As in `TimmBackbone`.
        stages: How many of the maps, finest first.

    Attributes:
        channels: Width of each map.
        last_stride: Of the last of them, in pixels.

    Raises:
        UserError: As `TimmBackbone`; the model has no such pyramid; stages out of range.
    """

    def __init__(self, name: str, weights: str | None = None, stages: int = 4) -> None:
        super().__init__(name, weights)
        if stages not in (1, 2, 3, 4):
            raise UserError(f"stages must be 1 to 4, not {stages}")
        strides = reductions(self.net)
        if not set(PYRAMID) <= set(strides):
            raise UserError(f"timm:{name} has no feature maps at strides 4, 8, 16 and 32")
        self.indices = [len(strides) - 1 - strides[::-1].index(s) for s in PYRAMID[:stages]]
        self.net.prune_intermediate_layers(self.indices, prune_norm=True, prune_head=True)
        _part_activations(self.net)
        self.last_stride = PYRAMID[stages - 1]
        self.whole = (self.last_stride, self.last_stride)
        self.channels = tuple(shape[1] for shape in self.probe(name))

    def first_stages(self, count: int) -> list[nn.Module]:
        """What the first maps, so many of them, are made by."""
        names = [_layers(self.net)[index]["module"] for index in self.indices]
        return _up_to(self.net, names[min(count, len(names)) - 1].split("."))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (B, 3, H, W), as in `TimmBackbone`, to ``stages`` maps, finest first."""
        return tuple(self.intermediates(images, self.indices, self.whole, norm=False))


class TimmTransformer(TimmBackbone):
    """The patch tokens of a plain timm ViT after its last block and normalisation, as a map.

    Args:
        name: As in `TimmBackbone`.
        weights: As in `TimmBackbone`.

    Attributes:
        channels: Width of the map, alone in a tuple.
        last_stride: Of the map, in pixels.

    Raises:
        UserError: As `TimmBackbone`; the model takes no images of any size.
    """

    def __init__(self, name: str, weights: str | None = None) -> None:
        super().__init__(name, weights)
        self.net.prune_intermediate_layers(1, prune_norm=False, prune_head=True)
        self.last_stride = max(self.patch)
        self.channels = tuple(shape[1] for shape in self.probe(name))

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """Images (B, 3, H, W), as in `TimmBackbone`, to one map at the stride of a patch."""
        return (self.intermediates(images, 1, self.patch, norm=True)[-1],)


def timm_features(
    name: str, weights: str | None = None, stages: int = 4
) -> TimmPyramid | TimmTransformer:
    """The backbone of a timm model: a pyramid where it has one, else the map of a plain ViT.

    Args:
        name: As in `TimmBackbone`.
        weights: As in `TimmBackbone`.
        stages: As in `TimmPyramid`; 4 for a ViT, which has only one map.

    Raises:
        UserError: As the two classes.
    """
    if len(set(_planned_reductions(name, _entry(name)))) > 1:
        return TimmPyramid(name, weights, stages)
    if stages != 4:
        raise UserError(f"timm:{name} is a ViT and has no stages to leave out: set stages=4")
    return TimmTransformer(name, weights)


def _entry(name: str) -> Any:
    """What timm makes a model by; None of what it does not know."""
    try:
        from timm.models import model_entrypoint

        return model_entrypoint(name)
    except (ImportError, KeyError, RuntimeError):
        return None


@lru_cache(maxsize=16)
def _planned_reductions(name: str, entry: Any) -> tuple[int, ...]:
    # Meta device: where the names do not tell, the architecture does, without memory.
    with torch.device("meta"), Uninitialized():
        return tuple(reductions(_create(name)))


def reductions(net: Any) -> list[int]:
    """Stride of each layer that timm lists for a model, in pixels."""
    return [int(layer["reduction"]) for layer in _layers(net)]


def _layers(net: Any) -> list[dict[str, Any]]:
    info = getattr(net, "feature_info", None)
    if not info or not hasattr(net, "prune_intermediate_layers"):
        raise UserError(
            f"timm's {type(net).__name__} lists no feature maps; choose a plain ViT or a "
            "convolutional network"
        )
    return list(getattr(info, "info", info))


def _up_to(module: nn.Module, path: Sequence[str]) -> list[nn.Module]:
    """Submodules as they are registered, and run, in turn; the last one is that of a path."""
    parts: list[nn.Module] = []
    for name, child in module.named_children():
        if name == path[0]:
            return [*parts, *(_up_to(child, path[1:]) if path[1:] else [child])]
        parts.append(child)
    raise ValueError(f"{type(module).__name__} has no part {path[0]!r}")


def _part_activations(net: nn.Module) -> None:
    """Parts timm's batch normalisations from the activations that many of them have inside.

    PyTorch's conversion to synchronised batch normalisation, which training on several GPUs uses,
    would silently drop those.
    """
    from timm.layers import BatchNormAct2d

    for parent in list(net.modules()):
        for name, child in parent.named_children():
            if isinstance(child, BatchNormAct2d):
                plain = nn.BatchNorm2d(child.num_features, child.eps, child.momentum)
                plain.load_state_dict(child.state_dict())
                setattr(parent, name, nn.Sequential(plain, child.drop, child.act))


def _create(name: str, *, download: bool = False) -> Any:
    try:
        import timm
    except ImportError as error:
        raise UserError(f"timm:{name} needs timm: pip install timm") from error
    if not _is_known(name):
        raise UserError(f"timm has no model {name!r}; did you mean {' or '.join(_nearest(name))}?")
    # Dynamic size: transformers take any only when told so; others do not know the option.
    with hub_asked_once() if download else nullcontext():
        for options in ({"dynamic_img_size": True}, {}):
            try:
                return timm.create_model(name, pretrained=download, num_classes=0, **options)
            except Exception as error:
                if options and isinstance(error, TypeError) and "dynamic_img_size" in str(error):
                    continue
                reason = " ".join(str(error).split()) or type(error).__name__
                raise OptionError(
                    "cannot load the weights of timm:{name} ({reason}); name a file of its "
                    "weights (timm:{name}@FILE to score it, {weights}=FILE to train), or take "
                    "random ones (random:timm:... to score it, {weights}=null to train)",
                    name=name,
                    reason=reason,
                ) from error
    raise AssertionError("a model of timm is made or refused")


def _is_known(name: str) -> bool:
    """Whether timm has an architecture, and weights of this tag where one is given."""
    import timm

    try:
        # Pretrained tag: raises for one that the architecture does not have.
        return timm.is_model(name) and (
            "." not in name or timm.models.get_pretrained_cfg(name) is not None
        )
    except RuntimeError:
        return False


def _nearest(name: str) -> list[str]:
    """Names of timm's that are most like one that it does not have, at least one."""
    import timm

    known = timm.list_pretrained() if "." in name else timm.list_models()
    lowered = name.lower()
    near = close_names(name, known, alike=0.6)
    # Prefix: of a name cut short, the models of its family, or with weights of that name.
    family = [model for model in known if model.startswith(lowered.partition("_")[0])]
    family = family or [model for model in timm.list_pretrained() if lowered in model]
    return near or family[:3] or close_names(name, known, most=1, alike=0.0)
