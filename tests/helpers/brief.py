"""Runs of tests: as train.py does them, but in this process, and short."""

from pathlib import Path

from thaw.config.job_request import JobRequest
from thaw.config.schema import Settings, Wandb
from thaw.report import finder, run_page, timeline
from thaw.report.tracker import Tracker
from thaw.train import fingerprint, stages

# What W&B shows of a job, as plain values.
CONFIG = {
    "data": {"kind": "digits"}, "backbone": {"name": "test_resnet"}, "rates": {"ratios": None}, "lr": None,
    "name": None, "tags": [], "notes": None, "fresh": False, "seed": 0, "lr_factor": 1.0, "batch_size": 64,
    "wandb": {"mode": "disabled", "project": None, "entity": None, "dir": "wandb"},
}  # fmt: skip
FIND = ("find.trial_steps=3", "find.stored_steps=8", "find.stored_orders=1")  # a tenth of the steps of a find


def undrawn(patch) -> None:
    """Leave out the plots of a run, which take half of a short one."""
    for module, name in ((timeline, "plan_png"), (finder, "finder_png"), (run_page, "write_run_report")):
        patch.setattr(module, name, lambda *args: None)


def trained(
    settings: Settings, folder: Path, *overrides: str, number: int | None = None, dated: bool = False
) -> dict | None:
    """The result of a job in a new folder, without W&B; None where it was done already. number: of a job of a sweep."""
    folder.mkdir(parents=True)
    request = JobRequest(folder, list(overrides), {}, CONFIG, CONFIG, number)
    stamp = None if settings.plan_only else fingerprint.fingerprint(settings)
    return stages.train_job(settings, request, untracked(folder), stamp, dated)


def untracked(folder: Path) -> Tracker:
    """A tracker without W&B."""
    return Tracker(folder, Wandb("disabled", None, None, str(folder)))
