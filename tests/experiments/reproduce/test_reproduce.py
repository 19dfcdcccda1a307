"""Tables from end to end: real trainings as processes, real evaluations, on a tiny folder."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
import yaml

from tests.helpers import slurm
from tests.helpers.canary import CANARIES, leaks
from tests.helpers.forked import Forked

pytest.importorskip("vissl")
pytest.importorskip("mmseg")

from vice.experiments.reproduce.step_time import PARTS, time_step

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    **CANARIES,
}


def call(*arguments, environment=ENVIRONMENT):
    return Forked([ROOT / "tools" / "reproduce.py", *arguments], **environment).wait(500)


def test_two_rows_are_trained_and_scored_and_a_third_fails_alone(stripes, tmp_path):
    out = tmp_path / "out"
    arguments = [
        "ablation_lowres", "--scale", "tiny", "--dataset", stripes, "--out", out,
        "--row", "grid*", "--row", "superpixels*", "--device", "cpu",
        # DeepLabV3+ needs all four stages.
        "config.VICE.DATASET.min_images_per_epoch=4", "+config.MODEL.TRUNK.VICE.stages=2",
    ]  # fmt: skip
    done = call(*arguments)
    assert done.returncode == 1, done.stderr
    (table,) = out.glob("tables/ablation_lowres-tiny-stripes-??????-overrides-????????.md")
    text = table.read_text()
    assert text in done.stdout
    (known, *_) = out.glob("runs/*/train_config.yaml")
    steps = len((known.parent / "health.jsonl").read_text().splitlines())
    views = 2 * steps * yaml.safe_load(known.read_text())["VICE"]["VIEWS"]["num_views"]
    told = f"{views} views forward and backward, 0 forward alone, in float32 |"
    assert f" s of the processor, {told}" in text
    paired = table.with_name(f"{table.stem}-paired.md")
    assert f"{paired}: intervals" in done.stdout
    assert re.search(r"^\| superpixels.*\[.*\] / .*\[.*\]", paired.read_text(), re.M)
    (failed,) = [line for line in text.splitlines() if line.startswith("- failed")]
    assert "DeepLabV3+, seed 0" in failed and "needs all 4 stages" in failed
    runs = sorted((out / "runs").glob("*/vice.safetensors"))
    results = sorted((out / "eval").glob("*/last/linear-*/results.json"))
    assert len(runs) == len(results) == 2
    for result in results:
        scores = json.loads(result.read_text())["linear"]
        assert f"{100 * scores['miou']:.2f} / {100 * scores['accuracy']:.2f}" in text
    for run in runs:
        choice = json.loads((run.parent / "choice.json").read_text())
        assert len(choice["scores"]) == 2 and choice["rule"] in text

    # Again: nothing is trained or scored, but for the choice of another epoch.
    before = [path.stat().st_mtime_ns for path in (*runs, *results)]
    choice |= {"last": False, "epoch": 1, "path": str(run.parent / "model_phase0.torch")}
    (run.parent / "choice.json").write_text(json.dumps(choice))
    for folder in out.glob("eval/*/epoch1"):
        folder.rename(tmp_path / "aside")
    done = call(*arguments)
    assert done.returncode == 1 and "(epoch 1)" in done.stdout
    assert before == [path.stat().st_mtime_ns for path in (*runs, *results)]
    (scored,) = out.glob("eval/*/epoch1/*/results.json")
    assert json.loads(scored.read_text())["spec"].endswith("model_phase0.torch")

    # A second seed of one row: what both agree in.
    of_one = [*arguments[:9], "--seeds", "2", *arguments[11:]]
    done = call(*of_one)
    assert done.returncode == 0, done.stderr
    (kept,) = out.glob("runs/*-seed0-*/stability.json")
    (pair,) = json.loads(kept.read_text())["pairs"]
    (line,) = [text for text in done.stdout.splitlines() if "stability between seeds |" in text]
    assert pair["seeds"] == [0, 1] and line.endswith("| 2 |")
    assert f"ARI {100 * pair['adjusted_rand_index']:.2f} / NMI" in line
    (label_free,) = re.findall(r"^\| grid.* \| 2 \|$", done.stdout.split("without labels")[1], re.M)
    assert label_free.count("±") == 5
    # The other row is not asked for; what earlier calls have done of it is there.
    (other,) = re.findall(r"^\| superpixels[^D]* \| linear \| .*$", done.stdout, re.M)
    known = [json.loads(file.read_text())["linear"]["miou"] for file in results]
    assert other.endswith("| 1 |") and any(f"| {100 * miou:.2f} /" in other for miou in known)
    assert leaks(out) == []


@pytest.mark.xdist_group("slurm")
def test_slurm_gets_the_trainings_and_the_next_call_goes_on(cluster, stripes, tmp_path):
    arguments = [
        "scratch", "--scale", "tiny", "--dataset", stripes, "--out", tmp_path / "out",
        "--row", "from ImageNet", "--slurm", "--device", "cpu",
        "config.VICE.DATASET.min_images_per_epoch=4", "config.SLURM.PARTITION=debug",
        "config.SLURM.MEM_GB=4", "config.SLURM.NUM_CPU_PER_PROC=1", "config.SLURM.TIME_HOURS=1",
        "+config.SLURM.ADDITIONAL_PARAMETERS.begin='now+1hour'",
    ]  # fmt: skip
    environment = {**ENVIRONMENT, **cluster}
    # SLURM's own commands would sign with this one.
    environment.pop("SLURM_JWT")
    done = call(*arguments, environment=environment)
    assert done.returncode == 0, done.stderr
    waiting = "- waiting: from ImageNet, seed 0"
    job = re.search(rf"{waiting}: submitted job (\d+)", done.stdout).group(1)
    again = call(*arguments, environment=environment)
    assert f"{waiting}: job {job} is PENDING" in again.stdout
    slurm.call(environment, "scontrol", "update", f"jobid={job}", "StartTime=now")
    end = time.monotonic() + 180
    while not list((tmp_path / "out").glob("runs/*/model_final_checkpoint_phase1.torch")):
        assert time.monotonic() < end, done.stdout
        time.sleep(0.5)
    done = call(*arguments)
    assert done.returncode == 0, done.stderr
    assert "waiting" not in done.stdout and "| from ImageNet | linear | 31.55" in done.stdout
    assert len(list((tmp_path / "out").glob("eval/*/last/linear-*/results.json"))) == 1
    # What SLURM's scripts and logs hold is in the folder, too.
    assert leaks(tmp_path / "out") == []


def test_the_network_of_a_run_before_its_training(stripes, tmp_path):
    out = tmp_path / "out"
    arguments = [
        "photographs", "--scale", "tiny", "--dataset", stripes, "--out", out, "--device", "cpu",
        "--row", "Lab*", "--row", "the same network*", "--readout", "linear",
        "config.VICE.DATASET.min_images_per_epoch=4",
    ]  # fmt: skip
    done = call(*arguments)
    assert done.returncode == 0, done.stderr
    (initial,) = out.glob("eval/*/initial/linear-*/results.json")
    (last,) = out.glob("eval/*/last/linear-*/results.json")
    (run,) = out.glob("runs/*")
    results = [json.loads(file.read_text()) for file in (initial, last)]
    assert [result["spec"] for result in results] == [f"random:{run}", str(run)]
    assert results[0]["linear"] != results[1]["linear"]
    assert len(list(out.glob("eval/lab/*/results.json"))) == 1


def test_command_line_lists_and_refuses():
    done = call("--list")
    assert done.returncode == 0
    assert "hyperparameters: " in done.stdout and "    no masks\n" in done.stdout
    assert "    IIC, COCO\n" in done.stdout
    assert "    PiCIE, COCO\n" in done.stdout
    done = call("mian")
    assert done.returncode == 2 and done.stderr.startswith("error: table 'mian' is unknown")
    assert call().returncode == 2


@pytest.mark.parametrize("name", ["vice/coco_lowres", "vice/folder_imagenet"])
def test_time_of_a_step_has_all_parts(name):
    from vice.plugins.vissl.config.compose import compose

    small = ["config.VICE.VIEWS.size=32", "config.VICE.VIEWS.num_views=2"]
    small += ["config.VICE.PROTOTYPES.dim=4", "config.VICE.LOSS.queue_length=300"]
    config = compose([f"config={name}", *small]).config
    parts = time_step(config, 1, "cpu")
    assert tuple(parts) == PARTS and all(value > 0 for value in parts.values())


#: Rows and what they are called.
EVERY_METHOD = {
    "PiCIE": "PiCIE",
    "MDC": "MDC",
    "IIC": "IIC",
    "objects*": "objects of the builtin saliency, contrasted",
    "STEGO": "STEGO",
}


@pytest.mark.parametrize(
    "rows", [["IIC"], pytest.param(list(EVERY_METHOD), marks=pytest.mark.slow)]
)
def test_rows_of_methods_are_trained_scored_and_drawn(stripes, tmp_path, rows):
    out = tmp_path / "out"
    done = call(
        "methods", "--scale", "tiny", "--dataset", stripes, "--out", out, "--device", "cpu",
        "--readout", "clusters", "--curve", "--pictures", "2",
        *(part for row in rows for part in ("--row", row)),
        "config.VICE.DATASET.min_images_per_epoch=4", "config.OPTIMIZER.num_epochs=2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (table,) = out.glob("tables/methods-tiny-stripes-??????-overrides-????????.md")
    text = table.read_text()
    assert "ViCE, representatives comes along: the others are compared with it" in done.stderr
    assert re.findall(r"^- (.*): its classes are not compared by direction", text, re.M) == ["IIC"]
    overview, _, rest = text.partition("| row |")
    ends = {line.split(" | ")[0]: line for line in overview.splitlines() if line.endswith("| 1 |")}
    # The row that differences are to comes along.
    names = ["ViCE, representatives", *(EVERY_METHOD[row] for row in rows)]
    assert list(ends) == [f"| {name}" for name in names]
    # Views are compared by all but those of IIC.
    assert [" | - | " in line for line in ends.values()] == [name == "IIC" for name in names]
    curve = rest.split("Over epochs")[1]
    for name in names:
        line = re.findall(rf"^\| {name} \| .* \|$", curve, re.M)[0]
        *scores, best = line.strip("| ").split(" | ")[2:]
        number, score = best.removeprefix("epoch ").split(", ")
        assert len(scores) >= 2 and scores[int(number) - 1] == score
    assert table.with_suffix(".png").is_file()
    assert f"{table.with_suffix('.png')}: the same images" in done.stdout
