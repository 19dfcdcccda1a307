from __future__ import annotations

import subprocess
import sys

from mmseg.registry import DATASETS, METRICS, MODELS, TRANSFORMS

import vice.plugins.mmseg as plugin


def test_everything_is_registered_under_its_name():
    places = {
        MODELS: ("ViceBackbone", "LinearHead", "ClusterHead", "ClusterSegmentor"),
        DATASETS: ("ViceDataset",),
        METRICS: ("CountMetric",),
        TRANSFORMS: (
            "ViceLoadImage",
            "ViceLoadLabels",
            "ViceResize",
            "ViceFiveCrop",
            "ViceScoreAtInput",
        ),
    }
    for registry, names in places.items():
        for name in names:
            assert registry.get(name) is getattr(plugin, name)


def test_without_mmsegmentation_the_message_says_what_to_install():
    code = "import sys; sys.modules['mmseg'] = None\nimport vice.plugins.mmseg"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("vice.errors.MissingPart") and "vice install scoring" in last
