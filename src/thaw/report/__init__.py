"""Pictures and tables of a run and of a sweep: timeline, finder's curve, report.png, report.html, leaderboard.

The only importer of matplotlib, and that lazily, always as a `Figure` object of its own: there is no global list of
figures that the jobs of a sweep could fill up. A run is reported from the files of its folder alone.
"""

from thaw.report.finder import find_png
from thaw.report.rows import confusion, most_wrong, per_class, read_predictions, read_run
from thaw.report.sheet import run_report
from thaw.report.sweep_page import close_sweep, sweep_report
from thaw.report.timeline import plan_png

__all__ = [
    "close_sweep",
    "confusion",
    "find_png",
    "most_wrong",
    "per_class",
    "plan_png",
    "read_predictions",
    "read_run",
    "run_report",
    "sweep_report",
]
