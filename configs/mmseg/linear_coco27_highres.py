"""Linear probe on COCO-Stuff27, protocol vice2022_highres."""

_base_ = ["./linear_folder.py"]

data = dict(dataset="coco27", protocol="vice2022_highres")
train_dataloader = dict(dataset=data)
val_dataloader = test_dataloader = dict(dataset=data)
model = dict(decode_head=dict(num_classes=27))
