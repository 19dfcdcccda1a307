"""A converged linear probe as a read-out of embeddings."""

from __future__ import annotations

from typing import Any

from vice.datasets import LabelledSet
from vice.evaluation.logistic import NEVER, LogisticFit
from vice.evaluation.pixel_sampler import PixelSampler
from vice.evaluation.task import Task
from vice.plugins.mmseg.backbone import SharedEmbedder
from vice.plugins.mmseg.dataset import CROPS
from vice.plugins.mmseg.evaluate_linear import fit_probe, probe_weights
from vice.plugins.mmseg.fitted_weights import load_weights, save_fitted
from vice.plugins.mmseg.readouts import CountedReadout, labels_at_input
from vice.plugins.mmseg.results import class_scores
from vice.plugins.mmseg.running import finish_config, load_config, set_probe
from vice.plugins.mmseg.sample_embeddings import EmbeddedImage
from vice.runtime.collectives import cpu_group, on_first_rank, rank
from vice.runtime.step_meter import StepMeter


class LinearReadout(CountedReadout):
    """A converged linear probe, as `vice.plugins.mmseg.evaluate_linear.evaluate_linear` fits it.

    Args:
        task: What is scored on what; its protocol fits the probe by L-BFGS.
        shared: The embedder.
        sets: Data sets that are fitted on and scored.
    """

    kind = "linear"
    at_input = True

    def __init__(
        self, task: Task, shared: SharedEmbedder, sets: tuple[LabelledSet, LabelledSet]
    ) -> None:
        config = load_config("linear_folder", task)
        images = len(sets[0].pairs(task.protocol.fit_split)) * CROPS[task.protocol.fit_crops]
        set_probe(config, task, shared.embedder.dim, len(sets[1].classes), images)
        super().__init__(task, finish_config(config, task), sets[1].classes, {})
        self.shared = shared
        self.fitted: LogisticFit | None = None
        self._sampler = PixelSampler(task.protocol.linear_pixels, task.seed)

    def see(self, image: EmbeddedImage) -> None:
        """Samples labelled pixels."""
        labels = labels_at_input(image)
        self._sampler.add(image.embedding, image.size, image.index, labels)

    def fit(self, meter: StepMeter) -> None:
        """Fits the probe until it has converged."""
        self._sampler.gather(cpu_group())
        sample = self._sampler.vectors() if rank() == 0 else None
        del self._sampler
        with meter.step("fit the probe"):
            fit = on_first_rank(lambda: fit_probe(sample, len(self.classes), self.task))
        self.fitted = fit
        self._model = self._build(self.shared)
        load_weights(self._model, probe_weights(fit))

    def count(self, image: EmbeddedImage) -> None:
        """Counts predicted classes against true ones."""
        self._count_classes(self._model, image)

    def write(self, meter: StepMeter) -> dict[str, Any]:
        """Scores, and how the fit ended; the probe, maps and pictures are written."""
        assert self.fitted is not None
        protocol = self.task.protocol
        folder = self.task.out_dir / "runner"
        folder.mkdir(parents=True, exist_ok=True)
        meta = {
            "cfg": self.config.pretty_text,
            "dataset_meta": {"classes": self.classes},
            "experiment_name": "vice",
        }
        save_fitted(self._model, meta, folder)
        fitted = self.fitted.bias != NEVER
        return {
            "probe": {
                "optimizer": protocol.linear_optimizer,
                "iterations": protocol.linear_iterations,
                "l2": protocol.linear_l2,
                **self.fitted.describe(),
            },
            **class_scores(self.kind, self.metric, self.task, self.classes, fitted, meter),
        }
