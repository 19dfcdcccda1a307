_base_ = ["./data_preprocessor.py"]

model = dict(
    type="EncoderDecoder",
    data_preprocessor=_base_.data_preprocessor,
    backbone=dict(type="ViceBackbone", spec="random:resnet18-fpn-128"),
    decode_head=dict(type="LinearHead", in_channels=128, num_classes=27),
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)
