"""ViCE in MMSegmentation: importing this package registers everything it needs.

In a config: ``custom_imports = dict(imports=["vice.plugins.mmseg"])``. Written for the API that
mmsegmentation 1.2.2 and its maintained continuation onedl-mmsegmentation 1.4 share.
"""

from __future__ import annotations

import sys
import warnings
from contextlib import redirect_stdout
from io import StringIO

from vice.parts import lacking

try:
    with warnings.catch_warnings(), redirect_stdout(StringIO()) as printed:
        # Warning filter: mmcv-lite has no compiled operators, as each start says; none is used.
        warnings.filterwarnings("ignore", message="Fail to import ``MultiScaleDeform")
        import mmcv
        import mmengine
        import mmseg
        import mmseg.datasets
        import mmseg.models
        import scipy  # noqa: F401 - what scores are computed with
except ModuleNotFoundError as error:
    raise lacking("scoring", error) from error

from vice.plugins.mmseg.backbone import ViceBackbone
from vice.plugins.mmseg.batches import EvenPreProcessor, NumberedSampler
from vice.plugins.mmseg.cluster_head import ClusterHead
from vice.plugins.mmseg.cluster_segmentor import ClusterSegmentor
from vice.plugins.mmseg.crf_segmentor import CrfSegmentor
from vice.plugins.mmseg.dataset import ViceDataset
from vice.plugins.mmseg.input_size_segmentor import InputSizeSegmentor
from vice.plugins.mmseg.linear_head import LinearHead
from vice.plugins.mmseg.metric import CountMetric
from vice.plugins.mmseg.retrieval_head import RetrievalHead
from vice.plugins.mmseg.telling import ProgressHook
from vice.plugins.mmseg.transforms import (
    ViceFiveCrop,
    ViceLoadImage,
    ViceLoadLabels,
    VicePackBoth,
    ViceResize,
    ViceScoreAtInput,
    ViceTurn,
)
from vice.plugins.mmseg.watching import WatchHook

# Standard output: the continuation misses its owner's own package at each start, twice.
sys.stdout.write(printed.getvalue().replace("Could not import OneDL\n", ""))

__all__ = [
    "ClusterHead",
    "ClusterSegmentor",
    "CountMetric",
    "CrfSegmentor",
    "EvenPreProcessor",
    "InputSizeSegmentor",
    "LinearHead",
    "NumberedSampler",
    "ProgressHook",
    "RetrievalHead",
    "ViceBackbone",
    "ViceDataset",
    "ViceFiveCrop",
    "ViceLoadImage",
    "ViceLoadLabels",
    "VicePackBoth",
    "ViceResize",
    "ViceScoreAtInput",
    "ViceTurn",
    "WatchHook",
    "mmcv",
    "mmengine",
    "mmseg",
]
