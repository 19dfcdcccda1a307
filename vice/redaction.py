"""Secrets in settings and messages, hidden before they are written anywhere.

A secret is a value under a key that names one (``api_key``, ``TOKEN``), the user and password or a
signature in a URL, an option of a command line that names one, or the value of an environment
variable whose name says that it is one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
#: Shorter values of the environment would hide parts of ordinary words.
SHORTEST = 8

_WORDS = (
    "passw(?:or)?d|passwd|passphrase|secret|token|credential|bearer|authorization|jwt"
    "|signature|(?:api|access|private|account|auth|ssh|encryption|signing|session)[-_.]?key"
    "|connection[-_.]?string|cookie"
)
_NAME = re.compile(rf"(?:{_WORDS}|(?:^|[-_.])(?:pwd|pat|sig|auth|key|dsn)$)", re.I)
#: No secrets, under whatever name.
_PLAIN = re.compile(r"|None|null|True|False|[-+]?[\d.]+(?:e[-+]?\d+)?", re.I)
# A name of sixteen characters and more without a password is a token, too.
_USER = re.compile(
    r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?:[^/\s@:?#'\"]*:[^/\s?#'\"]*|[^/\s@?#'\"]{16,})@", re.I
)
_QUERY = re.compile(
    rf"(?P<name>[?&;][\w.-]*(?:{_WORDS}|\b(?:sig|key|auth|pwd|code)\b)[\w.-]*=)[^&;\s#'\"]+", re.I
)
_OPTION = re.compile(
    rf"(?P<name>(?:^|[\s\"'{{,+.-])[\w.-]*(?:{_WORDS})[\w.-]*[\"']?\s*[=:]\s*[\"']?)"
    r"(?!null\b|None\b|true\b|false\b|[\d.]+\b|\*\*\*)[^\s\"',}&]{4,}",
    re.I,
)
_HEADER = re.compile(r"\b(?P<name>(?:Bearer|Basic)\s+)[A-Za-z0-9+/_.=-]{8,}")
# Allow-list of the environment's variables for a log: names, not beginnings of names, so that
# SLURM_JWT, SLURM_JOB_COMMENT and what else a site adds stay out.
_LOGGED = """
    CUBLAS_WORKSPACE_CONFIG CUDA_DEVICE_MAX_CONNECTIONS CUDA_DEVICE_ORDER CUDA_LAUNCH_BLOCKING
    CUDA_MODULE_LOADING CUDA_VISIBLE_DEVICES CUDNN_LOGINFO_DBG NVIDIA_TF32_OVERRIDE
    NVIDIA_VISIBLE_DEVICES
    NCCL_ALGO NCCL_ASYNC_ERROR_HANDLING NCCL_BLOCKING_WAIT NCCL_BUFFSIZE NCCL_DEBUG
    NCCL_DEBUG_SUBSYS NCCL_IB_DISABLE NCCL_IB_HCA NCCL_IB_TIMEOUT NCCL_NET_GDR_LEVEL
    NCCL_P2P_DISABLE NCCL_P2P_LEVEL NCCL_PROTO NCCL_SHM_DISABLE NCCL_SOCKET_IFNAME
    NCCL_SOCKET_NTHREADS NCCL_NSOCKS_PERTHREAD GLOO_SOCKET_IFNAME
    SLURM_ARRAY_JOB_ID SLURM_ARRAY_TASK_COUNT SLURM_ARRAY_TASK_ID SLURM_CPUS_ON_NODE
    SLURM_CPUS_PER_TASK SLURM_GPUS SLURM_GPUS_ON_NODE SLURM_GPUS_PER_NODE SLURM_JOBID SLURM_JOB_ID
    SLURM_JOB_NODELIST SLURM_JOB_NUM_NODES SLURM_JOB_PARTITION SLURM_LOCALID SLURM_MEM_PER_CPU
    SLURM_MEM_PER_NODE SLURM_NNODES SLURM_NODEID SLURM_NODELIST SLURM_NPROCS SLURM_NTASKS
    SLURM_NTASKS_PER_NODE SLURM_PROCID SLURM_RESTART_COUNT SLURM_STEP_ID SLURM_STEP_NODELIST
    SLURM_STEP_NUM_NODES SLURM_STEP_NUM_TASKS SLURM_TASKS_PER_NODE SLURM_TASK_PID
    SLURMD_NODENAME
    KMP_AFFINITY KMP_BLOCKTIME MKL_NUM_THREADS NUMEXPR_NUM_THREADS OMP_DYNAMIC OMP_MAX_ACTIVE_LEVELS
    OMP_NUM_THREADS OMP_PLACES OMP_PROC_BIND OMP_SCHEDULE OMP_WAIT_POLICY OPENBLAS_NUM_THREADS
    VECLIB_MAXIMUM_THREADS
    PYTORCH_ALLOC_CONF PYTORCH_CUDA_ALLOC_CONF PYTORCH_NO_CUDA_MEMORY_CACHING
    TORCH_CUDA_ARCH_LIST TORCH_DISTRIBUTED_DEBUG TORCH_NCCL_ASYNC_ERROR_HANDLING
    TORCH_NCCL_BLOCKING_WAIT TORCH_NUM_THREADS TORCH_SHOW_CPP_STACKTRACES
    LOCAL_RANK LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT RANK WORLD_SIZE
    CONDA_DEFAULT_ENV LANG LC_ALL LC_CTYPE PYTHONHASHSEED PYTHONUTF8 PYTHON_VERSION TZ VICE_DATA
"""
#: Variables of the environment that a log may show.
LOGGED = frozenset(_LOGGED.split())


def names_secret(name: str) -> bool:
    """Whether a key or variable says by its name that its value is a secret."""
    return bool(_NAME.search(name))


def redact_text(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """A text in which every secret is ``***``.

    Args:
        text: A value, a message or a command line.
        environment: Whose secret variables are hidden wherever their values stand.
    """
    return _hide(text, _secret_values(environment))


def redact(value: Any, environment: Mapping[str, str] = os.environ) -> Any:
    """A copy of nested groups and lists without secrets; everything else is as it was.

    Args:
        value: Dicts (of any class, which becomes a plain dict), lists, tuples and single
            values. The path of something that is there is no secret.
        environment: As in `redact_text`.
    """
    return _redact(value, _secret_values(environment))


def _redact(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _redact_entry(str(key), item, secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [_redact(item, secrets) for item in value]
    if isinstance(value, tuple):
        return tuple(_redact(item, secrets) for item in value)
    if isinstance(value, str) and value and not os.path.exists(value):
        return _hide(value, secrets)
    return value


def _redact_entry(key: str, value: Any, secrets: list[str]) -> Any:
    if isinstance(value, str) and names_secret(key) and not _PLAIN.fullmatch(value):
        return HIDDEN
    return _redact(value, secrets)


def _hide(text: str, secrets: list[str]) -> str:
    for value in secrets:
        text = text.replace(value, HIDDEN)
    text = _USER.sub(rf"\g<scheme>{HIDDEN}@", text)
    text = _HEADER.sub(rf"\g<name>{HIDDEN}", text)
    for pattern in (_QUERY, _OPTION):
        text = pattern.sub(rf"\g<name>{HIDDEN}", text)
    return text


def _secret_values(environment: Mapping[str, str]) -> list[str]:
    """Longest first, so that a secret that holds another is hidden whole."""
    secrets = {
        value
        for name, value in environment.items()
        if len(value) >= SHORTEST and names_secret(name) and not os.path.exists(value)
    }
    return sorted(secrets, key=len, reverse=True)
