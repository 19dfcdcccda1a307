"""Linear probe on COCO-Stuff27, protocol picie2021."""

_base_ = ["./linear_folder.py"]

data = dict(dataset="coco27", protocol="picie2021")
train_dataloader = dict(dataset=data)
val_dataloader = test_dataloader = dict(dataset=data)
model = dict(decode_head=dict(num_classes=27))
