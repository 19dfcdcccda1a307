"""Few-shot fine-tuning on a labelled folder; fraction and subset_seed choose the subset.

Set dataset (and protocol) of the three loaders, model.backbone.spec,
model.decode_head.in_channels and model.decode_head.num_classes.
"""

_base_ = ["./linear_folder.py"]

model = dict(backbone=dict(frozen=False))
# The backbone learns more slowly than decoder and head.
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            "backbone.embedder": dict(lr_mult=0.1),
            "backbone.embedder.decoder": dict(lr_mult=1.0),
        }
    )
)
train_dataloader = dict(dataset=dict(fraction=1.0, subset_seed=0))
