"""What version 0.1 wrote and was called by: trunks, settings of runs, states to resume from."""

from __future__ import annotations

import json

import pytest
import torch
from omegaconf import OmegaConf
from vissl.config import AttrDict
from vissl.models.trunks import get_model_trunk

from tests.plugins.vissl.conftest import REPO
from vice._version import __version__
from vice.errors import UserError
from vice.models.training_state import write_snapshot
from vice.plugins.vissl.config.checks import check_values
from vice.plugins.vissl.config.compose import compose, compose_with_defaults
from vice.plugins.vissl.config.configure import configure
from vice.plugins.vissl.config.earlier import comparable, earlier
from vice.plugins.vissl.resuming import check_settings, flatten, settings_of
from vice.plugins.vissl.trunks import DECODERS, TRUNK

#: Settings in a state of version 0.1 (commit d2ace16) that was killed inside its second epoch.
SETTINGS = REPO / "tests" / "plugins" / "vissl" / "settings_0_1.json"
#: The overrides it was begun with.
BEGUN = [
    "config=vice/folder",
    "config.VICE.DATASET.min_images_per_epoch=0",
    "config.VICE.STANDARDIZE.mode=none",
    "config.VICE.VIEWS.num_views=2",
    "config.VICE.VIEWS.size=32",
    "config.VICE.SUPERPIXELS.region_size=8",
    "config.VICE.PROTOTYPES.num_prototypes=6",
    "config.VICE.PROTOTYPES.dim=8",
    "config.VICE.PROTOTYPES.freeze_iterations=2",
    "config.VICE.LOSS.queue_length=20",
    "config.VICE.LOSS.queue_start=3",
    "config.DATA.TRAIN.BATCHSIZE_PER_REPLICA=2",
    "config.DATA.NUM_DATALOADER_WORKERS=0",
    "config.OPTIMIZER.num_epochs=2",
    "config.MACHINE.DEVICE=cpu",
]


@pytest.fixture
def resume(images, tmp_path):
    """Looks whether a state of version 0.1 may be resumed with some overrides more."""
    then = json.loads(SETTINGS.read_text())

    def look(*more, **changed):
        state = {"iteration": 4, "vice": {"settings": {**then, **changed}}}
        path = tmp_path / "run" / "model_iteration4.torch"
        path.parent.mkdir(exist_ok=True)
        write_snapshot(path, state)
        own = [f"config.DATA.TRAIN.DATA_PATHS=[{images}]", f"config.CHECKPOINT.DIR={tmp_path}/run"]
        config = configure([*BEGUN, *own, *more])[1]
        check_settings(path, config)
        return config

    return look


def test_a_run_of_version_0_1_is_resumed(resume):
    resume()
    resume("config.MODEL.TRUNK.NAME=vice_resnet_fpn", "config.VICE.VIEWS.canny_low=10.0")
    resume(**{"VICE.VIEWS.canny_low": "10.0"})
    resume("config.VICE.VIEWS.canny_low=11", **{"VICE.VIEWS.canny_low": "11"})


def test_a_run_goes_on_with_the_gradient_that_it_was_begun_with(resume, caplog):
    """States from before there was a choice went through representatives."""
    asked = "config.VICE.LOSS.region_vector=representative"
    keys = ("VICE.LOSS.region_vector", "LOSS.vice_dense_swav.region_vector")
    begun = dict.fromkeys(keys, "representative")
    through = "config.VICE.LOSS.coherence_gradient=through"
    assert resume(asked, **begun).VICE.LOSS.coherence_gradient == "through"
    assert caplog.text.count("coherence_gradient=through: it goes on so") == 1
    # And once more, from a state that says what the first part went on with.
    again = {**begun, "VICE.LOSS.coherence_gradient": "through"}
    assert resume(asked, **again).VICE.LOSS.coherence_gradient == "through"
    caplog.clear()
    assert resume(asked, through, **begun).VICE.LOSS.coherence_gradient == "through"
    with pytest.raises(UserError, match=r"coherence_gradient was through, is constant\. Set"):
        resume(asked, "config.VICE.LOSS.coherence_gradient=constant", **begun)
    chosen = {**begun, "VICE.LOSS.coherence_gradient": "constant"}
    assert resume(asked, **chosen).VICE.LOSS.coherence_gradient == "constant"
    with pytest.raises(UserError, match="coherence_gradient was constant, is through"):
        resume(asked, through, **chosen)
    with pytest.raises(
        UserError, match=r"settings: config\.VICE\.LOSS\.region_vector was pixel, is rep"
    ):
        resume(asked)
    # Where there are no representatives, nothing depends on it.
    assert resume(through).VICE.LOSS.coherence_gradient == "through"
    assert resume().VICE.LOSS.coherence_gradient == "constant"
    assert "goes on so" not in caplog.text
    # A folder without states is no run that goes on.
    own = ["config.CHECKPOINT.AUTO_RESUME=false"]
    with pytest.raises(UserError, match="coherence_gradient was through, is constant"):
        resume(asked, *own, **begun)


def test_what_version_0_1_lacked_and_did_not_do_is_said():
    given = ["config=vice/folder", "config.VICE.LOSS.region_vector=representative"]
    key = "VICE.LOSS.coherence_gradient"

    def written(*more):
        composed, filled = compose_with_defaults([*given, *more])
        return earlier(dict(flatten(OmegaConf.to_container(composed.config))), filled)

    assert written()[key] == "constant"
    assert key not in written(f"config.{key}=through")
    assert key not in written("config.VICE.LOSS.region_vector=pixel")
    blurred = written("config.VICE.SUPERPIXELS.blur_sigma=4.0")
    assert blurred["VICE.SUPERPIXELS.blur_sigma"] == "4.0"
    assert "VICE.SUPERPIXELS.blur_sigma" not in written()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            "config.VICE.VIEWS.canny_low=11",
            r"other settings: config\.VICE\.VIEWS\.canny_low was 10.0, is 1",
        ),
        ("config.VICE.LOSS.epsilon=0.1", r"other settings: .*VICE\.LOSS\.epsilon was 0.05, is 0.1"),
        ("config.MODEL.TRUNK.VICE.decoder=auto", r"TRUNK\.NAME was vice_resnet_fpn, is vice_timm"),
    ],
)
def test_other_settings_are_refused_as_ever(resume, more, message):
    with pytest.raises(UserError, match=message):
        resume(more)


def test_settings_that_one_version_lacks_say_so(resume):
    with pytest.raises(UserError) as told:
        resume(**{"VICE.GONE": "1"})
    assert "version 0.1.0: it can be scored, not resumed, since only one" in str(told.value)
    assert "VICE.GONE" in str(told.value)


def test_settings_of_today_compare_with_themselves(resume, images, tmp_path):
    own = [f"config.DATA.TRAIN.DATA_PATHS=[{images}]", f"config.CHECKPOINT.DIR={tmp_path}/run"]
    now = settings_of(configure([*BEGUN, *own])[1])
    assert now["MODEL.TRUNK.NAME"] == TRUNK and now["version of ViCE"] == __version__
    state = {"iteration": 4, "vice": {"settings": now}}
    write_snapshot(tmp_path / "state.torch", state)
    check_settings(tmp_path / "state.torch", configure([*BEGUN, *own])[1])
    assert comparable(comparable(now)) == comparable(now)


def test_only_what_was_not_said_is_left_out():
    given = ["config=vice/folder", "config.VICE.VIEWS.canny_high=50.0"]
    composed, filled = compose_with_defaults(given)
    found = earlier(dict(flatten(OmegaConf.to_container(composed.config))), filled)
    assert "VICE.VIEWS.canny_high" in found and "VICE.VIEWS.canny_low" not in found
    assert found["MODEL.TRUNK.NAME"] == "vice_resnet_fpn"
    assert not {"MODEL.TRUNK.VICE.decoder", "VICE.METHOD.name"} & set(found)
    # What version 0.1 named stays, also where it is filled in now.
    assert "VICE.LOSS.temperature" in filled and found["VICE.LOSS.temperature"] == "0.1"


@pytest.mark.parametrize("name", DECODERS)
def test_names_of_trunks_stand_for_decoders(name):
    given = ["config=vice/folder", f"config.MODEL.TRUNK.NAME={name}"]
    stages = ["config.MODEL.TRUNK.VICE.stages=4"]
    composed = compose([*given, *stages])
    check_values(composed)
    trunk = composed.config.MODEL.TRUNK
    assert (trunk.NAME, trunk.VICE.decoder) == (TRUNK, DECODERS[name])
    model = AttrDict(OmegaConf.to_container(composed.config.MODEL))
    with torch.device("meta"):
        new = get_model_trunk(TRUNK)(model, TRUNK)
        del model["TRUNK"]["VICE"]["decoder"]
        old = get_model_trunk(name)(model, name)
    assert list(new.state_dict()) == list(old.state_dict())
    assert new.embedder.config == old.embedder.config
    assert next(iter(new.state_dict())).startswith("embedder.")


def test_a_name_and_a_decoder_must_agree():
    asked = ["config.MODEL.TRUNK.NAME=vice_timm", "config.MODEL.TRUNK.VICE.decoder=fpn"]
    with pytest.raises(UserError, match=r"vice_timm is the decoder auto.*decoder=fpn"):
        compose(["config=vice/folder", *asked])
    asked[1] = "config.MODEL.TRUNK.VICE.decoder=auto"
    assert compose(["config=vice/folder", *asked]).config.MODEL.TRUNK.NAME == TRUNK


@pytest.mark.parametrize(
    ("more", "message"),
    [
        # What follows from it differs as well, and is not what was typed.
        (
            "config.VICE.SCHEDULE.warmup_epochs=0.25",
            r"other settings: config\.VICE\.SCHEDULE\.warmup_epochs was 0\.5, is 0\.25\. Set",
        ),
        (
            "config.DATA.TRAIN.BATCHSIZE_PER_REPLICA=5",
            r"other settings: images a step was \d+, is 5\. Set",
        ),
        ("config.OPTIMIZER.weight_decay=0", None),
    ],
)
def test_a_refusal_names_what_was_changed_alone(images, tmp_path, more, message):
    own = [
        f"config.DATA.TRAIN.DATA_PATHS=[{images}]",
        f"config.CHECKPOINT.DIR={tmp_path}/run",
        "config.VICE.SCHEDULE.warmup_epochs=0.5",
        "config.OPTIMIZER.weight_decay=0.0",
    ]
    settings = settings_of(configure([*BEGUN, *own])[1])
    # A number may be written in two ways.
    settings["OPTIMIZER.weight_decay"] = "0"
    write_snapshot(tmp_path / "state.torch", {"iteration": 4, "vice": {"settings": settings}})
    config = configure([*BEGUN, *own, more])[1]
    if message is None:
        check_settings(tmp_path / "state.torch", config)
        return
    with pytest.raises(UserError, match=message):
        check_settings(tmp_path / "state.torch", config)
