# ROOT/images/<split>, ROOT/labels/<split>, ROOT/classes.txt: images at their own size.
data_root = "data/labelled_folder"

train_pipeline = [
    dict(type="ViceLoadImage"),
    dict(type="LoadAnnotations"),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="ViceLoadImage"),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="ViceFolderDataset", data_root=data_root, split="train", pipeline=train_pipeline
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="ViceFolderDataset",
        data_root=data_root,
        split="val",
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
val_dataloader = test_dataloader
