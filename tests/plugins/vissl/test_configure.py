"""Overrides to configurations: the papers' numbers, and one clear message for each mistake."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from omegaconf import OmegaConf

from tests.plugins.vissl.conftest import overrides
from vice.errors import UserError
from vice.methods import DEFAULT, METHODS
from vice.options import flatten
from vice.paths import experiment_names
from vice.plugins.vissl.config.compose import compose
from vice.plugins.vissl.config.configure import (
    check_batches,
    check_data,
    configure,
    set_schedule,
)
from vice.plugins.vissl.config.machines import check_machines, choose_device
from vice.plugins.vissl.trunks import DECODERS, TRUNK


@pytest.mark.parametrize("name", experiment_names())
def test_every_config_composes(name):
    config = compose([f"config={name}"]).config
    first = name.removeprefix("vice/").partition("_")[0]
    assert config.VICE.METHOD.name == (first if first in METHODS else DEFAULT)
    assert OmegaConf.to_container(config, resolve=False) == OmegaConf.to_container(
        config, resolve=True
    )


def test_threads_compose_what_one_does():
    names = ("vice/demo", "vice/folder", "vice/coco_highres", "vice/folder_imagenet") * 2
    with ThreadPoolExecutor(len(names)) as pool:
        found = list(pool.map(lambda name: compose([f"config={name}"]), names))
    assert found == [compose([f"config={name}"]) for name in names]


@pytest.mark.parametrize(
    ("name", "trunk", "backbone", "size", "region", "epochs"),
    [
        ("coco_highres", "vice_resnet_deeplabv3plus", "resnet50", 400, 20, 12),
        ("coco_lowres", "vice_resnet_fpn", "resnet18", 256, 10, 4),
        ("cityscapes_highres", "vice_resnet_deeplabv3plus", "resnet50", 400, 20, 48),
        ("cityscapes_lowres", "vice_resnet_fpn", "resnet18", 256, 10, 24),
    ],
)
def test_the_papers_numbers(name, trunk, backbone, size, region, epochs):
    config = compose([f"config=vice/{name}"]).config
    config.DISTRIBUTED.NUM_PROC_PER_NODE = 4
    set_schedule(config)
    assert config.DISTRIBUTED.NUM_NODES == 8
    assert config.MODEL.TRUNK.NAME == TRUNK
    assert DECODERS[trunk] == config.MODEL.TRUNK.VICE.decoder
    assert config.MODEL.TRUNK.VICE.backbone == backbone
    assert config.MODEL.TRUNK.VICE.weights == "imagenet"
    assert config.VICE.VIEWS.size == size
    assert config.VICE.VIEWS.num_views == 5
    assert config.VICE.SUPERPIXELS.region_size == region
    assert config.OPTIMIZER.num_epochs == epochs
    assert config.OPTIMIZER.name == "vice_lars"
    assert config.VICE.LOSS.queue_length == 5000
    assert config.VICE.PROTOTYPES.num_prototypes == 128
    assert config.VICE.PROTOTYPES.freeze_iterations == 313
    warmup, cosine = config.OPTIMIZER.param_schedulers.lr.schedulers
    assert (warmup.start_value, warmup.end_value) == pytest.approx((0.02, 0.32))
    assert (cosine.start_value, cosine.end_value) == pytest.approx((0.32, 0.00032))
    lengths = config.OPTIMIZER.param_schedulers.lr.lengths
    assert lengths[0] == pytest.approx(0.02 * 4 / epochs)
    assert sum(lengths) == pytest.approx(1)


def test_the_release_differs_from_the_papers_where_it_is_said_to():
    """The authors' configs: docs/papers.md, and SPEC's sections on views, regions and the loss."""
    flat = [
        dict(flatten(OmegaConf.to_container(compose([f"config=vice/{name}"]).config)))
        for name in ("coco_highres", "coco_highres_release")
    ]
    folders = ("CHECKPOINT.DIR", "SLURM.LOG_FOLDER", "VICE.SUPERPIXELS.cache_dir")
    papers, release = ({k: v for k, v in f.items() if k not in folders} for f in flat)
    assert {key: value for key, value in release.items() if papers.get(key) != value} == {
        "VICE.SUPERPIXELS.blur_sigma": "4.0",
        "VICE.VIEWS.scale": "[0.5, 1.5]",
        "VICE.LOSS.region_vector": "representative",
        "VICE.LOSS.reduction": "region",
        "VICE.LOSS.align_corners": "True",
    }
    assert release["VICE.LOSS.coherence_gradient"] == "constant"


@pytest.mark.parametrize(("nodes", "gpus", "peak"), [(1, 4, 0.04), (1, 1, 0.01), (8, 4, 0.32)])
def test_linear_rule(nodes, gpus, peak):
    config = compose(["config=vice/coco_highres"]).config
    config.DISTRIBUTED.NUM_NODES, config.DISTRIBUTED.NUM_PROC_PER_NODE = nodes, gpus
    set_schedule(config)
    assert config.VICE.SCHEDULE.peak_lr == pytest.approx(peak)


@pytest.mark.parametrize("warmup", [0.08, 0.0])
def test_vissl_follows_the_schedule(warmup):
    from classy_vision.optim import build_optimizer_schedulers
    from vissl.config import AttrDict

    config = compose(
        ["config=vice/coco_lowres", f"config.VICE.SCHEDULE.warmup_epochs={warmup}"]
    ).config
    set_schedule(config)
    options = AttrDict(OmegaConf.to_container(config.OPTIMIZER))
    options.param_schedulers.lr_head = options.param_schedulers.lr
    rate = build_optimizer_schedulers(options)["lr"]
    share = warmup / 4
    if warmup:
        assert rate(0.0) == pytest.approx(0.02)
        assert rate(share / 2) == pytest.approx(0.17)
    assert rate(share) == pytest.approx(0.32, rel=1e-3)
    assert rate((1 + share) / 2) == pytest.approx((0.32 + 0.00032) / 2, rel=1e-3)
    assert rate(1 - 1e-9) == pytest.approx(0.00032, rel=1e-3)


def test_unknown_names_and_keys():
    with pytest.raises(UserError, match="'vice/coco' is no config; .*vice/coco_highres"):
        compose(["config=vice/coco"])
    with pytest.raises(UserError, match="no config is named"):
        compose([])
    with pytest.raises(UserError, match=r"'config.OPTIMIZER.num_epoch' does not exist.*num_epochs"):
        compose(["config=vice/folder", "config.OPTIMIZER.num_epoch=3"])
    with pytest.raises(UserError, match="is not a ViCE config"):
        compose(["config=pretrain/swav/swav_8node_resnet"])


def test_malformed_override():
    with pytest.raises(UserError):
        compose(["config=vice/folder", "config.SEED_VALUE=[1"])


def test_paths(tmp_path):
    config = compose(["config=vice/folder"]).config
    with pytest.raises(UserError, match="must be a list with one path"):
        check_data(config)
    config.DATA.TRAIN.DATA_PATHS = [str(tmp_path / "none")]
    with pytest.raises(UserError, match="none does not exist; give the folder of your images"):
        check_data(config)
    config.DATA.TRAIN.DATA_PATHS = [str(tmp_path)]
    check_data(config)
    config.DISTRIBUTED.NUM_PROC_PER_NODE = 1
    with pytest.raises(UserError, match=str(tmp_path)):
        check_batches(config)


def test_too_few_images_for_a_batch(images):
    config = compose(overrides(images, images)).config
    config.DISTRIBUTED.NUM_PROC_PER_NODE = 4
    with pytest.raises(UserError, match="6 images do not fill a batch of 8"):
        check_batches(config)
    config.VICE.DATASET.min_images_per_epoch = 8
    assert check_batches(config) == 6


def test_gpus_that_are_not_there(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    config = compose(["config=vice/coco_highres"]).config
    with pytest.raises(UserError, match=r"4 GPUs are asked for, 0 found.*DEVICE=cpu"):
        choose_device(config)
    config = compose(["config=vice/folder"]).config
    choose_device(config)
    assert (config.MACHINE.DEVICE, config.DISTRIBUTED.BACKEND) == ("cpu", "gloo")
    assert config.DISTRIBUTED.NUM_PROC_PER_NODE == 1


@pytest.mark.parametrize(
    ("gpu", "change", "cut", "changed_later", "cut_later"),
    [
        (False, "auto", "auto", False, False),
        (False, "device", "auto", True, False),
        (False, "device", "device", True, True),
        (False, "auto", "device", True, True),
        (True, "auto", "auto", True, True),
        (True, "workers", "auto", False, False),
        (True, "auto", "workers", True, False),
        (True, "device", "auto", True, True),
    ],
)
def test_where_views_are_cut_and_changed(monkeypatch, gpu, change, cut, changed_later, cut_later):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    monkeypatch.setattr("torch.cuda.device_count", lambda: int(gpu))
    where = [f"config.VICE.PHOTOMETRIC_ON={change}", f"config.VICE.CUT_ON={cut}"]
    config = compose(["config=vice/folder", *where]).config
    choose_device(config)
    assert (config.VICE.CUT_ON == "device") is bool(cut_later)
    assert (config.VICE.PHOTOMETRIC_ON == "device") is bool(changed_later)


def test_a_gpu_of_apple(monkeypatch, caplog):
    config = compose(["config=vice/folder", "config.MACHINE.DEVICE=mps"]).config
    if not torch.backends.mps.is_available():
        with pytest.raises(UserError, match=r"config\.MACHINE\.DEVICE mps cannot be used: .*Apple"):
            choose_device(config)
    monkeypatch.setattr("vice.plugins.vissl.config.machines.check_device", lambda *names: None)
    choose_device(config)
    assert config.MACHINE.DEVICE == "cpu" and caplog.text.count("VISSL trains on") == 1


@pytest.mark.parametrize(
    "value",
    [
        "${oc.env:CANARY}",
        "a${ oc.env : CANARY , b }",
        "${oc.env:VICE_DATA,${oc.env:CANARY}}",
        "${oc.decode:${oc.env:CANARY}}",
        "${oc.env:${config.SLURM.ACCOUNT}}",
        "${${config.SLURM.ACCOUNT}:CANARY}",
        "${oc.env:VICE_DATAX}",
        "${oc.dict.keys:config.SLURM}",
    ],
)
def test_the_environment_stays_outside(monkeypatch, value):
    monkeypatch.setenv("CANARY", "secret")
    with pytest.raises(UserError, match=r"config\.SLURM\.COMMENT=.*VICE_DATA") as error:
        compose(["config=vice/folder", f"config.SLURM.COMMENT='{value}'"])
    assert "secret" not in str(error.value)


def test_what_may_be_looked_up(monkeypatch):
    monkeypatch.setenv("VICE_DATA", "there")
    for value in ("${oc.env:VICE_DATA}", "${oc.env:VICE_DATA,here}", "${config.VICE.DATASET.root}"):
        found = compose(["config=vice/folder", f"config.SLURM.COMMENT='a: {value}'"])
        assert found.config.SLURM.COMMENT == "a: there"


def test_gpus_that_are_there(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    config = compose(["config=vice/folder", "config.MODEL.AMP_PARAMS.USE_AMP=true"]).config
    choose_device(config)
    assert (config.MACHINE.DEVICE, config.DISTRIBUTED.BACKEND) == ("gpu", "nccl")
    assert config.DISTRIBUTED.NUM_PROC_PER_NODE == 2
    assert config.MODEL.AMP_PARAMS.USE_AMP is True


def test_several_nodes_need_a_meeting_point():
    config = compose(["config=vice/coco_highres"]).config
    with pytest.raises(UserError, match="NUM_NODES=8 needs config.SLURM.USE_SLURM=true"):
        check_machines(config)
    config.SLURM.USE_SLURM = True
    check_machines(config)


def test_warmup_longer_than_training(images, tmp_path):
    arguments = overrides(images, tmp_path, "config.VICE.SCHEDULE.warmup_epochs=2")
    with pytest.raises(UserError, match="warmup_epochs=2 must be below"):
        configure(arguments)


def test_slurm_without_slurm(images, tmp_path, monkeypatch):
    from vice.plugins.vissl.train import train

    monkeypatch.setattr("shutil.which", lambda name: None)
    arguments = overrides(images, tmp_path, *SUBMITTED, "config.MACHINE.DEVICE=cpu")
    with pytest.raises(UserError, match="there is no sbatch command here"):
        train(arguments)


SUBMITTED = ("config.SLURM.USE_SLURM=true", "config.SLURM.PARTITION=gpu")


@pytest.mark.parametrize("device", ["auto", "gpu"])
def test_what_nodes_have_is_not_guessed_where_a_job_is_submitted(
    device, images, tmp_path, monkeypatch, caplog
):
    given = ("config.DISTRIBUTED.NUM_PROC_PER_NODE=", "config.MACHINE.DEVICE=")
    tiny = [text for text in overrides(images, tmp_path, *SUBMITTED) if not text.startswith(given)]
    arguments = [*tiny, f"config.MACHINE.DEVICE={device}"]
    with pytest.raises(UserError, match="there is no GPU here: set config.MACHINE.DEVICE=gpu"):
        configure(arguments)
    if device == "gpu":
        config = configure([*arguments, f"{given[0]}3"])[1]
        assert config.MACHINE.DEVICE == "gpu" and config.DISTRIBUTED.NUM_PROC_PER_NODE == 3
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with caplog.at_level("INFO"):
        config = configure(arguments)[1]
    assert config.MACHINE.DEVICE == "gpu" and config.DISTRIBUTED.NUM_PROC_PER_NODE == 2
    assert "nodes are taken to have 2 GPUs, as this one has" in caplog.text


@pytest.mark.parametrize("word", ["--images", "photos", "vice/folder", "-v"])
def test_what_is_no_override_is_named(word):
    with pytest.raises(UserError, match=f"^{word}: must be .*overrides only"):
        compose(["config=vice/folder", word])


def test_a_key_that_is_given_twice_is_told(caplog):
    found = compose(["config=vice/folder", "config.SEED_VALUE=3", "config.SEED_VALUE=4"])
    assert found.config.SEED_VALUE == 4
    assert "config.SEED_VALUE is given 2 times: the last, 4, counts" in caplog.text


def _of_photos(folder, run):
    data = [f"config.DATA.TRAIN.DATA_PATHS=[{folder}]", f"config.CHECKPOINT.DIR={run}"]
    return compose(["config=vice/folder", *data]).config


def test_a_run_inside_its_images_is_refused(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to("photos")
    for run in ("photos", "photos/a/run", "link/run"):
        with pytest.raises(UserError, match="lies in the folder of images"):
            check_data(_of_photos(tmp_path / "photos", tmp_path / run))
    for run in ("photos2", "run", "photos/.run"):
        check_data(_of_photos(tmp_path / "photos", tmp_path / run))


def test_label_maps_are_no_images_to_train_on(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / "set" / name).mkdir(parents=True)
    with pytest.raises(UserError, match=r"label maps would be trained on .*give .*set/images"):
        check_data(_of_photos(tmp_path / "set", tmp_path / "run"))
    check_data(_of_photos(tmp_path / "set" / "images", tmp_path / "run"))
