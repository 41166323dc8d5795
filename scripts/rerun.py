"""Repeat a run, optionally with other settings.

python scripts/rerun.py outputs/latest                      unchanged; finished work is taken from the store
python scripts/rerun.py outputs/latest fresh=true           unchanged, but trained again
python scripts/rerun.py outputs/multirun/NAME/3 epochs=20   a job of a sweep, with more epochs
python scripts/rerun.py RUN -m seed=0,1,2                   as a sweep over seeds

Settings given here replace those of the run. The resulting command line is printed first.
"""

import os
import signal
import sys
from pathlib import Path

from thaw.config.command_line import join_split_arguments
from thaw.config.conf_files import phase_names
from thaw.config.flags import config_dirs, flags_and_rest
from thaw.config.overrides import split_override
from thaw.config.paths import CONF, require_checkout
from thaw.config.run_names import is_within, typed_command
from thaw.runtime import signals
from thaw.runtime.console import say
from thaw.runtime.entry import Parser, run
from thaw.runtime.errors import UserError
from thaw.runtime.files import short_path
from thaw.runtime.job_status import read_status
from thaw.sweep.jobs import single_run

require_checkout(__file__)


TRAIN = Path(__file__).resolve().parents[1] / "src/train.py"


def main() -> int:
    args = sys.argv[1:]
    if not args or {"-h", "--help"} & set(args):
        parser = Parser(__doc__)  # for its help only: all other words are those of train.py
        parser.add_argument("run", metavar="RUN", help="folder of a run, or of a job of a sweep")
        parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings and flags of src/train.py")
        parser.print_help()
        return 0 if args else 2
    words = merge_words(overrides_of(Path(args[0])), args[1:])
    say(typed_command(words))
    signal.pthread_sigmask(signal.SIG_BLOCK, signals.EXIT)  # until train.py handles signals
    try:
        os.execv(sys.executable, [sys.executable, str(TRAIN), *words])  # the run's exit code and signals become ours
    except (OSError, ValueError) as error:  # too long, or with characters that no command can hold
        raise UserError(6, f"{args[0]}: its command line cannot be used again ({error})") from None


def overrides_of(run: Path) -> list[str]:
    """Return the overrides of a run. Raise UserError (exit 6) if it is not a run or its record is damaged."""
    job = single_run(run)
    if not (job.overrides or "overrides" in read_status(run)):
        raise UserError(6, f"{short_path(run)}: its status.json is damaged, so its settings are lost")
    return list(job.overrides)


def merge_words(before: list[str], more: list[str]) -> list[str]:
    """Return the words of a run followed by new ones, without old words that the new ones replace.

    Removing a phase also removes its settings; setting a removed phase again restores it.
    """
    flags, settings = flags_and_rest(more)
    settings = join_split_arguments(settings)
    new_keys = [split_override(word)[1] for word in (*settings, *flags)]
    parts = [split_override(word) for word in settings]
    removed = tuple(key for sign, key, _ in parts if sign == "~")
    whole = tuple(key for _, key, value in parts if value and value.startswith("{"))
    kept = [word for word in before if not is_replaced(word, new_keys, removed + whole)]
    known = phase_names(kept, CONF, *config_dirs([*kept, *flags]))
    no_ops = [f"~checklist.{name}" for name in (key.removeprefix("checklist.") for key in removed) if name not in known]
    old_keys = {split_override(word)[1] for word in before}
    settings = [word for word in settings if not (word in no_ops and split_override(word)[1] in old_keys)]
    recipe = any(split_override(word)[1] == "experiment" for word in kept)
    several = any(key == "seeds" and value != "1" for _, key, value in parts)
    modes = {"-m", "--multirun"} & set(flags) or "hydra.mode" in new_keys or several
    single_run = ["hydra.mode=RUN"] if recipe and not modes else []  # or the recipe's own sweep could start
    return [*kept, *single_run, *flags, *settings]


def is_replaced(word: str, new_keys: list[str], whole: tuple[str, ...]) -> bool:
    """Return whether new keys replace a word of a run; keys in `whole` also replace everything below them."""
    sign, key, _ = split_override(word)
    restored = sign == "~" and any(is_within(other, (key,)) for other in new_keys)
    return key in new_keys or is_within(key, whole) or restored


if __name__ == "__main__":
    sys.exit(run(main))
