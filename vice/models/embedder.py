"""The dense embedder: backbone plus decoder, and further outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vice.errors import UserError
from vice.models.folding import Folding
from vice.models.projection import BackboneMap
from vice.models.strides import steps

#: The output by which a model tells its foreground.
SALIENCY = "saliency"


class LastMap(nn.Module):
    """No decoder: the last map of the backbone, as it is.

    Args:
        stride: Of the map.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """(B, C, h, w), the last of several maps."""
        return features[-1]


class Embedder(nn.Module):
    """f_theta of the papers: images to a dense embedding, at stride 4 but for some decoders.

    Args:
        backbone: Images to feature maps.
        decoder: Feature maps to a dense embedding.
        dim: Width D of the embedding.
        config: See below.
        centre: Whether to end in a batch normalisation without scale and shift.
        frozen: Keeps the backbone as it is: no gradient, and evaluation mode (no batch statistics,
            no dropout) whatever mode the embedder is in. A number keeps its stem and so many of
            its stages.
        outputs: Modules that make further dense outputs of what the decoder projects the embedding
            from, or of the backbone's maps where it projects nothing last; `BackboneMap` is always
            given those.

    Attributes:
        dim: Width D of the embedding.
        stride: Pixels of the input for each pixel of the embedding: 4 but for deeplabv3, which has
            8, and for `Projection` and `LastMap`, which have the backbone's, or about it.
        outputs: The further outputs by name.
        config: The arguments of `build_embedder` that build the same architecture.
        provenance: What a result must say of how it was trained; empty but for some methods.
        constant: Whether nothing trains the backbone, which may then be computed folded
            (`vice.models.folding`): frozen ones, and those that were loaded, until they
            are set to training.
    """

    # Pickles of whole embedders may be older.
    constant = False

    def __init__(
        self,
        backbone: nn.Module,
        decoder: nn.Module,
        *,
        dim: int,
        config: dict[str, Any],
        centre: bool = False,
        frozen: bool | int = False,
        outputs: Mapping[str, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.decoder = decoder
        # Not there without any: names in states stay what they were.
        self.outputs = nn.ModuleDict(outputs or {})
        self.centre = nn.BatchNorm2d(dim, affine=False) if centre else nn.Identity()
        self.dim = dim
        self.stride = int(getattr(decoder, "stride", 4))
        self.config = config
        self.provenance: dict[str, Any] = {}
        self.frozen = frozen
        self.constant = frozen is True
        self._folding = Folding()
        for part in _frozen_parts(backbone, frozen):
            part.eval().requires_grad_(False)

    @property
    def weight_source(self) -> dict[str, Any] | None:
        """Where in a file the backbone's weights were; None without a file."""
        return getattr(self.backbone, "weight_source", None)

    def train(self, mode: bool = True) -> Embedder:
        """Sets the mode; what is frozen stays in evaluation mode."""
        super().train(mode)
        if mode and self.frozen is not True:
            self.constant = False
        for part in _frozen_parts(self.backbone, self.frozen):
            part.eval()
        return self

    def forward(self, images: Tensor, *, outputs: bool = False) -> Tensor:
        """Embeds images.

        Args:
            images: (B, 3, H, W) float, normalised with ImageNet's mean and deviation.
            outputs: Whether the further outputs follow along the channels, in their order.

        Returns:
            (B, D, ceil(H / stride), ceil(W / stride)), not normalised; of `LastMap` the size that
            the backbone's last map has.
        """
        stages = self._stages(images)
        if not (outputs and self.outputs):
            return self.centre(self._at_stride(self.decoder(stages), images))
        fused = self._fused(stages)
        dense = self.decoder(stages) if fused is stages else self.decoder.project(fused)
        maps = [self.centre(self._at_stride(dense, images))]
        maps += [
            self._at_stride(module(stages if isinstance(module, BackboneMap) else fused), images)
            for module in self.outputs.values()
        ]
        return torch.cat(maps, dim=1)

    def output(self, name: str, images: Tensor) -> Tensor:
        """One of the further outputs.

        Args:
            name: Its name.
            images: As in `forward`.

        Returns:
            (B, channels, ceil(H / stride), ceil(W / stride)), raw.
        """
        module, stages = self.outputs[name], self._stages(images)
        given = stages if isinstance(module, BackboneMap) else self._fused(stages)
        return self._at_stride(module(given), images)

    @property
    def foreground(self) -> Callable[[Tensor], Tensor]:
        """From images, as in `forward`, to the logits (B, 1, h, w) of their foreground.

        Raises:
            AttributeError: There is no output ``saliency``.
        """
        if SALIENCY not in self.outputs:
            raise AttributeError(f"an embedder without the output {SALIENCY}")
        return partial(self.output, SALIENCY)

    def decoder_features(self, images: Tensor) -> Tensor:
        """What the decoder projects the embedding from.

        Args:
            images: As in `forward`.

        Returns:
            (B, F, ceil(H / stride), ceil(W / stride)).

        Raises:
            UserError: A decoder whose last layer is no projection.
        """
        fused = getattr(self.decoder, "fused", None)
        if fused is None:
            raise UserError(
                f"features=decoder: {type(self.decoder).__name__} has no features before a last "
                "projection; take features=embedding"
            )
        return self._at_stride(fused(self._stages(images)), images)

    def _stages(self, images: Tensor) -> Sequence[Tensor]:
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.frozen is not True):
            call = partial(self._folding, self.backbone) if self.constant else self.backbone
            stages: Sequence[Tensor] = call(images)
            return stages

    def _fused(self, stages: Sequence[Tensor]) -> Any:
        """What further outputs are made of: the decoder's features, or the backbone's maps."""
        return self.decoder.fused(stages) if hasattr(self.decoder, "fused") else stages

    def _at_stride(self, dense: Tensor, images: Tensor) -> Tensor:
        if isinstance(self.decoder, LastMap):
            return dense
        # Patch size: backbones that scale images up to whole ones cover other numbers of pixels.
        size = tuple(steps(length, self.stride) for length in images.shape[-2:])
        if dense.shape[-2:] != size:
            dense = F.interpolate(dense, size, mode="bilinear", align_corners=False)
        return dense


def _frozen_parts(backbone: nn.Module, frozen: bool | int) -> list[nn.Module]:
    """The modules that stay as they are."""
    if isinstance(frozen, bool):
        return [backbone] if frozen else []
    stages = backbone.first_stages(frozen) if hasattr(backbone, "first_stages") else None
    if stages is None:
        raise UserError(
            f"frozen={frozen}: {type(backbone).__name__} has no stages to freeze by number; take "
            "frozen=true, or false"
        )
    return list(stages)
