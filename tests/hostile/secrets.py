"""Secrets in the environment and in settings, none of which may reach a file or the terminal."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile import configs, runs, slurm
from tests.hostile.case import Action, Family, Make

Rng = np.random.Generator
GROUP = "secrets"
SHARE = 0.03


def _secret(rng: Rng, length: int = 24) -> str:
    letters = "abcdefghijkmnpqrstuvwxyz23456789"
    return "c4n4ry" + "".join(letters[i] for i in rng.integers(0, len(letters), length))


def _word(rng: Rng) -> str:
    return "".join(chr(65 + i) for i in rng.integers(0, 26, 6))


def _hidden(folder: Path, secret: str) -> str | None:
    """No file below the folder holds the secret."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and secret.encode() in path.read_bytes():
            return f"{path.name} holds the secret"
    return None


def _logged(folder: Path, call: Callable[[], object]) -> str:
    """What a call writes into VISSL's log."""
    path = folder / "log.txt"
    root = logging.root
    before, disabled = list(root.handlers), logging.root.manager.disable
    handler = logging.FileHandler(path)
    root.handlers, root.level = [handler], logging.INFO
    logging.disable(logging.NOTSET)
    try:
        call()
    finally:
        handler.close()
        root.handlers = before
        logging.disable(disabled)
    return path.read_text()


def _environment(name: Callable[[Rng], str], value: Callable[[str], str] = str) -> Make:
    """A variable of the environment, and what VISSL logs at the start of a run."""

    def make(folder: Path, rng: Rng) -> Action:
        secret, known = _secret(rng), name(rng)

        def run() -> str:
            from vissl.engines import train

            import vice.plugins.vissl  # noqa: F401

            return _logged(folder, lambda: train.print_system_env_info(os.environ.copy()))

        def check(text: str) -> str | None:
            if "OMP_NUM_THREADS:\t1" not in text:
                return "the number of threads is not logged"
            return _hidden(folder, secret)

        variables = {known: value(secret), "OMP_NUM_THREADS": "1"}
        return Action(run=run, check=check, environment=variables)

    return make


def _setting(overrides: Callable[[str, Rng], list[str]], variable: str = "") -> Make:
    """An override that holds a secret: configuration, log and settings of the state."""

    def make(folder: Path, rng: Rng) -> Action:
        secret = _secret(rng)
        action = configs.action(folder, rng, overrides(secret, rng))
        words = list(action.command[1:])

        def run() -> str:
            from vissl.engines import train

            from vice.plugins.vissl.config.configure import configure, write_config
            from vice.plugins.vissl.resuming import prepare_resume, settings_of

            _, config = configure(words)
            prepare_resume(config)
            write_config(config)
            (folder / "settings.txt").write_text(str(settings_of(config)))
            return _logged(folder, lambda: train.print_cfg(config))

        def check(text: str) -> str | None:
            return _hidden(folder, secret) or (None if "VICE" in text else "nothing was logged")

        environment = {variable: secret} if variable else {}
        key = action.command[-1].partition("=")[0].lstrip("+")
        return Action(
            run=run, names=(key,), check=check, writes=action.writes, environment=environment
        )

    return make


def _submission(folder: Path, rng: Rng) -> Action:
    """What submitit writes: the script, the pickle, and what sbatch keeps."""
    secret = _secret(rng)
    action = slurm._submission([], (), slurm.ACCEPTS, folder, rng)
    variables: Mapping[str, str] = {"HF_TOKEN": secret, "SLURM_JWT": secret, _word(rng): secret}

    def check(said: Any) -> str | None:
        return _hidden(folder, secret) or action.check(said)

    return Action(
        run=action.run,
        check=check,
        writes=action.writes,
        environment={**action.environment, **variables},
    )


def _message(folder: Path, rng: Rng) -> Action:
    """A message about an address with a password in it."""
    secret = _secret(rng)
    url = f"https://{_word(rng).lower()}:{secret}@host.example/data"
    runs.images(folder / "photos", rng)

    def run() -> None:
        from vice.errors import UserError, one_line

        text = one_line(UserError(f"{url}: no such file; check the path"))
        if secret in text:
            raise AssertionError("the secret is in the message")
        raise UserError(text)

    return Action(run=run, names=("host.example",))


def _upper(*beginnings: str) -> Callable[[Rng], str]:
    return lambda rng: f"{beginnings[int(rng.integers(len(beginnings)))]}{_word(rng)}"


def _one_of(*names: str) -> Callable[[Rng], str]:
    return lambda rng: names[int(rng.integers(len(names)))]


FAMILY = Family(
    GROUP,
    {
        "any-name": ("worked", _environment(_word)),
        "named-token": ("worked", _environment(_upper("TOKEN_", "API_KEY_", "PASSWORD_"))),
        "cuda-prefix": ("worked", _environment(_upper("CUDA_", "NVIDIA_", "CUDNN_"))),
        "slurm-prefix": ("worked", _environment(_upper("SLURM_", "SLURMD_", "SBATCH_"))),
        "slurm-known": (
            "worked",
            _environment(_one_of("SLURM_JWT", "SLURM_JOB_COMMENT", "SLURM_JOB_NAME")),
        ),
        "nccl-omp-prefix": ("worked", _environment(_upper("NCCL_", "OMP_", "TORCH_", "VICE_"))),
        "lower-case": ("worked", _environment(lambda rng: _word(rng).lower())),
        "several-lines": ("worked", _environment(_word, lambda s: f"-----BEGIN\n{s}\n-----END")),
        "proxy": ("worked", _environment(_one_of("http_proxy"), lambda s: f"http://u:{s}@p:3128")),
        "url-in-a-listed-one": (
            "worked",
            _environment(_one_of("VICE_DATA"), lambda s: f"s3://key:{s}@bucket"),
        ),
        "known-services": (
            "worked",
            _environment(_one_of("WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN")),
        ),
        "url-password": (
            "worked",
            _setting(lambda s, rng: [f"+config.HOOKS.ADDRESS='https://u:{s}@h.example/x'"]),
        ),
        "signed-url": (
            "worked",
            _setting(
                lambda s, rng: [f"+config.HOOKS.FILE='https://h.example/x?X-Amz-Signature={s}'"]
            ),
        ),
        "key-of-a-service": (
            "worked",
            _setting(lambda s, rng: [f"+config.HOOKS.{_word(rng)}_API_KEY={s}"]),
        ),
        "value-of-a-variable": (
            "worked",
            _setting(lambda s, rng: [f"config.SLURM.COMMENT={s}"], "MY_TOKEN"),
        ),
        # Looking up the environment is refused, before anything of it can be written.
        "interpolated": (
            "refused",
            _setting(lambda s, rng: ["config.SLURM.COMMENT=${oc.env:MY_SECRET}"], "MY_SECRET"),
        ),
        "in-a-list": (
            "worked",
            _setting(lambda s, rng: [f"+config.HOOKS.ADDRESSES=['ftp://u:{s}@h/x',plain]"]),
        ),
        "submission": ("worked", _submission),
        "message": ("refused", _message),
    },
)
FIXED = FAMILY.listed()
drawn = FAMILY.drawn
