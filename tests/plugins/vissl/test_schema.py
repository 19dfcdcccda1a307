"""One schema: what is filled in, overridden, refused and explained follows from the options."""

from __future__ import annotations

import json

import pytest
from omegaconf import OmegaConf

from tests.plugins.vissl.conftest import REPO, run_tool
from vice.errors import UserError
from vice.options import defaults, options_of
from vice.paths import experiment_names
from vice.plugins.vissl.config.checks import check_values
from vice.plugins.vissl.config.compose import compose, compose_with_defaults, help_text
from vice.plugins.vissl.config.schema import METHODS, all_options, group_at, groups


def plain(config):
    return OmegaConf.to_container(config, resolve=True)


def test_every_option_has_a_default_that_passes_a_range_and_a_meaning():
    for method in METHODS:
        for prefix, group in groups(method).items():
            assert set(defaults(group)) == set(options_of(group)), prefix
    for key, option in all_options().items():
        assert option.meaning and option.rule.text, key


def test_what_nobody_names_is_filled_in():
    composed, filled = compose_with_defaults(["config=vice/coco_highres"])
    config = plain(composed.config)
    assert {"VICE.VIEWS.canny_low", "VICE.LOSS.temperature", "VICE.HEALTH.pictures"} <= filled
    assert not {"VICE.LOSS.queue_length", "VICE.METHOD.name", "MODEL.TRUNK.VICE.dim"} & filled
    for prefix, group in groups("vice").items():
        values = group_at(config, prefix)
        for name, value in defaults(group).items():
            if f"{prefix}.{name}" in filled and "$" not in str(value):
                assert values[name] == value, (prefix, name)
    # What refers to a default finds it.
    assert config["MODEL"]["TRUNK"]["VICE"]["dim"] == 128


def test_every_option_can_be_set_as_it_is():
    texts = {
        f"config.{prefix}.{name}": json.dumps(value, separators=(",", ":"))
        for prefix, group in groups("vice").items()
        for name, value in defaults(group).items()
        if name not in ("dim", "root", "cache_dir")
    }
    composed = compose(["config=vice/folder", *(f"{key}={text}" for key, text in texts.items())])
    check_values(composed)
    for key, text in texts.items():
        assert OmegaConf.select(composed, key) == json.loads(text), key


def test_a_group_is_set_as_one():
    config = compose(["config=vice/folder", "config.VICE.HEALTH={pictures: 0}"]).config
    assert (config.VICE.HEALTH.pictures, config.VICE.HEALTH.held_out) == (0, 32)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("~config.VICE.LOSS.epsilon", r"config\.VICE\.LOSS\.epsilon is missing: must be a number"),
        ("~config.VICE.VIEWS.size", r"config\.VICE\.VIEWS\.size is missing"),
        ("~config.VICE.SCHEDULE", r"config\.VICE\.SCHEDULE is missing: must be a group"),
        ("config.VICE.SCHEDULE=null", r"config\.VICE\.SCHEDULE is None, but must be a group"),
        ("+config.VICE.SCHEDULE.strat=1", r"VICE\.SCHEDULE: there is no option 'strat'.* start"),
        ("+config.VICE.HEALT={}", r"config\.VICE: there is no option 'HEALT'.* HEALTH"),
        ("config.VICE.SCHEDULE.strat=1", r"SCHEDULE\.strat.* did you mean .*SCHEDULE\.start"),
        ("config.VICE.METHOD.name=vise", r"METHOD\.name=vise: .* did you mean vice"),
        ("config.VICE.METHOD.name=null", r"METHOD\.name=None: must be one of .*vice"),
        ("config.VICE.LOSS.epsilon=???", r"config\.VICE\.LOSS\.epsilon"),
        ("config.MODEL.TRUNK.VICE.decoder=unet", r"decoder='unet': must be one of fpn"),
    ],
)
def test_what_does_not_fit_the_schema_is_named(override, message):
    with pytest.raises(UserError, match=message):
        check_values(compose(["config=vice/folder", override]))


@pytest.mark.parametrize("name", experiment_names())
def test_help_names_every_option_with_its_value(name):
    lines = help_text([f"config={name}"]).splitlines()
    shown = dict(line.split("=", 1) for line in lines if line.startswith("config."))
    config = compose([f"config={name}"]).config
    of_vissl = {key for key in all_options() if not key.startswith(("VICE", "MODEL.TRUNK."))}
    # Another method's option of the same name may be another one.
    of_method = {
        f"{prefix}.{name}": option
        for prefix, group in groups(config.VICE.METHOD.name).items()
        for name, option in options_of(group).items()
    }
    others = of_vissl | {"MODEL.TRUNK.NAME"}
    wanted = {
        **{key: option for key, option in all_options().items() if key in others},
        **of_method,
    }
    assert set(shown) == {f"config.{key}" for key in wanted}
    some = {"VICE.VIEWS.size", "VICE.METHOD.clusters", "MODEL.TRUNK.VICE.dim", "SEED_VALUE"}
    for key in some & set(wanted):
        assert shown[f"config.{key}"] == str(OmegaConf.select(config, key))
    text = " ".join(" ".join(lines).split())
    for option in wanted.values():
        assert f"{option.meaning}; must be {option.rule.text}" in text
    assert all(len(line) <= 100 for line in lines if line.startswith(" "))


def test_the_command_line_explains_itself(tmp_path):
    named = run_tool(["config=vice/folder", "config.VICE.VIEWS.size=72", "--help"], tmp_path)
    assert (named.returncode, named.stderr) == (0, "")
    assert "config.VICE.VIEWS.size=72\n" in named.stdout
    alone = run_tool(["--help"], tmp_path)
    assert alone.returncode == 0 and "vice/folder" in alone.stdout
    assert "config=vice/folder --help" in alone.stdout
    wrong = run_tool(["config=vice/foldr", "-h"], tmp_path)
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: 'vice/foldr' is no config")
    assert wrong.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_base_config_repeats_no_default():
    folder = REPO / "configs" / "config" / "vice"
    files = (folder / "_base" / "training.yaml", folder / "method" / "vice.yaml")
    config = OmegaConf.to_container(OmegaConf.merge(*map(OmegaConf.load, files)))["config"]
    named = 0
    for prefix, group in groups("vice").items():
        values = config
        for part in prefix.split("."):
            values = values.get(part, {})
        for name, value in defaults(group).items():
            named += name in values
            # The method is named all the same, for who reads the file.
            assert values.get(name, ...) != value or prefix == "VICE.METHOD", f"{prefix}.{name}"
    assert named > 4
