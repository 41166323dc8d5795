"""Runs of tests: as train.py does them, but in this process, and short."""

from pathlib import Path

from thaw import again, attempt, report, titles
from thaw.settings import Settings
from thaw.track import Tracker

FIND = ("find.trial_steps=3", "find.stored_steps=8", "find.stored_orders=1")  # a tenth of the steps of a find


def undrawn(patch) -> None:
    """Leave out the plots of a run, which take half of a short one."""
    for name in ("plan_png", "find_png", "run_report"):
        patch.setattr(report, name, lambda *args: None)


def trained(
    settings: Settings, folder: Path, *overrides: str, sweep: str | None = None, dated: bool = False
) -> dict | None:
    """The result of a job in a new folder, without W&B; None where it was done already."""
    folder.mkdir(parents=True)
    about = {"overrides": list(overrides), "command": titles.command(list(overrides)), "commit": None}
    mark = None if settings.plan_only else again.stamp(settings)
    return attempt.train(settings, folder, about, sweep, lambda *key, **columns: Tracker(folder, print), mark, dated)
