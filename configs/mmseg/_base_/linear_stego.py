# STEGO's probe: Adam at a constant rate; the mean over the mirror image when scoring.
_base_ = ["../linear_folder.py"]

model = dict(backbone=dict(flip_average=True))
optim_wrapper = dict(optimizer=dict(_delete_=True, type="Adam", lr=0.005))
param_scheduler = []
train_cfg = dict(max_iters=5000, val_interval=5000)
