_base_ = ["./data_preprocessor.py"]

# tools/eval_retrieval.py fills the memory and hands it over; no file holds it.
model = dict(
    type="EncoderDecoder",
    data_preprocessor=_base_.data_preprocessor,
    backbone=dict(type="ViceBackbone", spec="random:resnet18-fpn-128"),
    decode_head=dict(type="RetrievalHead"),
    train_cfg=None,
    test_cfg=dict(mode="whole"),
)
