"""Clusters on COCO-Stuff27, protocol vice2022_lowres."""

_base_ = ["./cluster_folder.py"]

test_dataloader = dict(dataset=dict(dataset="coco27", protocol="vice2022_lowres"))
