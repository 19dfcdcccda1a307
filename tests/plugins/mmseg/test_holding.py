"""Evaluations beside one another in one folder of results."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from vice.errors import UserError
from vice.evaluation.protocols import get_protocol
from vice.plugins.mmseg import running
from vice.plugins.mmseg.evaluate_clusters import evaluate_clusters
from vice.plugins.mmseg.evaluate_linear import evaluate_linear
from vice.plugins.mmseg.evaluate_position import evaluate_position
from vice.plugins.mmseg.evaluate_retrieval import evaluate_retrieval
from vice.plugins.mmseg.finetune import finetune
from vice.plugins.mmseg.holding import RUNNER, writes_results
from vice.plugins.mmseg.score import score
from vice.runtime.folder_lock import sole_writer
from vice.runtime.run_folder import LOCK_NAME

from .helpers import CLUSTERS, QUIET

FEW = {**QUIET, "changes": {"linear_iterations": 2, "linear_batch": 2}}
LBFGS = {**QUIET, "changes": {"linear_optimizer": "lbfgs", "linear_pixels": 300}}
PROTOCOL = get_protocol("native", "folder", linear_optimizer="lbfgs", linear_pixels=300)
TOGETHER = {"protocols": {"linear": PROTOCOL, "clusters": PROTOCOL}, "clusters": [3]}
#: Evaluation, its options, and the folder below its results that others wait for.
WAYS = {
    "steps": (evaluate_linear, FEW, "."),
    "lbfgs": (evaluate_linear, LBFGS, "."),
    "clusters": (evaluate_clusters, CLUSTERS, "."),
    "retrieval": (evaluate_retrieval, {**QUIET, "changes": {"retrieval_memory": 64}}, "."),
    "position": (evaluate_position, {**LBFGS, "clusters": [3]}, "."),
    "fine-tuned": (finetune, {**FEW, "crop": 0}, "."),
    "together": (score, {**TOGETHER, **QUIET}, "clusters"),
    "together, the probe": (score, {**TOGETHER, **QUIET}, "linear"),
}


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_written_beside_another(way, tiny, make_folder, tmp_path, caplog):
    evaluate, options, place = WAYS[way]
    root, out = make_folder(train=3, val=3), tmp_path / "out"
    other = sole_writer(out / place / RUNNER)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(other.__enter__).result()

        def end():
            while "waiting up to" not in caplog.text:
                time.sleep(0.05)
            files = {path.name for path in (out / place).rglob("*") if path.is_file()}
            other.__exit__(None, None, None)
            return files

        ended = pool.submit(end)
        evaluate(tiny, root, out, **options)
        assert ended.result(60) == {LOCK_NAME}
    assert (out / place / "results.json").is_file()


def test_an_evaluation_waits_until_the_results_of_another_are_written(tmp_path, caplog):
    order, inside, end = [], threading.Event(), threading.Event()

    @writes_results
    def evaluate(name, dataset, out):
        config = SimpleNamespace(work_dir=str(out / RUNNER))
        with running._staged(config, keep=True):
            # Logs of MMEngine have names from a clock of seconds, which can be set back.
            (Path(config.work_dir) / "20261127_155929").mkdir(parents=True)
            (Path(config.work_dir) / "20261127_155929" / name).touch()
            order.append(f"{name} runs")
            inside.set()
            assert name == "second" or end.wait(60)
        time.sleep(0.5)
        order.append(f"{name} writes")

    first, second = (
        threading.Thread(target=evaluate, args=(name, "", tmp_path)) for name in ("first", "second")
    )
    first.start()
    assert inside.wait(60)
    refused = pytest.raises(UserError, match=r"another process is writing into .*process \d+ on ")
    with refused, sole_writer(tmp_path / RUNNER, wait=0.1):
        pass
    second.start()
    while caplog.text.count("waiting up to") < 2:
        assert second.is_alive()
        time.sleep(0.05)
    end.set()
    first.join(60)
    second.join(60)
    assert order == ["first runs", "first writes", "second runs", "second writes"]
    found = {path.name for path in (tmp_path / RUNNER).rglob("*") if path.is_file()}
    assert found == {"second", LOCK_NAME}
