"""Values that are set on what files come to are those that Hydra composes from all at once."""

from __future__ import annotations

import shutil
import sys

import pytest

pytest.importorskip("vissl")

from omegaconf import OmegaConf

from vice.errors import UserError
from vice.paths import config_root, experiment_names
from vice.plugins.vissl.config import compose as module
from vice.plugins.vissl.config.compose import compose

VALUES = [
    "config.SEED_VALUE=3",
    "config.VICE.VIEWS.scale=[1.0,2.0]",
    "config.DATA.TRAIN.DATA_PATHS=[a,'b c','${not}']",
    "config.OPTIMIZER.num_epochs=3",
    "config.CHECKPOINT.DIR=${config.VICE.VIEWS.size}",
    "config.MODEL.TRUNK.EXECUTION={precision:bfloat16,channels_last:true}",
]
OVERRIDES = [
    [],
    VALUES,
    [*VALUES, "config.SEED_VALUE=4"],
    ["+config.NEW={a:1,b:[x,null]}", "config.SEED_VALUE=1"],
    ["++config.NEW.inner=1", "config.MODEL.TRUNK.VICE.stages=2"],
    ["~config.DATA.TRAIN.DATA_PATHS", "+config.DATA.TRAIN.DATA_PATHS=[late]"],
    ["config.DATA.TRAIN.DATA_PATHS=[early]", "~config.DATA.TRAIN.COPY_TO_LOCAL_DISK"],
    ["config.LOG_FREQUENCY=", 'config.CHECKPOINT.DIR="a=b,c"', "config.SEED_VALUE=1e3"],
]


def both(monkeypatch, overrides):
    """What is composed, and what Hydra alone composes."""
    found = module._compose(overrides)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_set", lambda *asked: None)
        return found, module._compose(overrides)


@pytest.mark.parametrize("overrides", OVERRIDES, ids=range(len(OVERRIDES)))
@pytest.mark.parametrize("name", ["vice/demo", "vice/folder_imagenet", "vice/coco_highres"])
def test_everything_is_as_hydra_has_it(monkeypatch, name, overrides):
    (found, filled), (wanted, filled_too) = both(monkeypatch, [f"config={name}", *overrides])
    assert OmegaConf.to_yaml(found) == OmegaConf.to_yaml(wanted) and filled == filled_too
    assert OmegaConf.is_struct(found) and OmegaConf.is_struct(wanted)


def test_another_composition_does_not_see_what_was_set():
    name = experiment_names()[0]
    first = compose([f"config={name}", "config.SEED_VALUE=71", "++config.NEW.inner=1"])
    first.config.SEED_VALUE = 72
    second = compose([f"config={name}"])
    assert second.config.SEED_VALUE not in (71, 72) and "NEW" not in second.config


@pytest.mark.parametrize(
    "wrong",
    [
        ["config.VICE.VIEWS.sise=3"],
        ["config.SEED_VALUE=1,2"],
        ["config.SEED_VALUE=[1"],
        ["config.SEED_VALUE.inner=1"],
        ["config.NEW.inner=1"],
        ["config.DATA@x=1"],
        ["+config.SEED_VALUE=1"],
    ],
)
def test_what_hydra_objects_to_is_said_in_its_words(monkeypatch, wrong):
    texts = []
    for way in (module._set, lambda *asked: None):
        monkeypatch.setattr(module, "_set", way)
        with pytest.raises(UserError) as error:
            compose(["config=vice/demo", *wrong])
        texts.append(str(error.value))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("place", ["ours", "working directory"])
def test_an_edited_file_is_read_again(tmp_path, monkeypatch, place):
    root = tmp_path / "configs"
    shutil.copytree(config_root(), root)
    if place == "ours":
        monkeypatch.setattr("vice.plugins.vissl.search_path.config_root", lambda: root)
        monkeypatch.setattr(module, "config_root", lambda: root)
    else:
        # Hydra reads the package of this name before what ViCE adds.
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    (root / "config" / "vice" / ".#demo.yaml").symlink_to("nowhere")
    mine = root / "config" / "mine.yaml"
    for value in (2001, 2002):
        mine.write_text(
            "# @package _global_\ndefaults: [/config/vice/demo, _self_]\n"
            f"config: {{VICE: {{LOSS: {{queue_length: {value}}}}}}}\n"
        )
        assert compose(["config=mine"]).config.VICE.LOSS.queue_length == value
