"""Few-shot fine-tuning: the whole network is trained on a fraction of the labels."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from torch.nn.modules.batchnorm import _BatchNorm

from vice.errors import UserError
from vice.evaluation.results import describe
from vice.evaluation.task import Task, make_task
from vice.plugins.mmseg.backbone import share_embedder
from vice.plugins.mmseg.content import look_at_images
from vice.plugins.mmseg.dataset import CROPS, keep_subset
from vice.plugins.mmseg.holding import writes_results
from vice.plugins.mmseg.pipelines import build_pipeline
from vice.plugins.mmseg.results import class_scores, finish, training_outcome
from vice.plugins.mmseg.running import (
    check_batch_norm,
    dataset_config,
    finish_config,
    load_config,
    process_state_kept,
    run,
    set_probe,
)
from vice.plugins.mmseg.subset_list import write_subset
from vice.runtime.collectives import on_first_rank
from vice.runtime.step_meter import StepMeter


@writes_results
@process_state_kept()
def finetune(
    spec: str,
    dataset: str | Path,
    out_dir: str | Path,
    *,
    fraction: float = 1.0,
    subset_seed: int = 0,
    images: str | Path | None = None,
    backbone_lr_mult: float = 0.1,
    crop: int = 512,
    **task_arguments: Any,
) -> dict[str, Any]:
    """Fine-tunes an embedder with a linear head on a fraction of one split, scores on another.

    Optimizer, steps and batch are those of the protocol's linear probe; the backbone learns more
    slowly than decoder and head.

    Source: ViCE (BMVC) table 11.

    Args:
        spec: Where the weights start, as in `vice.models.load.load_extractor`.
        dataset: As in `vice.datasets.open_dataset`.
        out_dir: Gets ``results.json``, ``per_image.npz``, ``subset.txt`` (the images that were
            trained on, a line each), ``confusion.png``, ``samples.png``,
            ``maps/finetune/<stem>.png`` and ``runner/`` (config, log, weights).
        fraction: Share of the fitted split, in (0, 1].
        subset_seed: Which subset of that size, see `vice.datasets.subsets.take_subset`.
        images: A list of the images to train on instead, see `vice.datasets.subsets.take_listed`.
        backbone_lr_mult: Learning rate of the backbone as a share of the others'.
        crop: Side of the random square that train images are cut to; 0 for none.
        **task_arguments: Further arguments of `vice.evaluation.task.make_task`.

    Returns:
        What ``results.json`` holds; the scores, in [0, 1], are under ``"finetune"``, and under
        ``"loss"`` the mean loss of the last steps.

    Raises:
        UserError: No such embedder or protocol, a fraction out of range, an optimizer for probes
            only, or something is wrong with the data set.
    """
    start, meter = time.monotonic(), StepMeter()
    task = make_task(spec, dataset, out_dir, **task_arguments)
    if not task.protocol.fit_labels:
        raise UserError(f"{task.protocol.fit_split} has no labels to fine-tune on")
    if task.protocol.linear_optimizer == "lbfgs":
        raise UserError("lbfgs fits a probe only: fine-tune with linear_optimizer=sgd or adam")
    if images is not None and (fraction, subset_seed) != (1.0, 0):
        raise UserError("a list of images takes the place of fraction and subset seed: give one")
    listed = None if images is None else str(Path(images).absolute())
    with meter.step("check data"):
        sets = task.open()
    fit, score = sets
    pairs = keep_subset(fit.pairs(task.protocol.fit_split), fraction, subset_seed, listed)
    task.require_labels(sets, fit=True, pairs=pairs)
    with meter.step("look at images"):
        content = look_at_images(task, sets, pairs)
    names = [pair.image.stem for pair in pairs]
    shared = share_embedder(spec, task.seed, features=task.protocol.features)
    model = shared.describe()
    if any(isinstance(module, _BatchNorm) for module in shared.embedder.modules()):
        check_batch_norm(task)
    # Fresh weights: what is trained is loaded anew.
    del shared
    config = load_config("finetune_folder", task)
    set_probe(
        config, task, model["dim"], len(score.classes), len(pairs) * CROPS[task.protocol.fit_crops]
    )
    config.sync_bn = "torch"
    # Unused parameters: a checkpoint may hold layers that give the embedding nothing.
    config.find_unused_parameters = True
    keys = config.optim_wrapper.paramwise_cfg.custom_keys
    keys["backbone.embedder"].lr_mult = backbone_lr_mult
    config.train_dataloader.dataset = {
        **dataset_config(task, "train"),
        "fraction": fraction,
        "subset_seed": subset_seed,
        "listed": listed,
        "pipeline": _pipeline(task, crop),
    }
    config = finish_config(config, task)
    with meter.step("fine-tune and score"):
        metric = run(config, None, train=True)
    arguments = {
        "fraction": fraction,
        "subset_seed": subset_seed,
        "backbone_lr_mult": backbone_lr_mult,
        "crop": crop,
        **({} if images is None else {"images": str(images)}),
    }

    loss, fitted = training_outcome(metric, len(score.classes))

    def write() -> dict[str, Any]:
        result = {
            **describe("finetune", task, sets, model),
            "content": content,
            "subset": write_subset(names, task),
            "loss": loss,
            **class_scores("finetune", metric, task, score.classes, fitted, meter),
        }
        return finish(result, task, arguments, config, meter, start)

    return on_first_rank(write)


def _pipeline(task: Task, crop: int) -> list[dict[str, Any]]:
    *steps, pack = build_pipeline(task.protocol, "train")
    if crop:
        steps.append({"type": "RandomCrop", "crop_size": (crop, crop), "cat_max_ratio": 0.75})
    return [*steps, pack]
