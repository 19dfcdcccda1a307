"""Clusters on COCO-Stuff27, protocol picie2021."""

_base_ = ["./cluster_folder.py"]

test_dataloader = dict(dataset=dict(dataset="coco27", protocol="picie2021"))
