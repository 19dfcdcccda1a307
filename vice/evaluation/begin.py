"""How an evaluation's command line begins: what it names is looked at, then its processes meet."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from vice.cli import is_first
from vice.datasets import open_dataset
from vice.evaluation.out_of_data import files_of, keep_out_of_data
from vice.evaluation.protocols import Protocol
from vice.model_specs import check_spec
from vice.parts import check_part
from vice.paths import check_there
from vice.runtime.device_names import check_device, check_device_name
from vice.runtime.launch import read_environment
from vice.runtime.library_log import quiet_libraries


@contextmanager
def begun(
    args: argparse.Namespace, make_task: Callable[[], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """The arguments of an evaluation, in the processes that torchrun or srun started for it.

    A process on its own refuses what cannot be before it imports PyTorch. Of several, one alone
    says what all of them refuse, which takes that they have met.

    Args:
        args: What `vice.evaluation.options.evaluation_parser` has parsed; gets the device of this
            process.
        make_task: What `vice.evaluation.options.task_arguments` or ``score_arguments`` gives.

    Yields:
        What ``make_task`` made, with that device.

    Raises:
        UserError: A name, a path or a number that cannot be used.
    """
    task = None
    if read_environment(os.environ) is None:
        task = make_task()
        look(task)
        check_part("scoring")
    # PyTorch takes seconds to import, and neither help nor a refusal needs it.
    from vice.runtime.rendezvous import join_from_environment

    with join_from_environment(args.device) as args.device:
        if args.device is not None:
            check_device(args.device, "--device")
        task = make_task() if task is None else {**task, "device": args.device}
        with quiet_libraries(Path(task["out_dir"])) if is_first() else nullcontext():
            yield task


def look(task: dict[str, Any]) -> None:
    """Looks for the model, the run that images are read as, and the images of both splits.

    Args:
        task: Arguments of an evaluation.

    Raises:
        UserError: One of them is not there.
    """
    check_spec(task["spec"])
    if task["device"] is not None:
        check_device_name(task["device"], "--device")
    if task.get("read_as") is not None:
        check_there(task["read_as"], "--read-as: ", "run folder")
    protocols = [task["protocol"]] if "protocol" in task else task["protocols"].values()
    score = open_dataset(task["dataset"], task["data_root"])
    fit = open_dataset(task["fit_dataset"], task["data_root"]) if task["fit_dataset"] else score
    for splits in dict.fromkeys(map(_splits, protocols)):
        fitted = fit.pairs(splits[0], labels=splits[2])
        keep_out_of_data(task["out_dir"], fit.root, files_of(fitted))
        keep_out_of_data(task["out_dir"], score.root, files_of(score.pairs(splits[1])))


def _splits(protocol: Protocol) -> tuple[str, str, bool]:
    return protocol.fit_split, protocol.score_split, protocol.fit_labels
