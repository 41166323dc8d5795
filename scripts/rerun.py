"""A run again, with other settings on top.

python scripts/rerun.py outputs/latest                      as it was; what is done comes from the store
python scripts/rerun.py outputs/latest fresh=true           as it was, trained anew
python scripts/rerun.py outputs/multirun/NAME/3 epochs=20   a job of a sweep, longer
python scripts/rerun.py RUN -m seed=0,1,2                   over seeds

A setting given here takes the place of the run's own. The command line is printed first.
"""

import os
import sys
from pathlib import Path

from thaw.config import run_names
from thaw.config.overrides import split_override
from thaw.config.paths import require_checkout
from thaw.runtime.console import say, say_text
from thaw.runtime.entry import run
from thaw.runtime.errors import UserError
from thaw.runtime.files import short_path
from thaw.sweep.jobs import read_jobs

require_checkout(__file__)


TRAIN = Path(__file__).resolve().parents[1] / "src/train.py"


def main() -> int:
    args = sys.argv[1:]
    if not args or {"-h", "--help"} & set(args):
        say_text(__doc__)
        return 0 if args else 2
    overrides = again(overrides_of(Path(args[0])), args[1:])
    say(run_names.typed_command(overrides))
    os.execv(sys.executable, [sys.executable, str(TRAIN), *overrides])  # its exit code and signals are those of the run


def overrides_of(run: Path) -> tuple[str, ...]:
    """What was typed for a run. Errors: no run is there, exit 6."""
    jobs = read_jobs(run)
    if not (run / "status.json").exists():
        raise UserError(
            6, f"{short_path(run)}: this is a sweep; give one of its jobs, e.g. {short_path(jobs[0].folder)}"
        )
    return jobs[0].overrides


def again(before: tuple[str, ...], more: list[str]) -> list[str]:
    """The overrides of a run with others after them: what is set anew is not said twice."""
    anew = {split_override(arg)[1] for arg in more}
    recipe = any(split_override(override)[1] == "experiment" for override in before)
    alone = [] if not recipe or {"-m", "--multirun"} & set(more) else ["hydra.mode=RUN"]  # it may start a sweep itself
    return [*(override for override in before if split_override(override)[1] not in anew), *alone, *more]


if __name__ == "__main__":
    sys.exit(run(main))
