"""Clusters on MSRC-21, protocol native."""

_base_ = ["./cluster_folder.py"]

test_dataloader = dict(dataset=dict(dataset="msrc21", protocol="native"))
