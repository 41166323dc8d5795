"""Show the progress of a sweep: the state of its jobs, the best so far, and the expected end.

python scripts/status.py                                         the latest run or sweep
python scripts/status.py outputs/multirun/NAME                   a given sweep or run
python scripts/status.py SWEEP --write --monitor valid/loss      also write the leaderboard and report.html so far

Reads only the files that the jobs leave. A job is dead if its status says running but its process on this machine has
ended; the same sweep command resumes it.
"""

import sys
import time
from pathlib import Path

from thaw.config.paths import OUTPUTS, require_checkout
from thaw.config.validate import CHOICES
from thaw.runtime.console import say
from thaw.runtime.entry import Parser, run
from thaw.runtime.errors import UserError
from thaw.runtime.files import short_path
from thaw.sweep.board import leaderboard
from thaw.sweep.status import status_lines

require_checkout(__file__)


def main() -> None:
    parser = Parser(__doc__)
    where = "folder of a sweep or a run (default: outputs/latest)"
    parser.add_argument("sweep", nargs="?", type=Path, default=OUTPUTS / "latest", metavar="SWEEP", help=where)
    parser.add_argument("--write", action="store_true", help="write leaderboard.md, .csv, .png and report.html")
    parser.add_argument(
        "--monitor", choices=CHOICES["monitor"], help="metric to compare by (default: that of the sweep)"
    )
    args = parser.parse_args()
    board = leaderboard(args.sweep.resolve(), args.monitor, paired=args.write)
    for line in status_lines(board, time.time()):
        say(line)
    if args.write:
        write(board)


def write(board) -> None:
    """Write the sweep's report. Raise UserError: exit 6 if no job is done or it is a run, exit 5 if writing fails."""
    from thaw.sweep.page import write_sweep_report

    if not board.settings:
        raise UserError(6, f"{short_path(board.folder)}: no job has a result yet")
    if (board.folder / "result.json").exists():
        raise UserError(6, f"{short_path(board.folder)}: this is a single run, which has its own report.html")
    try:
        write_sweep_report(board)
    except OSError as error:
        raise UserError(5, f"cannot write {error.filename or board.folder}: {error.strerror}") from error
    say(f"written: {short_path(board.folder)}/report.html, leaderboard.md, .csv, .png")


if __name__ == "__main__":
    sys.exit(run(main))
