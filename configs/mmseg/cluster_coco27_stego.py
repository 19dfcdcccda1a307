"""Clusters on COCO-Stuff27, protocol stego2022."""

_base_ = ["./cluster_folder.py"]

test_dataloader = dict(dataset=dict(dataset="coco27", protocol="stego2022"))
model = dict(backbone=dict(flip_average=True))
