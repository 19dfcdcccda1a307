"""Clusters on Cityscapes, 27 classes, protocol vice2022_lowres."""

_base_ = ["./cluster_folder.py"]

test_dataloader = dict(dataset=dict(dataset="cityscapes27", protocol="vice2022_lowres"))
