"""Clusters on a labelled folder (test only).

Set test_dataloader.dataset.data_root, model.backbone.spec, model.decode_head and
test_evaluator.num_clusters.
"""

_base_ = [
    "./_base_/default_runtime.py",
    "./_base_/datasets/labelled_folder.py",
    "./_base_/models/clusters.py",
]

train_dataloader = None
val_dataloader = None
test_cfg = dict(type="TestLoop")
test_evaluator = dict(type="CountMetric", num_clusters=[27])
