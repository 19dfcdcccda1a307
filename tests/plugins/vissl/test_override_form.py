"""Overrides that are none of one training: each is named, with what to write instead."""

from __future__ import annotations

import pytest

pytest.importorskip("vissl")

from vice.errors import UserError
from vice.plugins.vissl.config import override_form
from vice.plugins.vissl.config.checks import check_values
from vice.plugins.vissl.config.compose import compose
from vice.plugins.vissl.config.known import check_whole, vissl_defaults
from vice.plugins.vissl.config.override_form import check_form

FOLDER = "config=vice/folder"
EPOCHS = "config.OPTIMIZER.num_epochs"
NAMES = [
    "vice/folder.yaml",
    "/vice/folder",
    "./vice/folder",
    "vice//folder",
    "vice/./folder",
    "'vice/folder'",
    '"vice/folder"',
    "vice/../vice/folder",
]
BAD_KEYS = [
    "",
    "config.",
    "config..a",
    ".config",
    "config.a ",
    "config[a].b",
    "config.a[0]",
    "config.é",
    "config.a b",
    "-config.a",
]
BAD_VALUES = [
    "'3",
    '"3',
    "[3",
    "3]",
    "{a:3",
    "3}",
    "(3)",
    "a=b",
    "f(3",
    "[1,2",
    "'a'b'",
    "nothing(3)",
    "$(ls)",
    "${",
    "a,,b",
]
GROUPS_OF = [name for name, of in vissl_defaults().items() if isinstance(of, dict)]


def refused(*overrides):
    with pytest.raises(UserError) as error:
        check_form(list(overrides))
    assert "\n" not in str(error.value) and "hydra.cc" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("plus", ["", "+", "++"])
def test_a_config_has_one_name_however_it_is_typed(name, plus):
    assert check_form([f"{plus}config={name}", f"{EPOCHS}=3"]) == [FOLDER, f"{EPOCHS}=3"]


@pytest.mark.parametrize("value", ["", "3", "null", "true", "1.5", "[3]", "[]", "''"])
@pytest.mark.parametrize("first", [[], [FOLDER]])
def test_what_is_no_name_of_a_config(value, first):
    assert "; add config=NAME with NAME one of " in refused(*first, f"config={value}")


@pytest.mark.parametrize("overrides", [[], [f"{EPOCHS}=3"], ["config={OPTIMIZER: {a: 1}}"]])
def test_no_config_at_all(overrides):
    assert refused(*overrides).startswith("no config is named; add config=NAME")


@pytest.mark.parametrize("key", BAD_KEYS)
@pytest.mark.parametrize("plus", ["", "+", "++", "~"])
def test_a_key_that_is_none(key, plus):
    said = refused(FOLDER, f"{plus}{key}=3")
    assert said.startswith(f"{plus}{key}=3: cannot be read; keys are names with dots between them")


@pytest.mark.parametrize("value", BAD_VALUES)
def test_a_value_that_is_none(value):
    said = refused(FOLDER, f"{EPOCHS}={value}")
    assert said.startswith(f"{EPOCHS}={value}: ")
    assert f"if {value} is meant as text, write \"{EPOCHS}='...'\"" in said


@pytest.mark.parametrize(
    "value", ["1,2", "choice(1,2)", "range(1,3)", "interval(1,3)", "glob(*)", "sort(3,2)", "a,b,c"]
)
def test_a_sweep(value):
    said = refused(FOLDER, f"{EPOCHS}={value}")
    assert said.startswith(f"{EPOCHS}={value}: a training has one value; start one for each")
    assert (f"write a list as {EPOCHS}=[{value}]" in said) == ("(" not in value)


def test_configs_of_a_list_are_merged():
    composed = compose(["config=[vice/demo,vice/folder_imagenet]"])
    assert composed.config.VICE.VIEWS.size == 128
    assert check_form(["config=[vice/folder]"]) == ["config=[vice/folder]"]


def test_two_configs_are_two_trainings():
    assert refused("config=vice/folder,vice/demo").endswith("one value; start one for each")


@pytest.mark.parametrize("key", ["config.VICE", EPOCHS, "config", "node_id"])
def test_a_value_that_is_said_to_be_missing(key):
    for value in ("???", "{SEED_VALUE:???}", "{A:{B:[1,???]}}", "[1,'???']"):
        assert "??? stands for a value that is missing" in refused(FOLDER, f"{key}={value}")


@pytest.mark.parametrize(
    "text", ["hydra.run.dir=x", "hydra/launcher=x", "+hydra.sweep.dir=x", "hydra.verbose=true"]
)
def test_settings_of_hydra_change_nothing(text):
    assert refused(FOLDER, text).startswith(f"{text}: settings of Hydra itself change nothing here")


@pytest.mark.parametrize("text", ["+foo=3", "++VICE.VIEWS.size=3", "+foo={a: 3}"])
def test_what_nothing_reads(text):
    with pytest.raises(UserError, match="nothing reads .*; settings of a training begin with conf"):
        compose([FOLDER, text])


@pytest.mark.parametrize("text", ["~config", FOLDER.replace("config", "~config", 1)])
def test_a_config_that_is_taken_out(text):
    assert refused(FOLDER, text) == (
        f"{text}: nothing can be trained without a config; leave it out"
    )


GROUPS = ["config.VICE", "config.MODEL", "config.MODEL.TRUNK", "config.CHECKPOINT"]


@pytest.mark.parametrize("key", GROUPS)
def test_a_group_that_others_refer_to_is_taken_out(key):
    with pytest.raises(UserError, match=f"~{key}"):
        check_values(compose([FOLDER, f"~{key}"]))


KEYS = list(vissl_defaults())
KEYS += [f"{name}.{key}" for name in GROUPS_OF for key in vissl_defaults()[name]]


@pytest.mark.parametrize("key", KEYS[::6])
def test_whatever_is_taken_out_is_refused_by_its_name(key):
    """Either one of VISSL's keys, or an option of ViCE's, which says what it must be."""
    with pytest.raises(UserError, match=rf"config\.{key}\b.*(is missing|leave|must be)"):
        check_values(compose([FOLDER, f"~config.{key}"]))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("~config.VICE.VIEWS", r"leave ~config\.VICE\.VIEWS out"),
        ("~config.VICE.VIEWS.size=95", r"leave ~config\.VICE\.VIEWS\.size out"),
        ("~config.nope", r"^~config\.nope: there is no such key"),
        ("~config.OPTIMIZER.nam_epochs", r"there is no such key; did you mean .*num_epochs"),
        (f"+{EPOCHS}=1", rf"^\+{EPOCHS}: is there already; write it without \+"),
        ("+config.LOG_FREQUENCY=3", "is there already; write it without"),
    ],
)
def test_what_is_added_or_taken_out_in_vain_is_said_with_a_remedy(override, said):
    with pytest.raises(UserError, match=said) as error:
        check_values(compose([FOLDER, override]))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "texts",
    [
        ["config.VICE.VIEWS.num_views=2", "config.VICE={VIEWS:{num_views:4}}"],
        ["config={VICE:{VIEWS:{num_views:2}}}", "++config.VICE.VIEWS.num_views=4"],
        ["config.VICE={VIEWS:{num_views:2}}", "config.VICE.VIEWS={num_views:4,size:64}"],
    ],
)
def test_a_key_that_is_given_in_braces_too_is_given_twice(caplog, texts):
    override_form._say_given_twice.cache_clear()
    composed = compose([FOLDER, *texts, "config.VICE={VIEWS:{scale:[1.0,2.0]}}"])
    assert composed.config.VICE.VIEWS.num_views == 4
    (said,) = [each.getMessage() for each in caplog.records if "times" in each.getMessage()]
    assert said == "config.VICE.VIEWS.num_views is given 2 times: the last, 4, counts"


def test_what_is_taken_out_is_not_given_twice(caplog):
    paths = "config.DATA.TRAIN.DATA_PATHS"
    with pytest.raises(UserError, match=f"{paths} is missing, and VISSL reads it: do not take it"):
        check_values(compose([FOLDER, f"{paths}=[x]", f"~{paths}"]))
    assert "given" not in caplog.text


def test_what_ships_lacks_nothing():
    from omegaconf import OmegaConf

    check_whole(OmegaConf.to_container(compose([FOLDER]).config))


def test_what_was_added_may_be_taken_out_and_set_anew():
    composed = compose([FOLDER, "+config.OPTIMIZER.quux=1", "~config.OPTIMIZER.quux"])
    assert "quux" not in composed.config.OPTIMIZER
