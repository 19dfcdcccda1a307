"""Linear probe on Cityscapes, 27 classes, protocol stego2022."""

_base_ = ["./linear_folder.py"]

data = dict(dataset="cityscapes27", protocol="stego2022")
train_dataloader = dict(dataset=data)
val_dataloader = test_dataloader = dict(dataset=data)
model = dict(backbone=dict(flip_average=True), decode_head=dict(num_classes=27))
optim_wrapper = dict(optimizer=dict(_delete_=True, type="Adam", lr=0.005))
param_scheduler = []
train_cfg = dict(max_iters=5000, val_interval=5000)
