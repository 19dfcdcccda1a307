"""Linear probe on Cityscapes, 27 classes, protocol vice2022_lowres."""

_base_ = ["./linear_folder.py"]

data = dict(dataset="cityscapes27", protocol="vice2022_lowres")
train_dataloader = dict(dataset=data)
val_dataloader = test_dataloader = dict(dataset=data)
model = dict(decode_head=dict(num_classes=27))
