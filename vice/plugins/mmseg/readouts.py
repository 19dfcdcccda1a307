"""What is read out of embeddings: fitted on one pass over a split, counted on one over another.

A read-out neither loads nor embeds images, so that any number of them share the passes of
`vice.plugins.mmseg.one_pass`. Each gives the numbers of the evaluation of its own name, which is
built of the same parts or of the read-out itself.
"""

from __future__ import annotations

from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from vice.evaluation.task import Task
from vice.models.embeddings import FiniteWatch
from vice.plugins.mmseg.backbone import SharedEmbedder
from vice.plugins.mmseg.metric import CountMetric
from vice.plugins.mmseg.running import check_counted, dataset_config
from vice.plugins.mmseg.sample_embeddings import EmbeddedImage
from vice.runtime.step_meter import StepMeter


class Readout:
    """Something that embeddings are read out by; a subclass fills in what it needs.

    Attributes:
        kind: A key of `vice.evaluation.protocol_effects.KINDS`, or ``"position"``.
        task: What is scored on what; its own results directory and protocol.
        config: The config of the evaluation of this kind.
        arguments: Those of that evaluation, beside the task's.
        at_input: Whether `see` wants label maps at the size of the network's input
            (``sample.gt_at_input``).
        again: After `fit`: whether the fitted split is gone through once more.
        watch: Refuses numbers that are not finite.
    """

    kind = ""
    at_input = False
    again = False

    def __init__(
        self, task: Task, config: Config, classes: tuple[str, ...], arguments: dict[str, Any]
    ) -> None:
        self.task, self.config, self.classes = task, config, classes
        self.arguments = arguments
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

    def close(self, images: int, meter: StepMeter) -> None:
        """Adds up over the ranks what `count` took, of so many images of the scored split."""
        raise NotImplementedError

    def write(self, meter: StepMeter) -> dict[str, Any]:
        """The read-out's own part of ``results.json``, with its files written; on rank 0."""
        raise NotImplementedError


class CountedReadout(Readout):
    """One that predicts a class or cluster for every pixel of the scored split.

    Attributes:
        metric: After `close`: the counts.
    """

    def __init__(
        self, task: Task, config: Config, classes: tuple[str, ...], arguments: dict[str, Any]
    ) -> None:
        super().__init__(task, config, classes, {"cache_bytes": 0, **arguments})
        self.metric = self._metric(max_samples=task.max_maps, per_image=True)

    def close(self, images: int, meter: StepMeter) -> None:
        """Adds up the counts over the ranks."""
        self.watch.look()
        self.metric.evaluate(images)
        check_counted(self.metric, dataset_config(self.task, "score"))

    def _metric(self, **options: Any) -> CountMetric:
        metric = CountMetric(**options)
        metric.dataset_meta = {"classes": self.classes}
        return metric

    def _build(self, shared: SharedEmbedder, **head: Any) -> nn.Module:
        """The segmentor of the config, whose heads share this read-out's watch.

        Args:
            shared: The embedder.
            **head: Arguments of the decode head that are no part of a config.
        """
        parts = {"backbone": shared.hand_to(self.config.model.backbone)}
        if head:
            parts["decode_head"] = {**self.config.model.decode_head, **head}
        with DefaultScope.overwrite_default_scope("mmseg"):
            model = MODELS.build({**self.config.model, **parts})
        for module in model.modules():
            if isinstance(getattr(module, "watch", None), FiniteWatch):
                module.watch = self.watch
        return model.to(self.task.device or get_device()).eval()

    def _count_classes(self, model: nn.Module, image: EmbeddedImage) -> None:
        """Counts the classes that a segmentor predicts, as MMSegmentation would predict them."""
        meta = image.sample.metainfo
        self.watch.names = (str(image.sample.img_path),)
        logits = model.decode_head.predict((image.embedding[None],), [meta], model.test_cfg)
        sample = SegDataSample(metainfo=meta)
        model.postprocess_result(logits, [sample])
        process(self.metric, image, pred_sem_seg={"data": sample.pred_sem_seg.data})


def labels_at_input(image: EmbeddedImage) -> Tensor:
    """Label map of a fitted image at the size of the network's input, integer (H, W).

    That is ``gt_at_input`` where its pipeline gives both sizes, else the only one there is.
    """
    sample = image.sample
    both = "gt_at_input" in sample
    labels: Tensor = (sample.gt_at_input if both else sample.gt_sem_seg).data[0]
    return labels


def process(metric: CountMetric, image: EmbeddedImage, **predictions: dict[str, Tensor]) -> None:
    """Hands predictions on an image to a metric."""
    sample = {**image.sample.to_dict(), **predictions}
    metric.process({"inputs": [image.pixels]}, [sample])
