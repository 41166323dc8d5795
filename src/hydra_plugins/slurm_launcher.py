"""hydra/launcher=slurm: Hydra's own launcher needs Slurm's accounting, and on Ctrl-C leaves its jobs in the queue.

Many clusters keep no accounting. Hydra's launcher also loses the results of all jobs if one is cancelled. This one
submits the jobs through submitit in the same way, but watches the queue and the jobs' own status files.
"""

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from getpass import getuser
from pathlib import Path

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher as HydrasLauncher
from omegaconf import DictConfig

from hydra_plugins import sweep_preview
from hydra_plugins.job_checks import JobChecks
from hydra_plugins.job_endings import Progress, report_ending
from hydra_plugins.local_launcher import first_of_equals, refuse_no_jobs, returned, say_identical
from thaw.runtime import signals
from thaw.runtime.console import say
from thaw.runtime.errors import UserError
from thaw.runtime.files import short_path
from thaw.runtime.job_status import read_status, update_status
from thaw.sweep.jobs import keys_swept_in

SRC = Path(__file__).resolve().parents[1]
OWN = ("timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name", "stderr_to_stdout")
IN_QUEUE = "PENDING,RUNNING,SUSPENDED,CONFIGURING,COMPLETING,REQUEUED,RESIZING,SIGNALING,STAGE_OUT,STOPPED"
FIRST_LOOK, LONGEST = 1.0, 10.0  # seconds between two looks at the queue


class SlurmLauncher(HydrasLauncher):
    """Queues the jobs of a sweep in Slurm and waits for them."""

    def setup(self, *, hydra_context, task_function, config: DictConfig) -> None:
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.checks = JobChecks(hydra_context, config, here=False)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Queue the jobs, identical ones once, and wait for them.

        Raise UserError (exit 5) if Slurm is missing or refuses the jobs, and Stopped after a signal.
        """
        refuse_no_jobs(job_overrides)
        same = first_of_equals(job_overrides)
        say_identical(same, initial_job_idx)
        if self.config.plan_only:
            sweep_preview.show(self, [job_overrides[i] for i in sorted(set(same))], at_once=1)
        if initial_job_idx == 0:
            self.checks.refuse(job_overrides)
        if not shutil.which("srun") or not shutil.which("sbatch"):
            raise UserError(5, "hydra/launcher=slurm: no srun or sbatch on the PATH; use hydra/launcher=joblib")
        numbers = [initial_job_idx + i for i in sorted(set(same))]
        root = Path(self.config.hydra.sweep.dir).absolute()
        root.mkdir(parents=True, exist_ok=True)
        if before := {path.name for path in (root / ".submitit").glob("*_*")} & (in_queue() or set()):
            jobs = f"{len(before)} {'jobs' if len(before) > 1 else 'job'}"
            say(f"note: {jobs} of this sweep still in Slurm's queue: waiting for them first")
            if asked := wait(before, lambda job: None):
                raise signals.Stopped(asked, sweep=True)
        queued = self.queue([list(job_overrides[n - initial_job_idx]) for n in numbers], numbers, root)
        array = queued[0].job_id.partition("_")[0]
        jobs = f"{len(numbers)} {'jobs' if len(numbers) > 1 else 'job'}"
        say(f"{jobs} queued in Slurm (job array {array}); their output goes to {short_path(root)}/.submitit")

        progress = Progress(len(numbers), keys_swept_in(root))

        def ended(job_id: str) -> None:
            i = [job.job_id for job in queued].index(job_id)
            folder, log = root / str(numbers[i]), Path(queued[i].paths.stdout)
            found = read_status(folder)
            if found.get("state") not in ("done", "failed", "stopped"):
                line = f"left Slurm's queue before it was done ({state_of(job_id)})"
                found = update_status(folder, state="failed", code=5, line=line)
            code = 0 if found["state"] == "done" else found["code"]
            self.task_function.record_code(numbers[i], report_ending(folder, code, log, progress))

        asked = wait({job.job_id for job in queued}, ended)
        if asked:
            raise signals.Stopped(asked, sweep=True)
        return [returned(root / str(initial_job_idx + first), str(self.config.monitor)) for first in same]

    def queue(self, jobs: Sequence[list[str]], numbers: Sequence[int], root: Path) -> list:
        """Submit the jobs as one array and return submitit's jobs. Raise UserError (exit 5) if Slurm refuses them."""
        import submitit
        from submitit.core.utils import FailedJobError

        given = dict(self.params)
        executor = submitit.AutoExecutor(
            folder=root / ".submitit/%j",
            cluster="slurm",
            slurm_max_num_timeout=given.pop("max_num_timeout"),
        )
        python_path = shlex.quote(f"{SRC}:{os.environ.get('PYTHONPATH', '')}".rstrip(":"))
        given["setup"] = [f"export PYTHONPATH={python_path}", *(given.get("setup") or [])]
        try:
            executor.update_parameters(**{k if k in OWN else f"slurm_{k}": v for k, v in given.items()})
            arguments = [
                (overrides, "hydra.sweep.dir", number, str(number), Singleton.get_state())
                for overrides, number in zip(jobs, numbers, strict=True)
            ]
            return executor.map_array(self, *zip(*arguments, strict=True))
        except FailedJobError as error:
            lines = str(error).splitlines() or ["no reason given"]
            why = next((line for line in lines if "error:" in line), lines[-1]).removeprefix("sbatch: error: ").strip()
            raise UserError(
                5, f"hydra/launcher=slurm: sbatch refused the jobs: {why}; see conf/hydra/launcher/slurm.yaml"
            ) from None


def wait(jobs: set[str], ended: Callable[[str], None]) -> int | None:
    """Wait until none of the jobs is in the queue, and call `ended(job)` for each that has left it.

    The first signal cancels the jobs, and the running ones write their snapshots; the second ends the wait. Return
    the number of the first signal, or None.
    """
    asked: list[int] = []

    def cancel(number: int, frame) -> None:
        asked.append(number)

    before = {number: signal.signal(number, cancel) for number in (signal.SIGINT, signal.SIGTERM)}
    left, missed, began, cancelled = set(jobs), set(), time.monotonic(), False
    try:
        while left:
            if asked and not cancelled:
                subprocess.run(["scancel", *sorted(left)], capture_output=True)
                cancelled, began = True, time.monotonic()
            if len(asked) > 1:
                break
            listed = in_queue()
            if listed is not None:  # a job is gone if two looks in a row miss it: Slurm may list new jobs late
                gone = left - listed
                for job in sorted(gone & missed, key=jobs_order):
                    ended(job)
                left, missed = left - (gone & missed), gone
            time.sleep(min(LONGEST, FIRST_LOOK + (time.monotonic() - began) / 30))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return asked[0] if asked else None


def jobs_order(job: str) -> tuple[int, ...]:
    """Return a sort key of a job's id, such as 17_3."""
    return tuple(map(int, job.split("_")))


def in_queue() -> set[str] | None:
    """Return this user's jobs in Slurm's queue; None if Slurm does not answer."""
    command = ["squeue", "--noheader", "--array", "--user", getuser(), "--states", IN_QUEUE, "--format", "%i"]
    done = subprocess.run(command, capture_output=True, text=True)
    return set(done.stdout.split()) if done.returncode == 0 else None


def state_of(job: str) -> str:
    """Return Slurm's state of a job that has ended, such as 'failed, signal 9'."""
    done = subprocess.run(["scontrol", "--oneliner", "show", "job", job], capture_output=True, text=True)
    found: Mapping[str, str] = dict(word.partition("=")[::2] for word in done.stdout.split())
    state = found.get("JobState", "unknown to the scheduler").lower().replace("_", " ")
    code = int(found.get("ExitCode", "0:0").partition(":")[0])
    return f"{state}, signal {code - 128}" if code > 128 else state  # 128 + the signal, as a shell reports it
