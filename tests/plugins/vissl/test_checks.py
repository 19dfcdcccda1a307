"""Every value of a configuration is looked at before anything is started."""

from __future__ import annotations

import pytest

from tests.plugins.vissl.conftest import overrides
from vice.errors import UserError
from vice.options import one_of, options_of, whole
from vice.paths import experiment_names
from vice.plugins.vissl.config.checks import check_values
from vice.plugins.vissl.config.compose import compose
from vice.plugins.vissl.config.configure import configure
from vice.plugins.vissl.config.schema import groups


@pytest.mark.parametrize("name", experiment_names())
def test_our_own_configs_are_good(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    composed = compose([f"config={name}"])
    if "FOREGROUND" in composed.config.VICE:
        # Masks are the user's own.
        (tmp_path / "masks").mkdir()
        composed.config.VICE.FOREGROUND.folder = str(tmp_path / "masks")
    check_values(composed)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("config.VICE.VIEWS.num_views=1", r"VIEWS\.num_views=1: must be a whole number from 2"),
        ("config.VICE.LOSS.temperature=nan", r"LOSS\.temperature=nan: must be a number"),
        ("config.VICE.VIEWS.scale=[2,1]", r"config\.VICE\.VIEWS: .*scale"),
        ("+config.VICE.VIEWS.sparkle=1", r"config\.VICE\.VIEWS: .*sparkle"),
        ("config.VICE.STANDARDIZE.min_side=999", "min_side=999 must not exceed"),
        ("config.VICE.CUT_ON=gpu", "CUT_ON=.gpu.: must be one of auto, workers, device"),
        ("config.MODEL.TRUNK.VICE.dim=9", r"TRUNK\.VICE\.dim=9 differs from config\.VICE\.PROTO"),
        ("~config.VICE.SCHEDULE.final", r"SCHEDULE\.final is missing"),
        ("config.VICE.VIEWS=null", r"config\.VICE\.VIEWS"),
        ("config.SLURM.COMMENT='a\nb'", r"SLURM\.COMMENT=.*one line"),
        (
            "config.VICE.HEALTH.pictures=5",
            r"HEALTH\.pictures=5: must be a whole number from 0 to 4",
        ),
        ("config.VICE.HEALTH.held_out_paths=photos", r"held_out_paths=photos: must be a list"),
        ("config.SLURM.TIME_HOURS=0", "give the job time"),
        ("+config.SLURM.ADDITIONAL_PARAMETERS.qos='a\nb'", "PARAMETERS.qos=.*one line"),
        ("+config.SLURM.ADDITIONAL_PARAMETERS.gres.gpu=1", r"PARAMETERS\.gres=.*one line"),
        ("+config.SLURM.ADDITIONAL_PARAMETERS.exclude=[a,b]", r"PARAMETERS\.exclude=.*one line"),
        ("node_id=1", "node_id=1"),
    ],
)
def test_what_is_wrong_is_named(override, message):
    with pytest.raises(UserError, match=message):
        check_values(compose(["config=vice/folder", override]))


def test_workers_cannot_change_what_the_device_cuts():
    where = ["config.VICE.CUT_ON=device", "config.VICE.PHOTOMETRIC_ON=workers"]
    with pytest.raises(UserError, match=r"VICE\.CUT_ON=device needs .*VICE\.PHOTOMETRIC_ON=device"):
        check_values(compose(["config=vice/folder", *where]))


def test_a_refused_configuration_leaves_the_run_folder_alone(images, tmp_path):
    kept = tmp_path / "train_config.yaml"
    kept.write_text("earlier: true\n")
    with pytest.raises(UserError, match="queue_length"):
        configure(overrides(images, tmp_path, "config.VICE.LOSS.queue_length=many"))
    assert kept.read_text() == "earlier: true\n"


def test_held_out_images_must_be_there_and_get_a_whole_path(images, tmp_path, monkeypatch):
    def configured(path, *more):
        said = f"config.VICE.HEALTH.held_out_paths=[{path}]"
        return configure(overrides(images, tmp_path / "out", said, *more))[1].VICE.HEALTH

    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "missing", tmp_path / "empty"):
        with pytest.raises(UserError, match=rf"HEALTH\.held_out_paths: {path}"):
            configured(path)
        assert configured(path, "config.VICE.HEALTH.held_out=0").held_out == 0
    monkeypatch.chdir(images.parent)
    assert configured(images.name).held_out_paths == [str(images)]


def test_rules():
    assert whole(1, 3).holds(3) and not whole(1, 3).holds(True) and not whole(1, 3).holds(2.0)
    assert one_of("a").holds("a") and not one_of("a").holds(["a"])
    share = options_of(groups("vice")["VICE.VIEWS"])["mask_intensity"].rule
    assert share.holds(1) and not share.holds(float("nan")) and not share.holds("0.5")
