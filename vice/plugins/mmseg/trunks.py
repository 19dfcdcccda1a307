"""The trunk of a model as a backbone of MMSegmentation, with its weights in the names there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from torch import Tensor, nn

from vice.errors import UserError
from vice.export.trunks import ResNet, Trunk, statistics, trunk_module
from vice.models.timm_backbones import TimmBackbone

_INSTEAD = "export to timm, onnx or torchscript instead"
#: Timm's names of a ViT's weights to those of MMSegmentation's; all others stay.
_VIT = (
    (r"^patch_embed\.proj\.", "patch_embed.projection."),
    (r"^norm\.", "ln1."),
    (r"^blocks\.(\d+)\.norm1\.", r"layers.\1.ln1."),
    (r"^blocks\.(\d+)\.norm2\.", r"layers.\1.ln2."),
    (r"^blocks\.(\d+)\.attn\.qkv\.(\w+)", r"layers.\1.attn.attn.in_proj_\2"),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"layers.\1.attn.attn.out_proj."),
    (r"^blocks\.(\d+)\.mlp\.fc1\.", r"layers.\1.ffn.layers.0.0."),
    (r"^blocks\.(\d+)\.mlp\.fc2\.", r"layers.\1.ffn.layers.1."),
)


def mmseg_trunk(embedder: nn.Module) -> Trunk:
    """The trunk as a backbone of MMSegmentation.

    Raises:
        UserError: MMSegmentation has none like it.
    """
    module = trunk_module(embedder)
    if isinstance(module, TimmBackbone):
        return _vit(module)
    net = ResNet.of(embedder, module)
    net.require_plain_blocks("MMSegmentation")
    return _trunk(_resnet(net), net.tensors)


def _resnet(net: ResNet) -> dict[str, Any]:
    """The config of a ResNet, the finest of its maps first."""
    strides, dilations = [1, 2, 2, 2], [1, 1, 1, 1]
    for stage, dilation in ((2, 2), (3, 4)) if net.output_stride == 8 else ((3, 2),):
        if net.output_stride < 32:
            strides[stage], dilations[stage] = 1, dilation
    config: dict[str, Any] = {
        "type": "ResNet",
        "depth": int(net.name.removeprefix("resnet")),
        "num_stages": net.stages,
        "strides": tuple(strides[: net.stages]),
        "dilations": tuple(dilations[: net.stages]),
        "out_indices": tuple(range(net.stages)),
        "contract_dilation": True,
        "style": "pytorch",
    }
    if net.padding != "zeros":
        config["conv_cfg"] = {"type": "Conv2d", "padding_mode": net.padding}
    return config


def _vit(module: TimmBackbone) -> Trunk:
    """A plain ViT; what MMSegmentation's has no place for is refused."""
    net: Any = module.net
    blocks: Any = getattr(net, "blocks", None)
    grid: Any = getattr(net, "patch_embed", None)
    tensors = {_renamed(name): value for name, value in net.state_dict().items()}
    positions = tensors.get("pos_embed")
    plain = (
        type(net).__name__ == "VisionTransformer"
        and positions is not None
        and positions.shape[1] == grid.num_patches + 1
        and not any(re.match(r"blocks\.|reg_token|norm_pre|fc_norm", name) for name in tensors)
    )
    if not plain:
        raise UserError(
            f"MMSegmentation has no {module.name}, of timm's models only plain ViTs with a class "
            f"token: {_INSTEAD}"
        )
    width, hidden = net.embed_dim, blocks[0].mlp.fc1.out_features
    height, across = grid.img_size
    config = {
        "type": "VisionTransformer",
        "img_size": (height, across),
        "patch_size": module.patch[0],
        "embed_dims": width,
        "num_layers": len(blocks),
        "num_heads": blocks[0].attn.num_heads,
        "mlp_ratio": hidden // width,
        "qkv_bias": blocks[0].attn.qkv.bias is not None,
        "patch_bias": grid.proj.bias is not None,
        "final_norm": True,
        "norm_cfg": {"type": "LN", "eps": net.norm.eps},
    }
    # Positions: at other sizes MMSegmentation resamples them otherwise than timm.
    return _trunk(config, tensors, (1, height, across), *statistics(module))


def _trunk(config: dict[str, Any], tensors: dict[str, Tensor], *more: Any) -> Trunk:
    def build() -> nn.Module:
        with DefaultScope.overwrite_default_scope("mmseg"):
            network: nn.Module = MODELS.build(config)
        return network

    def maps(network: Any, given: Tensor) -> Sequence[Tensor]:
        found: Sequence[Tensor] = network(given)
        return found

    return Trunk(f"mmseg.registry.MODELS.build({config!r})", build, tensors, maps, *more)


def _renamed(name: str) -> str:
    for old, new in _VIT:
        name = re.sub(old, new, name)
    return name
