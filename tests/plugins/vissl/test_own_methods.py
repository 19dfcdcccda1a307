"""Methods of one's own: the least that trains, and what is refused by name, not by a traceback."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import torch
from torch import nn

pytest.importorskip("vissl")

from tests.helpers.forked import Forked
from tests.plugins.vissl.conftest import REPO, overrides
from vice.errors import UserError
from vice.methods import Batch, check_made
from vice.models import Concepts
from vice.plugins.vissl import collator
from vice.plugins.vissl.hooks.base import concepts_of
from vice.plugins.vissl.task import FinishedBatches
from vice.runtime.health_log import read_health

TERSE = '''
import torch
import torch.nn.functional as F
from torch import nn
from vice.images import resize
from vice.methods import Batch, Method
from vice.normalize import normalize


class Loss(nn.Module):
    def forward(self, output, target):
        return F.mse_loss(output, target.expand_as(output))


class Terse(Method):
    """Predicts how bright a place is; says nothing of itself, and has no option."""

    def sample(self, source, index, rng):
        return torch.from_numpy(resize(source.image(index), 32, 32))

    def collate(self, samples):
        return {"images": torch.stack(samples)}

    def finish(self, collated, device):
        images = normalize(collated["images"].permute(0, 3, 1, 2))
        return Batch([images], [F.avg_pool2d(images.mean(1, keepdim=True), 4)])

    def head(self, dim):
        return Head(dim)

    def loss(self):
        return Loss()


class Head(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.layer = nn.Conv2d(dim, 1, 1)

    def forward(self, embedding):
        return [F.adaptive_avg_pool2d(self.layer(embedding), 8)]
'''


#: Options of ViCE, which this method does not have, and one that is set below.
OTHERS = ("config.VICE.VIEWS", "config.VICE.PROTOTYPES", "config.VICE.LOSS",
          "config.VICE.SUPERPIXELS", "config.DATA.NUM_DATALOADER_WORKERS")  # fmt: skip


def train(images, folder, *more, change="", workers=1):
    """Trains `TERSE`, changed by lines that come after it."""
    (folder / "terse.py").write_text(TERSE + change)
    arguments = [text for text in overrides(images, folder / "out") if not text.startswith(OTHERS)]
    arguments += ["config.VICE.METHOD.name=terse:Terse", "config.MODEL.TRUNK.VICE.dim=8", *more]
    environment = {
        "PYTHONPATH": os.pathsep.join([str(REPO), str(folder)]),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    arguments.append(f"config.DATA.NUM_DATALOADER_WORKERS={workers}")
    return Forked([REPO / "tools" / "run_distributed.py", *arguments], **environment).wait()


@pytest.mark.parametrize("precision", ["null", "bfloat16"])
def test_a_method_that_says_nothing_of_itself_is_trained(precision, images, tmp_path):
    """In bfloat16 too: its head, an ordinary layer, is handed what it is made for."""
    done = train(images, tmp_path, f"config.MODEL.TRUNK.EXECUTION.precision={precision}")
    assert done.returncode == 0, done.stderr[-3000:]
    losses = [record["loss"] for record in read_health(tmp_path / "out")]
    assert len(losses) == 6 and all(0 < loss < 100 for loss in losses)


SAID = {
    # No step of the training can be taken.
    "Loss.forward = lambda self, output, target: output.mean() * float('nan')": (
        "none of the 6 steps of this training was finite"
    ),
    # The queue's thread would drop it, and the training wait for it forever.
    "whole = Terse.collate\n"
    "Terse.collate = lambda self, samples: {**whole(self, samples), 'more': lambda: 0}": (
        "returned what cannot be sent from one process to another"
    ),
    "Terse.finish = lambda self, collated, device: collated['images']": "must return a vice.method",
    "Terse.concepts = lambda self, head: torch.eye(8)": "returned a Tensor, but must return vice",
}


@pytest.mark.parametrize("change", SAID, ids=range(len(SAID)))
def test_what_cannot_be_trained_is_one_line(change, images, tmp_path):
    # As in a training of fewer steps than may be skipped in a row.
    done = train(images, tmp_path, "config.VICE.MAX_NONFINITE_STEPS=20", change=f"\n{change}\n")
    assert done.returncode == 1 or done.returncode == 2, done.stderr[-3000:]
    assert SAID[change] in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""


def test_what_is_not_sent_may_be_anything(images, tmp_path):
    change = list(SAID)[1]
    assert train(images, tmp_path, change=f"\n{change}\n", workers=0).returncode == 0


IMAGES = torch.zeros(2, 3, 8, 8)


@pytest.mark.parametrize(
    "inputs", [[IMAGES], [IMAGES, IMAGES], (IMAGES.half(),), [IMAGES, IMAGES[:1]]]
)
def test_batches_that_are_some(inputs):
    task = task_of(finish=lambda *_: Batch(inputs))
    assert next(FinishedBatches(task, iter([{"method": None}])))["data"] is not None


@pytest.mark.parametrize(
    "batch",
    [
        None,
        IMAGES,
        {"inputs": [IMAGES]},
        Batch([]),
        Batch(IMAGES),
        Batch([IMAGES[0]]),
        Batch([IMAGES.byte()]),
        Batch([IMAGES[:0]]),
        Batch([IMAGES[:, :1]]),
        Batch([IMAGES, IMAGES[..., :4]]),
        Batch([IMAGES, None]),
        Batch([IMAGES.numpy()]),
    ],
)
def test_batches_that_are_none(batch):
    task = task_of(finish=lambda *_: batch)
    with pytest.raises(UserError, match=r"Own\.finish\(\) returned a .*, but must return"):
        next(FinishedBatches(task, iter([{"method": None}])))


def task_of(**methods):
    """A task of a method with some functions."""
    own = type("Own", (), {name: staticmethod(of) for name, of in methods.items()})()
    model = SimpleNamespace(
        trunk=SimpleNamespace(embedder=SimpleNamespace(config={"dim": 4})), heads=[nn.Identity()]
    )
    return SimpleNamespace(
        method=own, base_model=model, base_loss=SimpleNamespace(), device=torch.device("cpu"),
        note=lambda *_: None, iteration=0,
    )  # fmt: skip


@pytest.mark.parametrize("concepts", [Concepts(torch.eye(5)), torch.eye(4), [], "four", 4])
def test_concepts_that_are_none(concepts):
    with pytest.raises(UserError, match=r"Own\.concepts\(\) returned .*, but must return"):
        concepts_of(task_of(concepts=lambda head: concepts))


def test_concepts_that_are_some_or_not_yet():
    some = Concepts(torch.eye(4))
    assert concepts_of(task_of(concepts=lambda head: some)) is some
    assert concepts_of(task_of(concepts=lambda head: None)) is None


HEAD = nn.Conv2d(2, 3, 1)


@pytest.mark.parametrize(
    ("head", "loss", "more", "said"),
    [
        (None, nn.Identity(), {}, r"head\(\) returned None, but must return a nn\.Module"),
        (lambda x: x, nn.Identity(), {}, r"head\(\) returned a function, but must"),
        (HEAD, lambda x: x, {}, r"loss\(\) returned a function, but must"),
        (
            HEAD,
            HEAD,
            {"trained_later": {"weigth": 3}},
            "names 'weigth', but the head has weight, bias",
        ),
        (nn.Identity(), HEAD, {"trained_later": {"weight": 3}}, "but the head has no parameters"),
        (HEAD, HEAD, {"signs": None}, r"signs\(\) returned None, but must return a list of Sign"),
        (HEAD, HEAD, {"signs": ["sick"]}, "must return a list of Sign"),
        (HEAD, HEAD, {"trained_later": None}, r"trained_later\(\) returned None, but must return"),
    ],
)
def test_parts_that_no_training_can_be_made_of(head, loss, more, said):
    given = {"trained_later": {}, "signs": (), **more}
    own = type("Own", (), {name: lambda self, of=of: of for name, of in given.items()})()
    with pytest.raises(UserError, match=rf"^Own\..*{said}"):
        check_made(own, head, loss)


def test_only_processes_that_load_data_look_at_what_they_send(monkeypatch):
    monkeypatch.setattr(collator, "get_worker_info", lambda: object())
    with pytest.raises(UserError, match="plain values"):
        collator._check_sendable(test_concepts_that_are_none, {"of": lambda: 0})
    collator._check_sendable(test_concepts_that_are_none, {"of": 0})
