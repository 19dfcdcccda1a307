from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn

from vice.errors import UserError


def head(**kwargs):
    torch.manual_seed(0)
    return MODELS.build({"type": "LinearHead", "in_channels": 6, "num_classes": 3, **kwargs})


def samples(labels):
    return [SegDataSample(gt_sem_seg=PixelData(data=label[None])) for label in labels]


def test_is_one_convolution_on_the_upsampled_embedding():
    probe, embedding = head().double(), torch.randn(2, 6, 9, 12).double()
    assert [p.shape for p in probe.parameters()] == [(3, 6, 1, 1), (3,)]
    nn.init.normal_(probe.conv_seg.bias)
    probe.train()
    fine = F.interpolate(embedding, (33, 46), mode="bilinear", align_corners=False)
    expected = torch.einsum("cd,bdhw->bchw", probe.conv_seg.weight[:, :, 0, 0], fine)
    expected = expected + probe.conv_seg.bias.view(3, 1, 1)
    metas = [{"img_shape": (33, 46)}] * 2
    torch.testing.assert_close(probe.predict((embedding,), metas, {}), expected)


def test_loss_is_cross_entropy_without_ignored_pixels():
    probe, embedding = head(), torch.randn(2, 6, 9, 12)
    labels = torch.randint(0, 3, (2, 33, 46))
    labels[:, :20] = 255
    loss = probe.loss((embedding,), samples(labels), {})["loss_ce"]
    logits = F.interpolate(probe((embedding,)), (33, 46), mode="bilinear")
    log_p = logits.double().log_softmax(1)
    terms = [
        -log_p[b, labels[b, y, x], y, x] for b in range(2) for y in range(20, 33) for x in range(46)
    ]
    assert loss.item() == pytest.approx(torch.stack(terms).mean().item(), rel=1e-5)


def test_bottleneck_is_convolution_normalisation_convolution():
    probe = head(bottleneck=4, norm_cfg={"type": "BN"})
    kinds = [type(m) for m in probe.modules() if not list(m.children())]
    assert kinds.count(nn.Conv2d) == 2 and kinds.count(nn.BatchNorm2d) == 1
    assert not any(isinstance(m, nn.ReLU | nn.Dropout2d) for m in probe.modules())
    probe.eval()
    one, two = torch.randn(2, 1, 6, 5, 5)
    middle = probe(((one + two) / 2,))
    torch.testing.assert_close(middle, (probe((one,)) + probe((two,))) / 2)
    assert isinstance(head(bottleneck=4).bottleneck.bn, nn.SyncBatchNorm)


def test_a_wrong_width_is_named():
    with pytest.raises(UserError, match=r"in_channels=5"):
        head()((torch.randn(1, 5, 4, 4),))


def test_classes_are_repeated_where_the_protocol_decides_before_upsampling():
    probe, embedding = head(upsample="classes"), torch.randn(1, 6, 4, 5)
    coarse = probe((embedding,)).argmax(1)[0]
    found = probe.predict((embedding,), [{"img_shape": (8, 10)}], {}).argmax(1)[0]
    assert torch.equal(found, coarse.repeat_interleave(2, 0).repeat_interleave(2, 1))
