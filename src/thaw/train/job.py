"""One job as Hydra calls it: composed, carried out, and whatever happens said in its status.json."""

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
from thaw.runtime.job_status import in_one_line, print_error, read_status, state_after, write_status
from thaw.train import fingerprint
from thaw.train.run_folders import finished_result, keep_plan_alone, refuse_folder, remove_unrun
from thaw.train.stages import run_identity, train_job


@dataclass
class Ending:
    """How a job ends."""

    code: int = 0


class Task:
    """What Hydra calls with every composed configuration, in this process or in one of a launcher's."""

    def __init__(self, named: bool = True):
        self.named = named  # the user said where the run is to lie
        self.codes: dict[int, int] = {}  # the exit code of each job by its number, 0 for a run of its own

    @property
    def code(self) -> int:
        """The exit code of the first job that failed, 0 without one."""
        return next((code for _, code in sorted(self.codes.items()) if code), 0)

    def ended(self, number: int | None, code: int) -> int:
        """Note what a job ended with."""
        self.codes[number or 0] = code
        return code

    def __call__(self, cfg) -> int:
        """Carry out one job; whatever happens is said in status.json. Return its exit code.

        Errors: a signal that asks to stop. A failure is no error here, so that no launcher loses the other jobs.
        """
        if (several := machine.several_processes()) and not machine.is_first_process():
            return 0
        request = job_request(cfg)
        folder, sweep, before = request.folder, request.sweep, read_status(request.folder)
        if not sweep and (taken := refuse_folder(folder, before, request.overrides)):
            return self.ended(None, print_error(taken))  # and nothing is written there
        tracker = Tracker(folder, request.wandb, refused=partial(run_identity, request, folder.name) if sweep else None)
        ending = Ending()
        with suppress(UserError), tracker, ending_in_status(request, ending), in_one_line(folder):
            signals.listen()  # again, for submitit sets a handler of its own
            signals.heed()
            if several:
                raise several
            settings = to_settings(cfg, request.overrides)
            stamp = None if settings.plan_only else fingerprint.fingerprint(settings)
            same = sweep and stamp and (before.get("stamp"), before.get("overrides")) == (stamp, request.overrides)
            if same and (result := finished_result(folder)):
                say(f"job {folder.name}: done before, accuracy {result['best/accuracy']:.2%}")
                return self.ended(request.number, 0)
            write_status(folder, state="running", pid=os.getpid(), host=socket.gethostname(), **request.about)
            dated = not (before or sweep or self.named) and folder.parent == paths.OUTPUTS / "runs"
            result = train_job(settings, request, tracker, stamp, dated)
            if settings.plan_only and not sweep:
                keep_plan_alone(folder)
            elif result is None and dated:
                shutil.rmtree(folder)  # a run is finished: nothing but Hydra's files and ours of a second ago
            else:
                stamp = stamp if result and not settings.fresh else None
                write_status(folder, state="done", stamp=stamp, **request.about)
        if ending.code and not (before or sweep or self.named):
            remove_unrun(folder)
        return self.ended(request.number, ending.code)


@contextmanager
def ending_in_status(request: JobRequest, ending: Ending) -> Iterator[None]:
    """Say in status.json, then on the terminal, why a job failed or was stopped. Errors: what ended it."""
    try:
        yield
    except (UserError, signals.Stopped) as error:
        ending.code = error.code
        with suppress(OSError):  # on a full disk the line on the terminal has to do
            write_status(request.folder, state=state_after(error), code=error.code, line=error.line, **request.about)
        if isinstance(error, UserError):
            print_error(error)
        raise
