"""Draw the report of a run, or the reports of a sweep's jobs: report.html, report.png, plan.png, the finders' curves.

python scripts/report.py                            the latest run or sweep
python scripts/report.py outputs/multirun/NAME/7    a job of a sweep
python scripts/report.py outputs/multirun/NAME      all finished jobs of a sweep that have no report yet

A single run draws its report itself, and so does a job that takes longer than half a minute. Of the other jobs a sweep
draws only the best three, because a report takes about a second.
"""

import sys
from pathlib import Path

from thaw.config.paths import OUTPUTS, require_checkout
from thaw.runtime.console import bar, say
from thaw.runtime.entry import Parser, run
from thaw.runtime.errors import UserError
from thaw.runtime.files import short_path
from thaw.sweep.jobs import read_jobs

require_checkout(__file__)


def main() -> None:
    parser = Parser(__doc__)
    where = "folder of a run or a sweep (default: outputs/latest)"
    parser.add_argument("run", nargs="?", type=Path, default=OUTPUTS / "latest", metavar="RUN", help=where)
    folder = parser.parse_args().run.expanduser().resolve()
    alone, done = (folder / "status.json").exists(), [job for job in read_jobs(folder) if job.result]
    if not done:
        raise UserError(6, f"{short_path(folder)}: {'the run has no result' if alone else 'no job has a result'} yet")
    from thaw.sweep.board import leaderboard
    from thaw.sweep.page import write_sweep_report
    from thaw.sweep.reports import draw_reports

    chosen = [job for job in done if alone or not (job.folder / "report.html").exists()]
    drawn = draw_reports(bar(chosen, len(chosen), "reports"))
    if drawn < len(chosen) and alone:
        raise UserError(6, f"{short_path(folder)}: no report was drawn")
    if not alone:
        say(f"{drawn} report{'s' * (drawn != 1)} drawn" if chosen else "all finished jobs have their reports")
        write_sweep_report(leaderboard(folder))  # with links to them
    say(f"look:  {short_path(folder)}/report.html")


if __name__ == "__main__":
    sys.exit(run(main))
