"""Runs of tests: as train.py does them, but in this process, and short."""

from pathlib import Path

from thaw.config import run_names
from thaw.config.schema import Settings
from thaw.report import finder, run_page, timeline
from thaw.report.tracker import Tracker
from thaw.train import fingerprint, stages

FIND = ("find.trial_steps=3", "find.stored_steps=8", "find.stored_orders=1")  # a tenth of the steps of a find


def undrawn(patch) -> None:
    """Leave out the plots of a run, which take half of a short one."""
    for module, name in ((timeline, "plan_png"), (finder, "finder_png"), (run_page, "write_run_report")):
        patch.setattr(module, name, lambda *args: None)


def trained(
    settings: Settings, folder: Path, *overrides: str, sweep: str | None = None, dated: bool = False
) -> dict | None:
    """The result of a job in a new folder, without W&B; None where it was done already."""
    folder.mkdir(parents=True)
    about = {"overrides": list(overrides), "command": run_names.typed_command(list(overrides)), "commit": None}
    mark = None if settings.plan_only else fingerprint.fingerprint(settings)
    return stages.train_job(settings, folder, about, sweep, lambda *key, **columns: Tracker(folder, print), mark, dated)
