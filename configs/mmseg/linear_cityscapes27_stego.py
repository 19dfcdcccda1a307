"""Linear probe on Cityscapes, 27 classes, protocol stego2022."""

_base_ = ["./_base_/linear_stego.py"]

data = dict(dataset="cityscapes27", protocol="stego2022")
train_dataloader = dict(dataset=data)
val_dataloader = test_dataloader = dict(dataset=data)
model = dict(decode_head=dict(num_classes=27))
