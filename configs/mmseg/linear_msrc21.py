"""Linear probe on MSRC-21, protocol native."""

_base_ = ["./linear_folder.py"]

data = dict(dataset="msrc21", protocol="native")
train_dataloader = dict(dataset=data)
val_dataloader = test_dataloader = dict(dataset=data)
model = dict(decode_head=dict(num_classes=21))
