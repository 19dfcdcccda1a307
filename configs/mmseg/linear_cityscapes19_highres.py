"""Linear probe on Cityscapes, 19 classes, protocol vice2022_highres."""

_base_ = ["./linear_folder.py"]

data = dict(dataset="cityscapes19", protocol="vice2022_highres")
train_dataloader = dict(dataset=data)
val_dataloader = test_dataloader = dict(dataset=data)
model = dict(decode_head=dict(num_classes=19))
