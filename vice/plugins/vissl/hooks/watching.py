"""Hooks that look at the model after each epoch, and leave no trace in the training.

What they do, training can do without: it runs on the first rank only, draws from no global random
number generator, leaves modes, statistics, prototypes and queue as they are, and what goes wrong
in it is logged and ends nothing.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from classy_vision.generic.distributed_util import is_primary

from vice.evaluation.label_free import HeldOutViews
from vice.images import ImageError, list_images, reading_of
from vice.models.checkpoint import Checkpoint
from vice.models.modes import evaluating
from vice.models.training_state import remove_parts
from vice.plugins.vissl.hooks.base import SilentHook, concepts_of, embedder_of, writers_of
from vice.predictor import Predictor
from vice.runtime.health_log import HealthLog
from vice.runtime.preemption import Notice
from vice.runtime.run_folder import HELD_OUT_NAME, PICTURES_NAME
from vice.superpixels import Superpixels
from vice.visualize import draw_embeddings, save_png

logger = logging.getLogger(__name__)

#: Longest side of a picture, in pixels.
_SIDE = 256


class AfterEpochHook(SilentHook):
    """Looks at the model after each epoch.

    Args:
        notice: Whether this process was asked to stop; then there is no time to look.
    """

    def __init__(self, notice: Notice) -> None:
        super().__init__()
        self.notice = notice
        self._warned: set[str] = set()

    def prepare(self, task: Any) -> None:
        """Before the first step: reads what is going to be looked at."""
        raise NotImplementedError

    def look(self, task: Any) -> None:
        """After an epoch, with the embedder in evaluation mode and without gradients."""
        raise NotImplementedError

    def on_start(self, task: Any) -> None:
        """On the first rank only."""
        if is_primary():
            with self._harmless():
                self.prepare(task)

    def on_phase_end(self, task: Any) -> None:
        """On the first rank only."""
        if is_primary() and task.train and not self.notice.signal_number:
            with self._harmless(), evaluating(embedder_of(task)):
                self.look(task)

    @contextmanager
    def _harmless(self) -> Iterator[None]:
        try:
            yield
        # Catch-all (full disk, full GPU, NaN): hours of training are worth more.
        except Exception as error:
            text = f"{type(self).__name__}: {type(error).__name__}: {error}"
            if text not in self._warned:
                self._warned.add(text)
                logger.error("%s. Training goes on without it", text)


class PicturesHook(AfterEpochHook):
    """Draws regions, embedding and nearest prototypes of a few training images after each epoch.

    The sheet goes to TensorBoard (``Pictures/embedding``) and to ``pictures/epoch_N.png``, N from
    1 as in what `vice.evaluation.checkpoint_selection` chooses.

    Args:
        folder: The run folder.
        count: How many images, drawn by the run's seed; 0 for no pictures.
        superpixels: ``VICE.SUPERPIXELS``.
        notice: As in `AfterEpochHook`.
    """

    def __init__(
        self, folder: str, count: int, superpixels: Mapping[str, Any], notice: Notice
    ) -> None:
        super().__init__(notice)
        self.folder = Path(folder) / PICTURES_NAME
        self.count = count
        self.superpixels = superpixels
        self.shown: list[tuple[np.ndarray, np.ndarray]] = []

    def prepare(self, task: Any) -> None:
        """Reads the images, shrunk, with their regions; those that cannot be read are left out."""
        remove_parts(self.folder)
        paths = [path for source in task.datasets["train"].data_objs for path in source.paths]
        rng = np.random.default_rng(int(task.config["SEED_VALUE"]))
        drawn = rng.choice(len(paths), min(self.count, len(paths)), replace=False)
        # No cache: the run's own is for images as they are trained on.
        superpixels = Superpixels(**{**self.superpixels, "cache_dir": None})
        reading = reading_of(task.config["VICE"])
        for path in (paths[index] for index in drawn):
            try:
                self.shown.append(superpixels.read(path, reading, min_side=1, max_side=_SIDE))
            except ImageError as error:
                logger.warning("left out of the pictures: %s", error)

    def look(self, task: Any) -> None:
        """Draws and writes the sheet."""
        concepts = concepts_of(task)
        if not self.shown or concepts is None:
            return
        predictor = Predictor(Checkpoint(embedder_of(task)), task.device)
        images, regions = zip(*self.shown, strict=True)
        # Resolution: a model of stride 4 has no more to show than half the size.
        embeddings = [predictor.embed(image)[:, ::2, ::2].numpy() for image in images]
        sheet = draw_embeddings(images, regions, embeddings, concepts.to("cpu"))
        for writer in writers_of(task):
            writer.add_image("Pictures/embedding", sheet, task.iteration - 1, dataformats="HWC")
        path = self.folder / f"epoch_{task.train_phase_idx + 1}.png"
        save_png(sheet, path, quickly=True)


class HeldOutHook(AfterEpochHook):
    """Measures the model without labels on images that are not trained on, after each epoch.

    The scores go to TensorBoard (``HeldOut/...``) and, a line an epoch, to ``held_out.jsonl``,
    under the number of the epoch's last step, as in ``health.jsonl``.

    Args:
        folder: The run folder.
        paths: Folders or lists of images.
        count: At most so many of all their images, drawn at random.
        settings: ``VICE``: how views are made and compared.
        notice: As in `AfterEpochHook`.
    """

    def __init__(
        self,
        folder: str,
        paths: Sequence[str],
        count: int,
        settings: Mapping[str, Any],
        notice: Notice,
    ) -> None:
        super().__init__(notice)
        self.folder = folder
        self.paths = paths
        self.count = count
        self.settings = settings
        self.log: HealthLog | None = None
        self.views: HeldOutViews | None = None

    def prepare(self, task: Any) -> None:
        """Draws images and views, the same for all seeds of training, so that runs compare."""
        images = [image for path in self.paths for image in list_images(Path(path))]
        rng = np.random.default_rng(0)
        kept = np.sort(rng.choice(len(images), min(self.count, len(images)), replace=False))
        self.log = HealthLog(self.folder, task.iteration, HELD_OUT_NAME)
        self.views = HeldOutViews([images[index] for index in kept], self.settings)

    def look(self, task: Any) -> None:
        """Measures and writes."""
        concepts = concepts_of(task)
        if self.views is None or self.log is None or concepts is None:
            return
        scores = self.views.measure(embedder_of(task), concepts)
        step, values = task.iteration - 1, dataclasses.asdict(scores)
        self.log.write({"iteration": step, "epoch": task.train_phase_idx, **values})
        for writer in writers_of(task):
            for name, value in values.items():
                writer.add_scalar(f"HeldOut/{name}", value, step)


def watch_hooks(cfg: Any, notice: Notice) -> list[AfterEpochHook]:
    """The hooks that ``VICE.HEALTH`` asks for.

    Args:
        cfg: VISSL's configuration.
        notice: Whether this process was asked to stop.
    """
    folder, wanted = str(cfg.CHECKPOINT.DIR), cfg.VICE.HEALTH
    hooks: list[AfterEpochHook] = []
    if int(wanted.pictures):
        superpixels = cfg.VICE.get("SUPERPIXELS", {})
        hooks.append(PicturesHook(folder, int(wanted.pictures), superpixels, notice))
    if wanted.held_out_paths and int(wanted.held_out):
        paths = [str(path) for path in wanted.held_out_paths]
        hooks.append(HeldOutHook(folder, paths, int(wanted.held_out), cfg.VICE, notice))
    return hooks
