"""VISSL's keys that are no options, and kinds of values: refused before anything is started."""

from __future__ import annotations

import logging

import pytest

pytest.importorskip("vissl")

from omegaconf import OmegaConf

from vice.errors import UserError
from vice.paths import experiment_names
from vice.plugins.vissl.config.checks import check_values
from vice.plugins.vissl.config.compose import compose
from vice.plugins.vissl.config.fixed import _OPTIONS, FIXED, _at, _base, check_fixed
from vice.plugins.vissl.config.known import check_kinds, vissl_defaults
from vice.plugins.vissl.config.machines import choose_device
from vice.plugins.vissl.slurm_step import join_step


def plain_of(*overrides: str, config: str = "vice/folder") -> dict:
    composed = compose([f"config={config}", *(f"config.{each}" for each in overrides)])
    return OmegaConf.to_container(composed.config, resolve=True)


def checked(*overrides: str, config: str = "vice/folder"):
    composed = compose([f"config={config}", *(f"config.{each}" for each in overrides)])
    check_values(composed)
    return composed.config


def leaves(node, prefix):
    if isinstance(node, dict) and node:
        for name, value in node.items():
            yield from leaves(value, f"{prefix}.{name}")
    else:
        yield prefix, node


def another(value):
    """A value of the same kind that is not this one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return [*value, "other"]
    return {"other": 1} if isinstance(value, dict) else f"{value} other"


KEYS = {key: value for group in FIXED for key, value in leaves(_at(_base(), group), group)}


@pytest.mark.parametrize("name", experiment_names())
def test_what_ships_sets_no_fixed_key_and_no_other_kind(name):
    plain = plain_of(config=name)
    check_fixed(plain)
    check_kinds(plain)


@pytest.mark.parametrize("key", [key for key in KEYS if key not in _OPTIONS][::5])
def test_another_value_of_a_fixed_key_is_refused_with_what_to_set(key):
    plain = plain_of()
    above, _, name = key.rpartition(".")
    (_at(plain, above) if above else plain)[name] = another(KEYS[key])
    with pytest.raises(UserError, match=r"leave it out: ") as refused:
        check_fixed(plain)
    assert str(refused.value).startswith(f"config.{key}=")


def test_what_is_as_usual_may_be_said():
    checked("TEST_MODEL=false", "LOSS.name=vice_method", "DATA.TRAIN.DROP_LAST=false")


GROUPS = [key for key, value in vissl_defaults().items() if isinstance(value, dict)]
# What others refer to is refused where that is resolved.
GROUPS += ["VICE", "MODEL.TRUNK", "OPTIMIZER.larc_config", "DATA.TRAIN", "MODEL.GRAD_CLIP"]


WRONG = ["null", "[]", "5", "text"]


@pytest.mark.parametrize(
    ("group", "wrong"), [(group, WRONG[i % len(WRONG)]) for i, group in enumerate(GROUPS)]
)
def test_nothing_stands_in_place_of_a_group(group, wrong):
    with pytest.raises(UserError, match=rf"config\.{group}.*: must be a group of keys"):
        checked(f"{group}={wrong}")


@pytest.mark.parametrize(
    ("override", "must"),
    [
        ("OPTIMIZER.regularize_bn=maybe", "true or false"),
        ("VERBOSE=2", "true or false"),
        ("VERBOSE=null", "true or false"),
        ("DATA.PIN_MEMORY=1", "true or false"),
        ("MODEL.GRAD_CLIP.MAX_NORM=high", "a number"),
        ("MODEL.GRAD_CLIP.MAX_NORM=true", "a number"),
        ("MODEL.NON_TRAINABLE_PARAMS=head", "a list"),
        ("OPTIMIZER.betas={a:1}", "a list"),
        ("MODEL.SYNC_BN_CONFIG.SYNC_BN_TYPE=5", "text"),
        ("OPTIMIZER.larc_config.eps=-1", "a number from 0 to 1"),
        ("MODEL.TEMP_FROZEN_PARAMS_ITER_MAP=5", r"a list of \[PARAMETER, STEPS\]"),
        ("MODEL.TEMP_FROZEN_PARAMS_ITER_MAP=[[a,b]]", r"a list of \[PARAMETER, STEPS\]"),
        ("MODEL.TEMP_FROZEN_PARAMS_ITER_MAP=[a]", r"a list of \[PARAMETER, STEPS\]"),
    ],
)
def test_values_of_another_kind_are_refused(override, must):
    key = override.partition("=")[0].replace(".", r"\.")
    with pytest.raises(UserError, match=rf"config\.{key}=.*: must be {must}$"):
        checked(override)


def test_kinds_that_may_be_two_are_both_taken():
    checked("MODEL.GRAD_CLIP.NORM_TYPE=inf", "MODEL.GRAD_CLIP.MAX_NORM=0.5")
    checked("MODEL.TEMP_FROZEN_PARAMS_ITER_MAP=[[module.heads.0.prototypes,3]]")


@pytest.mark.parametrize(
    "optimizer", [["sgd", "momentum=0"], ["vice_lars", "momentum=0"], ["adamw", "betas=[0,0.9]"]]
)
def test_whole_numbers_are_floats_where_an_optimizer_asks_for_that(optimizer):
    name, value = optimizer
    config = checked(f"OPTIMIZER.name={name}", f"OPTIMIZER.{value}")
    key = value.partition("=")[0]
    found = config.OPTIMIZER[key]
    assert all(type(each) is float for each in (found if key == "betas" else [found]))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["name=sgd", "momentum=1"], "momentum"),
        (["name=sgd", "momentum=0", "nesterov=true"], "momentum"),
        (["name=adamw", "betas=[0.9]"], "betas"),
        (["name=adam", "betas=[a,b]"], "betas"),
        (["name=rmsprop", "momentum=1"], "momentum"),
    ],
)
def test_an_optimizer_is_built_before_anything_is_started(overrides, said):
    with pytest.raises(UserError, match=rf"^config\.OPTIMIZER: .*{said}"):
        checked(*(f"OPTIMIZER.{each}" for each in overrides))


def test_options_of_another_method_say_whose_they_are():
    with pytest.raises(UserError, match=r"method vice has no such option, but picie and mdc; .*"):
        checked("VICE.METHOD.kmeans_images=3")
    with pytest.raises(UserError, match=r"'config.VICE.METHOD.kmeans_imagez' does not exist"):
        checked("VICE.METHOD.kmeans_imagez=3", config="vice/picie_folder")


def test_nccl_needs_a_gpu_and_amp_on_a_cpu_is_said(caplog, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match="nccl is for GPUs"):
        choose_device(compose(["config=vice/folder", "config.DISTRIBUTED.BACKEND=nccl"]).config)
    memory = "config.PROFILING.MEMORY_PROFILING.TRACK_BY_LAYER_MEMORY=true"
    with pytest.raises(UserError, match="is for GPUs"):
        choose_device(compose(["config=vice/folder", memory]).config)
    caplog.set_level(logging.INFO)
    choose_device(compose(["config=vice/folder"]).config)
    assert "USE_AMP" not in caplog.text
    config = compose(["config=vice/folder", "config.MODEL.AMP_PARAMS.USE_AMP=true"]).config
    choose_device(config)
    assert "USE_AMP=true is for GPUs" in caplog.text and not config.MODEL.AMP_PARAMS.USE_AMP


def test_other_nodes_than_srun_started_are_said(caplog):
    step = {
        "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "2", "SLURM_NTASKS": "2",
        "SLURM_NNODES": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0",
        "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": "one,two",
        "SLURM_JOB_NODELIST": "one,two", "SLURM_LAUNCH_NODE_IPADDR": "127.0.0.1",
    }  # fmt: skip
    for nodes, said in ((1, False), (2, False), (3, True)):
        caplog.clear()
        config = compose(["config=vice/folder", f"config.DISTRIBUTED.NUM_NODES={nodes}"]).config
        join_step(config, step)
        assert config.DISTRIBUTED.NUM_NODES == 2
        assert ("NUM_NODES=3, but srun" in caplog.text) == said
