"""Options of a training that are neither a method's nor a model's, and VISSL's own."""

from __future__ import annotations

from dataclasses import dataclass

from classy_vision.optim import OPTIMIZER_REGISTRY

from vice.images import ImageReading
from vice.options import (
    AUTO,
    FLAG,
    LINE,
    NULL,
    PATH,
    SHARE,
    STEPS,
    Group,
    Option,
    Rule,
    either,
    list_of,
    number,
    one_of,
    option,
    whole,
)
from vice.plugins.vissl.trunks import TRUNK

_WHERE = one_of("auto", "workers", "device")


@dataclass(frozen=True)
class RunOptions:
    """``config.VICE`` itself."""

    PHOTOMETRIC_ON: str = option(
        "auto", _WHERE, "where colors are changed; auto: on a GPU, if there is one"
    )
    CUT_ON: str = option(
        "auto", _WHERE, "where views are cut out; auto: on a GPU, if colors are changed there"
    )
    TIMEOUT_MINUTES: float = option(
        30, number(0.01, 1e5), "minutes after which a rank that does not answer ends the run"
    )
    MAX_NONFINITE_STEPS: int = option(
        5, whole(1, 10**6), "steps in a row without a finite loss and gradient that end the run"
    )
    KEEP_CHECKPOINTS: int = option(
        2, whole(1, 10**6), "states inside epochs that are kept; those at the ends all are"
    )
    STOP_NOTICE_SECONDS: int = option(
        120, whole(0, 10**5), "seconds before SLURM's time limit in which a run saves itself"
    )


@dataclass(frozen=True)
class DataOptions(ImageReading):
    """``config.VICE.DATASET``: the data, and how its images are read.

    Where something is said of that, ``measured`` stands there as well, what was found by it
    (`vice.images.Reading`).
    """

    root: str = option("${oc.env:VICE_DATA,data}", PATH, "folder of the data sets")
    min_images_per_epoch: int = option(
        0, STEPS, "fewer images than this are repeated, with other views each time"
    )
    keep_mib: int = option(
        1024,
        whole(0, 2**24),
        "MiB of decoded images, their regions and maps of edges that a process and its forked "
        "workers keep in a file without a name in the folder for temporary files; images too large "
        "for their share of it are read anew each time, views are drawn anew in any case",
    )
    prepare: str | None = option(
        None, either(LINE, NULL), "command that is shown where the images are missing"
    )


@dataclass(frozen=True)
class ScheduleOptions:
    """``config.VICE.SCHEDULE``: linear warm-up to the peak, then cosine; or a polynomial."""

    base_lr: float = option(0.04, number(0, 1e4), "learning rate for base_images images a step")
    base_images: int = option(16, whole(1, 10**9), "images a step that base_lr is meant for")
    peak_lr: float | None = option(
        None, either(number(0, 1e4), NULL), "peak of the learning rate; null: by base_lr"
    )
    head_peak_lr: float | None = option(
        None,
        either(number(0, 1e4), NULL),
        "peak for what a method trains beside the embedder; null: the same",
    )
    start: float = option(0.0625, SHARE, "learning rate of the first step, as a share of the peak")
    final: float = option(0.001, SHARE, "learning rate of the last step, as a share of the peak")
    warmup_epochs: float = option(0.08, number(0, 1e6), "epochs up to the peak")
    shape: str = option(
        "cosine",
        one_of("cosine", "poly"),
        "how the learning rate falls from the peak: cosine, at every step; or poly, peak x "
        "(1 - epoch / epochs) ^ power, at every epoch, without warm-up",
    )
    power: float = option(0.9, number(0, 100), "power of poly")


@dataclass(frozen=True)
class HealthOptions:
    """``config.VICE.HEALTH``: what is looked at after each epoch."""

    pictures: int = option(
        4, whole(0, 4), "training images whose regions, embedding and clusters are drawn"
    )
    held_out_paths: tuple[str, ...] = option(
        (), list_of(PATH, 0, 16), "folders or lists of images to measure on, without labels"
    )
    # Memory: their views are kept in it.
    held_out: int = option(32, whole(0, 256), "at most so many of those images are measured on")


@dataclass(frozen=True)
class TrackingOptions:
    """``config.VICE.TRACKING``: where numbers and pictures go beside TensorBoard."""

    wandb: str | None = option(None, either(LINE, NULL), "project of Weights & Biases; null: none")
    mlflow: str | None = option(
        None, either(LINE, NULL), "tracking URI of MLflow, or a folder; null: none"
    )


#: Groups of VISSL's own keys, and what ViCE relies on in each of them.
VISSL: dict[str, Group] = {
    "MODEL.TRUNK": {"NAME": Option(one_of(TRUNK), "network that is trained")},
    "DATA": {"NUM_DATALOADER_WORKERS": Option(whole(0, 1024), "workers a process, for images")},
    "DATA.TRAIN": {"BATCHSIZE_PER_REPLICA": Option(whole(1, 10**6), "images a step and process")},
    "OPTIMIZER": {
        "name": Option(
            Rule(
                "the name of an optimizer such as vice_lars, adamw or sgd",
                lambda value: isinstance(value, str) and value in OPTIMIZER_REGISTRY,
            ),
            "optimizer",
        ),
        "num_epochs": Option(whole(1, 10**6), "epochs of the training"),
        "momentum": Option(SHARE, "of SGD and LARS"),
        "weight_decay": Option(number(0, 1e3), "decay of the weights"),
    },
    "OPTIMIZER.larc_config": {
        "clip": Option(FLAG, "whether LARS never steps further than the learning rate"),
        "trust_coefficient": Option(number(0, 1e3), "of LARS: a step against the weights' norm"),
        "eps": Option(number(0, 1), "of LARS: added to the norm of the gradient"),
    },
    "MODEL": {
        "TEMP_FROZEN_PARAMS_ITER_MAP": Option(
            Rule("a list of [PARAMETER, STEPS]", lambda value: _are_steps(value)),
            "parameters that are trained after so many steps; none: those of the method",
        )
    },
    "DISTRIBUTED": {
        "NUM_NODES": Option(whole(1, 10**4), "machines"),
        "NUM_PROC_PER_NODE": Option(either(whole(1, 1024), AUTO), "processes a machine, one a GPU"),
        "BACKEND": Option(one_of("auto", "nccl", "gloo"), "how processes talk"),
        "INIT_METHOD": Option(one_of("tcp"), "how processes meet"),
        "RUN_ID": Option(
            either(AUTO, Rule("HOST:PORT of the first node", lambda v: _is_address(v))),
            "where they meet",
        ),
    },
    "MACHINE": {"DEVICE": Option(one_of("auto", "cpu", "gpu", "mps"), "what is computed on")},
    "CHECKPOINT": {
        "DIR": Option(PATH, "run folder"),
        "AUTO_RESUME": Option(FLAG, "whether a run that was begun there goes on"),
        "CHECKPOINT_FREQUENCY": Option(whole(1, 10**6), "epochs between two states"),
        "CHECKPOINT_ITER_FREQUENCY": Option(
            whole(-1, 10**9), "steps between two states inside an epoch; -1 for none"
        ),
    },
    "SLURM": {
        "USE_SLURM": Option(FLAG, "whether the training is submitted to SLURM"),
        "NAME": Option(LINE, "name of the job"),
        "COMMENT": Option(LINE, "comment of the job"),
        "PARTITION": Option(LINE, "partition; empty: the cluster's default one"),
        "CONSTRAINT": Option(LINE, "features that a node must have"),
        "ACCOUNT": Option(LINE, "account"),
        "QOS": Option(LINE, "quality of service"),
        "LOG_FOLDER": Option(PATH, "folder of SLURM's own logs"),
        "TIME_HOURS": Option(whole(0, 10**5), "hours of the time limit"),
        "TIME_MINUTES": Option(whole(0, 10**7), "minutes of it"),
        "MEM_GB": Option(whole(1, 10**6), "memory a node, in GB"),
        "NUM_CPU_PER_PROC": Option(whole(1, 10**4), "CPUs a process"),
        "ADDITIONAL_PARAMETERS": Option(
            Rule(
                "a group of sbatch's options, such as {gres: gpu:4}",
                lambda it: isinstance(it, dict),
            ),
            "further options of sbatch, such as gres and reservation",
        ),
        "PORT_ID": Option(either(whole(1, 65535), AUTO), "port to meet at; auto: by the job"),
    },
    "": {
        "SEED_VALUE": Option(whole(0, 2**32 - 1), "seed of all that is drawn"),
        "LOG_FREQUENCY": Option(whole(1, 10**9), "steps between two lines of the log"),
        "MULTI_PROCESSING_METHOD": Option(
            one_of("auto", "fork", "forkserver", "spawn"), "how processes are started"
        ),
    },
}


def _are_steps(value: object) -> bool:
    """Pairs of a name and a number of steps."""
    return isinstance(value, list) and all(
        isinstance(pair, list) and [type(each) for each in pair] == [str, int] for pair in value
    )


def _is_address(value: object) -> bool:
    host, _, port = str(value).rpartition(":")
    return bool(host.strip()) and port.isdecimal() and 0 < int(port) < 2**16
