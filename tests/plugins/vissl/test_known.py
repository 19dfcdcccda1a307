"""Keys and files of configs of one's own: none is dropped without a word."""

from __future__ import annotations

import logging
import os

import pytest

pytest.importorskip("vissl")

from omegaconf import OmegaConf

from vice.errors import UserError
from vice.paths import experiment_names
from vice.plugins.vissl.config.checks import check_values
from vice.plugins.vissl.config.compose import compose
from vice.plugins.vissl.config.file_checks import check_file
from vice.plugins.vissl.config.known import check_known, vissl_defaults

HEAD = "# @package _global_\n"
BODY = "defaults:\n  - /config/vice/folder\n  - _self_\n"


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Writes a config of one's own, and says what composing it comes to."""
    folder = tmp_path / "configs" / "config" / "vice"
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    def write(text, name="own", encoding="utf-8"):
        (folder / f"{name}.yaml").write_text(text, encoding=encoding)
        return compose([f"config=vice/{name}"])

    return write


@pytest.mark.parametrize("name", experiment_names())
def test_what_ships_has_known_keys_alone(name, caplog):
    plain = OmegaConf.to_container(compose([f"config={name}"]).config, resolve=True)
    check_known(plain)
    assert "neither ViCE nor" not in caplog.text


def keys_of(node, prefix=""):
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from keys_of(value, f"{prefix}{key}.")
        elif len(str(key)) > 5:
            yield f"{prefix}{key}"


MISSPELT = [key for key in keys_of(vissl_defaults()) if key.count(".") < 4][::7]


@pytest.mark.parametrize("key", MISSPELT)
def test_a_letter_too_few_is_refused_wherever_it_stands(key):
    above, _, name = key.rpartition(".")
    wrong = f"{above}.{name[:-2]}{name[-1]}" if above else f"{name[:-2]}{name[-1]}"
    if wrong.rpartition(".")[2] in {each.rpartition(".")[2] for each in keys_of(vissl_defaults())}:
        pytest.skip("another key is called so")
    plain = OmegaConf.create()
    OmegaConf.update(plain, wrong, 3, force_add=True)
    with pytest.raises(UserError, match=f"config key 'config.{wrong}' does not exist; did you me"):
        check_known(OmegaConf.to_container(plain))


def test_what_no_key_is_like_is_told(caplog):
    for text in ("+config.FOO=1", "++config.FOO.BAR=1", "+config.OPTIMIZER.quux=[0.9]"):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            check_values(compose(["config=vice/folder", text]))
        key = "config.FOO" if "FOO" in text else "config.OPTIMIZER.quux"
        assert f"neither ViCE nor VISSL's defaults have {key}: it counts only where" in caplog.text


@pytest.mark.parametrize(
    "wrong",
    [
        "config:\n  OPTIMIZER: {num_epoch: 3}\n",
        "config:\n  DATA: {TRAIN: {BATCHSIZE_PER_REPLCA: 3}}\n",
        "config:\n  CHEKPOINT: {DIR: here}\n",
    ],
)
def test_in_a_file_of_ones_own_too(wrong, own):
    with pytest.raises(UserError, match="does not exist; did you mean config"):
        check_values(own(HEAD + BODY + wrong))


@pytest.mark.parametrize("head", [HEAD, "#  @package _global_  \n"])
def test_a_file_of_ones_own_is_taken(head, own):
    composed = own(head + BODY + "config:\n  OPTIMIZER: {num_epochs: 3}\n")
    assert composed.config.OPTIMIZER.num_epochs == 3


@pytest.mark.parametrize(
    ("text", "encoding", "said"),
    [
        (BODY + "config:\n  OPTIMIZER: {num_epochs: 3}\n", "utf-8", "as its first line"),
        ("", "utf-8", "as its first line"),
        ("# Mine.\n" + HEAD + BODY, "utf-8", "as its first line"),
        ("\n" + HEAD + BODY, "utf-8", "as its first line"),
        (BODY + HEAD, "utf-8", "as its first line"),
        (HEAD + BODY, "utf-8-sig", "begins with a byte order mark"),
        (HEAD + "# caf\xe9\n" + BODY, "latin-1", "is no text in UTF-8"),
    ],
)
def test_a_file_whose_settings_would_be_dropped_is_refused(text, encoding, said, own):
    with pytest.raises(UserError, match=said) as error:
        own(text, encoding=encoding)
    assert os.path.join("configs", "config", "vice", "own.yaml") in str(error.value)


def test_what_ships_is_found_to_begin_as_it_must():
    for name in experiment_names():
        check_file(name)


@pytest.mark.parametrize(
    "entry",
    [
        "/config/vice/mine",
        "vice/mine",
        "/config/vice: mine",
        "{/config/vice: [mine]}",
        "override /config/vice: mine",
        "optional /config/vice: mine",
        "/config/vice/between",
        "/config/near",
    ],
)
def test_a_file_that_a_defaults_list_names_is_looked_at_too(entry, own, tmp_path):
    folder = tmp_path / "configs" / "config" / "vice"
    (folder / "mine.yaml").write_text("config:\n  OPTIMIZER: {num_epochs: 3}\n")
    (folder / "between.yaml").write_text(HEAD + "defaults:\n  - /config/vice/mine\n")
    (tmp_path / "configs" / "config" / "near.yaml").write_text((folder / "mine.yaml").read_text())
    with pytest.raises(UserError, match="as its first line") as error:
        own(HEAD + f"defaults:\n  - /config/vice/folder\n  - {entry}\n  - _self_\n")
    assert "mine.yaml" in str(error.value) or "near.yaml" in str(error.value)


@pytest.mark.parametrize("entry", ["near", "/config/vice/between", "vice/between"])
def test_a_file_beside_the_one_that_names_it_lands_where_that_one_does(entry, own, tmp_path):
    folder = tmp_path / "configs" / "config"
    for name in ("near", "vice/mine"):
        (folder / f"{name}.yaml").write_text("config:\n  OPTIMIZER: {num_epochs: 3}\n")
    (folder / "vice" / "between.yaml").write_text(HEAD + "defaults:\n  - mine\n")
    composed = own(HEAD + f"defaults:\n  - /config/vice/folder\n  - {entry}\n  - _self_\n")
    assert composed.config.OPTIMIZER.num_epochs == 3


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("vice/mine", "# @package config\nOPTIMIZER: {num_epochs: 3}\n"),
        ("vice/mine", "# @package config.OPTIMIZER\nnum_epochs: 3\n"),
        ("vice/mine", "\n" + HEAD + "config:\n  OPTIMIZER: {num_epochs: 3}\n"),
        ("mine", "OPTIMIZER: {num_epochs: 3}\n"),
    ],
)
def test_what_hydra_puts_in_place_needs_no_first_line(place, text, own, tmp_path):
    (tmp_path / "configs" / "config" / f"{place}.yaml").write_text(text)
    composed = own(HEAD + f"defaults:\n  - /config/vice/folder\n  - /config/{place}\n  - _self_\n")
    assert composed.config.OPTIMIZER.num_epochs == 3


def test_empty_files_of_a_defaults_list_and_files_of_the_same_name_do_no_harm(own, tmp_path):
    folder = tmp_path / "configs" / "config"
    (folder / "vice" / "empty.yaml").write_text("")
    (folder / "near.yaml").write_text(HEAD + "config: {OPTIMIZER: {num_epochs: 3}}\n")
    (folder / "vice" / "near.yaml").write_text("config: {OPTIMIZER: {num_epochs: 4}}\n")
    lines = "defaults:\n  - /config/vice/folder\n  - /config/vice/empty\n  - near\n  - _self_\n"
    assert own(HEAD + lines).config.OPTIMIZER.num_epochs == 3


def test_what_is_looked_up_from_beside_config_may_stand_there(own):
    text = BODY + 'epochs: 3\nconfig:\n  OPTIMIZER: {num_epochs: "${epochs}"}\n'
    assert own(HEAD + text).config.OPTIMIZER.num_epochs == 3
    assert compose(["config=vice/own", "epochs=4"]).config.OPTIMIZER.num_epochs == 4
    anchor = BODY + "x-views: &views {size: 48}\nconfig:\n  VICE: {VIEWS: *views}\n"
    assert own(HEAD + anchor).config.VICE.VIEWS.size == 48


def test_an_interpolation_that_is_not_closed_is_said(own):
    with pytest.raises(UserError, match="config=vice/own: .* is not closed"):
        own(HEAD + BODY + 'config:\n  DATA: {TRAIN: {DATA_PATHS: ["/a/b${x"]}}\n')


def test_a_file_that_is_put_elsewhere_by_its_entry_needs_no_first_line(own, tmp_path):
    folder = tmp_path / "configs" / "config" / "vice"
    (folder / "mine.yaml").write_text("num_epochs: 3\n")
    entry = "/config/vice/mine@config.OPTIMIZER"
    composed = own(HEAD + f"defaults:\n  - /config/vice/folder\n  - {entry}\n  - _self_\n")
    assert composed.config.OPTIMIZER.num_epochs == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BODY + "OPTIMIZER: {num_epochs: 1}\n", "OPTIMIZER stands beside config:, where nothing"),
        (BODY + "Config: {OPTIMIZER: {num_epochs: 1}}\n", "Config stands beside config:"),
        (BODY + "VICE: {VIEWS: {num_views: 2}}\n", "VICE stands beside config:"),
        (BODY + "config.OPTIMIZER.num_epochs: 2\n", r"config\.OPTIMIZER\.num_epochs stands beside"),
        (BODY + "config:\n  OPTIMIZER.num_epochs: 2\n", r"as groups, .*\(OPTIMIZER: {num_epochs: "),
        (BODY + "config:\n  VICE:\n    X.Y: 2\n", "there is no option 'X.Y'"),
        (BODY + "config:\n", "its config: holds no keys"),
        (BODY + "config: null\n", "its config: holds no keys"),
        ("config:\n  OPTIMIZER: {num_epochs: 1}\n", "begin its defaults list with one that has"),
        ("defaults: []\n", "begin its defaults list with one that has"),
        ("", "begin its defaults list with one that has"),
        ("- a\n- b\n", r"own\.yaml: holds a list, but must hold keys and values"),
        ("hello\n", r"own\.yaml: holds a str, but must hold keys and values"),
    ],
)
@pytest.mark.parametrize("more", [[], ["config.VICE.VIEWS.size=48"]])
def test_settings_at_a_wrong_place_of_a_file_are_named(text, said, more, own, tmp_path):
    (tmp_path / "configs" / "config" / "vice" / "own.yaml").write_text(HEAD + text)
    with pytest.raises(UserError, match=said) as error:
        check_values(compose(["config=vice/own", *more]))
    assert "own" in str(error.value) or "OPTIMIZER" in str(error.value) or "X.Y" in str(error.value)
    assert "size=48" not in str(error.value)


def test_files_that_name_one_another_are_refused(own):
    with pytest.raises(UserError):
        own(HEAD + "defaults:\n  - /config/vice/second\n")
    with pytest.raises(UserError, match="lead back to themselves"):
        own(HEAD + "defaults:\n  - /config/vice/own\n  - _self_\n", "second")
