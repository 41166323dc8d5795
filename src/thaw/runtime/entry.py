"""Start and end of every script: `if __name__ == "__main__": sys.exit(run(main))`."""

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
from thaw.runtime.console import discard, say_error, say_text
from thaw.runtime.errors import UserError, nearest
from thaw.runtime.failures import is_machine_error, machine_error, machine_failure, names_file
from thaw.runtime.job_status import internal_error, print_error
from thaw.runtime.signals import Stopped

TRACES = os.environ.get("HYDRA_FULL_ERROR") == "1"  # read here, because train.py sets it for Hydra later


def run(main: Callable[[], int | None]) -> int:
    """Call a script's `main` and return the exit code; report what `main` raises in one line on standard error.

    SystemExit passes through (argparse raises it after --help), and so does an internal error if HYDRA_FULL_ERROR=1.
    """
    signals.listen()
    warnings.showwarning = show_warning
    logging.lastResort = Complaints(logging.WARNING)
    code = 0
    try:
        code = main() or 0
        if sys.stdout:
            sys.stdout.flush()  # now, because at shutdown the interpreter would print an error for a broken pipe
        return code
    except KeyboardInterrupt as error:
        return end_stopped(error if isinstance(error, Stopped) else Stopped(signal.SIGINT))
    except BrokenPipeError:  # the reader has left (| head)
        discard(sys.stdout)
        return code
    except Exception as error:
        if (number := signals.pending()) and not isinstance(error, UserError):  # a library replaced our `Stopped`
            return end_stopped(Stopped(number))
        known = as_known(error)
        if TRACES and known is None:
            raise
        return print_error(known or internal_error(error))
    finally:
        gc.freeze()  # otherwise the interpreter spends a second at exit collecting torch's objects


def end_stopped(stopped: Stopped) -> int:
    """Report that a signal stopped the script and return the exit code."""
    for number in signals.EXIT:
        signal.signal(number, signal.SIG_IGN)  # another one during shutdown would print a traceback or kill us
    say_error(stopped.line)
    return stopped.code


def as_known(error: Exception) -> UserError | None:
    """Convert an error to a UserError, or return None if it is our own bug."""
    if isinstance(error, UserError):
        return error
    if failure := machine_failure(error):
        return failure
    if is_machine_error(error) or names_file(error):
        return machine_error(error, Path("a file"), "use")
    if isinstance(error, CalledProcessError):
        code = error.returncode if error.returncode > 0 else 128 - error.returncode
        return UserError(code, f"{' '.join(map(str, error.cmd[:2]))} failed with exit code {code}")
    return None


class Parser(argparse.ArgumentParser):
    """An argument parser that reports errors in one line, with exit code 2."""

    def __init__(self, description: str | None = None, **more):
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter, **more)

    def parse_known_args(self, args=None, namespace=None):
        """Parse as argparse does. Raise UserError (exit 2) for an empty argument: as a path it means this folder."""
        words = sys.argv[1:] if args is None else list(args)
        if any(not word or re.fullmatch("--[a-z-]+=", word) for word in words):
            self.error("an argument is empty; is a shell variable unset?")
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> None:
        raise UserError(2, f"{message}; see {self.prog} --help")

    def add_words(self, *parts: str) -> None:
        """Accept part names and settings of thaw, in any order, as the positional argument `words`."""

        def word(text: str) -> str:
            if text not in parts and "=" not in text and not text.startswith("~"):
                known = f"{nearest(text, parts)}; " if parts else ""
                raise argparse.ArgumentTypeError(f"{text!r}: {known}settings are written key=value")
            return text

        names = f"one of {', '.join(parts)}, or " if parts else ""
        self.add_argument("words", nargs="*", metavar="WORD", type=word, help=f"{names}a setting of thaw, key=value")

    def print_help(self, file=None) -> None:
        say_text(self.format_help().rstrip())


def refuse_to_run(doc: str, importer: str) -> None:
    """Print `doc` for --help; else raise UserError (exit 2): the module is for the script `importer` to import."""
    parser = Parser(doc)
    parser.parse_args()
    parser.error(f"imported by {importer}; run that instead")


def count(text: str) -> int:
    """Parse a whole number >= 1. Raise `ArgumentTypeError` for anything else."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number >= 1")
    return int(text)


def new_file(text: str) -> Path:
    """Return the path of an output file and create its folder. Raise UserError (exit 5) if it cannot be written."""
    path = Path(text).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if (existed := path.exists()) and not path.is_file():
            raise UserError(5, f"{path}: exists and is not a file")
        path.open("ab").close()
        if not existed:
            path.unlink()
    except OSError as error:
        raise machine_error(error, path) from None
    return path


class Complaints(logging.Handler):
    """The log handler of last resort: print what libraries log to standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        say_error(self.format(record))


def show_warning(message: Warning, category: type[Warning], filename: str, lineno: int, file=None, line=None) -> None:
    """Print a Python warning through `say_error`; replaces `warnings.showwarning`."""
    say_error(warnings.formatwarning(message, category, filename, lineno, line).rstrip())
