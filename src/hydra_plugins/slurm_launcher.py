"""hydra/launcher=slurm: the jobs of a sweep on a Slurm cluster, through submitit.

Hydra's own launcher for it asks Slurm's accounting how its jobs are, which many clusters do not keep, loses the others
with one that was cancelled, and leaves them in the queue on Ctrl-C.
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
from hydra_plugins.local_launcher import first_of_equals, refuse_no_jobs, report_ending, returned, tell_equals
from thaw.runtime import signals
from thaw.runtime.console import say
from thaw.runtime.errors import UserError
from thaw.runtime.files import short_path
from thaw.runtime.job_status import read_status, update_status

SRC = Path(__file__).resolve().parents[1]
OWN = ("timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name", "stderr_to_stdout")
IN_QUEUE = "PENDING,RUNNING,SUSPENDED,CONFIGURING,COMPLETING,REQUEUED,RESIZING,SIGNALING,STAGE_OUT,STOPPED"
FIRST_LOOK, LONGEST = 1.0, 10.0  # seconds between two looks at the queue


class SlurmLauncher(HydrasLauncher):
    def setup(self, *, hydra_context, task_function, config: DictConfig) -> None:
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.checks = JobChecks(hydra_context, config, here=False)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Queue the jobs, equal ones once, and wait for them. Errors: no Slurm here, or it refuses, exit 5."""
        refuse_no_jobs(job_overrides)
        same = first_of_equals(job_overrides)
        tell_equals(same, initial_job_idx)
        if self.config.plan_only:
            sweep_preview.show(self, [job_overrides[i] for i in sorted(set(same))], at_once=1)
        if initial_job_idx == 0:
            self.checks.refuse(job_overrides)
        if not shutil.which("srun") or not shutil.which("sbatch"):
            raise UserError(5, "hydra/launcher=slurm: no Slurm here (no srun on the PATH); hydra/launcher=joblib")
        numbers = [initial_job_idx + i for i in sorted(set(same))]
        root = Path(self.config.hydra.sweep.dir).absolute()
        root.mkdir(parents=True, exist_ok=True)
        if before := {path.name for path in (root / ".submitit").glob("*_*")} & (in_queue() or set()):
            say(f"note: {len(before)} jobs of this sweep are in Slurm's queue still: waiting for them first")
            if asked := wait(before, lambda job: None):
                raise signals.Stopped(asked, "in the sweep")
        queued = self.queue([list(job_overrides[n - initial_job_idx]) for n in numbers], numbers, root)
        array = queued[0].job_id.partition("_")[0]
        say(f"{len(numbers)} jobs queued in Slurm ({array}); what they print: {short_path(root)}/.submitit")

        def ended(identity: str) -> None:
            i = [job.job_id for job in queued].index(identity)
            folder, log = root / str(numbers[i]), Path(queued[i].paths.stdout)
            found = read_status(folder)
            if found.get("state") not in ("done", "failed", "stopped"):
                line = f"left Slurm's queue before it was done ({state_of(identity)})"
                found = update_status(folder, state="failed", code=5, line=line)
            code = 0 if found["state"] == "done" else found["code"]
            self.task_function.ended(numbers[i], report_ending(folder, code, log))

        asked = wait({job.job_id for job in queued}, ended)
        if asked:
            raise signals.Stopped(asked, "in the sweep")
        return [returned(root / str(initial_job_idx + first), str(self.config.monitor)) for first in same]

    def queue(self, jobs: Sequence[list[str]], numbers: Sequence[int], root: Path) -> list:
        """submitit's jobs. Errors: Slurm refuses, exit 5 with what it says."""
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
                5, f"hydra/launcher=slurm: sbatch refuses: {why}; see conf/hydra/launcher/slurm.yaml"
            ) from None


def wait(jobs: set[str], ended: Callable[[str], None]) -> int | None:
    """Wait until none of the jobs is in the queue; `ended(job)` for each that has left it.

    A signal that asks to stop cancels them: those that run write their snapshots. Its number is returned.
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
            there = in_queue()
            if there is not None:  # what two looks miss has left: one may come before Slurm has listed it
                gone = left - there
                for job in sorted(gone & missed, key=jobs_order):
                    ended(job)
                left, missed = left - (gone & missed), gone
            time.sleep(min(LONGEST, FIRST_LOOK + (time.monotonic() - began) / 30))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return asked[0] if asked else None


def jobs_order(job: str) -> tuple[int, ...]:
    return tuple(map(int, job.split("_")))


def in_queue() -> set[str] | None:
    """This user's jobs that Slurm has not done with; None where it does not answer."""
    command = ["squeue", "--noheader", "--array", "--user", getuser(), "--states", IN_QUEUE, "--format", "%i"]
    done = subprocess.run(command, capture_output=True, text=True)
    return set(done.stdout.split()) if done.returncode == 0 else None


def state_of(job: str) -> str:
    """What Slurm says of a job that is over, in a few words."""
    done = subprocess.run(["scontrol", "--oneliner", "show", "job", job], capture_output=True, text=True)
    found: Mapping[str, str] = dict(word.partition("=")[::2] for word in done.stdout.split())
    state = found.get("JobState", "Slurm knows it no more").lower().replace("_", " ")
    code = int(found.get("ExitCode", "0:0").partition(":")[0])
    return f"{state}, signal {code - 128}" if code > 128 else state  # as a shell tells of it
