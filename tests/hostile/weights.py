"""Other people's weights: layout, wrapper and prefix drawn at random, sound and hostile."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from tests.helpers import weight_layouts as layouts
from tests.helpers.weight_layouts import State
from tests.hostile.case import Action, Family

Rng = np.random.Generator
GROUP = "others' weights"
SHARE = 0.04


def _resnet_doors(file: str, rng: Rng) -> Callable[[], Any]:
    import vice
    from vice.models import build_embedder
    from vice.models.load import load_extractor

    doors = [
        lambda: load_extractor(file).features,
        lambda: load_extractor(f"torchvision:resnet18@{file}").features,
        lambda: vice.load(file, device="cpu").embedder.features,
        lambda: build_embedder("resnet18", "fpn", 4, weights=file).backbone,
    ]
    return doors[int(rng.integers(len(doors)))]


def _timm_doors(name: str, file: str, rng: Rng) -> Callable[[], Any]:
    import vice
    from vice.models import build_embedder
    from vice.models.load import load_extractor

    doors = [
        lambda: load_extractor(f"timm:{name}@{file}").net,
        lambda: vice.load(f"timm:{name}@{file}", device="cpu").embedder.net,
        lambda: build_embedder(f"timm:{name}", "auto", 4, weights=file).backbone.net,
    ]
    # A pyramid's batch normalisations are parted from their activations, and named otherwise.
    return doors[int(rng.integers(2 if "efficientnet" in name else 3))]


def _holds(expected: State) -> Callable[[Any], str | None]:
    """Every weight of the module is that of the network that was saved."""

    def check(module: Any) -> str | None:
        found = module.state_dict()
        names = {"stem.0.": "conv1.", "stem.1.": "bn1."}
        for key, value in found.items():
            wanted = expected.get(names.get(key[:7], key[:7]) + key[7:])
            if wanted is None or not torch.equal(value.float(), wanted.float()):
                return f"{key} is not that of the file"
        return None

    return check


def _action(network: str, file: str | Path, expected: State, rng: Rng, *names: str) -> Action:
    text = str(file)
    run = _resnet_doors(text, rng) if network == "resnet18" else _timm_doors(network, text, rng)
    return Action(run=run, names=names or (text.partition("#")[0],), check=_holds(expected))


def _network(network: str) -> State:
    return layouts.resnet18() if network == "resnet18" else layouts.timm_state(network)


def _pick(rng: Rng) -> str:
    return ("resnet18", layouts.VIT)[int(rng.integers(2))]


def _layout(network: str, state: State, rng: Rng) -> State:
    kinds: dict[str, list[Callable[[State], State]]] = {
        "resnet18": [dict, layouts.as_sequence, layouts.as_hugging_face_resnet],
        layouts.VIT: [dict, layouts.as_hugging_face_vit],
        layouts.LITE: [dict, layouts.as_lukemelas],
    }
    choices = kinds[network]
    return choices[int(rng.integers(len(choices)))](state)


def _wrapped(network: str | None, wrappers: tuple[str, ...] | None = None) -> Any:
    """Any layout under any prefix in any wrapper, beside the copy that is not meant."""

    def make(folder: Path, rng: Rng) -> Action:
        kind = network or _pick(rng)
        state, before = _network(kind), layouts.prefix(rng)
        named = [
            layouts.prefixed(_layout(kind, one, np.random.default_rng(7)), before)
            for one in (state, layouts.other(state))
        ]
        names = wrappers or tuple(layouts.WRAPPERS)
        wrapper = names[int(rng.integers(len(names)))]
        file = layouts.save(layouts.WRAPPERS[wrapper](*named), folder / "model.pth", rng)
        return _action(kind, file, state, rng)

    return make


def _layouts(network: str) -> Any:
    def make(folder: Path, rng: Rng) -> Action:
        state = _network(network)
        named = layouts.prefixed(_layout(network, state, rng), layouts.prefix(rng))
        return _action(network, layouts.save(named, folder / "w.pt", rng), state, rng)

    return make


def _inside_wrappers(folder: Path, rng: Rng) -> Action:
    """Blocks that were compiled or sharded one by one."""
    kind = _pick(rng)
    state = _network(kind)
    wrapper = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")[rng.integers(3)]
    named = {}
    for key, value in state.items():
        parts = key.split(".")
        place = min(2, len(parts) - 1) if parts[0].startswith(("layer", "blocks")) else 0
        named[".".join([*parts[:place], wrapper, *parts[place:]])] = value
    return _action(kind, layouts.save(named, folder / "w.pth", rng), state, rng)


def _folder(shards: int) -> Any:
    def make(folder: Path, rng: Rng) -> Action:
        kind = _pick(rng)
        state = _network(kind)
        convert = (
            layouts.as_hugging_face_resnet if kind == "resnet18" else layouts.as_hugging_face_vit
        )
        before = ("", "vit.", "backbone.")[rng.integers(3)]
        named = layouts.prefixed(convert(state), before)
        count = shards if shards == 1 else int(rng.integers(2, shards))
        return _action(kind, layouts.save_folder(named, folder / "hub", count), state, rng)

    return make


def _safetensors(folder: Path, rng: Rng) -> Action:
    kind = _pick(rng)
    state = _network(kind)
    named = layouts.prefixed(state, layouts.prefix(rng))
    file = folder / ("model.safetensors", "weights.safetensors", "weights.bin")[rng.integers(3)]
    save_file({key: value.contiguous() for key, value in named.items()}, file)
    return _action(kind, file, state, rng)


def _key(folder: Path, rng: Rng) -> Action:
    """Two copies, and the user says which; the file's own name may hold the separator."""
    kind = _pick(rng)
    state = _network(kind)
    one, two = (("student", "teacher"), ("model", "model_ema"), ("a", "b"))[rng.integers(3)]
    before = layouts.prefix(rng)
    content = {
        one: layouts.prefixed(state, before),
        two: layouts.prefixed(layouts.other(state), before),
    }
    key = (one, f"{one}.{before}".rstrip("."))[rng.integers(2)]
    name = ("w.pth", "w#1.pth")[rng.integers(2)]
    file = layouts.save(content, folder / name, rng)
    return _action(kind, f"{file}#{key}", state, rng)


def _mixed_types(folder: Path, rng: Rng) -> Action:
    kind = _pick(rng)
    types = (torch.float16, torch.bfloat16, torch.float64, torch.float32)
    state = {
        key: value.to(types[rng.integers(4)]) if value.is_floating_point() else value
        for key, value in _network(kind).items()
    }
    return _action(kind, layouts.save({"model": state}, folder / "w.pth", rng), state, rng)


def _equal_copies(folder: Path, rng: Rng) -> Action:
    kind = _pick(rng)
    state = _network(kind)
    copy = {key: value.clone() for key, value in state.items()}
    content = {"first": state, "second": copy}
    return _action(kind, layouts.save(content, folder / "w.pth", rng), state, rng)


def _without_counters(folder: Path, rng: Rng) -> Action:
    state = _network("resnet18")
    named = {key: value for key, value in state.items() if "num_batches" not in key}
    file = layouts.save({"state_dict": named}, folder / "w.pth", rng)
    return _action("resnet18", file, state, rng)


def _in_lists(folder: Path, rng: Rng) -> Action:
    """Weights inside lists and tuples, and under keys that are numbers or bytes."""
    kind = _pick(rng)
    state = _network(kind)
    names = [[f"img/{i}.jpg", i] for i in range(2000)]
    content: Any = (
        [state], (3, state), {"models": [state]}, {0: state}, {b"model": state},
        {"epoch": 1, "nets": ({"net": state, "name": "a"},), "samples": names},
        {"state": {1: [state]}, "samples": [names[:3], names]},
    )[rng.integers(7)]  # fmt: skip
    return _action(kind, layouts.save(content, folder / "w.pth", rng), state, rng)


def _of_other_programs(folder: Path, rng: Rng) -> Action:
    """What people have instead of a file of weights: it is said what it is."""
    kinds = {
        "gzip": gzip.compress(rng.bytes(300)),
        "bzip2": bz2.compress(rng.bytes(300)),
        "xz": lzma.compress(rng.bytes(300)),
        "Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 99\n",
        "web page": b"<!DOCTYPE html><html><body>404</body></html>",
        "HDF5": b"\x89HDF\r\n\x1a\n" + rng.bytes(300),
        "GGUF": b"GGUF\x03\0\0\0" + rng.bytes(300),
        "NumPy array": b"\x93NUMPY\x01\0" + rng.bytes(300),
        "text": "layers:\n  größe: 3\n".encode(),
        "empty": b"",
        "cut short": b"PK\x03\x04" + rng.bytes(300),
        "pickle of something else": pickle.dumps({"model": 3}),
    }
    kind = list(kinds)[int(rng.integers(len(kinds)))]
    file = folder / ("w.pth", "w.pt", "model.ckpt", "w.bin")[rng.integers(4)]
    file.write_bytes(kinds[kind])
    return _action(_pick(rng), file, {}, rng, kind)


def _ambiguous(folder: Path, rng: Rng) -> Action:
    kind = _pick(rng)
    state = _network(kind)
    one, two = (("a", "b"), ("model", "network"), ("teacher", "ema"), ("net_1", "net_2"))[
        rng.integers(4)
    ]
    content: Any = {one: state, two: layouts.other(state)}
    if rng.random() < 0.5:
        content = {f"{k}.{key}": v for k, group in content.items() for key, v in group.items()}
    file = layouts.save(content, folder / "w.pth", rng)
    return _action(kind, file, state, rng, f"#{one}")


def _partial(folder: Path, rng: Rng) -> Action:
    kind = _pick(rng)
    state = dict(_network(kind))
    names = [key for key in state if "num_batches" not in key and not key.startswith("fc.")]
    for key in rng.choice(names, int(rng.integers(1, len(names))), replace=False):
        if rng.random() < 0.7 or state[key].ndim == 0:
            del state[key]
        else:
            state[key] = state[key].reshape(-1)[:1]
    file = layouts.save({"model": layouts.prefixed(state, layouts.prefix(rng))}, folder / "w", rng)
    return _action(kind, file, {}, rng)


def _partial_teacher(folder: Path, rng: Rng) -> Action:
    """What comes first is not whole, what comes second is."""
    kind = _pick(rng)
    state = _network(kind)
    names = [key for key in state if "num_batches" not in key and not key.startswith("fc.")]
    gone = names[int(rng.integers(len(names)))]
    less = {key: value for key, value in state.items() if key != gone}
    one, two = (("student", "teacher"), ("state_dict", "state_dict_ema"))[rng.integers(2)]
    file = layouts.save({one: state, two: less}, folder / "w.pth", rng)
    return _action(kind, file, {}, rng, f"#{one}")


def _more(folder: Path, rng: Rng) -> Action:
    """All that is asked for, and more blocks, tokens or biases, which make it another network."""
    kind = _pick(rng)
    state = dict(_network(kind))
    if kind == "resnet18":
        extra = ("layer3.2.conv1.weight", "layer2.0.se.fc.weight", "conv1.bias")[rng.integers(3)]
    else:
        extra = ("blocks.12.norm1.weight", "blocks.0.ls1.gamma", "dist_token")[rng.integers(3)]
    state[extra] = torch.ones(3)
    return _action(kind, layouts.save(state, folder / "w.pth", rng), {}, rng)


def _shards_of_two(damage: str) -> Any:
    def make(folder: Path, rng: Rng) -> Action:
        state = layouts.as_hugging_face_vit(_network(layouts.VIT))
        hub = layouts.save_folder(state, folder / "hub", 3)
        shards = sorted(hub.glob("model-*"))
        victim = shards[int(rng.integers(3))]
        index = hub / "model.safetensors.index.json"
        if damage == "missing":
            victim.unlink()
        elif damage == "crossed":
            # Two shards under each other's names.
            one, two = shards[0].read_bytes(), shards[1].read_bytes()
            shards[0].write_bytes(two)
            shards[1].write_bytes(one)
        elif damage == "stray":
            content = load_file(victim)
            save_file({**content, "encoder.layer.0.more": torch.zeros(2)}, victim)
        elif damage == "outside":
            whole = json.loads(index.read_text())
            first = next(iter(whole["weight_map"]))
            victim.rename(folder / "elsewhere.safetensors")
            whole["weight_map"][first] = "../elsewhere.safetensors"
            index.write_text(json.dumps(whole))
        else:
            empty = '{"weight_map": {}}'
            index.write_text(("", "[]", "{}", empty, '{"weight_map": 3}')[rng.integers(5)])
        return _action(layouts.VIT, hub, {}, rng)

    return make


def _one_shard(folder: Path, rng: Rng) -> Action:
    hub = layouts.save_folder(_network(layouts.VIT), folder / "hub", 2)
    return _action(layouts.VIT, sorted(hub.glob("model-*"))[int(rng.integers(2))], {}, rng)


def _no_such_key(folder: Path, rng: Rng) -> Action:
    kind = _pick(rng)
    file = layouts.save({"model": _network(kind)}, folder / "w.pth", rng)
    key = ("student", "mode", "model.x", "MODEL", "", "#")[rng.integers(6)]
    return _action(kind, f"{file}#{key}", _network(kind), rng)


def _quantized(folder: Path, rng: Rng) -> Action:
    kind = _pick(rng)
    state = {key: value.to(torch.int8) for key, value in _network(kind).items()}
    return _action(kind, layouts.save(state, folder / "w.pth", rng), {}, rng)


def _beyond_floats(folder: Path, rng: Rng) -> Action:
    """Doubles that are finite and too great for the network's type."""
    kind = _pick(rng)
    state = dict(_network(kind))
    names = [key for key in state if "num_batches" not in key and not key.startswith("fc.")]
    key = names[int(rng.integers(len(names)))]
    state[key] = state[key].double() + 1e300
    return _action(kind, layouts.save(state, folder / "w.pth", rng), {}, rng)


def _of_other_padding(folder: Path, rng: Rng) -> Action:
    """Weights of TensorFlow's EfficientNet fit the shapes of one that pads otherwise."""
    named = layouts.as_lukemelas(_network(layouts.LITE))
    file = layouts.save(named, folder / "w.pth", rng)
    return _action("efficientnet_lite0", file, {}, rng, "tf_efficientnet_lite0")


FAMILY = Family(
    GROUP,
    {
        "resnet/wrapped": ("worked", _wrapped("resnet18")),
        "vit/wrapped": ("worked", _wrapped(layouts.VIT)),
        "best-first": ("worked", _wrapped(None, ("dino", "timm-ema", "ema-module", "moco"))),
        "resnet/layouts": ("worked", _layouts("resnet18")),
        "vit/layouts": ("worked", _layouts(layouts.VIT)),
        "efficientnet/layouts": ("worked", _layouts(layouts.LITE)),
        "wrappers-inside": ("worked", _inside_wrappers),
        "folder": ("worked", _folder(1)),
        "shards": ("worked", _folder(6)),
        "safetensors": ("worked", _safetensors),
        "key": ("worked", _key),
        "mixed-types": ("worked", _mixed_types),
        "equal-copies": ("worked", _equal_copies),
        "without-counters": ("worked", _without_counters),
        "in-lists": ("worked", _in_lists),
        "of-other-programs": ("refused", _of_other_programs),
        "ambiguous": ("refused", _ambiguous),
        "partial": ("refused", _partial),
        "partial-teacher": ("refused", _partial_teacher),
        "more": ("refused", _more),
        "shard/missing": ("refused", _shards_of_two("missing")),
        "shard/crossed": ("refused", _shards_of_two("crossed")),
        "shard/stray": ("refused", _shards_of_two("stray")),
        "shard/outside": ("refused", _shards_of_two("outside")),
        "shard/index": ("refused", _shards_of_two("index")),
        "shard/alone": ("refused", _one_shard),
        "no-such-key": ("either", _no_such_key),
        "quantised": ("refused", _quantized),
        "beyond-floats": ("refused", _beyond_floats),
        "of-other-padding": ("refused", _of_other_padding),
    },
)
FIXED = FAMILY.listed()
drawn = FAMILY.drawn
