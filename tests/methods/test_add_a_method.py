"""The method that docs/add_a_method.md works through: trained, killed, resumed to the same bits."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.helpers.forked import Forked
from tests.helpers.kills import differences
from tests.plugins.vissl.conftest import REPO, overrides, write_images

pytest.importorskip("vissl")

from vice.models.checkpoint import load_checkpoint
from vice.runtime.health_log import read_health

#: A method that sends its process a signal, once each, at moments named ``PLACE:EPOCH:SIGNAL``.
STOPPED = """
import os, signal
from pathlib import Path
from pseudo_labels import PseudoLabels


def stop(place, epoch):
    for moment in os.environ.get("STOPS", "").split():
        done = Path(os.environ["DONE"]) / moment.replace(":", "-")
        if moment.split(":")[:2] == [place, str(epoch)] and not done.exists():
            done.touch()
            os.kill(os.getpid(), getattr(signal, moment.split(":")[2]))


class Stopped(PseudoLabels):
    def before_epoch(self, context):
        real = context.run

        def run(*arguments):
            for number, part in enumerate(real(*arguments)):
                if number == 1:
                    stop("pass", context.epoch)
                yield part

        context.run = run
        try:
            super().before_epoch(context)
        finally:
            del context.run

    def after_step(self, context):
        super().after_step(context)
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps % 3 == 2:
            stop("epoch", context.epoch)
"""


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """The page's code, and the method above, where Python finds them."""
    folder = tmp_path_factory.mktemp("modules")
    page = (REPO / "docs" / "add_a_method.md").read_text()
    code = "\n\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    (folder / "pseudo_labels.py").write_text(code)
    (folder / "stopped.py").write_text(STOPPED)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images") / "images")


def train(modules: Path, images: Path, out: Path, ranks: int, stops: str = "") -> int:
    """Trains three epochs of three steps, and gives the exit status."""
    method = {"name": "stopped:Stopped", "clusters": 5, "size": 48, "pass_images": 2}
    arguments = overrides(
        images,
        out,
        *(f"config.VICE.METHOD.{name}={value}" for name, value in method.items()),
        "config.MODEL.TRUNK.VICE.dim=8",
        "config.OPTIMIZER.num_epochs=3",
        "config.CHECKPOINT.CHECKPOINT_ITER_FREQUENCY=2",
        f"config.DISTRIBUTED.NUM_PROC_PER_NODE={ranks}",
        f"config.DATA.TRAIN.BATCHSIZE_PER_REPLICA={2 // ranks}",
    )
    arguments = [text for text in arguments if not text.startswith(ELSEWHERE)]
    environment = {
        "PYTHONPATH": os.pathsep.join([str(REPO), str(modules)]),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "STOPS": stops,
        "DONE": str(out.parent),
    }
    done = Forked([REPO / "tools" / "run_distributed.py", *arguments], **environment).wait()
    with open(out.with_suffix(".log"), "a") as log:
        log.write(done.stdout + done.stderr)
    return done.returncode


#: Options of ViCE, which this method does not have.
ELSEWHERE = ("config.VICE.VIEWS", "config.VICE.PROTOTYPES", "config.VICE.LOSS",
             "config.VICE.SUPERPIXELS")  # fmt: skip


@pytest.fixture(scope="module")
def whole(modules, images, tmp_path_factory):
    """Gives the folder of an undisturbed run of so many ranks."""
    made: dict[int, Path] = {}

    def of(ranks: int) -> Path:
        if ranks not in made:
            made[ranks] = tmp_path_factory.mktemp("whole") / f"{ranks}"
            assert train(modules, images, made[ranks], ranks) == 0, log_of(made[ranks])
        return made[ranks]

    return of


def log_of(out: Path) -> str:
    return out.with_suffix(".log").read_text()


@pytest.mark.parametrize(
    ("ranks", "stops", "statuses"),
    [
        pytest.param(
            1,
            "pass:1:SIGTERM epoch:1:SIGTERM pass:2:SIGKILL epoch:2:SIGKILL",
            [75, 75, -9, -9, 0],
            marks=pytest.mark.slow,
        ),
        # The one that was started says that a process of its own was killed.
        (2, "pass:1:SIGTERM epoch:1:SIGTERM pass:2:SIGKILL", [75, 75, 2, 0]),
    ],
)
def test_killed_in_a_pass_and_in_an_epoch_it_ends_with_the_same_bits(
    modules, images, tmp_path, whole, ranks, stops, statuses
):
    out = tmp_path / "run"
    ended = [train(modules, images, out, ranks, stops) for _ in statuses]
    assert ended == statuses, log_of(out)[-3000:]
    assert differences(whole(ranks), out) == []
    assert [record["iteration"] for record in read_health(out)] == list(range(9))
    assert load_checkpoint(out).required_concepts().vectors.shape == (5, 8)


def test_a_lost_label_file_costs_the_epoch(modules, images, tmp_path, whole):
    out = tmp_path / "run"
    assert train(modules, images, out, 1, "epoch:1:SIGTERM") == 75
    (out / "pseudo_labels.npy").unlink()
    assert train(modules, images, out, 1) == 0
    assert "pseudo_labels.npy, which belongs to it, cannot be read" in log_of(out)
    assert differences(whole(1), out) == []
