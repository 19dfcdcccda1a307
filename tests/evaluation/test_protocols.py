from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from vice.datasets import DATASETS, label_sets
from vice.errors import UserError
from vice.evaluation.protocol_text import parse_changes
from vice.evaluation.protocols import (
    Protocol,
    default_protocol,
    from_dict,
    get_protocol,
    hashed_fields,
)
from vice.evaluation.published import NOTES, PROTOCOLS
from vice.evaluation.task import resolve_protocol

#: Written down once. A protocol that hashes to something else is another protocol: results that
#: were published under the old hash no longer compare, so give it another name instead.
GOLDEN = {
    ("native", "coco27"): "8b5a7a0a612c",
    ("native", "cityscapes27"): "3c91a11b00f1",
    ("native", "cityscapes19"): "c066351674a0",
    ("native", "camvid"): "8f6d1e2faf1e",
    ("native", "msrc21"): "53f9fd07a428",
    ("native", "voc21"): "0cd9812fa2c7",
    ("native", "ade150"): "7f62c247604d",
    ("native", "folder"): "c935f9dff1af",
    ("vice2022_highres", "coco27"): "52a9d626a3a1",
    ("vice2022_highres", "cityscapes27"): "0597fa4f0add",
    ("vice2022_highres", "cityscapes19"): "6a3441e6685e",
    ("vice2022_highres", "camvid"): "2c480b2df378",
    ("vice2022_highres", "msrc21"): "75cf0555cb38",
    ("vice2022_highres", "voc21"): "4b846a024b8d",
    ("vice2022_highres", "ade150"): "cad724dd1938",
    ("vice2022_highres", "folder"): "58ffbadb4ee6",
    ("vice2022_lowres", "coco27"): "aa3d44c97620",
    ("vice2022_lowres", "cityscapes27"): "f7a390bef1be",
    ("vice2022_lowres", "cityscapes19"): "9aef9f5b62a3",
    ("vice2022_lowres", "camvid"): "ec2d073d05ee",
    ("vice2022_lowres", "msrc21"): "d38a5518545f",
    ("vice2022_lowres", "voc21"): "6d90a5c2d18e",
    ("vice2022_lowres", "ade150"): "a9178b732f9c",
    ("vice2022_lowres", "folder"): "2f918443bf60",
    ("picie2021", "coco27"): "be27e16fe659",
    ("picie2021", "cityscapes27"): "acb4377212fd",
    ("picie2021", "cityscapes19"): "f17e35bf4746",
    ("picie2021", "camvid"): "77f78c18e683",
    ("picie2021", "msrc21"): "e32543d3f312",
    ("picie2021", "voc21"): "cb84374f9ff7",
    ("picie2021", "ade150"): "265cbdd2b290",
    ("picie2021", "folder"): "2eefcb129cd4",
    ("stego2022", "coco27"): "f93eca74608a",
    ("stego2022", "cityscapes27"): "60dd0c52ca9f",
    ("stego2022", "cityscapes19"): "a3208fc4c7b8",
    ("stego2022", "camvid"): "a0f4257834b3",
    ("stego2022", "msrc21"): "bf96f034a01d",
    ("stego2022", "voc21"): "cd8f0e201f05",
    ("stego2022", "ade150"): "9032854c6d39",
    ("stego2022", "folder"): "e5ddde1e7017",
    ("stego2022_crf", "coco27"): "9c270a36cae6",
    ("stego2022_crf", "cityscapes27"): "1e04e2f6c88b",
    ("stego2022_crf", "cityscapes19"): "1760d9fc2a29",
    ("stego2022_crf", "camvid"): "80972e95efeb",
    ("stego2022_crf", "msrc21"): "263059136bab",
    ("stego2022_crf", "voc21"): "66d4ae2ff6cf",
    ("stego2022_crf", "ade150"): "fef6fe14e074",
    ("stego2022_crf", "folder"): "bee32f2dca34",
    ("picie2021_minibatch", "coco27"): "3b22883c16fa",
    ("picie2021_minibatch", "cityscapes27"): "d30610d24dd2",
    ("picie2021_minibatch", "cityscapes19"): "4a7f163599bf",
    ("picie2021_minibatch", "camvid"): "466782e5b868",
    ("picie2021_minibatch", "msrc21"): "e9a88655cd78",
    ("picie2021_minibatch", "voc21"): "5918f8ea5784",
    ("picie2021_minibatch", "ade150"): "6e29352f9d73",
    ("picie2021_minibatch", "folder"): "13c5437b90b9",
    ("maskcontrast2021_kmeans", "coco27"): "c6ca6586533e",
    ("maskcontrast2021_kmeans", "cityscapes27"): "19fc25fe6eeb",
    ("maskcontrast2021_kmeans", "cityscapes19"): "eeb98af73181",
    ("maskcontrast2021_kmeans", "camvid"): "7bffef88b78b",
    ("maskcontrast2021_kmeans", "msrc21"): "23f2ab837680",
    ("maskcontrast2021_kmeans", "voc21"): "403e250f27ed",
    ("maskcontrast2021_kmeans", "ade150"): "33e5a3c99db2",
    ("maskcontrast2021_kmeans", "folder"): "e258359d4742",
    ("maskcontrast2021_held_out", "coco27"): "65438a124830",
    ("maskcontrast2021_held_out", "cityscapes27"): "f3ca63a7a97c",
    ("maskcontrast2021_held_out", "cityscapes19"): "c68556469284",
    ("maskcontrast2021_held_out", "camvid"): "88bf2bb9940e",
    ("maskcontrast2021_held_out", "msrc21"): "c4cee7e1476b",
    ("maskcontrast2021_held_out", "voc21"): "f45947bf893f",
    ("maskcontrast2021_held_out", "ade150"): "4a845372d7ec",
    ("maskcontrast2021_held_out", "folder"): "984665af6913",
    ("maskcontrast2021_linear", "coco27"): "60b9d2e33665",
    ("maskcontrast2021_linear", "cityscapes27"): "3e4c37ed2725",
    ("maskcontrast2021_linear", "cityscapes19"): "eea93cb721d0",
    ("maskcontrast2021_linear", "camvid"): "ea496aa27bfe",
    ("maskcontrast2021_linear", "msrc21"): "471a07f7e626",
    ("maskcontrast2021_linear", "voc21"): "930638f12e55",
    ("maskcontrast2021_linear", "ade150"): "6d48ccb929b8",
    ("maskcontrast2021_linear", "folder"): "3d4499167ace",
    ("iic2019", "coco27"): "7f61580f879d",
    ("iic2019", "cityscapes27"): "5c1566946d52",
    ("iic2019", "cityscapes19"): "b45159d6391c",
    ("iic2019", "camvid"): "4d3c13459aa8",
    ("iic2019", "msrc21"): "fa21dbcd7699",
    ("iic2019", "voc21"): "e7fd6b781d92",
    ("iic2019", "ade150"): "395e3f44c2e0",
    ("iic2019", "folder"): "432b36fc97fd",
    ("hummingbird2023", "coco27"): "8b19aff94187",
    ("hummingbird2023", "cityscapes27"): "8a6bf710a933",
    ("hummingbird2023", "cityscapes19"): "7c36e45efb60",
    ("hummingbird2023", "camvid"): "baa7344c2e2a",
    ("hummingbird2023", "msrc21"): "2ed095b3f8e0",
    ("hummingbird2023", "voc21"): "87913d5d6549",
    ("hummingbird2023", "ade150"): "2eb7a136f6f9",
    ("hummingbird2023", "folder"): "4642a0b531d8",
    ("hummingbird2023_patch14", "coco27"): "f36951285296",
    ("hummingbird2023_patch14", "cityscapes27"): "757b88972b0f",
    ("hummingbird2023_patch14", "cityscapes19"): "ab159d5a126b",
    ("hummingbird2023_patch14", "camvid"): "537964fa2ec0",
    ("hummingbird2023_patch14", "msrc21"): "7f2f430143ae",
    ("hummingbird2023_patch14", "voc21"): "a431a563fdca",
    ("hummingbird2023_patch14", "ade150"): "6e6c0f2077df",
    ("hummingbird2023_patch14", "folder"): "e216e622d35f",
}


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("dataset", [*DATASETS, "folder"])
def test_golden(name, dataset):
    protocol = get_protocol(name, dataset)
    assert protocol.hash == GOLDEN[name, dataset]
    inside = ", fitted inside the scored split" if protocol.same_split == "published" else ""
    assert protocol.changed() == {} and protocol.title() == f"{name}{inside} ({protocol.hash})"
    assert from_dict(dataclasses.asdict(protocol)) == protocol


def test_every_protocol_says_what_it_follows():
    assert set(NOTES) == set(PROTOCOLS)


OTHER = {
    "name": "mine", "dataset": "msrc21", "fit_split": "trainval", "score_split": "test",
    "fit_labels": False, "fit_crops": "five", "fit_crop_ratio": 0.75, "resize": "none",
    "size": (321,), "fit_size": (224,), "interpolation": "bicubic", "resize_library": "torchvision",
    "crop": 321, "fit_crop": 224, "score_at": "original", "flip_average": True,
    "upsample": "classes", "matchings": ("hungarian", "greedy"), "kmeans_pixels": 1000,
    "kmeans_iterations": 21, "linear_optimizer": "adam", "linear_lr": 0.1,
    "linear_iterations": 1, "linear_batch": 8, "linear_flip": False, "linear_photometric": False,
    "linear_bottleneck": 27, "linear_pixels": 1000, "linear_l2": 0.01,
    "std": "original", "miou_over": "all", "retrieval_memory": 1000, "retrieval_neighbours": 1,
    "retrieval_temperature": 0.1, "retrieval_grid": "patch", "retrieval_patch": 14,
    "retrieval_ignored": "class0", "retrieval_matchings": ("none", "hungarian_iou"),
    "clusters": "minibatch", "minibatch_images": 7, "minibatch_init": 7, "same_split": "published",
    "foreground": "files", "foreground_threshold": "probability", "objects_components": 8,
    "objects_batch": 8, "objects_seeds": (1,),
    "crf": "dense", "features": "decoder", "linear_epochs": 7, "linear_schedule": "step",
    "linear_step_epoch": 40,
    "linear_weight_decay": 0.1, "linear_rotation": 3.0, "linear_scale": (0.5, 2.0),
    "resize_factor": 0.5, "pad": 32, "label_part": "stuff15", "exif": "ignore",
}  # fmt: skip
#: What results of the first release do not have.
YOUNGER = [name for name in OTHER if name.startswith("retrieval_")]
YOUNGER += ["linear_pixels", "linear_l2", "std", "miou_over", "same_split", "clusters"]
YOUNGER += ["minibatch_images", "minibatch_init", "foreground", "foreground_threshold"]
YOUNGER += ["objects_components", "objects_batch", "objects_seeds", "features", "crf"]
YOUNGER += ["linear_epochs", "linear_schedule", "linear_step_epoch", "linear_weight_decay"]
YOUNGER += ["linear_rotation", "linear_scale", "resize_factor", "pad", "label_part", "exif"]


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Protocol)])
def test_any_field_changes_the_hash(field):
    protocol = get_protocol("vice2022_lowres", "coco27")
    changes = {field: OTHER[field]} | ({"size": ()} if field == "resize" else {})
    if field == "linear_schedule":
        protocol = dataclasses.replace(protocol, linear_epochs=3)
    if field == "same_split":
        # What is fitted inside the scored split differs in the splits, too.
        protocol = dataclasses.replace(protocol, fit_split="val+train", same_split="published")
        changes = {"fit_split": "train", "same_split": "off"}
    assert dataclasses.replace(protocol, **changes).hash != protocol.hash


def test_a_younger_field_at_its_default_is_as_if_it_were_not_there():
    protocol = get_protocol("native", "msrc21")
    older = {k: v for k, v in dataclasses.asdict(protocol).items() if k not in YOUNGER}
    assert hashed_fields(dataclasses.asdict(protocol)) == older
    assert from_dict(older).hash == protocol.hash == GOLDEN["native", "msrc21"]
    changed = dataclasses.replace(protocol, linear_l2=0.5)
    assert hashed_fields(dataclasses.asdict(changed)) == {**older, "linear_l2": 0.5}
    # As a results.json has them.
    fields = json.loads(json.dumps(dataclasses.asdict(protocol)))
    assert hashed_fields(fields) == json.loads(json.dumps(older))


def test_the_meaning_of_labels_is_part_of_the_hash(monkeypatch):
    before = get_protocol("native", "coco27").hash
    monkeypatch.setattr(label_sets, "table_checksum", lambda name: "edited")
    monkeypatch.setattr("vice.evaluation.protocols.table_checksum", lambda name: "edited")
    assert get_protocol("native", "coco27").hash != before


def test_what_the_papers_disagree_about():
    stego, picie = (get_protocol(n, "coco27") for n in ("stego2022", "picie2021"))
    assert (stego.interpolation, picie.interpolation) == ("nearest", "bilinear")
    assert stego.flip_average and not picie.flip_average
    city = get_protocol("picie2021", "cityscapes27")
    assert (city.fit_split, city.score_split) == ("test+train_extra", "val+train")
    assert not city.fit_labels and city.matchings == ("hungarian",)
    high, low = (get_protocol(f"vice2022_{n}", "cityscapes19") for n in ("highres", "lowres"))
    assert (high.resize, low.resize, low.size) == ("none", "exact", (320, 640))
    assert get_protocol("native", "msrc21").score_split == "test"


def test_a_change_is_told():
    protocol = get_protocol("vice2022_highres", "coco27", linear_iterations=500)
    assert protocol.changed() == {"linear_iterations": 500}
    assert protocol.title() == f"vice2022_highres, linear_iterations=500 ({protocol.hash})"


def test_fitting_inside_the_scored_split_is_told():
    protocol = get_protocol("native", "msrc21", fit_split="test", same_split="published")
    assert ", fitted inside the scored split (" in protocol.title()


def test_defaults():
    assert default_protocol("coco27") == "vice2022_highres"
    assert default_protocol("folder") == default_protocol("camvid") == "native"


def test_command_line_values():
    texts = ["size=2048,512", "flip_average=True", "upsample=classes", "linear_lr=1",
             "matchings=greedy", "size=", "kmeans_pixels=5"]  # fmt: skip
    changes = parse_changes(texts[:1]) | parse_changes(texts[1:5])
    protocol = get_protocol("vice2022_highres", "folder", **changes)
    assert protocol.size == (2048, 512) and protocol.flip_average is True
    assert protocol.linear_lr == 1.0 and protocol.matchings == ("greedy",)
    assert parse_changes(texts[5:]) == {"size": (), "kmeans_pixels": 5}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "stego"}, "'stego' is unknown; did you mean stego2022"),
        ({"dataset": "ade20k"}, "data set 'ade20k' is unknown"),
        ({"iterations": 3}, "field 'iterations' is unknown; did you mean .*linear_iterations"),
        ({"upsample": "logits"}, "upsample is 'logits'; choose scores, input, classes"),
        ({"matchings": ("best",)}, "matchings is 'best'"),
        ({"linear_batch": 0}, "linear_batch is 0; at least 1"),
        ({"linear_batch": 2.5}, "linear_batch is 2.5, which is float, not int"),
        ({"flip_average": "yes"}, "flip_average is 'yes', which is str, not bool"),
        ({"resize": "short"}, "needs 1 numbers in size, not 0"),
        ({"linear_optimizer": "lbfgs", "linear_bottleneck": 8}, "lbfgs fits the plain probe alone"),
        ({"linear_optimizer": "newton"}, "choose sgd, adam, lbfgs"),
        ({"linear_pixels": 0}, "linear_pixels is 0; at least 1"),
        ({"linear_l2": 0.0}, "linear_l2 is 0.0; from 1e-12"),
        ({"score_split": "train"}, "two splits"),
        ({"score_split": "val+train"}, "two splits"),
        ({"same_split": "published"}, "nothing is fitted inside val: leave it out"),
        ({"name": "maskcontrast2021_kmeans", "foreground": "label"}, "bears its own name"),
        ({"crf": "dense", "upsample": "classes"}, "crf=dense refines scores"),
        ({"linear_schedule": "step"}, "counts epochs: set linear_epochs"),
        ({"linear_scale": (2.0, 1.0)}, "the least and the greatest factor"),
        ({"linear_scale": (2.0,)}, "the least and the greatest factor"),
        ({"objects_seeds": (1, 1)}, "one or more different ones"),
        ({"same_split": "on"}, "choose off, published"),
        ({"kmeans_pixels": 0}, "kmeans_pixels is 0; at least 1"),
        ({"pad": 128}, "no label map has: set score_at=input"),
        ({"resize": "factor", "resize_library": "torchvision"}, "needs resize_library=opencv"),
        ({"resize": "factor", "size": (3,)}, "needs 0 numbers in size"),
        ({"resize": "factor", "resize_factor": 0.0}, "resize_factor is 0.0; from 0.01 to 100"),
        ({"upsample": "probabilities"}, "set clusters=own, or upsample=scores"),
        ({"clusters": "minibatch", "kmeans_pixels": -1}, "kmeans_pixels is -1"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(UserError, match=message):
        get_protocol(**{"name": "native", "dataset": "folder", **arguments})


def test_a_text_without_a_value():
    with pytest.raises(UserError, match="'upsample' is not FIELD=VALUE"):
        parse_changes(["upsample"])


def test_the_documentation_has_the_same_hashes():
    text = (Path(__file__).parents[2] / "docs" / "protocols.md").read_text()
    for name in PROTOCOLS:
        row = " | ".join(GOLDEN[name, dataset] for dataset in [*DATASETS, "folder"])
        assert f"| `{name}` | {row} |" in text


def test_a_protocol_is_itself_its_name_or_its_fields():
    native = get_protocol("native", kmeans_pixels=7)
    fields = json.loads(json.dumps(dataclasses.asdict(native)))
    for said in (native, fields):
        assert resolve_protocol(said, "photos") == native
        assert resolve_protocol(said, "photos", {"kmeans_pixels": 8}).kmeans_pixels == 8
    named = resolve_protocol("native", "photos", {"kmeans_pixels": 7})
    assert named == native and named.hash == native.hash
    assert resolve_protocol(None, "coco27").name == "vice2022_highres"
    with pytest.raises(UserError, match="kmeans_pixels is 0"):
        resolve_protocol(native, "photos", {"kmeans_pixels": 0})
