"""Real VISSL runs on networks of timm, frozen and tuned."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import vice
from tests.plugins.vissl.conftest import overrides, run_tool
from vice.errors import UserError
from vice.models.checkpoint import load_checkpoint
from vice.models.load import load_extractor
from vice.plugins.vissl.config.configure import configure

timm = pytest.importorskip("timm")
pytest.importorskip("vissl")

TWO_RANKS = [
    "config.DISTRIBUTED.NUM_PROC_PER_NODE=2",
    "config.DATA.TRAIN.BATCHSIZE_PER_REPLICA=1",
    "config.OPTIMIZER.num_epochs=1",
    "config.VICE.PROTOTYPES.freeze_iterations=0",
    "config.MODEL.TRUNK.EXECUTION={precision:bfloat16,channels_last:true,compiled:false}",
]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(4)
    state = timm.create_model("vit_tiny_patch16_224", num_classes=3).state_dict()
    file = tmp_path_factory.mktemp("weights") / "vit.pth"
    torch.save(state, file)
    return file, state


def with_vit(images, out, file, *more):
    """The config for frozen transformers with a small network and a local file."""
    _, *arguments = overrides(images, out, *more)
    return [
        "config=vice/folder_vit",
        *arguments,
        "config.MODEL.TRUNK.VICE.backbone=timm:vit_tiny_patch16_224",
        f"config.MODEL.TRUNK.VICE.weights={file}",
    ]


def test_a_frozen_vit_under_two_ranks_and_lars(images, weights, tmp_path):
    file, state = weights
    out = tmp_path / "frozen"
    lars = ["config.OPTIMIZER.name=vice_lars", "config.VICE.SCHEDULE.peak_lr=1.0"]
    done = run_tool(with_vit(images, out, file, *TWO_RANKS, *lars), tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "2 weights are not part of timm:vit_tiny_patch16_224: head" in (
        (out / "log.txt").read_text() + done.stdout + done.stderr
    )
    loaded = load_checkpoint(out)
    source = loaded.meta["weights"]
    assert (source["file"], source["key"], source["unused"]) == (str(file), "top level", 2)
    for name, value in loaded.embedder.backbone.net.state_dict().items():
        assert torch.equal(value, state[name]), name
    steps = [value for name, value in loaded.embedder.decoder.named_buffers() if "tracked" in name]
    assert [int(value) for value in steps] == [3, 3]
    # One entry per parameter that is trained; the frozen ones have none.
    (path,) = out.glob("model_final_checkpoint*.torch")
    classy = torch.load(path, map_location="cpu", weights_only=False)["classy_state_dict"]
    trained = len(list(loaded.embedder.decoder.parameters())) + 1
    assert len(classy["optimizer"]["optim"]["state"]) == trained
    # By path, without the file of the weights.
    file.rename(file.with_suffix(".away"))
    try:
        image = np.random.default_rng(1).integers(0, 256, (40, 52, 3), dtype=np.uint8)
        one, two = (vice.load(source, device="cpu").embed(image) for source in (out, path))
        assert one.shape == (8, 40, 52) and torch.equal(one, two)
        assert load_extractor(str(out)).dim == 8
    finally:
        file.with_suffix(".away").rename(file)


def test_a_tuned_convnext_under_two_ranks(images, tmp_path):
    out = tmp_path / "tuned"
    more = [
        "config.MODEL.TRUNK.NAME=vice_timm",
        "config.MODEL.TRUNK.VICE.backbone=timm:convnext_atto",
        "config.MODEL.TRUNK.VICE.stages=2",
    ]
    done = run_tool(overrides(images, out, *TWO_RANKS, *more), tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    config = load_checkpoint(out).embedder.config
    assert (config["backbone"], config["decoder"], config["stages"]) == (
        "timm:convnext_atto",
        "fpn",
        2,
    )
    (path,) = out.glob("model_final_checkpoint*.torch")
    classy = torch.load(path, map_location="cpu", weights_only=False)["classy_state_dict"]
    trained = len(list(load_checkpoint(out).embedder.parameters())) + 1
    assert len(classy["optimizer"]["optim"]["state"]) == trained


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("config.MODEL.TRUNK.VICE.weights=gone.pth", "TRUNK.VICE.weights: .*gone.pth is no file"),
        ("config.MODEL.TRUNK.VICE.weights=3", "TRUNK.VICE.weights: .*/3 is no file"),
        ("config.MODEL.TRUNK.VICE.frozen=often", "TRUNK.VICE.frozen='often': must be true or f"),
        ("config.MODEL.TRUNK.VICE.backbone='timm:none'", "TRUNK.VICE: timm has no model 'none'"),
        ("config.MODEL.TRUNK.VICE.stages=2", "TRUNK.VICE: .* set stages=4"),
        ("config.MODEL.TRUNK.NAME=vice_resnet_fpn", "TRUNK.VICE: fpn does not go with timm:vit"),
    ],
)
def test_what_is_wrong_is_named_before_anything_starts(
    images, weights, tmp_path, override, message
):
    with pytest.raises(UserError, match=message):
        configure([*with_vit(images, tmp_path, weights[0]), override])


def test_paths_of_weights_hold_on_other_machines(images, weights, tmp_path, monkeypatch):
    file, _ = weights
    monkeypatch.chdir(file.parent)
    _, config = configure(with_vit(images, tmp_path, file.name))
    assert config.MODEL.TRUNK.VICE.weights == str(file)
