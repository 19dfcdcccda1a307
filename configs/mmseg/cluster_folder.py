"""Clusters on a labelled folder (test only).

Set test_dataloader.dataset.dataset, model.backbone.spec, model.decode_head and
test_evaluator.num_clusters.
"""

_base_ = [
    "./_base_/default_runtime.py",
    "./_base_/datasets/vice.py",
    "./_base_/models/clusters.py",
]

train_dataloader = None
val_dataloader = None
test_cfg = dict(type="TestLoop")
test_evaluator = dict(type="CountMetric", num_clusters=[27])
