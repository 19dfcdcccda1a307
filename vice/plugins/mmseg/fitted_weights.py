"""Weights that were fitted outside the runner: set in a model, and saved as MMEngine saves them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmengine.runner.checkpoint import get_state_dict, save_checkpoint, weights_to_cpu
from torch import Tensor, nn

from vice.runtime.collectives import on_first_rank

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
    load_weights(model, weights)
    meta = {
        "cfg": runner.cfg.pretty_text,
        "dataset_meta": runner.test_loop.dataloader.dataset.metainfo,
        "experiment_name": runner.experiment_name,
    }
    on_first_rank(lambda: save_fitted(model, meta, Path(runner.work_dir)))


def load_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Sets parameters of a model by name.

    Raises:
        ValueError: The model has no such parameter.
    """
    unknown = model.load_state_dict(weights, strict=False).unexpected_keys
    if unknown:
        raise ValueError(f"the model has no parameter {', '.join(unknown)}")


def save_fitted(model: nn.Module, meta: dict[str, Any], folder: Path) -> None:
    """Saves a model as ``fitted.pth``, as MMEngine's runner saves one that it has trained."""
    state = {"meta": meta, "state_dict": weights_to_cpu(get_state_dict(model))}
    save_checkpoint(state, str(folder / FITTED_NAME))
