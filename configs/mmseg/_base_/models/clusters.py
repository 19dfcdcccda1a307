_base_ = ["./data_preprocessor.py"]

# tools/eval_cluster.py writes the centroid files; add one head for each number of clusters.
model = dict(
    type="ClusterSegmentor",
    data_preprocessor=_base_.data_preprocessor,
    backbone=dict(type="ViceBackbone", spec="random:resnet18-fpn-128"),
    decode_head=[dict(type="ClusterHead", centroids="centroids_27.safetensors")],
    train_cfg=None,
    test_cfg=dict(mode="whole"),
)
