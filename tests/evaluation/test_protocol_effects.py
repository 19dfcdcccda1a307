from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.hostile import runs
from vice.errors import UserError
from vice.evaluation.protocol_effects import KINDS, check_effects, without_effect
from vice.evaluation.protocols import Protocol, get_protocol
from vice.evaluation.published import FOR, PROTOCOLS

#: Another value of each field.
OTHER = {
    "fit_split": "train+more", "score_split": "more", "fit_labels": False, "fit_crops": "five",
    "fit_crop_ratio": 0.7, "interpolation": "nearest", "resize_library": "torchvision", "crop": 17,
    "fit_crop": 13, "score_at": "input", "flip_average": True, "upsample": "classes",
    "matchings": ("hungarian",), "kmeans_pixels": 77, "kmeans_iterations": 3,
    "linear_optimizer": "adam", "linear_lr": 0.5, "linear_iterations": 9, "linear_batch": 2,
    "linear_flip": False, "linear_photometric": True, "linear_bottleneck": 6, "linear_pixels": 70,
    "linear_l2": 0.5, "std": "original", "miou_over": "all", "retrieval_memory": 50,
    "retrieval_neighbours": 2, "retrieval_temperature": 0.5, "retrieval_grid": "patch",
    "retrieval_patch": 8, "retrieval_ignored": "class0", "retrieval_matchings": ("hungarian",),
    "clusters": "minibatch", "minibatch_images": 3, "minibatch_init": 3,
    "same_split": "published", "foreground": "files", "foreground_threshold": "probability",
    "objects_components": 2, "objects_batch": 7, "objects_seeds": (3,),
    "crf": "dense", "features": "decoder", "linear_epochs": 2, "linear_schedule": "step",
    "linear_step_epoch": 3,
    "linear_weight_decay": 0.1, "linear_rotation": 40.0, "linear_scale": (0.5, 0.6),
    "fit_size": (21,), "size": (27,), "resize": "none",
    "resize_factor": 0.7, "pad": 151, "label_part": "stuff1", "exif": "ignore",
}  # fmt: skip
BASES = {
    "native": {},
    "resized": {"resize": "short", "size": (25,)},
    "cut": {"resize": "short", "size": (25,), "crop": 20, "score_at": "input"},
    "fit cut": {"fit_crop": 15},
    "five": {"fit_crops": "five"},
    "lbfgs": {"linear_optimizer": "lbfgs"},
    "epochs": {"linear_epochs": 4, "linear_schedule": "step"},
    "minibatch": {"clusters": "minibatch"},
    "objects": {"clusters": "objects"},
    "masks": {"clusters": "objects", "foreground": "label"},
    "refined": {"crf": "dense"},
    "patches": {"retrieval_grid": "patch"},
    "own": {"clusters": "own"},
    "padded": {"resize": "factor", "resize_factor": 0.4, "pad": 90, "score_at": "input"},
}
#: What `--set` changes that belongs together.
WITH = {"resize": {"size": ()}, "linear_schedule": {"linear_epochs": 3}}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = runs.labelled(tmp_path_factory.mktemp("data") / "set", np.random.default_rng(0))
    (root / "classes.txt").write_text("dark-things\nbright-stuff\n")
    for kind in ("images", "labels"):
        (root / kind / "train").rename(root / kind / "more")
        (root / kind / "train").mkdir()
        for path in (root / kind / "more").iterdir():
            (root / kind / "train" / path.name).write_bytes(path.read_bytes())
    return root


def what_happens(kind, protocol, root):
    """Everything that an evaluation makes of a protocol, without the protocol itself."""
    pytest.importorskip("mmseg")
    from mmcv.transforms import Compose
    from mmengine.registry import DefaultScope

    from vice.datasets import open_dataset
    from vice.plugins.mmseg.dataset import CROPS
    from vice.plugins.mmseg.pipelines import build_pipeline, count_steps, optimizer, schedule

    roles = ("fit" if kind in ("clusters", "retrieval") else "train", "score")
    found = [protocol.fit_split, protocol.score_split, protocol.fit_labels]
    found += [protocol.flip_average, protocol.std, protocol.miou_over, protocol.features]
    # What the data sets say, which `make_task` sees to.
    found.append(protocol.exif)
    if kind != "clusters" or protocol.clusters != "objects":
        refined = protocol.crf == "dense" and kind != "retrieval"
        found.append("refined" if refined else protocol.upsample)
    for role in roles:
        source = open_dataset(root)
        split = protocol.score_split if role == "score" else protocol.fit_split
        pair = source.pairs(split, labels=protocol.fit_labels or role == "score")[0]
        with DefaultScope.overwrite_default_scope("mmseg"):
            transforms = Compose(build_pipeline(protocol, role))
        for seed in range(3 if role == "train" else CROPS[protocol.fit_crops]):
            np.random.seed(seed)
            record = {"img_path": str(pair.image), "seg_map_path": str(pair.label), "crop": seed}
            record |= {"reduce_zero_label": False, "seg_fields": [], "vice_dataset": source}
            sample = transforms(record)
            given = sample["data_samples"]
            label = given.gt_sem_seg.data.tolist() if "gt_sem_seg" in given else None
            found += [sample["inputs"].tolist(), label, given.ori_shape, given.img_shape]
        found.append(split)
    if kind == "clusters":
        found += [protocol.matchings, protocol.clusters]
        if protocol.clusters == "objects":
            own = protocol.foreground == "model" and protocol.foreground_threshold
            found += [protocol.foreground, own, protocol.objects_components]
            return [*found, protocol.objects_batch, protocol.objects_seeds]
        if protocol.clusters != "own":
            found += [protocol.kmeans_pixels, protocol.kmeans_iterations]
        groups = protocol.minibatch_images, protocol.minibatch_init
        return [*found, protocol.clusters == "minibatch" and groups]
    if kind == "retrieval":
        patch = protocol.retrieval_grid == "patch" and protocol.retrieval_patch
        return [
            *found, patch, protocol.retrieval_memory, protocol.retrieval_neighbours,
            protocol.retrieval_temperature, protocol.retrieval_ignored,
            protocol.retrieval_matchings,
        ]  # fmt: skip
    if protocol.linear_optimizer == "lbfgs":
        return [
            *found,
            "lbfgs",
            protocol.linear_iterations,
            protocol.linear_pixels,
            protocol.linear_l2,
        ]
    return [
        *found, optimizer(protocol), schedule(protocol, 64), protocol.linear_batch,
        count_steps(protocol, 64),
        protocol.linear_bottleneck,
    ]  # fmt: skip


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("kind", KINDS)
def test_each_field_either_changes_what_happens_or_is_refused(kind, base, data):
    protocol = get_protocol("native", **BASES[base])
    before = what_happens(kind, protocol, data)
    fields = {f.name for f in dataclasses.fields(Protocol)} - {"name", "dataset"}
    assert fields == set(OTHER)
    tried = 0
    for name, value in OTHER.items():
        changes = {**BASES[base], name: value, **WITH.get(name, {})}
        try:
            changed = get_protocol("native", **changes)
        except UserError:
            continue  # They do not go together, and the message says so.
        if changed == protocol or (name == "fit_labels" and kind != "clusters"):
            continue
        tried += 1
        vain = without_effect(kind, changed)
        same = what_happens(kind, changed, data) == before
        assert (name in vain) == same, (name, vain.get(name))
    assert tried >= 20


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_in_vain_is_named_with_the_reason(kind):
    field, value = ("linear_lr", 3.0) if kind == "clusters" else ("kmeans_pixels", 3)
    protocol = get_protocol("native", **{field: value})
    with pytest.raises(UserError, match=rf"{field}=3.* nothing else: .*; leave it out"):
        check_effects(kind, protocol)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PROTOCOLS)
def test_published_protocols_are_taken_and_a_value_set_to_itself_leaves_the_hash(kind, name):
    for dataset in ("folder", *(d for n, d in FOR if n == name)):
        published = get_protocol(name, dataset)
        check_effects(kind, published)
        values = dataclasses.asdict(published)
        for field in set(values) - {"name", "dataset"}:
            again = get_protocol(name, dataset, **{field: values[field]})
            check_effects(kind, again)
            assert again.hash == published.hash


def test_no_such_kind():
    with pytest.raises(ValueError, match="'colour' is none of"):
        without_effect("colour", get_protocol("native"))


def test_clusters_beside_position_have_iterations_and_the_probes_sample():
    converged = {"linear_optimizer": "lbfgs"}
    check_effects("position", get_protocol("native", **converged, kmeans_iterations=7))
    for name, value in {"kmeans_pixels": 9, "matchings": ("greedy",)}.items():
        with pytest.raises(UserError, match=r"of the probe's sample \(linear_pixels\)"):
            check_effects("position", get_protocol("native", **converged, **{name: value}))
    with pytest.raises(UserError, match="takes no steps over images"):
        check_effects("position", get_protocol("native", **converged, linear_lr=3.0))
