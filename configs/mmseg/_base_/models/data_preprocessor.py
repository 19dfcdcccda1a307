# ImageNet's mean and deviation. Smaller images of a batch are padded, their labels with 255.
data_preprocessor = dict(
    type="EvenPreProcessor",
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    size_divisor=1,
    pad_val=0,
    seg_pad_val=255,
)
