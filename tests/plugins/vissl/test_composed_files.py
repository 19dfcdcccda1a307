"""Values that are set on what files come to are those that Hydra composes from all at once."""

from __future__ import annotations

import os
import re
import shutil
import sys

import pytest

pytest.importorskip("vissl")

from omegaconf import OmegaConf

from vice.errors import UserError
from vice.paths import config_root, experiment_names
from vice.plugins.vissl.config import compose as module
from vice.plugins.vissl.config.checks import check_values
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
    ["config.SEED_VALUE=5", "config={SEED_VALUE:3}"],
    ["config.VICE.VIEWS.size=48", "config={VICE: {VIEWS: {size: 64}}}"],
    ["++config.NEW=1", "config={NEW:2}"],
    ["config.LOG_FREQUENCY=", 'config.CHECKPOINT.DIR="a=b,c"', "config.SEED_VALUE=1e3"],
    ["+config.NEW=1", "~config.NEW", "+config.NEW={a:1}", "+config.NEW={b:2}", "node_id=1"],
    ["~config.LOG_FREQUENCY", "config={OPTIMIZER:{num_epochs:4}}", "+config.LOG_FREQUENCY=3"],
    ["+config.NEW=[1]", "+config.NEW=[2,3]", "++config.NEW=null", "+config.NEW=7"],
    ["config.CHECKPOINT={DIR:'a, \"b\" {c}',CHECKPOINT_FREQUENCY:e f}", "++config.A={B:{}}"],
    ["config.DATA={TRAIN:{DATA_PATHS:['x y','p:q'],DATASET_NAMES:[]}}", "config.SEED_VALUE=nan"],
    ["~config.OPTIMIZER.num_epochs", "+config.OPTIMIZER.num_epochs=3"],
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


MINE = "# @package _global_\ndefaults:\n  - {base}\n  - _self_\nconfig: {{SEED_VALUE: {seed}}}\n"


def write(file, seed, base="/config/vice/demo"):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(MINE.format(base=base, seed=seed))


def seed_of(name="mine"):
    return compose([f"config={name}"]).config.SEED_VALUE


@pytest.mark.parametrize("place", ["ours", "working directory", "linked folder", "linked file"])
def test_an_edited_file_is_read_again(tmp_path, monkeypatch, place):
    root = tmp_path / "configs"
    if place == "ours":
        shutil.copytree(config_root(), root)
        monkeypatch.setattr("vice.plugins.vissl.search_path.config_root", lambda: root)
        monkeypatch.setattr("vice.plugins.vissl.config.config_files.config_root", lambda: root)
    else:
        # Hydra reads what lies here before what ViCE adds.
        monkeypatch.chdir(tmp_path)
    folder = root / "config"
    file = (tmp_path / "real" if place.startswith("linked") else folder) / "mine.yaml"
    write(file, 2001)
    if place == "linked folder":
        root.mkdir()
        folder.symlink_to(file.parent)
    elif place == "linked file":
        folder.mkdir(parents=True)
        (folder / file.name).symlink_to(file)
    assert seed_of() == 2001
    times = file.stat()
    write(file, 2002)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert seed_of() == 2002


def test_the_same_files_in_another_order_of_places_are_another_configuration(tmp_path, monkeypatch):
    for name, seed in (("a", 1), ("b", 2)):
        write(tmp_path / name / "configs" / "config" / "mine.yaml", seed)
    monkeypatch.chdir(tmp_path / "a")
    assert seed_of() == 1
    monkeypatch.chdir(tmp_path / "b")
    assert seed_of() == 2
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="'mine' is no config"):
        seed_of()
    (tmp_path / "both").mkdir()
    (tmp_path / "both" / "configs").symlink_to(tmp_path / "b" / "configs")
    monkeypatch.chdir(tmp_path / "both")
    assert seed_of() == 2
    for name in ("a", "b"):
        (tmp_path / name / "configs" / "__init__.py").touch()
    path = sys.path
    monkeypatch.delitem(sys.modules, "configs", raising=False)
    try:
        # The folder comes before the package, whichever of the two it is.
        for here, there, seed in (("a", "b", 1), ("b", "a", 2)):
            monkeypatch.chdir(tmp_path / here)
            monkeypatch.setattr("sys.path", [str(tmp_path / there), *path])
            sys.modules.pop("configs", None)
            assert seed_of() == seed
    finally:
        sys.modules.pop("configs", None)


def nested(key, value, depth):
    """``a.b.c=1`` with so many of its names in braces."""
    names = key.split(".")
    for name in reversed(names[len(names) - depth :]):
        value = f"{{{name}:{value}}}"
    return f"{'.'.join(names[: len(names) - depth])}={value}"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("config.VICE.HEALTH.pictures", "2"),
        ("config.VICE.SUPERPIXELS.iterations", "3"),
        ("config.MODEL.TRUNK.EXECUTION.compiled", "true"),
        ("config.SLURM.ADDITIONAL_PARAMETERS.qos", "night"),
        ("config.OPTIMIZER.num_epochs", "3"),
    ],
)
def test_a_group_in_braces_takes_what_its_keys_take(key, value):
    """Also what is known and stands in no file."""
    wanted = OmegaConf.to_yaml(compose(["config=vice/folder", f"{key}={value}"]))
    for depth in range(1, key.count(".") + 1):
        text = nested(key, value, depth)
        assert OmegaConf.to_yaml(compose(["config=vice/folder", text])) == wanted
    spaced = nested(key, value, 2).replace("=", "= ", 1)
    assert OmegaConf.to_yaml(compose(["config=vice/folder", spaced])) == wanted
    beside = ["config=vice/folder", "+config.NEW=1", "~config.LOG_FREQUENCY", "node_id=3"]
    assert compose([*beside, nested(key, value, 2)]) == compose([*beside, f"{key}={value}"])


def test_what_is_wrong_beside_a_group_in_braces_is_named_itself():
    braces = "config.VICE={HEALTH:{pictures:2}}"
    for wrong, said in (
        ("config.VICE.VIEWS.sise=3", "'config.VICE.VIEWS.sise' does not exist"),
        ("config={VICE:{VIEWS:{sise:3}}}", "there is no option 'sise'"),
        ("~config.NEW", "~config.NEW: there is no such key"),
        ("+config.SEED_VALUE=1", "is there already"),
    ):
        with pytest.raises(UserError, match=re.escape(said)):
            check_values(compose(["config=vice/folder", braces, wrong]))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_group_that_a_method_has_not_is_refused_in_braces_too(depth):
    text = nested("config.VICE.LOSS.reduction", "image", depth)
    with pytest.raises(UserError, match=r"the method iic has no config\.VICE\.LOSS"):
        compose(["config=vice/iic_folder", text])


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("config.VICE={HEALHT:{pictures:2}}", "config.VICE.HEALTH"),
        ("config.VICE={VIEWS:{num_views:2},HEALHT:5}", "config.VICE.HEALTH"),
        ("config.OPTIMIZER={num_epoch:1}", "config.OPTIMIZER.num_epochs"),
        ("config={OPTIMZER:{num_epochs:2}}", "config.OPTIMIZER"),
        ("config.DATA={TRIAN:{DATA_PATHS:[x]}}", "config.DATA.TRAIN"),
    ],
)
def test_what_is_misspelt_in_braces_is_not_to_be_added(text, meant):
    with pytest.raises(UserError) as refusal:
        compose(["config=vice/folder", text])
    assert str(refusal.value).endswith(f"does not exist; did you mean {meant}?")
    with pytest.raises(UserError, match=r"add it with \+config\.BRANDNEW=VALUE"):
        compose(["config=vice/folder", "config={BRANDNEW:2}"])


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_a_key_in_braces_that_there_is_not_is_named_whole(depth):
    text = nested("config.MODEL.FEATURE_EVAL_SETTINGS.EVAL_MODE_OM", "true", depth - 1)
    with pytest.raises(UserError, match=r"EVAL_MODE_OM.*(did you mean .*EVAL_MODE_ON|add it with)"):
        compose(["config=vice/folder", text])


@pytest.mark.parametrize(
    ("after", "settings", "replaced"),
    [
        ("/config/vice/folder", "SEED_VALUE: 17", ["config.SEED_VALUE"]),
        ("/config/vice/folder", "OPTIMIZER: {weight_decay: 3e-2, num_epochs: 8}", ["weight_decay"]),
        ("/config/vice/folder", "OPTIMIZER: {weight_decay: 3e-2, num_epochs: 3}", ["and 1 more"]),
        # The same value as a file: nothing of it is lost.
        ("/config/vice/folder", "OPTIMIZER: {weight_decay: 1e-4}", []),
        ("/config/vice/folder", "CHECKPOINT: {DIR: 'outputs/folder'}", []),
        ("/config/vice/folder", "VICE: {VIEWS: {size: 96.0}}", []),
        ("/config/vice/folder", "OPTIMIZER: 3", ["config.OPTIMIZER"]),
        ("/config/vice/method/mdc", "VICE: {METHOD: {name: iic}}", ["VICE.METHOD.name"]),
        ("/config/vice/method/mdc", "{NEW: .nan, OTHER: 1e-3}", []),
        (None, "SEED_VALUE: 17", []),
    ],
)  # fmt: skip
def test_a_file_whose_settings_would_be_replaced_is_refused(
    tmp_path, monkeypatch, after, settings, replaced
):
    """``_self_`` before what it is to change: Hydra takes the later one without a word."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "configs" / "config" / "vice"
    folder.mkdir(parents=True)
    names = ["/config/vice/folder"] if after != "/config/vice/folder" else []
    listed = [*names, "_self_", *([after] if after else [])]
    lines = ["# @package _global_", "defaults:", *(f"  - {name}" for name in listed)]
    (folder / "mine.yaml").write_text("\n".join([*lines, "config:", f"  {settings}", ""]))
    if not replaced:
        compose(["config=vice/mine"])
        return
    with pytest.raises(UserError, match=r"mine\.yaml: config\..*put _self_ last") as refusal:
        compose(["config=vice/mine"])
    assert all(word in str(refusal.value) for word in replaced)


@pytest.mark.parametrize(
    "asked",
    [
        ["config=vice/mine", "+config.NEW=1"],
        ["config=vice/mine", "~config.LOG_FREQUENCY"],
        ["config=[vice/mine,vice/folder]"],
        ["config=[vice/folder,vice/mine.yaml]"],
        ["config=vice/child"],
    ],
)
def test_so_it_is_however_it_is_named(tmp_path, monkeypatch, asked):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "configs" / "config" / "vice"
    write(folder / "child.yaml", 1, "/config/vice/mine")
    (folder / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - _self_\n  - /config/vice/folder\n"
        "config: {SEED_VALUE: 17}\n"
    )
    with pytest.raises(UserError, match=r"mine\.yaml: config\.SEED_VALUE: .*put _self_ last"):
        compose(asked)


def test_what_the_command_line_replaces_is_not_the_files_fault(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "configs" / "config" / "vice"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - /config/vice/folder\n  - _self_\n"
        "  - /config/vice/method/mdc\nconfig: {VICE: {VIEWS: {size: 64}}, SEED_VALUE: 5}\n"
    )
    (folder / "other.yaml").write_text(
        "# @package _global_\nconfig: {SEED_VALUE: 7, VICE: {VIEWS: {size: 96}}}\n"
    )
    assert compose(["config=vice/mine", "+config/vice=other"]).config.SEED_VALUE == 7
    assert compose(["config=[vice/mine,vice/other]"]).config.SEED_VALUE == 7


def test_a_variable_that_a_defaults_list_asks_for_is_asked_each_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "configs/config/mine.yaml", 1, "/config/vice: ${oc.env:WHICH}")
    sizes = []
    for name in ("demo", "coco_highres", "demo"):
        monkeypatch.setenv("WHICH", name)
        sizes.append(compose(["config=mine"]).config.VICE.VIEWS.size)
    assert sizes[0] == sizes[2] != sizes[1]


def test_files_that_cannot_be_looked_at_are_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "configs" / "config"
    write(folder / "mine.yaml", 3)
    (folder / ".#mine.yaml").symlink_to("nowhere")
    (folder / "long.yaml").symlink_to("n" * 255 + "/" + "n" * 300)
    (folder / "loop").symlink_to(folder)
    (folder / "self.yaml").symlink_to("self.yaml")
    assert seed_of() == 3
    (folder / "mine.yaml").write_text("# @package _global_\nconfig: [1\n")
    with pytest.raises(UserError, match=r"not valid YAML: .*line 3"):
        seed_of()


def test_a_missing_group_is_named_and_not_the_config(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"there is no config file config/vice/nope\.yaml"):
        compose(["config=vice/demo", "+config/vice=nope"])
    write(tmp_path / "configs/config/mine.yaml", 1, "/config/vice/foldr")
    write(tmp_path / "configs/config/other.yaml", 1, "folder")
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "other"):
        with pytest.raises(UserError, match=r"did you mean /config/vice/folder\b"):
            compose([f"config={name}"])
    near = r"^config=vice/demo: .* config/vice/foldr\.yaml.*; did you mean config/vice/folder\b"
    with pytest.raises(UserError, match=near):
        compose(["config=vice/demo", "+config/vice=foldr"])
