"""hydra/launcher=in_turn and =joblib: the jobs of a sweep on this machine, one after the other or several at once.

Each is a forked process. joblib's own pool is not used for it: it kills the jobs on Ctrl-C before they can write their
snapshots, loses all of them with one that runs out of memory, loads torch anew in each of its processes, and does not
know which GPU is free.
"""

import math
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, open_dict

from hydra_plugins import sweep_preview
from hydra_plugins.job_checks import JobChecks
from thaw.config import run_names
from thaw.runtime import processes, signals
from thaw.runtime.console import complain, say
from thaw.runtime.errors import UserError
from thaw.runtime.files import as_number, file_stamp, format_duration, short_path
from thaw.runtime.job_status import in_one_line, print_error, read_status, state_after, update_status
from thaw.runtime.machine import AT_ONCE, cores, listed_gpus
from thaw.store import code_hash
from thaw.sweep.jobs import read_job, search_value
from thaw.train import fingerprint

EVERY_JOBS = (  # what each job would load by itself after it was forked
    "thaw.report.publish", "thaw.report.tracker", "thaw.train.run", "matplotlib.backends.backend_agg",
    "sklearn.datasets", "sklearn.metrics", "sklearn.model_selection",
)  # fmt: skip
OUTPUT = "output.txt"  # what a job prints while others do too


class LocalLauncher(Launcher):
    def __init__(self, n_jobs: int | str = 1):
        self.n_jobs = n_jobs

    def setup(self, *, hydra_context, task_function, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config
        self.checks = JobChecks(hydra_context, config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Carry the jobs out; equal ones once. Errors: a signal that asks to stop, once those under way have ended."""
        setup_globals()
        refuse_no_jobs(job_overrides)
        gpus = listed_gpus()
        at_once = jobs_at_once(self.n_jobs, len(gpus), cores()) if processes.can_fork() else 1
        same = first_of_equals(job_overrides)
        numbers = [initial_job_idx + i for i in sorted(set(same))]
        folders = {number: Path(self.config.hydra.sweep.dir) / str(number) for number in numbers}
        tell_equals(same, initial_job_idx)
        if at_once > 1:
            say(f"{at_once} jobs at once{f', a GPU each of {len(gpus)}' if len(gpus) > 1 else ''}")
        if self.config.plan_only:
            os.environ.update(share(0, at_once, gpus))
            sweep_preview.show(self, [job_overrides[i] for i in sorted(set(same))], at_once)
        if initial_job_idx == 0:  # a search does not stop at a later trial, nor halving at what it has checked
            self.checks.refuse(job_overrides)
        if any(read_status(path).get("state") != "done" for path in folders.values()):
            code_hash.code_by_module(code_hash.ALL_CODE)  # of what all jobs run, whatever is edited meanwhile
            fingerprint.code_digest()
            for name in (*EVERY_JOBS, *(["wandb"] if self.config.wandb.mode != "disabled" else [])):
                import_module(name)

        before = {number: status_stamp(folder) for number, folder in folders.items()}

        def work(n: int, place: int) -> int:
            os.environ.update(share(place, at_once, gpus))
            return self.carry_out(job_overrides[n - initial_job_idx], n, folders[n], at_once > 1)

        def ended(i: int, code: int) -> None:
            folder = folders[numbers[i]]
            log = folder / OUTPUT if at_once > 1 else None
            wrote = status_stamp(folder) != before[numbers[i]]
            self.task_function.ended(numbers[i], report_ending(folder, code, log, wrote))

        works = [partial(work, n) for n in numbers]
        asked = processes.run_all(works, at_once, ended) if processes.can_fork() else in_turn(works, ended)
        if asked:
            raise signals.Stopped(asked, "in the sweep")
        return [returned(folders[initial_job_idx + first], str(self.config.monitor)) for first in same]

    def carry_out(self, overrides: Sequence[str], number: int, folder: Path, aside: bool) -> int:
        """One job in its process; its exit code. Aside: what it prints goes to a file in its folder."""
        try:
            with in_one_line(folder):
                if aside:
                    folder.mkdir(parents=True, exist_ok=True)
                    print_to(folder / OUTPUT)
                say(f"job {number}: {words_of(overrides)}")
                config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
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
            complain(error.line)
            return error.code


def in_turn(works: Sequence[Callable[[int], int]], ended: Callable[[int, int], None]) -> int | None:
    """All works one after the other in this process; the signal that asked to stop, if one did."""
    for i, work in enumerate(works):
        ended(i, work(0))
        if number := signals.pending():
            return number
    return None


def refuse_no_jobs(job_overrides: Sequence[Sequence[str]]) -> None:
    """Errors: a sweep of no jobs, exit 2."""
    if not job_overrides:
        raise UserError(2, "-m: no job follows from what is swept: a glob or a range in it matches nothing")


def first_of_equals(job_overrides: Sequence[Sequence[str]]) -> list[int]:
    """Of each job the number of the first that asks for the same."""
    first: dict[tuple, int] = {}
    return [first.setdefault(tuple(sorted(overrides)), i) for i, overrides in enumerate(job_overrides)]


def tell_equals(same: Sequence[int], start: int) -> None:
    for i, first in enumerate(same):
        if i != first:
            say(f"note: job {start + i} asks for the same as job {start + first}: run once")


def jobs_at_once(n_jobs: int | str, gpus: int, cores: int) -> int:
    """How many jobs run at once: as asked, or a job a GPU, or where there is none a job for every four cores.

    Errors: neither auto nor a whole number from 1, or -1 for as many as there are cores, exit 2.
    """
    if n_jobs == "auto":
        return gpus or max(min(cores, 2), cores // 4)
    if n_jobs == -1:
        return cores
    if not isinstance(n_jobs, int) or isinstance(n_jobs, bool) or n_jobs < 1:
        raise UserError(2, f"hydra.launcher.n_jobs={n_jobs}: must be auto or a whole number >= 1")
    return n_jobs


def share(place: int, at_once: int, gpus: Sequence[str]) -> dict[str, str]:
    """The environment of the job at a place: its part of the cores, and of several GPUs one."""
    if at_once == 1:
        return {}
    one = {"CUDA_VISIBLE_DEVICES": gpus[place % len(gpus)]} if len(gpus) > 1 else {}
    return {AT_ONCE: str(at_once), **one}


def print_to(file: Path) -> None:
    """Have what this process prints go to a file."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(descriptor, stream.fileno())
        stream.reconfigure(line_buffering=True)


def status_stamp(folder: Path) -> str:
    """Return a text that changes when a job writes its status; '' if it has never written one."""
    try:
        return file_stamp((folder / "status.json").stat())
    except OSError:
        return ""


def report_ending(folder: Path, code: int, log: Path | None, wrote: bool = True) -> int:
    """Report how a job ended if it could not itself, or if what it said went to `log`; return its exit code.

    code: negative if a signal killed it. wrote: it has written its status; else what is there is of an attempt before.
    """
    found = read_status(folder)
    if code < 0 and not (wrote and found.get("state") == "done"):
        line = f"killed (signal {-code}){': memory may have been short' if code == -signal.SIGKILL else ''}"
        update_status(folder, state="failed", code=5, line=line)
        return print_error(UserError(5, f"job {folder.name}: {line}; the same command goes on"))
    if code > 0:
        if found.get("state") not in ("failed", "stopped"):
            found = update_status(folder, state="failed", code=code, line=f"left with exit code {code} and no word")
        if log:
            complain(f"error: job {folder.name}: {found['line']}; {short_path(log)}")
    elif log:
        result = read_job(folder).result
        accuracy, seconds = as_number(result.get("best/accuracy")), as_number(result.get("cost/seconds_paid"))
        reached = "" if math.isnan(accuracy) else f", accuracy {accuracy:.2%}, {format_duration(seconds)}"
        say(f"job {folder.name} done: {words_of(found.get('overrides', []))}{reached}")
    return max(code, 0)


def words_of(overrides: Sequence[str]) -> str:
    return run_names.short_name([o for o in overrides if not o.startswith("hydra")]) or "default"


def returned(folder: Path, monitor: str) -> JobReturn:
    """What Hydra's sweepers are told of a job: the value of `monitor`, the worst there is where it failed."""
    return JobReturn(status=JobStatus.COMPLETED, _return_value=search_value(folder, monitor))
