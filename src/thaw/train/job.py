"""The function Hydra calls for each job; it runs the job and records the outcome in status.json."""

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

from thaw.config import paths
from thaw.config.compose import job_request, to_settings
from thaw.config.job_request import JobRequest
from thaw.report.tracker import Tracker
from thaw.runtime import machine, signals
from thaw.runtime.console import say
from thaw.runtime.errors import UserError
from thaw.runtime.job_status import as_user_errors, print_error, read_status, state_after, write_status
from thaw.train import fingerprint
from thaw.train.run_folders import finished_result, keep_plan_alone, refuse_folder, remove_unrun
from thaw.train.stages import run_identity, train_job


@dataclass
class ExitCode:
    """The exit code of a job."""

    code: int = 0


class Task:
    """The callable Hydra runs with each composed configuration, in this process or in a launcher's."""

    def __init__(self, named: bool = True):
        self.named = named  # the user named the folder of the run
        self.codes: dict[int, int] = {}  # exit code per job number; a single run has number 0

    @property
    def code(self) -> int:
        """The exit code of the first failed job, or 0."""
        return next((code for _, code in sorted(self.codes.items()) if code), 0)

    def record_code(self, number: int | None, code: int) -> int:
        """Record and return the exit code of a job."""
        self.codes[number or 0] = code
        return code

    def __call__(self, cfg) -> int:
        """Run one job, record the outcome in status.json, and return the exit code.

        Raise Stopped on a signal to stop. A failure raises nothing, so that a launcher does not lose the other jobs.
        """
        if (several := machine.several_processes()) and not machine.is_first_process():
            return 0
        request = job_request(cfg)
        folder, sweep, before = request.folder, request.sweep, read_status(request.folder)
        if not sweep and (taken := refuse_folder(folder, before, request.overrides)):
            return self.record_code(None, print_error(taken))  # nothing is written to that folder
        tracker = Tracker(folder, request.wandb, refused=partial(run_identity, request, folder.name) if sweep else None)
        exit_code = ExitCode()
        with suppress(UserError), tracker, ending_in_status(request, exit_code), as_user_errors(folder):
            signals.listen()  # again, because submitit installs its own handlers
            signals.raise_if_asked()
            if several:
                raise several
            settings = to_settings(cfg, request.overrides)
            stamp = None if settings.plan_only else fingerprint.fingerprint(settings)
            last = before.get("stamp"), before.get("overrides")
            already_done = sweep and stamp and last == (stamp, request.overrides)
            if already_done and (result := finished_result(folder)):
                say(f"job {folder.name}: already done, accuracy {result['best/accuracy']:.2%}")
                return self.record_code(request.number, 0)
            write_status(folder, state="running", pid=os.getpid(), host=socket.gethostname(), **request.about)
            in_unnamed_folder = not (before or sweep or self.named) and folder.parent == paths.OUTPUTS / "runs"
            result = train_job(settings, request, tracker, stamp, in_unnamed_folder)
            if settings.plan_only and not sweep:
                keep_plan_alone(folder)
            elif result is None and in_unnamed_folder:
                shutil.rmtree(folder)  # an earlier run is used instead; this folder has only files just written
            else:
                stamp = stamp if result and not settings.fresh else None
                write_status(folder, state="done", stamp=stamp, **request.about)
        if exit_code.code and not (before or sweep or self.named):
            remove_unrun(folder)
        return self.record_code(request.number, exit_code.code)


@contextmanager
def ending_in_status(request: JobRequest, exit_code: ExitCode) -> Iterator[None]:
    """Record in status.json, then print, why a job failed or was stopped; raise the error again."""
    try:
        yield
    except (UserError, signals.Stopped) as error:
        exit_code.code = error.code
        with suppress(OSError):  # a full disk: the printed line must do
            write_status(request.folder, state=state_after(error), code=error.code, line=error.line, **request.about)
        if isinstance(error, UserError):
            print_error(error)
        raise
