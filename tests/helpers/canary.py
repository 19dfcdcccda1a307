"""Secrets of the environment that nothing may write anywhere."""

from __future__ import annotations

from pathlib import Path

CANARY = "c4n4ry-7f3a9e"
#: Some have names like those of variables that are logged.
CANARIES = {"PLAIN": CANARY, "SLURM_JWT": CANARY, "CUDA_NOTE": CANARY, "WANDB_API_KEY": CANARY}


def leaks(folder: Path) -> list[Path]:
    """Files of a folder that hold one."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path for path in files if CANARY.encode() in path.read_bytes()]
