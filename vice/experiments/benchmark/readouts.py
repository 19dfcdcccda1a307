"""All read-outs that share passes, against the bare forward passes over the same images."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from vice.evaluation.protocols import get_protocol
from vice.evaluation.task import make_task
from vice.experiments.benchmark.timing import Measurement

logger = logging.getLogger(__name__)
CLUSTERS = (27, 128, 256)
BARE = "bare forward passes"
#: What no step is: loading the embedder, pictures, files.
REST = "pictures and files"


def readouts(device: str, *, small: bool, folder: Path, spec: str) -> list[Measurement]:
    """A converged probe and three numbers of clusters against embedding both splits once.

    The bare passes read, decode and embed each image of both splits. On the CPU, processor
    seconds of all threads are compared, which a busy machine changes little.

    Args:
        device: Where it computes.
        small: Whether k-means and probe see a tenth of their pixels.
        folder: A labelled folder with the splits train and val.
        spec: The embedder, as in `vice.models.load.load_extractor`.
    """
    from vice.plugins.mmseg.score import score

    changes: dict[str, Any] = {"linear_pixels": 20_000} if small else {}
    pixels: dict[str, Any] = {"kmeans_pixels": 50_000} if small else {}
    protocols = {
        "linear": get_protocol("native", linear_optimizer="lbfgs", **changes),
        "clusters": get_protocol("native", **pixels),
    }
    clock = time.process_time if device == "cpu" else time.monotonic
    options = {"device": device, "log_level": "ERROR"}
    with TemporaryDirectory() as out:
        bare, start = _bare(spec, folder, Path(out), clock, options), clock()
        found = score(spec, folder, out, protocols=protocols, clusters=CLUSTERS, **options)
        whole = clock() - start
    passes = found["clusters"]["one_pass"]["passes"]
    note = f"{spec} on {folder.name}, D {found['clusters']['model']['dim']}, passes {passes}"
    rows = [
        Measurement(BARE, bare, BARE, 1.0, note),
        Measurement("all read-outs", whole, BARE, whole / bare, note),
    ]
    # The last result has the steps of all, and how long all took.
    last = max(found.values(), key=lambda result: result["seconds"])
    steps = {name: step["seconds"] for name, step in last["steps"].items()}
    memory = {name: step["peak_memory_mib"] for name, step in last["steps"].items()}
    steps[REST] = max(0.0, last["seconds"] - sum(steps.values()))
    for name, seconds in steps.items():
        share = whole * seconds / last["seconds"]
        peak = f"; peak {memory[name]} MiB" if name in memory else ""
        note = f"share by the clock{peak}"
        rows.append(Measurement(name, seconds, BARE, share / bare, note))
    return rows


def _bare(spec: str, folder: Path, out: Path, clock: Any, options: dict[str, Any]) -> float:
    """Seconds of the passes over both splits."""
    from vice.plugins.mmseg.backbone import share_embedder
    from vice.plugins.mmseg.running import dataset_config, finish_config, load_config
    from vice.plugins.mmseg.sample_embeddings import embed_images

    task = make_task(spec, folder, out / "bare", **options)
    config, shared = finish_config(load_config("cluster_folder", task), task), share_embedder(spec)
    start = clock()
    with torch.no_grad():
        for role in ("fit", "score"):
            for image in embed_images(config, task, shared, dataset_config(task, role)):
                logger.debug("%s", image.index)
    if options["device"] != "cpu":
        torch.cuda.synchronize()
    return float(clock() - start)
