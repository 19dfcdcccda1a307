from __future__ import annotations

import shutil

import pytest
import torch

from vice.datasets.labelled_set import list_checksum
from vice.datasets.subsets import take_subset
from vice.errors import UserError
from vice.models.load import load_extractor
from vice.plugins.mmseg.finetune import finetune

QUIET = {"log_level": "ERROR", "device": "cpu"}
STEPS = {"linear_iterations": 12, "linear_batch": 4}
SPEC = "random:resnet18-fpn-8"


def state(out, iterations=12):
    return torch.load(out / "runner" / f"iter_{iterations}.pth", weights_only=False)["state_dict"]


def test_the_whole_network_learns_from_the_subset_and_nothing_else(make_folder, tmp_path):
    root = make_folder(train=6)
    options = {"fraction": 0.5, "subset_seed": 3, "crop": 24, "changes": STEPS, **QUIET}
    result = finetune(SPEC, root, tmp_path / "one", **options)
    names = (tmp_path / "one" / "subset.txt").read_text().split()
    assert names == sorted(take_subset([f"{i:02d}" for i in range(6)], 0.5, 3))
    assert result["subset"] == {
        "images": 3, "checksum": list_checksum(names), "file": "subset.txt",
    }  # fmt: skip
    before = load_extractor(SPEC).state_dict()
    after = state(tmp_path / "one")
    weights = [name for name in before if name.endswith("weight")]
    moved = [not torch.equal(before[n], after[f"backbone.embedder.{n}"]) for n in weights]
    assert len(moved) > 40 and all(moved)
    # Images outside the subset have no say.
    others = [i for i in range(6) if f"{i:02d}" not in names]
    for i in others:
        for folder in (root / "images" / "train", root / "labels" / "train"):
            shutil.copy(folder / f"{names[0]}.png", folder / f"{i:02d}.png")
    again = finetune(SPEC, root, tmp_path / "two", **options)
    assert again["finetune"] == result["finetune"]
    for name, value in state(tmp_path / "two").items():
        assert torch.equal(value, after[name])


def test_the_backbone_learns_more_slowly(make_folder, tmp_path):
    root = make_folder()
    one_step = {"linear_iterations": 1, "linear_batch": 4}
    moved = {}
    before = load_extractor(SPEC).state_dict()
    for mult in (0.0, 0.1, 1.0):
        out = tmp_path / str(mult)
        finetune(SPEC, root, out, backbone_lr_mult=mult, changes=one_step, **QUIET)
        after = state(out, 1)
        moved[mult] = {
            name: (after[f"backbone.embedder.{name}"] - before[name]).norm().item()
            for name in before
            if name.endswith("weight")
        }
    backbone = next(name for name in before if name.startswith("backbone") and "conv1" in name)
    decoder = next(name for name in before if name.startswith("decoder") and "weight" in name)
    assert moved[0.0][backbone] == 0 < moved[0.1][backbone]
    assert moved[0.1][backbone] == pytest.approx(0.1 * moved[1.0][backbone], rel=0.02)
    assert moved[0.1][decoder] == pytest.approx(moved[1.0][decoder], rel=1e-3)


@pytest.mark.parametrize("fraction", [0.0, -1.0, 1.5])
def test_a_fraction_out_of_range(make_folder, tmp_path, fraction):
    with pytest.raises(UserError, match="not above 0 and at most 1"):
        finetune(SPEC, make_folder(), tmp_path / "o", fraction=fraction, **QUIET)


def test_an_optimizer_for_probes_alone_is_refused(make_folder, tmp_path):
    with pytest.raises(UserError, match="lbfgs fits a probe only"):
        finetune(
            SPEC, make_folder(), tmp_path / "out", **QUIET, changes={"linear_optimizer": "lbfgs"}
        )


def test_the_images_of_a_list_are_trained_on(make_folder, tmp_path):
    root = make_folder(train=6)
    images = root / "images" / "train"
    kept = sorted(take_subset([f"{i:02d}" for i in range(6)], 0.5, 3))
    (tmp_path / "few.txt").write_text("".join(f"{images / name}.png\n" for name in reversed(kept)))
    options = {"crop": 24, "changes": STEPS, **QUIET}
    listed = finetune(SPEC, root, tmp_path / "list", images=tmp_path / "few.txt", **options)
    assert (tmp_path / "list" / "subset.txt").read_text().split() == kept
    drawn = finetune(SPEC, root, tmp_path / "rule", fraction=0.5, subset_seed=3, **options)
    assert listed["subset"] == drawn["subset"] and listed["finetune"] == drawn["finetune"]


def test_a_list_of_other_images_is_refused(make_folder, tmp_path):
    root = make_folder()
    paths = [root / "images" / "train" / "00.png", root / "images" / "val" / "00.png"]
    (tmp_path / "few.txt").write_text("".join(f"{path}\n" for path in paths))
    message = r"1 of its 2 images are none of the \d+ that can be fitted on, such as .*val"
    with pytest.raises(UserError, match=message):
        finetune(SPEC, root, tmp_path / "o", images=tmp_path / "few.txt", **QUIET)
    with pytest.raises(UserError, match="takes the place of fraction"):
        finetune(SPEC, root, tmp_path / "o", images=tmp_path / "few.txt", fraction=0.5, **QUIET)
