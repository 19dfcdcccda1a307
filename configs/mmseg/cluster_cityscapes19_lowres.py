"""Clusters on Cityscapes, 19 classes, protocol vice2022_lowres."""

_base_ = ["./cluster_folder.py"]

test_dataloader = dict(dataset=dict(dataset="cityscapes19", protocol="vice2022_lowres"))
