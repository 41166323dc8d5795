"""Tell which cores, GPUs and libraries a job has here, and which host and process it is."""

import contextlib
import hashlib
import math
import os
import re
import shutil
import socket
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

from thaw.runtime.errors import UserError

ENVIRONMENT = ("OMP_NUM_THREADS", "HF_HOME", "HF_HUB_CACHE")  # chooses where a setting says `auto`
LIBRARIES = ("torch", "timm", "numpy", "albumentations", "opencv-python-headless", "pillow", "pillow-heif")
AT_ONCE = "THAW_JOBS_AT_ONCE"
CPU_MAX = Path("/sys/fs/cgroup/cpu.max")  # microseconds of CPU in so many microseconds
# Processes that a launcher starts for one job. Not SLURM_NTASKS: an allocation sets it too, where one process runs.
PROCESSES = {
    "WORLD_SIZE": "start it without torchrun",
    "SLURM_STEP_NUM_TASKS": "give its Slurm step one task (-n 1), or unset SLURM_STEP_NUM_TASKS in a shell of several",
}
NO_GPU = ("", "-1", "NoDevFiles")  # the last is what Slurm gives a job without GPUs
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def cores() -> int:
    """Return the CPU cores that this process may use: its part of them where a launcher runs several jobs at once."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = environment_count("SLURM_CPUS_PER_TASK", there)  # not every cluster binds its jobs to them
    return max(1, int(min(there, asked, cpu_quota())) // at_once())


def readers() -> int:
    """Return how many threads read images: one a core, at most 16, for each may hold a large one."""
    return min(16, cores())


def at_once() -> int:
    """Return how many jobs a launcher runs at once on this machine."""
    return environment_count(AT_ONCE, 1)


def environment_count(name: str, default: int) -> int:
    """Return a number from 1 of the environment; the default where it says none."""
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() and int(text) > 0 else default


def cpu_quota() -> float:
    """Return how many CPU cores a container may keep busy, which sees all those of its machine."""
    try:
        most, period = CPU_MAX.read_text().split()
        return int(most) / int(period)
    except (OSError, ValueError):  # no such file, or "max"
        return math.inf


def wait_passively() -> None:
    """Have threads that wait for one another sleep, unless the environment says how they wait.

    By default OpenMP's threads spin, and on a core that another process keeps busy each barrier then costs a time slice
    of the scheduler. Only works before torch is imported: OpenMP reads the environment when it is loaded.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "passive"


def listed_gpus() -> list[str]:
    """Return the CUDA devices as CUDA_VISIBLE_DEVICES names them, or as nvidia-smi counts them.

    CUDA is not loaded for it: a process that has loaded it cannot be forked.
    """
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in NO_GPU]
    if not shutil.which("nvidia-smi"):
        return []
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):  # a driver that hangs
        return []
    return [str(i) for i in range(sum(line.startswith("GPU ") for line in done.stdout.splitlines()))]


def several_processes() -> UserError | None:
    """Return why a job that was started as several processes is refused, None where it is one.

    Each of them would be a whole job, on the same GPU and in the same folder.
    """
    for size, how in PROCESSES.items():
        if (text := os.environ.get(size, "")).isdecimal() and int(text) > 1:
            return UserError(2, f"{size}={text}: a job is one process on one device; {how}")
    return None


def is_first_process() -> bool:
    """Return whether this is the first of a job's processes: the one that prints."""
    return all(os.environ.get(rank, "0") == "0" for rank in ("RANK", "SLURM_PROCID"))


def visible_gpus(which: bool) -> int | list[str] | None:
    """Return how many GPUs are left visible, None where none is hidden; or which, where bits depend on the model."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") is None:
        return None
    return listed_gpus() if which else len(listed_gpus())


@cache
def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that results depend on."""
    return {name: version(name) for name in LIBRARIES}


def numerics(device: str, dtype: str, **rest) -> dict:
    """Return what computes: results are promised the same bits only where all of it is the same."""
    return {"device": device, "dtype": dtype, **rest, "versions": library_versions()}


@cache
def host_id() -> str:
    """Where a process number means something: the host, and which start and which container of it."""
    marks = []
    for read in (lambda: Path("/proc/sys/kernel/random/boot_id").read_text(), lambda: os.readlink("/proc/self/ns/pid")):
        with contextlib.suppress(OSError):
            marks.append(read())
    return socket.gethostname() + (f"-{hashlib.sha256(''.join(marks).encode()).hexdigest()[:6]}" if marks else "")


def process_id(between: str) -> str:
    """This process, among those of all machines."""
    return f"{host_id()}{between}{os.getpid()}"


def is_dead(holder: str) -> bool:
    """Return whether `holder`, a host and a process number, is a process of this machine that is no more."""
    host, _, pid = holder.partition(" ")
    if host != host_id() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


def process_start(pid: int) -> float:
    """When a process started, in seconds since 1970; -inf where the system does not tell."""
    try:
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        boot = re.search(r"^btime (\d+)", Path("/proc/stat").read_text(), re.M)
        return int(boot[1]) + int(ticks) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, TypeError, ValueError):
        return -math.inf
