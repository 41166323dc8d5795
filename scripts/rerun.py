"""A run again, with other settings on top.

python scripts/rerun.py outputs/latest                      as it was; what is done comes from the store
python scripts/rerun.py outputs/latest fresh=true           as it was, trained anew
python scripts/rerun.py outputs/multirun/NAME/3 epochs=20   a job of a sweep, longer
python scripts/rerun.py RUN -m seed=0,1,2                   over seeds

A setting given here takes the place of the run's own. The command line is printed first.
"""

import os
import signal
import sys
from pathlib import Path

from thaw.config.command_line import join_torn
from thaw.config.conf_files import phase_names
from thaw.config.flags import config_dirs, flags_and_rest
from thaw.config.overrides import split_override
from thaw.config.paths import CONF, require_checkout
from thaw.config.run_names import is_within, typed_command
from thaw.runtime import signals
from thaw.runtime.console import say, say_text
from thaw.runtime.entry import run
from thaw.runtime.errors import UserError
from thaw.runtime.files import short_path
from thaw.runtime.job_status import read_status
from thaw.sweep.jobs import read_jobs

require_checkout(__file__)


TRAIN = Path(__file__).resolve().parents[1] / "src/train.py"


def main() -> int:
    args = sys.argv[1:]
    if not args or {"-h", "--help"} & set(args):
        say_text(__doc__)
        return 0 if args else 2
    words = again(overrides_of(Path(args[0])), args[1:])
    say(typed_command(words))
    signal.pthread_sigmask(signal.SIG_BLOCK, signals.EXIT)  # until the other program listens
    try:
        os.execv(sys.executable, [sys.executable, str(TRAIN), *words])  # its exit code and signals are those of the run
    except (OSError, ValueError) as error:  # too long, or of characters that no command has
        raise UserError(6, f"{args[0]}: what was typed for it cannot be typed again ({error})") from None


def overrides_of(run: Path) -> list[str]:
    """Return what was typed for a run. Errors: no run is there, or its record of that is damaged, exit 6."""
    jobs = read_jobs(run)
    if not (run / "status.json").exists():
        raise UserError(
            6, f"{short_path(run)}: this is a sweep; give one of its jobs, e.g. {short_path(jobs[0].folder)}"
        )
    if not (jobs[0].overrides or "overrides" in read_status(run)):
        raise UserError(6, f"{short_path(run)}: its status.json is damaged, what was typed for it is lost")
    return list(jobs[0].overrides)


def again(before: list[str], more: list[str]) -> list[str]:
    """The words of a run with others after them: what is set anew is not said twice.

    A phase that is taken away takes along what was set of it, and setting one anew brings it back.
    """
    flags, settings = flags_and_rest(more)
    settings = join_torn(settings)
    anew = [split_override(word)[1] for word in (*settings, *flags)]
    parts = [split_override(word) for word in settings]
    gone = tuple(key for sign, key, _ in parts if sign == "~")
    whole = tuple(key for _, key, value in parts if value and value.startswith("{"))
    kept = [word for word in before if not is_set_anew(word, anew, gone + whole)]
    known = phase_names(kept, CONF, *config_dirs([*kept, *flags]))
    idle = [f"~checklist.{name}" for name in (key.removeprefix("checklist.") for key in gone) if name not in known]
    was_there = {split_override(word)[1] for word in before}
    settings = [word for word in settings if not (word in idle and split_override(word)[1] in was_there)]
    recipe = any(split_override(word)[1] == "experiment" for word in kept)
    modes = {"-m", "--multirun"} & set(flags) or "hydra.mode" in anew
    alone = ["hydra.mode=RUN"] if recipe and not modes else []  # else its own sweep may start
    return [*kept, *alone, *flags, *settings]


def is_set_anew(word: str, anew: list[str], whole: tuple[str, ...]) -> bool:
    """Return whether a word of a run is replaced by keys that are set anew; `whole` ones replace all below them too."""
    sign, key, _ = split_override(word)
    restored = sign == "~" and any(is_within(other, (key,)) for other in anew)
    return key in anew or is_within(key, whole) or restored


if __name__ == "__main__":
    sys.exit(run(main))
