"""Weight names that other libraries give to the same networks."""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch

from vice.models.weight_match import State

_Rules = tuple[tuple[str, str], ...]

#: Hugging Face's ViT, DeiT, DINOv2 and DINOv3 to the names of the models' authors.
_VIT: _Rules = (
    (r"embeddings\.(cls_token|mask_token)", r"\1"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.distillation_token", "dist_token"),
    (r"embeddings\.patch_embeddings\.(?:projection\.)?(weight|bias)", r"patch_embed.proj.\1"),
    (r"(?:layernorm|norm)\.(weight|bias)", r"norm.\1"),
)
_VIT_BLOCK: _Rules = (
    (r"(?:layernorm_before|norm1)\.(\w+)", r"norm1.\1"),
    (r"(?:layernorm_after|norm2)\.(\w+)", r"norm2.\1"),
    (r"attention\.(?:attention\.)?([qkv])(?:uery|ey|alue|_proj)\.(\w+)", r"attn.\1.\2"),
    (r"attention\.(?:output\.dense|o_proj)\.(\w+)", r"attn.proj.\1"),
    (r"(?:intermediate\.dense|mlp\.fc1)\.(\w+)", r"mlp.fc1.\1"),
    (r"(?:output\.dense|mlp\.fc2)\.(\w+)", r"mlp.fc2.\1"),
    (r"mlp\.weights_in\.(\w+)", r"mlp.w12.\1"),
    (r"mlp\.weights_out\.(\w+)", r"mlp.w3.\1"),
    (r"mlp\.(gate|up|down)_proj\.(\w+)", r"mlp.\1.\2"),
    (r"layer_scale([12])\.lambda1", r"ls\1.gamma"),
)
#: Linear layers of a gated and of a plain feed-forward network.
_GATED = {"gate": "w1", "up": "w2", "down": "w3"}
_PLAIN = {"up": "fc1", "down": "fc2"}

#: Hugging Face's ResNet to torchvision's names; its numbers of stages and layers are counted on.
_RESNET: _Rules = (
    (r"embedder\.embedder\.convolution\.(\w+)", r"conv1.\1"),
    (r"embedder\.embedder\.normalization\.(\w+)", r"bn1.\1"),
    (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.shortcut\.convolution\.(\w+)",
     r"layer{0}.\2.downsample.0.\3"),
    (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.shortcut\.normalization\.(\w+)",
     r"layer{0}.\2.downsample.1.\3"),
    (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.layer\.(\d+)\.convolution\.(\w+)",
     r"layer{0}.\2.conv{1}.\4"),
    (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.layer\.(\d+)\.normalization\.(\w+)",
     r"layer{0}.\2.bn{1}.\4"),
)  # fmt: skip
#: Positions in a plain sequence of a ResNet's children, as many trainers build their encoder.
_SEQUENCE = {"0": "conv1", "1": "bn1", **{str(k + 3): f"layer{k}" for k in range(1, 5)}}


def hugging_face_vit(state: State) -> State | None:
    """Hugging Face's names to those of the authors, query, key and value in one.

    Args:
        state: Tensors under one prefix.

    Returns:
        The same weights under the authors' names, which timm reads; names without a rule stay. None
        if they are not Hugging Face's.

    Source: `ViTModel`, `Dinov2Model`, `Dinov2WithRegistersModel` and `DINOv3ViTModel` of
    transformers; the authors' own releases.
    """
    if not any(key.startswith("embeddings.patch_embeddings.") for key in state):
        return None
    gated = any(key.endswith("mlp.gate_proj.weight") for key in state)
    # DINOv3: rotary positions, and its authors call the registers storage.
    rotary = "embeddings.position_embeddings" not in state
    renamed: State = {}
    for key, value in state.items():
        block = re.fullmatch(r"(?:(?:encoder|model)\.)*layers?\.(\d+)\.(.+)", key)
        if key == "embeddings.register_tokens":
            name = "storage_tokens" if rotary else "register_tokens"
        elif block:
            inner = _renamed(block[2], _VIT_BLOCK)
            inner = _feed_forward(inner, _GATED if gated else _PLAIN)
            name = f"blocks.{block[1]}.{inner}"
        else:
            name = _renamed(key, _VIT)
        renamed[name if name not in renamed else key] = value
    return _fused(renamed)


def _renamed(key: str, rules: _Rules) -> str:
    for pattern, name in rules:
        if match := re.fullmatch(pattern, key):
            return match.expand(name)
    return key


def _feed_forward(name: str, parts: dict[str, str]) -> str:
    match = re.fullmatch(r"mlp\.(gate|up|down)\.(\w+)", name)
    return f"mlp.{parts.get(match[1], match[1])}.{match[2]}" if match else name


def _fused(state: State) -> State:
    """One ``qkv`` for ``q``, ``k`` and ``v``; DINOv3's keys have no bias, which is one of zeros."""
    fused = dict(state)
    for key in state:
        match = re.fullmatch(r"(blocks\.\d+\.attn)\.q\.(weight|bias)", key)
        if match is None:
            continue
        names = [f"{match[1]}.{part}.{match[2]}" for part in "qkv"]
        parts = [state.get(name) for name in names]
        if match[2] == "bias" and parts[1] is None and parts[0] is not None:
            parts[1] = torch.zeros_like(parts[0])
        whole = [part for part in parts if part is not None]
        if len(whole) == 3 and len({(part.shape[1:], part.dtype) for part in whole}) == 1:
            fused[f"{match[1]}.qkv.{match[2]}"] = torch.cat(whole)
            for name in names:
                fused.pop(name, None)
    return fused


def lukemelas_efficientnet(state: State, wanted: Iterable[str]) -> State | None:
    """Names of lukemelas's EfficientNets to those of timm.

    His blocks are numbered through, those of timm by stage; the batch normalisations of both are
    numbered from the first one of a block.

    Args:
        state: Tensors under one prefix.
        wanted: Names of the timm model's weights, which say how many blocks a stage has.

    Returns:
        The same weights under timm's names; names without a rule stay. None if they are not his.
    """
    if "_conv_stem.weight" not in state:
        return None
    blocks = dict.fromkeys(m[0] for key in wanted if (m := re.match(r"blocks\.\d+\.\d+", key)))
    places = {str(number): block_name for number, block_name in enumerate(blocks)}
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2",
             "_fc": "classifier"}  # fmt: skip
    renamed: State = {}
    for key, value in state.items():
        match = re.fullmatch(r"_blocks\.(\d+)\.(_\w+)\.(\w+)", key)
        if match is None:
            first, dot, rest = key.partition(".")
            renamed[outer.get(first, first) + dot + rest] = value
        elif match[1] not in places:
            renamed[f"blocks.{key}"] = value
        else:
            expands = f"_blocks.{match[1]}._expand_conv.weight" in state
            renamed[f"{places[match[1]]}.{_block_part(match[2], expands)}.{match[3]}"] = value
    return renamed


def _block_part(name: str, expands: bool) -> str:
    shift = 1 if expands else 0
    parts = {
        "_expand_conv": "conv_pw",
        "_depthwise_conv": "conv_dw",
        "_project_conv": "conv_pwl" if expands else "conv_pw",
        "_se_reduce": "se.conv_reduce",
        "_se_expand": "se.conv_expand",
        "_bn0": "bn1",
        "_bn1": f"bn{1 + shift}",
        "_bn2": f"bn{2 + shift}",
    }
    return parts.get(name, name)


def torchvision_resnet(state: State) -> tuple[State, str] | None:
    """Names of ResNets to those of torchvision: its own, Hugging Face's, those of a sequence.

    Args:
        state: Tensors under one prefix.

    Returns:
        The weights, names without a rule as they are, and whose names they were; None if there is
        no block of a ResNet.
    """
    if any(re.match(r"layer[1-4]\.0\.conv[12]\.weight$", key) for key in state):
        return state, "torchvision"
    if any(key.startswith(("embedder.embedder.", "encoder.stages.0.layers.")) for key in state):
        return {_of_hugging_face(key): value for key, value in state.items()}, "Hugging Face"
    if any(re.match(r"[4-7]\.0\.conv[12]\.weight$", key) for key in state):
        split = ((key.partition("."), value) for key, value in state.items())
        renamed = {_SEQUENCE.get(first, first) + d + rest: v for (first, d, rest), v in split}
        return renamed, "a sequence of torchvision's layers"
    return None


def _of_hugging_face(key: str) -> str:
    for pattern, name in _RESNET:
        if match := re.fullmatch(pattern, key):
            numbers = [int(group) + 1 for group in match.groups() if group.isdigit()]
            return match.expand(name).format(numbers[0] if numbers else "", (numbers or [0])[-1])
    return key
