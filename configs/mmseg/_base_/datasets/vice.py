# A data set by name or path under a protocol, which makes the transforms.
train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="NumberedSampler", shuffle=True),
    dataset=dict(
        type="ViceDataset", dataset="data/labelled_folder", protocol="native", role="train"
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="ViceDataset",
        dataset="data/labelled_folder",
        protocol="native",
        role="score",
        test_mode=True,
    ),
)
val_dataloader = test_dataloader
