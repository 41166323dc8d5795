"""How a script starts and ends: `if __name__ == "__main__": sys.exit(run(main))`."""

import argparse
import gc
import logging
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from subprocess import CalledProcessError

from thaw.runtime import signals
from thaw.runtime.console import complain, discard, say_text
from thaw.runtime.errors import UserError, nearest
from thaw.runtime.failures import is_machine_error, machine_error, machine_failure, names_file
from thaw.runtime.job_status import internal_error, print_error
from thaw.runtime.signals import Stopped

TRACES = os.environ.get("HYDRA_FULL_ERROR") == "1"  # as Hydra reads it; and before train.py sets it for Hydra


def run(main: Callable[[], int | None]) -> int:
    """Call a script's `main` and return the exit code, after a line on standard error for what `main` raises.

    Errors: our own bug, where tracebacks are wanted; SystemExit, by which argparse leaves after --help.
    """
    signals.listen()
    warnings.showwarning = show_warning
    logging.lastResort = Complaints(logging.WARNING)
    code = 0
    try:
        code = main() or 0
        if sys.stdout:
            sys.stdout.flush()  # what others wrote; at shutdown the interpreter would tell of a broken pipe
        return code
    except KeyboardInterrupt as error:
        return end_stopped(error if isinstance(error, Stopped) else Stopped(signal.SIGINT))
    except BrokenPipeError:  # whoever read along has left (| head)
        discard(sys.stdout)
        return code
    except Exception as error:
        if (number := signals.pending()) and not isinstance(error, UserError):  # of which a library made another
            return end_stopped(Stopped(number))
        known = as_known(error)
        if TRACES and known is None:
            raise
        return print_error(known or internal_error(error))
    finally:
        gc.freeze()  # else the interpreter, as it ends, looks for garbage among all that torch has made, for a second


def end_stopped(stopped: Stopped) -> int:
    """Say that a signal ended it; return the exit code."""
    for number in signals.EXIT:
        signal.signal(number, signal.SIG_IGN)  # while the interpreter ends it would take them as it does by default
    complain(stopped.line)
    return stopped.code


def as_known(error: Exception) -> UserError | None:
    """Return an error as the line a person needs, or None where it is our own bug."""
    if isinstance(error, UserError):
        return error
    if failure := machine_failure(error):
        return failure
    if is_machine_error(error) or names_file(error):
        return machine_error(error, Path("a file"), "use")
    if isinstance(error, CalledProcessError):
        code = error.returncode if error.returncode > 0 else 128 - error.returncode
        return UserError(code, f"{' '.join(map(str, error.cmd[:2]))}: exit {code}")
    return None


class Parser(argparse.ArgumentParser):
    """Parse a script's words; refuse them as everything here does, in one line with exit code 2."""

    def __init__(self, description: str | None = None, **more):
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter, **more)

    def parse_known_args(self, args=None, namespace=None):
        """As argparse does. Errors: an empty word, which would mean the folder that one stands in, exit 2."""
        words = sys.argv[1:] if args is None else list(args)
        if any(not word or re.fullmatch("--[a-z-]+=", word) for word in words):
            self.error("a word is empty, as of a variable that is not set")
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> None:
        raise UserError(2, f"{message}; see {self.prog} --help")

    def add_words(self, *parts: str) -> None:
        """Take as `words` names of parts and settings of thaw, in any order."""

        def word(text: str) -> str:
            if text not in parts and "=" not in text and not text.startswith("~"):
                known = f"{nearest(text, parts)}; " if parts else ""
                raise argparse.ArgumentTypeError(f"{text!r}: {known}settings are written key=value")
            return text

        names = f"of {', '.join(parts)}; " if parts else ""
        self.add_argument("words", nargs="*", metavar="WORD", type=word, help=f"{names}settings of thaw, key=value")

    def print_help(self, file=None) -> None:
        say_text(self.format_help().rstrip())


def count(text: str) -> int:
    """Return a typed number of things. Errors: `ArgumentTypeError`, not a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number >= 1")
    return int(text)


def new_file(text: str) -> Path:
    """Return the path of a file that can be written, its folder made. Errors: it cannot, exit 5."""
    path = Path(text).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if (there := path.exists()) and not path.is_file():
            raise UserError(5, f"{path}: is no file")
        path.open("ab").close()
        if not there:
            path.unlink()
    except OSError as error:
        raise machine_error(error, path) from None
    return path


class Complaints(logging.Handler):
    """Show what libraries log, where nothing else does."""

    def emit(self, record: logging.LogRecord) -> None:
        complain(self.format(record))


def show_warning(message: Warning, category: type[Warning], filename: str, lineno: int, file=None, line=None) -> None:
    """Show a warning of Python's, in the place of `warnings.showwarning`."""
    complain(warnings.formatwarning(message, category, filename, lineno, line).rstrip())
