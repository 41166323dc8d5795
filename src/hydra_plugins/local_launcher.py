"""hydra/launcher=in_turn and =joblib: with Hydra's own launchers a job that dies takes the others with it.

Here each job is a forked process on this machine, one after the other or several at once. Hydra's basic launcher runs
all jobs in one process. joblib's pool kills jobs on Ctrl-C before they can write their snapshots, loses all of them if
one runs out of memory, loads torch again in each process, and does not know which GPU is free.
"""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from importlib import import_module
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, open_dict

from hydra_plugins import sweep_preview
from hydra_plugins.job_checks import JobChecks
from hydra_plugins.job_endings import Progress, job_name, report_ending
from thaw.report.wandb_service import shared_service
from thaw.runtime import processes, signals
from thaw.runtime.console import say, say_error
from thaw.runtime.errors import UserError
from thaw.runtime.files import file_stamp
from thaw.runtime.job_status import as_user_errors, print_error, read_status, state_after, update_status
from thaw.runtime.machine import AT_ONCE, cores, listed_gpus
from thaw.store import code_hash
from thaw.sweep.jobs import keys_swept_in, search_value
from thaw.train import fingerprint

EVERY_JOBS = (  # imported once before forking, so that no job has to load them
    "thaw.report.publish", "thaw.report.tracker", "thaw.train.run", "thaw.train.setup", "matplotlib.figure",
    "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg", "PIL.JpegImagePlugin", "sklearn.datasets",
    "sklearn.metrics", "sklearn.model_selection",
)  # fmt: skip
WANDBS = (  # what wandb.init imports late: half a second
    "wandb", "wandb.sdk.launch.inputs.internal", "requests", "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.exporter.otlp.proto.http._log_exporter",
)  # fmt: skip
OUTPUT = "output.txt"  # file for what a job prints, unless verbose=true and they run one after the other


class LocalLauncher(Launcher):
    """Runs each job in a forked process. `n_jobs`: how many run at once."""

    def __init__(self, n_jobs: int | str = 1):
        self.n_jobs = n_jobs

    def setup(self, *, hydra_context, task_function, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config
        self.checks = JobChecks(hydra_context, config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs, identical ones once. Raise Stopped after a signal, once the running jobs have ended."""
        setup_globals()
        refuse_no_jobs(job_overrides)
        gpus = listed_gpus()
        at_once = jobs_at_once(self.n_jobs, len(gpus), cores()) if processes.can_fork() else 1
        same = first_of_equals(job_overrides)
        numbers = [initial_job_idx + i for i in sorted(set(same))]
        folders = {number: Path(self.config.hydra.sweep.dir) / str(number) for number in numbers}
        say_identical(same, initial_job_idx)
        if at_once > 1:
            say(f"running {at_once} jobs at a time{f', each on one of {len(gpus)} GPUs' if len(gpus) > 1 else ''}")
        if self.config.plan_only:
            os.environ.update(job_environment(0, at_once, gpus))
            sweep_preview.show(self, [job_overrides[i] for i in sorted(set(same))], at_once)
        if initial_job_idx == 0:  # later batches: a search goes on after a refused trial, halving has checked its jobs
            self.checks.refuse(job_overrides)
        todo = [path for path in folders.values() if read_status(path).get("state") != "done"]
        if todo:
            load_before_forking(self.logs_to_wandb)
        before = {number: status_stamp(folder) for number, folder in folders.items()}
        swept = keys_swept_in(Path(self.config.hydra.sweep.dir))
        progress = Progress(len(numbers), swept, done=len(numbers) - len(todo))
        to_file = processes.can_fork() and (at_once > 1 or not self.config.verbose)
        if to_file and len(numbers) > 1:
            say(f"{len(numbers)} jobs: each prints into its {OUTPUT}; scripts/status.py shows the best so far")

        def work(n: int, slot: int) -> int:
            os.environ.update(job_environment(slot, at_once, gpus))
            return self.run_one(job_overrides[n - initial_job_idx], n, folders[n], to_file)

        def ended(i: int, code: int) -> None:
            folder = folders[numbers[i]]
            log = folder / OUTPUT if to_file else None
            wrote = status_stamp(folder) != before[numbers[i]]
            self.task_function.record_code(numbers[i], report_ending(folder, code, log, progress, wrote))

        works = [partial(work, n) for n in numbers]
        with shared_service() if self.logs_to_wandb and len(todo) > 1 else nullcontext():
            asked = processes.run_all(works, at_once, ended) if processes.can_fork() else in_turn(works, ended)
        if asked:
            raise signals.Stopped(asked, sweep=True)
        return [returned(folders[initial_job_idx + first], str(self.config.monitor)) for first in same]

    @property
    def logs_to_wandb(self) -> bool:
        """Return whether the jobs log to W&B, online or offline."""
        mode = self.config.wandb.mode
        return (os.environ.get("WANDB_MODE", mode) if mode == "auto" else mode) != "disabled"

    def run_one(self, overrides: Sequence[str], number: int, folder: Path, to_file: bool) -> int:
        """Run one job in this process and return its exit code. `to_file`: print into a file in the job's folder."""
        try:
            with as_user_errors(folder):
                if to_file:
                    folder.mkdir(parents=True, exist_ok=True)
                    print_to(folder / OUTPUT)
                say(f"job {number}: {job_name(overrides)}")
                config = self.checks.config_of(overrides)
                with open_dict(config):
                    config.hydra.job.id = config.hydra.job.num = number
                    config.hydra.sweep.subdir = str(number)
                HydraConfig.instance().set_config(config)
                done = run_job(
                    hydra_context=self.hydra_context,
                    task_function=self.task_function,
                    config=config,
                    job_dir_key="hydra.sweep.dir",
                    job_subdir_key="hydra.sweep.subdir",
                )
                return done.return_value
        except (UserError, signals.Stopped) as error:
            update_status(folder, state=state_after(error), code=error.code, line=error.line)
            if isinstance(error, UserError):
                return print_error(error)
            say_error(error.line)
            return error.code


def load_before_forking(wandb: bool) -> None:
    """Import what jobs need, with `wandb` also W&B, and hash the code now: the files may be edited during the sweep."""
    code_hash.code_by_module(code_hash.ALL_CODE)
    fingerprint.code_digest()
    for name in (*EVERY_JOBS, *(WANDBS if wandb else ())):
        with suppress(ImportError):  # the job that needs it says so
            import_module(name)


def in_turn(works: Sequence[Callable[[int], int]], ended: Callable[[int, int], None]) -> int | None:
    """Run all jobs one after the other in this process; return the signal that asked to stop, or None."""
    for i, work in enumerate(works):
        ended(i, work(0))
        if number := signals.pending():
            return number
    return None


def refuse_no_jobs(job_overrides: Sequence[Sequence[str]]) -> None:
    """Raise UserError (exit 2) if a sweep has no jobs."""
    if not job_overrides:
        raise UserError(2, "-m: the sweep has no jobs: a glob or a range in it is empty")


def first_of_equals(job_overrides: Sequence[Sequence[str]]) -> list[int]:
    """Return for each job the index of the first job with the same overrides."""
    first: dict[tuple, int] = {}
    return [first.setdefault(tuple(sorted(overrides)), i) for i, overrides in enumerate(job_overrides)]


def say_identical(same: Sequence[int], start: int) -> None:
    """Print a note for each job that repeats an earlier one."""
    for i, first in enumerate(same):
        if i != first:
            say(f"note: job {start + i} is the same as job {start + first} and runs only once")


def jobs_at_once(n_jobs: int | str, gpus: int, cores: int) -> int:
    """Return how many jobs run at once: a whole number as given; auto: one per GPU; -1: one per core.

    Without a GPU, auto means one per four cores and at least two. Raise UserError (exit 2) for any other value.
    """
    if n_jobs == "auto":
        return gpus or max(min(cores, 2), cores // 4)
    if n_jobs == -1:
        return cores
    if not isinstance(n_jobs, int) or isinstance(n_jobs, bool) or n_jobs < 1:
        raise UserError(2, f"hydra.launcher.n_jobs={n_jobs}: must be auto or a whole number >= 1")
    return n_jobs


def job_environment(slot: int, at_once: int, gpus: Sequence[str]) -> dict[str, str]:
    """Return the environment variables of the job in a slot: its share of the cores, and one of several GPUs."""
    if at_once == 1:
        return {}
    gpu = {"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if len(gpus) > 1 else {}
    return {AT_ONCE: str(at_once), **gpu}


def print_to(file: Path) -> None:
    """Redirect what this process prints to a file."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(descriptor, stream.fileno())
        stream.reconfigure(line_buffering=True)


def status_stamp(folder: Path) -> str:
    """Return a text that changes when a job writes its status; '' if there is no status yet."""
    try:
        return file_stamp((folder / "status.json").stat())
    except OSError:
        return ""


def returned(folder: Path, monitor: str) -> JobReturn:
    """Return what Hydra's sweepers expect of a job: its value of `monitor`, the worst possible one if it failed."""
    return JobReturn(status=JobStatus.COMPLETED, _return_value=search_value(folder, monitor))
