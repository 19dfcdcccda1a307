"""Linear probe on COCO-Stuff27, protocol stego2022."""

_base_ = ["./_base_/linear_stego.py"]

data = dict(dataset="coco27", protocol="stego2022")
train_dataloader = dict(dataset=data)
val_dataloader = test_dataloader = dict(dataset=data)
model = dict(decode_head=dict(num_classes=27))
