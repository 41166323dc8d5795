"""One job as Hydra calls it: composed, carried out, and whatever happens said in its status.json."""

import os
import shutil
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

from thaw.config import paths, run_names
from thaw.config.compose import to_dataclasses, to_plain, to_settings, with_absolute_paths
from thaw.config.paths import ROOT
from thaw.config.schema import Settings
from thaw.runtime import machine, signals
from thaw.runtime.console import say
from thaw.runtime.job_status import as_user_error, print_error, read_status, write_status
from thaw.sweep.jobs import keys_swept_in
from thaw.train import fingerprint
from thaw.train.run_folders import finished_result, refuse_folder
from thaw.train.stages import train_job

CONFIG_GROUPS = (
    "scheduler",
    "rates",
    "resize",
    "backbone",
    "augment",
    "checklist",
    "optimizer",
    "head",
    "data",
    "loss",
)


class Tracking:
    """The W&B run of a job: opened once there is something to track, ended with what became of the job."""

    def __init__(self, cfg, hydra_, folder: Path, about: dict, sweep: str | None):
        self.cfg, self.hydra, self.folder, self.about, self.sweep = cfg, hydra_, folder, about, sweep
        self.tracker = None

    def open(self, settings: Settings, key: str, **columns):
        """Open the tracker under the key of the run, with further columns of its configuration."""
        from thaw.report import publish, tracker

        swept = keys_swept_in(self.folder.parent) if self.sweep else ()
        choices = {group: choice for group, choice in self.hydra.runtime.choices.items() if group in CONFIG_GROUPS}
        config = to_plain(self.cfg)
        identity = publish.run_identity(settings, self.folder, self.about, self.sweep, swept, choices, config, key)
        identity["config"] |= columns
        self.tracker = tracker.open_tracker(self.folder, settings.wandb, tracker.RunIdentity(**identity), say)
        return self.tracker

    def end(self, code: int, line: str) -> dict:
        """End a W&B run that is open with an exit code; return what status.json says of it."""
        if self.tracker is None:
            return {}
        self.tracker.summary({"error": line})
        self.tracker.finish(code)
        return {"wandb_offline": self.tracker.unsent}

    def show_refusal(self) -> None:
        """Open a W&B run for a job of a sweep that was refused before it had one: there it is a failed one."""
        if self.sweep and self.tracker is None and not self.cfg.plan_only:
            with suppress(Exception):
                self.open(with_absolute_paths(to_dataclasses(self.cfg)), self.folder.name)


def carry_out(cfg, hydra_, folder: Path) -> None:
    """Plan and carry out the composed configuration; whatever happens is said in status.json.

    Errors: a signal that asks to stop. A failure is no error here, so that no launcher loses the other jobs.
    """
    about = about_job(hydra_)
    overrides, before = about["overrides"], read_status(folder)
    if (several := machine.several_processes()) and not machine.is_first_process():
        return
    sweep = folder.parent.name if hydra_.mode.name == "MULTIRUN" else None
    if sweep is None and (taken := refuse_folder(folder, before, overrides)):
        print_error(taken)  # and nothing is written there
        return
    tracking = Tracking(cfg, hydra_, folder, about, sweep)
    try:
        signals.listen()
        if several:
            raise several
        settings = to_settings(cfg, overrides)
        mark = None if settings.plan_only else fingerprint.fingerprint(settings)
        same = sweep and mark and before.get("stamp") == mark and before["overrides"] == overrides
        if same and (result := finished_result(folder)):
            say(f"job {folder.name}: done before, accuracy {result['best/accuracy']:.2%}")
            return
        write_status(folder, state="running", pid=os.getpid(), host=socket.gethostname(), **about)
        dated = not before and not has_named_folder(hydra_) and folder.parent == paths.OUTPUTS / "runs"
        result = train_job(settings, folder, about, sweep, tracking.open, mark, dated)
        if result is None and dated and not settings.plan_only:
            shutil.rmtree(folder)  # it was done already: nothing but Hydra's files and ours of a second ago
            return
        write_status(folder, state="done", stamp=mark if result and not settings.fresh else None, **about)
    except KeyboardInterrupt as error:
        stopped = error if isinstance(error, signals.Stopped) else signals.Stopped(signal.SIGINT, "before training")
        with suppress(OSError):
            words = {"state": "waiting" if stopped.requeued else "failed", "code": stopped.code, "line": stopped.line}
            write_status(folder, **words, **about, **tracking.end(stopped.code, stopped.line))
        raise stopped from None
    except (Exception, SystemExit) as error:
        error = as_user_error(error, folder)
        code = print_error(error)
        tracking.show_refusal()
        with suppress(OSError):  # on a full disk the line on the terminal has to do
            words = {"state": "failed", "code": code, "line": error.line}
            write_status(folder, **words, **about, **tracking.end(code, error.line))


def has_named_folder(hydra_) -> bool:
    """Whether the user said where the run is to lie."""
    return any(o.lstrip("+").startswith("hydra.run.dir=") for o in hydra_.overrides.hydra)


def about_job(hydra_) -> dict:
    """What was asked for, as every file of a job says it."""
    overrides = list(hydra_.overrides.task)
    recipe = hydra_.mode.name == "MULTIRUN" and any(o.startswith("experiment=") for o in overrides)
    alone = ["hydra.mode=RUN"] if recipe else []  # else the recipe's own sweep may start
    return {"overrides": overrides, "command": run_names.typed_command(overrides + alone), "commit": git_commit()}


def git_commit() -> str | None:
    """None where the code is not in git, or git is not on this machine."""
    asked = ["git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=12"]
    with suppress(OSError):
        return subprocess.run(asked, capture_output=True, text=True).stdout.strip() or None
