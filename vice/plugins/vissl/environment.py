"""What the log of a training says of its environment and settings: nothing that is a secret.

VISSL logs every variable of the environment and the whole configuration at the start of a run, into
a file that others may read. Its engines call the two functions below instead.
"""

from __future__ import annotations

import logging
import pprint
from collections.abc import Mapping
from typing import Any

import vissl.engines.extract_cluster
import vissl.engines.extract_features
import vissl.engines.train

from vice.redaction import redact, redact_text
from vice.runtime.log_streams import guard

#: Names, not beginnings of names: SLURM_JWT, SLURM_JOB_COMMENT and what else a site adds stay out.
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
LOGGED = frozenset(_LOGGED.split())
_ENGINES = (
    vissl.engines.train,
    vissl.engines.extract_features,
    vissl.engines.extract_cluster,
)


def log_environment(environment: Mapping[str, str]) -> None:
    """Logs the variables that are listed above, and how many there are beside them.

    VISSL calls this as soon as its log is open.
    """
    guard(logging.root.handlers)
    shown = sorted(LOGGED & set(environment))
    for name in shown:
        logging.info("%s:\t%s", name, redact_text(environment[name], environment))
    logging.info("%d other variables are set and not logged", len(environment) - len(shown))


def log_settings(config: Any) -> None:
    """Logs the configuration without what is secret in it."""
    logging.info("Training with config:")
    logging.info(pprint.pformat(redact(config)))


def keep_secrets() -> None:
    """Lets VISSL's engines log through this module."""
    for engine in _ENGINES:
        engine.print_system_env_info = log_environment
        engine.print_cfg = log_settings
