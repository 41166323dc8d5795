"""Short training runs as in train.py, but in this process."""

from pathlib import Path

from thaw.config.job_request import JobRequest
from thaw.config.schema import Settings, Wandb
from thaw.report import run_page, timeline
from thaw.report.tracker import Tracker
from thaw.train import fingerprint, stages

# The configuration of a job that W&B shows, as plain values.
CONFIG = {
    "data": {"kind": "digits"}, "backbone": {"name": "test_resnet"}, "rates": {"ratios": None}, "lr": None,
    "name": None, "tags": [], "notes": None, "fresh": False, "seed": 0, "lr_factor": 1.0, "batch_size": 64,
    "wandb": {"mode": "disabled", "project": None, "entity": None, "dir": "wandb"},
}  # fmt: skip
FIND = ("find.trials=3", "find.trial_steps=6", "find.stored_steps=8")  # a finder with a tenth of its steps


def skip_plots(patch) -> None:
    """Skip the plots of a run, which take half the time of a short one."""
    for module, name in ((timeline, "plan_png"), (run_page, "draw_run")):
        patch.setattr(module, name, lambda *args: None)


def trained(
    settings: Settings, folder: Path, *overrides: str, number: int | None = None, in_unnamed_folder: bool = False
) -> dict | None:
    """Train a job (of a sweep, if `number` is set) in a new folder; return its result, or None if it was done."""
    folder.mkdir(parents=True)
    request = JobRequest(folder, list(overrides), {}, CONFIG, CONFIG, number)
    stamp = None if settings.plan_only else fingerprint.fingerprint(settings)
    return stages.train_job(settings, request, untracked(folder), stamp, in_unnamed_folder)


def untracked(folder: Path) -> Tracker:
    """Return a tracker without W&B."""
    return Tracker(folder, Wandb("disabled", None, None, str(folder)))
