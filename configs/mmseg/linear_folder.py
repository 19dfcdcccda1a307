"""Linear probe on a labelled folder.

Set dataset (and protocol) of the three loaders, model.backbone.spec,
model.decode_head.in_channels and model.decode_head.num_classes.
"""

_base_ = [
    "./_base_/default_runtime.py",
    "./_base_/datasets/vice.py",
    "./_base_/models/linear.py",
    "./_base_/schedules/linear_12k.py",
]

test_evaluator = dict(type="CountMetric")
val_evaluator = test_evaluator
