"""Other people's weights give what the original network gives, wherever they lie in a file."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers import weight_layouts as layouts
from tests.helpers.variations import variations
from vice.errors import UserError
from vice.models import build_embedder
from vice.models.load import load_extractor
from vice.models.plain import plain
from vice.models.resnet_embedder import ResNetEmbedder
from vice.models.timm_weights import load_weights
from vice.models.weight_search import role

timm = pytest.importorskip("timm")


def vit(**options):
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(img_size=28, patch_size=14, embed_dim=24, depth=2, num_heads=2,
                             num_classes=0, **options)  # fmt: skip


def eva(**options):
    from timm.models.eva import Eva

    return Eva(img_size=32, patch_size=16, embed_dim=24, depth=2, num_heads=2, num_classes=0,
               num_reg_tokens=4, use_rot_pos_emb=True, use_abs_pos_emb=False, init_values=0.5,
               rope_type="dinov3", qkv_bias=False, **options)  # fmt: skip


NETWORKS = {
    "vit": (vit, 28),
    "dinov2": (lambda: vit(init_values=0.5), 28),
    "dinov2-registers": (lambda: vit(init_values=0.5, reg_tokens=4, no_embed_class=True), 28),
    "dinov3": (eva, 32),
}


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("shards", [0, 1, 3])
def test_hugging_faces_transformers_give_what_the_original_gives(kind, shards, tmp_path):
    make, side = NETWORKS[kind]
    source = layouts.seeded(make, 1)
    state = layouts.as_hugging_face_vit(source.state_dict(), kind.partition("-")[0])
    state = layouts.prefixed(state, "model.vit.")
    state["classifier.weight"] = torch.zeros(3, 24)
    file = tmp_path / "w.bin"
    if shards:
        file = layouts.save_folder(state, tmp_path / "hub", shards)
    else:
        torch.save({"state_dict": state}, file)
    found = make().eval()
    where = load_weights(found, file, "timm:it")
    assert where["names"] == "Hugging Face"
    assert where["key"].endswith("model.vit") and where["not_taken"] == []
    images = torch.rand(2, 3, side, side)
    with torch.no_grad():
        expected = source.forward_features(images)
        torch.testing.assert_close(found.forward_features(images), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "layout", [dict, layouts.as_sequence, layouts.as_hugging_face_resnet], ids=lambda f: f.__name__
)
def test_resnets_give_what_the_original_gives(layout, tmp_path):
    import torchvision

    state = layouts.resnet18()
    source = torchvision.models.resnet18(weights=None).eval()
    source.load_state_dict(state)
    content = {"student": layout(layouts.other(state)), "teacher": layout(state)}
    torch.save(layouts.prefixed(content, "my_"), tmp_path / "w.pth")
    embedder = load_extractor(str(tmp_path / "w.pth"))
    assert embedder.weight_source["key"] == "my_teacher"
    assert embedder.weight_source["not_taken"] == ["my_student"]
    same = ResNetEmbedder("resnet18", output_stride=32).eval()
    same.load_state_dict(embedder.state_dict())
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad(), plain():
        expected = nn.Sequential(*list(source.children())[:-2])(images)
        torch.testing.assert_close(same(images), expected)


def test_lukemelas_efficientnet_gives_what_the_original_gives(tmp_path):
    state = layouts.timm_state(layouts.LITE)
    source = timm.create_model(layouts.LITE, num_classes=0).eval()
    source.load_state_dict(state)
    torch.save(layouts.as_lukemelas(state), tmp_path / "w.pth")
    net = load_extractor(f"timm:{layouts.LITE}@{tmp_path / 'w.pth'}").net
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = source.forward_features(images)
        torch.testing.assert_close(net.forward_features(images), expected)
    with pytest.raises(UserError, match="timm:tf_efficientnet_lite0"):
        load_extractor(f"timm:efficientnet_lite0@{tmp_path / 'w.pth'}")


@pytest.mark.parametrize("wrapper", variations(layouts.WRAPPERS, 3))
def test_all_doors_choose_the_same_weights(wrapper, tmp_path, caplog):
    state = layouts.resnet18()
    rest = layouts.other(state)
    content = layouts.WRAPPERS[wrapper](state, rest)
    file = str(layouts.save(content, tmp_path / "w.pth", np.random.default_rng(0)))
    with caplog.at_level(logging.INFO):
        bare = load_extractor(file)
    torchvisions = load_extractor(f"torchvision:resnet18@{file}").features.stem[0].weight
    timms = load_extractor(f"timm:resnet18@{file}").net.conv1.weight
    trained = build_embedder("resnet18", "fpn", 4, weights=file)
    for found in (bare.features.stem[0].weight, torchvisions, timms,
                  trained.backbone.stem[0].weight):  # fmt: skip
        assert torch.equal(found, state["conv1.weight"])
    assert trained.weight_source == bare.weight_source
    places = bare.weight_source["not_taken"]
    assert all(place in caplog.text for place in places)
    for place in places:
        one = load_extractor(f"{file}#{place}").features.stem[0].weight
        two = load_extractor(f"timm:resnet18@{file}#{place}").net.conv1.weight
        assert torch.equal(one, rest["conv1.weight"]) and torch.equal(two, rest["conv1.weight"])


def test_roles_come_in_their_order():
    order = ["ema.", "teacher.backbone.", "state_dict_ema.", "averaged_model.", "modelEma."]
    assert {role(place) for place in order} == {0}
    plain = ["", "module.encoder_q.", "online.", "schema.", "model.", "remap."]
    assert {role(place) for place in plain} == {1}
    assert role("student.module.") == 2
    assert {role(place) for place in ("module.encoder_k.", "momentum_encoder.", "target.")} == {3}


def test_what_differs_and_has_no_order_is_refused(tmp_path):
    state = layouts.resnet18()
    torch.save({"a": state, "b": layouts.other(state)}, tmp_path / "w.pth")
    for spec in (f"{tmp_path / 'w.pth'}", f"timm:resnet18@{tmp_path / 'w.pth'}"):
        with pytest.raises(UserError, match=r"2 networks .* differ, at a, b; .*w.pth#a or"):
            load_extractor(spec)
    with pytest.raises(UserError, match="has no such weights at 'c'; it has them at a, b"):
        load_extractor(f"{tmp_path / 'w.pth'}#c")


def test_more_blocks_are_another_network(tmp_path):
    deeper = timm.create_model("vit_tiny_patch16_224", num_classes=0).state_dict()
    deeper["blocks.12.norm1.weight"] = torch.ones(192)
    torch.save(deeper, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"1 more weights.*blocks\.12\.norm1\.weight"):
        load_extractor(f"timm:vit_tiny_patch16_224@{tmp_path / 'w.pth'}")


@pytest.mark.parametrize(
    ("wrap", "key"),
    [
        (lambda s: [s], "0"),
        (lambda s: (3, {"net": s}), "1.net"),
        (lambda s: {"models": [{"a": 1}, s]}, "models.1"),
        (lambda s: {7: s}, "7"),
        (lambda s: {b"model": s}, "model"),
        (lambda s: {"samples": [[f"{i}.jpg", i] for i in range(20_000)], "nets": [s]}, "nets.0"),
    ],
)
def test_weights_in_lists_and_under_numbers(wrap, key, tmp_path):
    state = layouts.resnet18()
    torch.save(wrap(state), tmp_path / "w.pth")
    found = load_extractor(str(tmp_path / "w.pth"))
    assert torch.equal(found.features.stem[0].weight, state["conv1.weight"])
    assert found.weight_source["key"] == key
    assert load_extractor(f"{tmp_path / 'w.pth'}#{key}").weight_source["key"] == key


def test_two_networks_of_a_list_have_no_order(tmp_path):
    state = layouts.resnet18()
    torch.save([state, layouts.other(state)], tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"2 networks .* at 0, 1; choose"):
        load_extractor(str(tmp_path / "w.pth"))
