"""Weights that were found outside MMEngine's runner, in its model and in its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmengine.runner.checkpoint import get_state_dict, save_checkpoint, weights_to_cpu
from torch import Tensor

from vice.distributed import on_first_rank

FITTED_NAME = "fitted.pth"


def set_weights(runner: Runner, weights: Mapping[str, Tensor]) -> None:
    """Sets parameters of a runner's model, and saves all of it as ``fitted.pth`` beside its log.

    The file is what the runner itself saves when it trains, without an optimizer's state.

    Args:
        runner: Its test loop's data set gives the classes.
        weights: Parameter names to values; all ranks must give the same.

    Raises:
        ValueError: The model has no such parameter.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    unknown = model.load_state_dict(weights, strict=False).unexpected_keys
    if unknown:
        raise ValueError(f"the model has no parameter {', '.join(unknown)}")
    meta = {
        "cfg": runner.cfg.pretty_text,
        "dataset_meta": runner.test_loop.dataloader.dataset.metainfo,
        "experiment_name": runner.experiment_name,
    }
    state = {"meta": meta, "state_dict": weights_to_cpu(get_state_dict(model))}
    file = str(Path(runner.work_dir) / FITTED_NAME)
    on_first_rank(lambda: save_checkpoint(state, file))
