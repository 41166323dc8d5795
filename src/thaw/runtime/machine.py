"""The cores, GPUs and libraries that a job has on this machine, and the identity of its host and process."""

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

ENVIRONMENT = ("OMP_NUM_THREADS", "HF_HOME", "HF_HUB_CACHE")  # variables that decide settings left at `auto`
LIBRARIES = ("torch", "timm", "numpy", "albumentations", "opencv-python-headless", "pillow", "pillow-heif")
AT_ONCE = "THAW_JOBS_AT_ONCE"
CPU_MAX = Path("/sys/fs/cgroup/cpu.max")  # "quota period": microseconds of CPU time per period
# Variables with the number of processes of one job. Not SLURM_NTASKS: an allocation sets it even for one process.
PROCESSES = {
    "WORLD_SIZE": "start it without torchrun",
    "SLURM_STEP_NUM_TASKS": "give its Slurm step one task (-n 1), or unset SLURM_STEP_NUM_TASKS in the shell",
}
NO_GPU = ("", "-1", "NoDevFiles")  # the last is what Slurm gives a job without GPUs
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def cores() -> int:
    """Return how many CPU cores this process may use; jobs that a launcher runs at once share them."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    requested = environment_count("SLURM_CPUS_PER_TASK", available)  # not every cluster binds a job to its cores
    return max(1, int(min(available, requested, cpu_quota())) // at_once())


def readers() -> int:
    """Return how many threads read images: one per core, at most 16, because each may hold a large image."""
    return min(16, cores())


def at_once() -> int:
    """Return how many jobs a launcher runs at once on this machine."""
    return environment_count(AT_ONCE, 1)


def environment_count(name: str, default: int) -> int:
    """Return a positive whole number from an environment variable, or the default if it has none."""
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() and int(text) > 0 else default


def cpu_quota() -> float:
    """Return a container's CPU quota in cores: it sees all cores of its machine, but may not use them all."""
    try:
        most, period = CPU_MAX.read_text().split()
        return int(most) / int(period)
    except (OSError, ValueError):  # no such file, or "max"
        return math.inf


def wait_passively() -> None:
    """Let OpenMP threads sleep while they wait for one another, unless the environment says how they wait.

    By default they spin, so each barrier costs a scheduler time slice if another process uses the core. Call this
    before torch is imported: OpenMP reads the environment when it is loaded.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "passive"


def listed_gpus() -> list[str]:
    """Return the CUDA devices as named by CUDA_VISIBLE_DEVICES, or as counted by nvidia-smi.

    CUDA itself is not loaded, because a process that has loaded it cannot be forked.
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
    """Return the error for a job started as several processes, or None if it is one.

    Each process would train the whole job, on the same GPU and in the same folder.
    """
    for size, how in PROCESSES.items():
        if (text := os.environ.get(size, "")).isdecimal() and int(text) > 1:
            return UserError(2, f"{size}={text}: a job is one process on one device; {how}")
    return None


def is_first_process() -> bool:
    """Return whether this is the first of a job's processes, which is the one that prints."""
    return all(os.environ.get(rank, "0") == "0" for rank in ("RANK", "SLURM_PROCID"))


def visible_gpus(which: bool) -> int | list[str] | None:
    """Return how many GPUs are visible, or with `which` their names; None if CUDA_VISIBLE_DEVICES is not set."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") is None:
        return None
    return listed_gpus() if which else len(listed_gpus())


@cache
def library_versions() -> dict[str, str]:
    """Return the version of each library that results depend on."""
    return {name: version(name) for name in LIBRARIES}


def numerics(device: str, dtype: str, **rest) -> dict:
    """Return the device, the dtype and the library versions: only if all are equal are results bitwise equal."""
    return {"device": device, "dtype": dtype, **rest, "versions": library_versions()}


@cache
def host_id() -> str:
    """Return an id of the host, its boot and its container: the scope within which a process number is unique."""
    marks = []
    for read in (lambda: Path("/proc/sys/kernel/random/boot_id").read_text(), lambda: os.readlink("/proc/self/ns/pid")):
        with contextlib.suppress(OSError):
            marks.append(read())
    return socket.gethostname() + (f"-{hashlib.sha256(''.join(marks).encode()).hexdigest()[:6]}" if marks else "")


def process_id(between: str) -> str:
    """Return an id of this process that is unique across machines."""
    return f"{host_id()}{between}{os.getpid()}"


def is_dead(holder: str) -> bool:
    """Return whether `holder`, "host pid", is a process of this host that has ended."""
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
    """Return when a process started, in seconds since 1970; -inf if the system does not report it."""
    try:
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        boot = re.search(r"^btime (\d+)", Path("/proc/stat").read_text(), re.M)
        return int(boot[1]) + int(ticks) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, TypeError, ValueError):
        return -math.inf
