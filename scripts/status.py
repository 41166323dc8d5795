"""Where a sweep is: running, waiting, done, failed, stopped, dead; best so far; expected end.

python scripts/status.py                                    of outputs/latest
python scripts/status.py outputs/multirun/NAME              of a sweep, or of a run
python scripts/status.py SWEEP --write --monitor valid/loss leaderboard and report.html of what is done so far

Reads the files that the jobs leave, and nothing else. A job counts as dead where it says that it is running, but its
process on this machine is gone; the same sweep command again goes on with it.
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
    parser.add_argument("sweep", nargs="?", type=Path, default=OUTPUTS / "latest", help="(outputs/latest)")
    parser.add_argument("--write", action="store_true", help="write leaderboard.md, .csv, .png and report.html")
    parser.add_argument("--monitor", choices=CHOICES["monitor"], help="compare by that instead of the sweep's own")
    args = parser.parse_args()
    board = leaderboard(args.sweep.resolve(), args.monitor, paired=args.write)
    for line in status_lines(board, time.time()):
        say(line)
    if args.write:
        write(board)


def write(board) -> None:
    """Errors: no job is done, exit 6; no room or no right to write there, exit 5."""
    from thaw.sweep.page import write_sweep_report

    if not board.settings:
        raise UserError(6, f"{short_path(board.folder)}: no job has a result yet")
    if (board.folder / "result.json").exists():
        raise UserError(6, f"{short_path(board.folder)}: this is one run, its report.html is there already")
    try:
        write_sweep_report(board)
    except OSError as error:
        raise UserError(5, f"cannot write {error.filename or board.folder}: {error.strerror}") from error
    say(f"written: {short_path(board.folder)}/report.html, leaderboard.md, .csv, .png")


if __name__ == "__main__":
    sys.exit(run(main))
