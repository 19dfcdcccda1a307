"""Few-shot fine-tuning on COCO-Stuff27 (ViCE, table 11): 1 % of the train images."""

_base_ = ["./finetune_folder.py"]

data = dict(dataset="coco27", protocol="vice2022_highres")
train_dataloader = dict(dataset=dict(fraction=0.01, **data))
val_dataloader = test_dataloader = dict(dataset=data)
model = dict(decode_head=dict(num_classes=27))
