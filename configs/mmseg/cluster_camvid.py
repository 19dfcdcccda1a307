"""Clusters on CamVid, protocol native."""

_base_ = ["./cluster_folder.py"]

test_dataloader = dict(dataset=dict(dataset="camvid", protocol="native"))
