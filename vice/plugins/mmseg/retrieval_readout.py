"""Dense nearest-neighbour retrieval as a read-out of embeddings."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from mmengine.device import get_device
from torch import Tensor, nn

from vice.datasets import ImageLabelPair, LabelledSet
from vice.errors import UserError
from vice.evaluation.intervals import resampled_mapping
from vice.evaluation.matchings import match
from vice.evaluation.results import scores
from vice.evaluation.retrieval import (
    MemorySampler,
    RetrievalMemory,
    memory_bytes,
    patch_grid,
    to_patches,
)
from vice.evaluation.task import Task
from vice.plugins.mmseg.backbone import SharedEmbedder
from vice.plugins.mmseg.dataset import CROPS
from vice.plugins.mmseg.metric import CountMetric
from vice.plugins.mmseg.readouts import CountedReadout
from vice.plugins.mmseg.results import absent, draw_confusion, resample, write_samples
from vice.plugins.mmseg.running import finish_config, load_config
from vice.plugins.mmseg.sample_embeddings import EmbeddedImage
from vice.plugins.mmseg.subset_list import write_subset
from vice.runtime.collectives import cpu_group, world_size
from vice.runtime.step_meter import StepMeter

logger = logging.getLogger(__name__)
DEFAULT_MEMORY = 2 * 1024**3
#: All images of the fitted split.
WHOLE = {"fraction": 1.0, "subset_seed": 0}


class RetrievalReadout(CountedReadout):
    """Patches labelled by their nearest neighbors among those of another split.

    How large the memory becomes stands in the log before the first image is embedded, and how
    long the search will take before it starts.

    Args:
        task: What is scored on what.
        shared: The embedder.
        sets: Data sets that the memory is of and that are scored.
        pairs: Images that the memory is of; None: all of the fitted split.
        subset: ``fraction`` and ``subset_seed``, of which they follow.
        memory_limit: Most bytes of the memory and the search in it.
        cache_bytes: Of an evaluation with passes of its own.

    Attributes:
        memory: After `fit`: on the device.

    Raises:
        UserError: A memory that does not fit the limit.
    """

    kind = "retrieval"

    def __init__(
        self,
        task: Task,
        shared: SharedEmbedder,
        sets: tuple[LabelledSet, LabelledSet],
        *,
        pairs: Sequence[ImageLabelPair] | None = None,
        subset: dict[str, Any] | None = None,
        memory_limit: int = DEFAULT_MEMORY,
        cache_bytes: int = 0,
    ) -> None:
        subset = subset or WHOLE
        config = finish_config(load_config("retrieval_folder", task), task)
        config.model.backbone.cache_bytes = cache_bytes
        config.model.decode_head.patch = _patch(task)
        config.model.decode_head.upsample = task.protocol.upsample
        config.test_evaluator.update(max_samples=task.max_maps, per_image=True)
        classes = sets[1].classes
        arguments = {**subset, "memory_limit": memory_limit, "cache_bytes": cache_bytes}
        super().__init__(task, config, classes, arguments)
        self.shared, self.subset = shared, subset
        self.pairs = pairs if pairs is not None else sets[0].pairs(task.protocol.fit_split)
        self.scored = len(sets[1].pairs(task.protocol.score_split))
        self.memory: RetrievalMemory | None = None
        self._known: dict[str, Any] = {}
        self._sampler = _sampler(task, shared, len(self.pairs), len(classes), memory_limit)

    def see(self, image: EmbeddedImage) -> None:
        """Chooses patches for the memory."""
        patch = _patch(self.task)
        grid = patch_grid(image.size, patch) if patch else None
        patches = to_patches(image.embedding[None], grid)[0]
        self._sampler.add(patches, image.sample.gt_sem_seg.data[0], image.index)

    def fit(self, meter: StepMeter) -> None:
        """Gathers the memory on the device, and what is known of the images it is of."""
        protocol, sampler = self.task.protocol, self._sampler
        sampler.gather(cpu_group())
        self._known = sampler.describe()
        if self._known["unlabelled"]:
            logger.warning(
                "%.1f %% of the pixels of the memory's images are ignored ones: %s",
                100 * self._known["unlabelled"], _IGNORED[protocol.retrieval_ignored],
            )  # fmt: skip
        memory = sampler.memory(
            neighbours=protocol.retrieval_neighbours,
            temperature=protocol.retrieval_temperature,
        )
        if len(memory) < protocol.retrieval_neighbours:
            logger.warning(
                "the memory has %d vectors, fewer than the %d neighbours of the protocol: all are "
                "asked", len(memory), protocol.retrieval_neighbours,
            )  # fmt: skip
        self.memory = memory.to(self.task.device or get_device())
        _tell_time(self.memory, self._known["cells"], self.scored)

    def count(self, image: EmbeddedImage) -> None:
        """Counts retrieved classes against true ones."""
        self._count_classes(self._model, image)

    def write(self, meter: StepMeter) -> dict[str, Any]:
        """Scores of each matching, and what was compared with; maps and pictures are written."""
        assert self.memory is not None
        task = self.task
        task.out_dir.mkdir(parents=True, exist_ok=True)
        names = [pair.image.stem for pair in self.pairs]
        fitted = self.memory.labels.sum(0) > 0
        return {
            **({"subset": write_subset(names, task)} if self.subset["fraction"] < 1 else {}),
            "memory": {**self._known, **self.memory.describe()},
            **_write_scores(task, self.metric, fitted, self.classes, meter),
        }

    @cached_property
    def _model(self) -> nn.Module:
        return self._build(self.shared, memory=self.memory)


def _patch(task: Task) -> int | None:
    protocol = task.protocol
    return protocol.retrieval_patch if protocol.retrieval_grid == "patch" else None


def _sampler(
    task: Task, shared: SharedEmbedder, images: int, classes: int, memory_limit: int
) -> MemorySampler:
    """An empty memory; says how large it will be."""
    protocol, dim = task.protocol, shared.embedder.dim
    images *= CROPS[protocol.fit_crops]
    sampler = MemorySampler(
        protocol.retrieval_memory,
        images,
        classes,
        seed=task.seed,
        ignored=protocol.retrieval_ignored,
    )
    vectors = sampler.each * images
    needed = memory_bytes(vectors, dim, classes)
    if needed > memory_limit:
        gib = math.ceil(100 * needed / 2**30) / 100
        raise UserError(
            f"a memory of {vectors} vectors of {dim} dimensions takes {_mib(needed)} with the "
            f"search in it, more than memory_limit, {_mib(memory_limit)}: give it {needed} bytes "
            f"(--memory-gib {gib}), or lower retrieval_memory ({protocol.retrieval_memory})"
        )
    logger.info(
        "memory: at most %d patches of each of %d images, %d vectors of %d dimensions: %s with "
        "the search in it",
        sampler.each, images, vectors, dim, _mib(needed),
    )  # fmt: skip
    return sampler


def _tell_time(memory: RetrievalMemory, cells: float, images: int) -> None:
    queries = round(cells * images / world_size())
    logger.info(
        "searching %d vectors for the neighbours of about %d patches: about %.0f s, beside "
        "embedding the images",
        len(memory), queries, memory.seconds_for(queries),
    )  # fmt: skip


def _write_scores(
    task: Task, metric: CountMetric, fitted: Tensor, classes: tuple[str, ...], meter: StepMeter
) -> dict[str, Any]:
    """The part of a result that the table gives, with maps and pictures written."""
    (table,) = metric.tables
    protocol = task.protocol
    mappings = {name: match(name, table) for name in protocol.retrieval_matchings}
    (images,) = metric.image_tables
    resampled = {name: resampled_mapping(name, each) for name, each in mappings.items()}
    kind = "retrieval"
    intervals = resample(task, {kind: images}, {kind: resampled}, classes, meter)[kind]
    entries = {
        name: {
            **scores(table, mapping, classes, intervals[name], over=protocol.miou_over),
            "mapping": mapping.tolist(),
            "fitted_on": protocol.fit_split if name == "none" else protocol.score_split,
        }
        for name, mapping in mappings.items()
    }
    first = next(iter(mappings.values()))
    return {
        "retrieval": entries,
        "absent": absent(task, classes, fitted.cpu(), table),
        "confusion": table.confusion(table.identity()).tolist(),
        **write_samples(metric, task, {"retrieval": first}, len(classes)),
        "pictures": [
            draw_confusion(table, mapping, classes, task, f"confusion_{name}")
            for name, mapping in mappings.items()
        ],
    }


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"


_IGNORED = {
    "class0": "retrieval_ignored=class0 counts them as the first class",
    "left_out": "retrieval_ignored=left_out leaves them out of the soft labels",
}
