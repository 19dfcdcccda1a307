"""A real SLURM of two nodes on this machine: munge, a controller and two node daemons."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.helpers.processes import ROOT, free_ports

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")

CONFIG = """\
ClusterName=vice
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.sock
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/linear
MpiDefault=none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
SlurmdParameters=config_overrides
JobRequeue=1
KillWait=60
MessageTimeout=60
TCPTimeout=30
BatchStartTimeout=300
SlurmdTimeout=3600
FirstJobId={job}
NodeName={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=8000
NodeName={host}2 NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=8000
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why SLURM cannot be started here; empty if it can."""
    if os.geteuid() != 0:
        return "starting SLURM's daemons needs root"
    search = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    absent = [name for name in PROGRAMS if shutil.which(name, path=search) is None]
    return f"no {', '.join(absent)}: apt-get install slurm-wlm munge" if absent else ""


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Starts the cluster in a folder and yields the environment that its users need.

    With it SLURM's commands find the cluster, and jobs this checkout and its interpreter.
    """
    host = socket.gethostname()
    (folder / "state").mkdir(parents=True)
    config = folder / "slurm.conf"
    # The numbers of jobs decide on their ports, and another cluster may run on this machine.
    job = 1 + secrets.randbelow(100_000)
    config.write_text(CONFIG.format(host=host, folder=folder, ports=free_ports(3), job=job))
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(64))
    key.chmod(0o600)
    programs = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([programs, os.environ.get("PATH", ""), "/usr/sbin"]),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "SLURM_CONF": str(config),
        "MASTER_PORT": str(free_ports(1)[0]),
    }
    munge = ["munged", "--foreground", "--force", f"--key-file={key}"]
    for option, name in (("socket", "sock"), ("pid-file", "pid"), ("log-file", "log")):
        munge.append(f"--{option}={folder}/munge.{name}")
    munge.append(f"--seed-file={folder}/munge.seed")
    with ExitStack() as stack:
        _start(stack, munge, environment, folder)
        _wait(lambda: (folder / "munge.sock").exists(), "munged")
        _start(stack, ["slurmctld", "-D"], environment, folder)
        for node in (host, f"{host}2"):
            (folder / f"spool.{node}").mkdir()
            _start(stack, ["slurmd", "-D", "-N", node], environment, folder)
            # One that was brought back is not among those that were started here.
            stack.callback(_end_daemon, environment, node)
        _wait(lambda: call(environment, "sinfo", "-h", "-t", "idle", "-o", "%D") == "2", "sinfo")
        yield environment


def take_down(environment: dict[str, str], node: str) -> None:
    """Loses a node: its daemon and all processes that run there are killed, as by a power cut."""
    _end_daemon(environment, node)
    # A second cluster of another test has nodes of the same names.
    wanted = {f"SLURMD_NODENAME={node}", f"SLURM_CONF={environment['SLURM_CONF']}"}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted <= set((process / "environ").read_text().split("\0")):
                os.kill(int(process.name), signal.SIGKILL)
    # The controller would notice by itself, but after minutes.
    call(environment, "scontrol", "update", f"nodename={node}", "state=down", "reason=lost")


def bring_back(environment: dict[str, str], node: str) -> None:
    """Starts a lost node's daemon again."""
    subprocess.Popen(
        ["slurmd", "-D", "-N", node],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _wait(lambda: _daemon(environment, node) is not None, f"slurmd of {node}")
    call(environment, "scontrol", "update", f"nodename={node}", "state=resume")


def nodes(environment: dict[str, str]) -> list[str]:
    """Names of both nodes."""
    return sorted(call(environment, "sinfo", "-h", "-N", "-o", "%N").split())


def _daemon(environment: dict[str, str], node: str) -> int | None:
    file = Path(environment["SLURM_CONF"]).parent / f"slurmd.{node}.pid"
    return int(file.read_text()) if file.exists() and file.read_text().strip() else None


def _end_daemon(environment: dict[str, str], node: str) -> None:
    pid = _daemon(environment, node)
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        (Path(environment["SLURM_CONF"]).parent / f"slurmd.{node}.pid").unlink(missing_ok=True)


def call(environment: dict[str, str], *command: str) -> str:
    """Output of one of SLURM's commands."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    return done.stdout.strip()


def _start(stack: ExitStack, command: list[str], environment: dict[str, str], folder: Path) -> None:
    log = stack.enter_context((folder / f"{command[0]}.out").open("a"))
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def stop() -> None:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()

    stack.callback(stop)


def _wait(ready, what: str, seconds: float = 180.0) -> None:
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} was not ready after {seconds} s")
        time.sleep(0.2)
