"""Nearest-neighbour retrieval on a labelled folder; tools/eval_retrieval.py runs it."""

_base_ = [
    "./_base_/default_runtime.py",
    "./_base_/datasets/vice.py",
    "./_base_/models/retrieval.py",
]

train_dataloader = None
val_dataloader = None
test_cfg = dict(type="TestLoop")
test_evaluator = dict(type="CountMetric")
