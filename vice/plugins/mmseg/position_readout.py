"""The positional bias of an embedder as a read-out of its embeddings."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from mmengine.device import get_device
from torch import Tensor

from vice.datasets import LabelledSet
from vice.evaluation.image_counts import save_image_tables
from vice.evaluation.pixel_sampler import PixelSampler
from vice.evaluation.position_counts import PositionCounts
from vice.evaluation.position_scores import PixelSample, ReadOuts, measure_bias
from vice.evaluation.task import Task
from vice.models.load import is_spherical
from vice.plugins.mmseg.backbone import SharedEmbedder
from vice.plugins.mmseg.readouts import Readout, labels_at_input
from vice.plugins.mmseg.running import finish_config, load_config
from vice.plugins.mmseg.sample_embeddings import EmbeddedImage
from vice.runtime.collectives import cpu_group, on_first_rank, rank
from vice.runtime.run_folder import PER_IMAGE_NAME
from vice.runtime.step_meter import StepMeter

logger = logging.getLogger(__name__)


class PositionReadout(Readout):
    """What embeddings say of the position of pixels, and scores without it.

    ``linear_pixels`` labelled pixels are drawn from each split: from the fitted one at the size of
    the network's input, from the scored one at the size of its label maps.

    Args:
        task: What is scored on what; its protocol fits a probe by L-BFGS.
        shared: The embedder.
        sets: Data sets that are fitted on and scored.
        clusters: Numbers of clusters K that are scored, too.
    """

    kind = "position"
    at_input = True

    def __init__(
        self,
        task: Task,
        shared: SharedEmbedder,
        sets: tuple[LabelledSet, LabelledSet],
        clusters: Sequence[int] = (),
    ) -> None:
        config = finish_config(load_config("linear_folder", task), task)
        super().__init__(task, config, sets[1].classes, {"clusters": list(clusters)})
        protocol = task.protocol
        budget, seed = protocol.linear_pixels, task.seed
        mib = budget * shared.embedder.dim * 4 / 2**20
        logger.info("sampling at most %d pixels of each split: %.0f MiB each", budget, mib)
        self._fitted = PixelSampler(budget, seed, positions=True)
        self._scored = PixelSampler(budget, seed, positions=True, images=True)
        self._asked = ReadOuts(
            classes=self.classes,
            clusters=clusters,
            spherical=is_spherical(shared.embedder),
            l2=protocol.linear_l2,
            iterations=protocol.linear_iterations,
            kmeans_iterations=protocol.kmeans_iterations,
            over=protocol.miou_over,
            seed=task.seed,
            device=task.device or get_device(),
        )
        self._found: dict[str, Any] = {}
        self._counts: PositionCounts | None = None

    def see(self, image: EmbeddedImage) -> None:
        """Samples labelled pixels."""
        self._fitted.add(image.embedding, image.size, image.index, labels_at_input(image))

    def fit(self, meter: StepMeter) -> None:
        """Gathers the sample; fitting waits for the other one."""
        self._fitted.gather(cpu_group())

    def count(self, image: EmbeddedImage) -> None:
        """Samples labelled pixels of the scored split."""
        labels = image.sample.gt_sem_seg.data[0]
        size = (int(labels.shape[0]), int(labels.shape[1]))
        self._scored.add(image.embedding, size, image.index, labels)

    def close(self, images: int, meter: StepMeter) -> None:
        """Fits and scores with and without position, on the first rank."""
        self._scored.gather(cpu_group())
        drawn = [s.vectors() for s in (self._fitted, self._scored)] if rank() == 0 else []
        del self._fitted, self._scored

        def measure() -> dict[str, Any]:
            score = _parts(drawn[1][:, :-4], drawn[1][:, -3:], drawn[1][:, -4])
            assert score.images is not None
            classes, over = len(self.classes), self._asked.over
            self._counts = PositionCounts(score.images, images, classes, over)
            fit = _parts(drawn[0][:, :-3], drawn[0][:, -3:])
            return measure_bias(fit, score, self._asked, self._counts)

        with meter.step("fit and score position"):
            self._found = on_first_rank(measure)

    def write(self, meter: StepMeter) -> dict[str, Any]:
        """What was found; the counts of each image are written."""
        assert self._counts is not None
        self.task.out_dir.mkdir(parents=True, exist_ok=True)
        path = self.task.out_dir / PER_IMAGE_NAME
        save_image_tables(path, self._counts.tables, self._counts.sums)
        return {"position": self._found}


def _parts(vectors: Tensor, rest: Tensor, images: Tensor | None = None) -> PixelSample:
    numbers = None if images is None else images.long()
    return PixelSample(vectors.contiguous(), rest[:, :2], rest[:, 2].long(), numbers)
