"""Clusters on Cityscapes, 27 classes, protocol picie2021."""

_base_ = ["./cluster_folder.py"]

test_dataloader = dict(dataset=dict(dataset="cityscapes27", protocol="picie2021"))
