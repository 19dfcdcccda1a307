"""Weights as other people's trainers and libraries write them, made of known networks.

Each conversion starts from the network's own names and goes the way that a reader has to undo; none
is taken from the code under test.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

State = dict[str, torch.Tensor]
VIT = "vit_tiny_patch16_224"
LITE = "tf_efficientnet_lite0"


def seeded(make: Callable[[], torch.nn.Module], seed: int = 0) -> torch.nn.Module:
    """A module in evaluation mode, every parameter and statistic of which is a random number."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = make().eval()
        for name, value in net.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif value.is_floating_point():
                value.copy_(torch.randn_like(value) / max(1.0, value[0].numel() ** 0.5))
    return net


@cache
def resnet18() -> State:
    import torchvision

    return dict(seeded(lambda: torchvision.models.resnet18(weights=None)).state_dict())


@cache
def timm_state(name: str) -> State:
    import timm

    return dict(seeded(lambda: timm.create_model(name, num_classes=0)).state_dict())


def other(state: State) -> State:
    """Another copy of a network: same names and shapes, one tensor of other values."""
    first = next(key for key, value in state.items() if value.ndim == 4)
    return {**state, first: state[first] + 1}


def as_sequence(state: State) -> State:
    """``nn.Sequential(*resnet.children())``, as many trainers of encoders have it."""
    places = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    split = ((key.partition("."), value) for key, value in state.items() if key[:2] != "fc")
    return {places[first] + dot + rest: value for (first, dot, rest), value in split}


def as_hugging_face_resnet(state: State) -> State:
    found = {}
    kinds = {"conv": "convolution", "bn": "normalization"}
    for key, value in state.items():
        if m := re.fullmatch(r"(conv|bn)1\.(\w+)", key):
            name = f"embedder.embedder.{kinds[m[1]]}.{m[2]}"
        elif m := re.fullmatch(r"layer(\d)\.(\d+)\.(conv|bn)(\d)\.(\w+)", key):
            place = f"encoder.stages.{int(m[1]) - 1}.layers.{m[2]}.layer.{int(m[4]) - 1}"
            name = f"{place}.{kinds[m[3]]}.{m[5]}"
        elif m := re.fullmatch(r"layer(\d)\.(\d+)\.downsample\.([01])\.(\w+)", key):
            kind = ("convolution", "normalization")[int(m[3])]
            name = f"encoder.stages.{int(m[1]) - 1}.layers.{m[2]}.shortcut.{kind}.{m[4]}"
        else:
            name = f"classifier.1.{key.rpartition('.')[2]}"
        found[name] = value
    return found


def as_hugging_face_vit(state: State, kind: str = "vit") -> State:
    """timm's names to Hugging Face's ``vit``, ``dinov2`` or ``dinov3``: q, k and v apart."""
    found: State = {}
    for key, value in state.items():
        block = re.fullmatch(r"blocks\.(\d+)\.(.+)", key)
        if block is None:
            found[_outer(key, kind)] = value
            continue
        place = f"layer.{block[1]}." if kind == "dinov3" else f"encoder.layer.{block[1]}."
        if m := re.fullmatch(r"attn\.qkv\.(\w+)", block[2]):
            parts = zip(("query", "key", "value"), value.chunk(3), strict=True)
            for name, part in parts:
                inner = f"{name[0]}_proj" if kind == "dinov3" else f"attention.{name}"
                found[f"{place}attention.{inner}.{m[1]}"] = part.clone()
        else:
            found[place + _inner(block[2], kind)] = value
    if "reg_token" in state and kind == "dinov2":
        # timm has added the position of the class token to that token.
        first = torch.full_like(state["cls_token"], 0.25)
        found["embeddings.cls_token"] = state["cls_token"] - first
        found["embeddings.position_embeddings"] = torch.cat([first, state["pos_embed"]], 1)
    if kind != "vit":
        found["embeddings.mask_token"] = torch.zeros(1, value.shape[-1])
    return found


def _outer(key: str, kind: str) -> str:
    projection = "" if kind == "dinov3" else "projection."
    names = {
        "cls_token": "embeddings.cls_token",
        "pos_embed": "embeddings.position_embeddings",
        "reg_token": "embeddings.register_tokens",
        "patch_embed.proj.weight": f"embeddings.patch_embeddings.{projection}weight",
        "patch_embed.proj.bias": f"embeddings.patch_embeddings.{projection}bias",
    }
    norm = "norm" if kind == "dinov3" else "layernorm"
    return names.get(key) or key.replace("norm.", f"{norm}.")


def _inner(name: str, kind: str) -> str:
    attention = "o_proj" if kind == "dinov3" else "output.dense"
    rules = [
        (r"attn\.proj", f"attention.{attention}"),
        (r"ls([12])\.gamma", r"layer_scale\1.lambda1"),
        (r"gamma_([12])", r"layer_scale\1.lambda1"),
    ]
    rules += {
        "vit": [
            ("norm1", "layernorm_before"),
            ("norm2", "layernorm_after"),
            (r"mlp\.fc1", "intermediate.dense"),
            (r"mlp\.fc2", "output.dense"),
        ],
        "dinov2": [],
        "dinov3": [(r"mlp\.fc1", "mlp.up_proj"), (r"mlp\.fc2", "mlp.down_proj")],
    }[kind]
    for pattern, replacement in rules:
        if re.match(pattern, name):
            return re.sub(f"^{pattern}", replacement, name)
    return name


def as_lukemelas(state: State) -> State:
    """timm's EfficientNet to lukemelas's names: blocks numbered through."""
    blocks = list(dict.fromkeys(m[0] for k in state if (m := re.match(r"blocks\.\d+\.\d+", k))))
    outer = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
    plain = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    wide = {
        "conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1",
        "conv_pwl": "_project_conv", "bn3": "_bn2",
    }  # fmt: skip
    found = {}
    for key, value in state.items():
        block = re.match(r"(blocks\.\d+\.\d+)\.(\w+)\.(\w+)", key)
        if block is None:
            first, dot, rest = key.partition(".")
            found[outer[first] + dot + rest] = value
            continue
        names = wide if f"{block[1]}.conv_pwl.weight" in state else plain
        found[f"_blocks.{blocks.index(block[1])}.{names[block[2]]}.{block[3]}"] = value
    return {**found, "_fc.weight": torch.zeros(10, 1280), "_fc.bias": torch.zeros(10)}


#: Where trainers put the weights that are meant, beside a copy (`rest`) that is not.
WRAPPERS: dict[str, Callable[[State, State], Any]] = {
    "plain": lambda state, rest: state,
    "state_dict": lambda state, rest: {"epoch": 3, "state_dict": state},
    "model": lambda state, rest: {"model": state, "args": {"lr": 0.1}},
    "dino": lambda state, rest: {"student": rest, "teacher": state, "epoch": 9},
    "timm-ema": lambda state, rest: {"state_dict": rest, "state_dict_ema": state},
    "ema-module": lambda state, rest: {"model": rest, "model_ema": {"module": state}},
    "ema-first": lambda state, rest: {"ema": state, "model": rest},
    "network": lambda state, rest: {"network": state, "optimizer": {"lr": 0.1}},
    "module": lambda state, rest: {"module": state},
    "vissl": lambda state, rest: {
        "classy_state_dict": {"base_model": {"model": {"trunk": state, "heads": {}}}}
    },
    "lightning": lambda state, rest: {
        "pytorch-lightning_version": "2.1",
        "state_dict": state,
        "hyper_parameters": {"lr": 1.0},
    },
    "mmengine": lambda state, rest: {"meta": {"epoch": 1}, "state_dict": state},
    "named-optimizer": lambda state, rest: {"model": state, "optimizer": {"exp_avg": rest}},
    "one-dict": lambda state, rest: {
        **{f"student.{key}": value for key, value in rest.items()},
        **{f"teacher.{key}": value for key, value in state.items()},
    },
    "moco": lambda state, rest: {
        "state_dict": {
            **{f"module.encoder_k.{key}": value for key, value in rest.items()},
            **{f"module.encoder_q.{key}": value for key, value in state.items()},
        }
    },
}
_PARTS = (
    "module.", "_orig_mod.", "backbone.", "encoder.", "model.", "net.", "base_encoder.", "trunk.",
    "_feature_blocks.", "feature_extractor.0.", "vit.", "resnet.", "image_encoder.", "0.", "f.",
    "_forward_module.", "visual.",
)  # fmt: skip


def prefix(rng: np.random.Generator) -> str:
    """What stands before every name: up to four parts in any order, known and made up."""
    parts = list(rng.choice(_PARTS, int(rng.integers(0, 4))))
    if rng.random() < 0.5:
        parts.append("".join(rng.choice(list("abcdxyz_"), int(rng.integers(1, 9)))) + ".")
    return "".join(rng.permutation(parts)) if parts else ""


def prefixed(state: State, before: str) -> State:
    return {before + key: value for key, value in state.items()}


def save(content: Any, path: Path, rng: np.random.Generator) -> Path:
    """In one of PyTorch's two layouts."""
    torch.save(content, path, _use_new_zipfile_serialization=bool(rng.integers(2)))
    return path


def save_folder(state: State, folder: Path, shards: int = 1) -> Path:
    """As Hugging Face's libraries save a model."""
    folder.mkdir(parents=True)
    state = {key: value.contiguous().clone() for key, value in state.items()}
    (folder / "config.json").write_text("{}")
    if shards == 1:
        save_file(state, folder / "model.safetensors")
        return folder
    names = list(state)
    homes = {}
    for number in range(shards):
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        part = names[number::shards]
        save_file({key: state[key] for key in part}, folder / file)
        homes.update(dict.fromkeys(part, file))
    index = {"metadata": {}, "weight_map": homes}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder
