"""K-means clusters as a read-out of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mmengine.device import get_device

from vice.datasets import LabelledSet
from vice.evaluation.matchings import needs_fit_labels
from vice.evaluation.pixel_sampler import PixelSampler
from vice.evaluation.task import Task
from vice.models.centroids import Centroids
from vice.plugins.mmseg.backbone import SharedEmbedder
from vice.plugins.mmseg.cluster_results import write_clusters
from vice.plugins.mmseg.evaluate_clusters import add_heads, check_clusters, fit_clusters
from vice.plugins.mmseg.metric import CountMetric
from vice.plugins.mmseg.readouts import CountedReadout, process
from vice.plugins.mmseg.running import finish_config, load_config
from vice.plugins.mmseg.sample_embeddings import EmbeddedImage
from vice.runtime.collectives import cpu_group, rank
from vice.runtime.step_meter import StepMeter


class ClusterReadout(CountedReadout):
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
        embedder = self.shared.embedder
        self.fits = fit_clusters(vectors, self.task, self.clusters, embedder, budget, meter)
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
        meta = image.sample.metainfo
        if not metric.keeps:
            of = {"labels": image.sample.gt_sem_seg.data[0], "classes": len(self.classes)}
            counts = self._model.count(features, image.size, meta, **of)
            if counts is not None:
                return metric.add(counts)
        (clusters,) = self._model.assign(features, image.size, [meta])
        process(metric, image, pred_clusters={"data": clusters})
