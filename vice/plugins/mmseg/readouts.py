"""What is read out of embeddings: fitted on one pass over a split, counted on one over another.

A read-out neither loads nor embeds images, so that any number of them share the passes of
`vice.plugins.mmseg.one_pass`. Each gives the numbers of the evaluation of its own name, which is
built of the same parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from vice.datasets import LabelledSet
from vice.evaluation.logistic import NEVER, LogisticFit
from vice.evaluation.matchings import needs_fit_labels
from vice.evaluation.pixel_sampler import PixelSampler
from vice.evaluation.task import Task
from vice.models.centroids import Centroids
from vice.models.embeddings import FiniteWatch
from vice.models.load import is_spherical
from vice.plugins.mmseg.backbone import SharedEmbedder
from vice.plugins.mmseg.cluster_results import write_clusters
from vice.plugins.mmseg.dataset import CROPS
from vice.plugins.mmseg.evaluate_clusters import (
    add_heads,
    check_clusters,
    fit_clusters,
)
from vice.plugins.mmseg.evaluate_linear import fit_probe, probe_weights
from vice.plugins.mmseg.fitted_weights import load_weights, save_fitted
from vice.plugins.mmseg.metric import CountMetric
from vice.plugins.mmseg.results import class_scores
from vice.plugins.mmseg.running import (
    finish_config,
    load_config,
    set_probe,
)
from vice.plugins.mmseg.sample_embeddings import EmbeddedImage
from vice.runtime.collectives import cpu_group, on_first_rank, rank
from vice.runtime.step_meter import StepMeter


class Readout:
    """Something that embeddings are read out by; a subclass fills in what it needs.

    Attributes:
        kind: A key of `vice.evaluation.protocol_effects.KINDS`.
        task: What is scored on what; its own results directory and protocol.
        config: The config of the evaluation of this kind.
        arguments: Those of that evaluation, beside the task's.
        at_input: Whether `see` wants label maps at the size of the network's input
            (``sample.gt_at_input``).
        again: After `fit`: whether the fitted split is gone through once more.
        metric: After the pass over the scored split: the counts.
    """

    kind = ""
    at_input = False
    again = False

    def __init__(
        self, task: Task, config: Config, classes: tuple[str, ...], arguments: dict[str, Any]
    ) -> None:
        self.task, self.config, self.classes = task, config, classes
        self.arguments = {**arguments, "cache_bytes": 0}
        self.metric = self._metric(max_samples=task.max_maps, per_image=True)
        self.watch = FiniteWatch()

    def see(self, image: EmbeddedImage) -> None:
        """Takes from an image of the fitted split what `fit` needs."""
        raise NotImplementedError

    def fit(self, meter: StepMeter) -> None:
        """Fits on what was seen; all ranks call it together."""
        raise NotImplementedError

    def gather(self, images: int) -> None:
        """Adds up over the ranks what `see_again` took, of so many images of the fitted split."""

    def see_again(self, image: EmbeddedImage) -> None:
        """Takes what it still needs from an image of the fitted split, where ``again`` is set."""

    def count(self, image: EmbeddedImage) -> None:
        """Counts the predictions on an image of the scored split."""
        raise NotImplementedError

    def write(self, meter: StepMeter) -> dict[str, Any]:
        """The read-out's own part of ``results.json``, with its files written; on rank 0."""
        raise NotImplementedError

    def _metric(self, **options: Any) -> CountMetric:
        metric = CountMetric(**options)
        metric.dataset_meta = {"classes": self.classes}
        return metric

    def _build(self, shared: SharedEmbedder) -> nn.Module:
        """The segmentor of the config, whose heads share this read-out's watch."""
        backbone = shared.hand_to(self.config.model.backbone)
        with DefaultScope.overwrite_default_scope("mmseg"):
            model = MODELS.build({**self.config.model, "backbone": backbone})
        for module in model.modules():
            if isinstance(getattr(module, "watch", None), FiniteWatch):
                module.watch = self.watch
        return model.to(self.task.device or get_device()).eval()


class ClusterReadout(Readout):
    """K-means clusters, as `vice.plugins.mmseg.evaluate_clusters.evaluate_clusters` scores them.

    Args:
        task: What is scored on what.
        shared: The embedder.
        sets: Data sets that are fitted on and scored.
        clusters: Numbers of clusters K.
        memory_limit: Most bytes that k-means works on.

    Attributes:
        fits: After `fit`: K to centroids.
    """

    kind = "clusters"

    def __init__(
        self,
        task: Task,
        shared: SharedEmbedder,
        sets: tuple[LabelledSet, LabelledSet],
        clusters: Sequence[int],
        memory_limit: int,
    ) -> None:
        check_clusters(clusters, task)
        config = finish_config(load_config("cluster_folder", task), task)
        config.model.upsample = task.protocol.upsample
        config.test_evaluator.update(max_samples=task.max_maps, per_image=True)
        arguments = {
            "clusters": list(clusters), "memory_limit": memory_limit, "faiss_gpu": False
        }  # fmt: skip
        self.clusters, self.shared = clusters, shared
        super().__init__(task, config, sets[1].classes, arguments)
        self.again = needs_fit_labels(task.protocol.matchings)
        self.fits: dict[int, Centroids] = {}
        self._sampler = PixelSampler(task.protocol.kmeans_pixels, task.seed)
        self._fit_metric = self._metric()

    def _metric(self, **options: Any) -> CountMetric:
        return super()._metric(num_clusters=list(self.clusters), **options)

    def see(self, image: EmbeddedImage) -> None:
        """Samples pixels."""
        self._sampler.add(image.embedding, image.size, image.index)

    def fit(self, meter: StepMeter) -> None:
        """Fits the centroids."""
        self._sampler.gather(cpu_group())
        vectors = self._sampler.vectors() if rank() == 0 else None
        budget = {"memory_limit": self.arguments["memory_limit"], "gpu": False}
        spherical = is_spherical(self.shared.embedder)
        self.fits = fit_clusters(vectors, self.task, self.clusters, spherical, budget, meter)
        del self._sampler
        with TemporaryDirectory() as folder:
            add_heads(self.config, Path(folder), self.fits)
            self._model = self._build(self.shared)

    def see_again(self, image: EmbeddedImage) -> None:
        """Counts clusters against classes on the fitted split."""
        self._count(self._fit_metric, image)

    def count(self, image: EmbeddedImage) -> None:
        """Counts clusters against classes."""
        self._count(self.metric, image)

    def write(self, meter: StepMeter) -> dict[str, Any]:
        """Scores of each K and matching; centroids, mappings, counts and pictures are written."""
        self.task.out_dir.mkdir(parents=True, exist_ok=True)
        add_heads(self.config, self.task.out_dir, self.fits)
        tables = self._fit_metric.tables
        return write_clusters(self.task, self.fits, tables, self.metric, self.classes, meter)

    def gather(self, images: int) -> None:
        """Adds up the counts of the fitted split over the ranks."""
        self._fit_metric.evaluate(images)

    def _count(self, metric: CountMetric, image: EmbeddedImage) -> None:
        self.watch.names = (str(image.sample.img_path),)
        # What was kept lies in main memory.
        features = (image.embedding[None].to(self.task.device or get_device()),)
        (clusters,) = self._model.assign(features, image.size, [image.sample.metainfo])
        _process(metric, image, pred_clusters={"data": clusters})


class LinearReadout(Readout):
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
        labels = image.sample.gt_at_input.data[0]
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
        meta = image.sample.metainfo
        self.watch.names = (str(image.sample.img_path),)
        head, features = self._model.decode_head, (image.embedding[None],)
        logits = head.predict(features, [meta], self._model.test_cfg)
        sample = SegDataSample(metainfo=meta)
        self._model.postprocess_result(logits, [sample])
        _process(self.metric, image, pred_sem_seg={"data": sample.pred_sem_seg.data})

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


def _process(metric: CountMetric, image: EmbeddedImage, **predictions: dict[str, Tensor]) -> None:
    sample = {**image.sample.to_dict(), **predictions}
    metric.process({"inputs": [image.pixels]}, [sample])
