"""How a job ends: its status.json and, if it fails or is stopped, one line and an exit code."""

import os
import signal
import socket
import traceback
from contextlib import contextmanager, suppress
from pathlib import Path

from thaw.runtime.console import one_line, say_error
from thaw.runtime.errors import BadFiles, UserError
from thaw.runtime.failures import (
    is_accelerator_error,
    is_machine_error,
    is_out_of_memory,
    machine_error,
    machine_failure,
)
from thaw.runtime.files import BAD_FILES, json_text, read_json, write_atomically, write_bad_files
from thaw.runtime.machine import process_start
from thaw.runtime.signals import Stopped, pending

CLOCKS_DIFFER = 60.0  # seconds by which this machine's clock may differ from that of a network disk
FIELDS = {  # types in status.json
    "state": str,
    "code": int,
    "line": str,
    "pid": int,
    "host": str,
    "overrides": list,
    "command": str,
    "stamp": str | None,
    "waits_for": str | None,
    "wandb_offline": str | None,
}
SHOWN = 5  # bad files named on the terminal


def as_user_error(error: Exception | SystemExit, folder: Path) -> UserError:
    """Convert what ended a job to a UserError; append the traceback of an internal error to train.log."""
    if isinstance(error, BadFiles):
        with suppress(OSError):
            write_bad_files(folder, error.rows)
            return BadFiles(f"{error.line}; all are listed in {folder / BAD_FILES}", error.rows)
    if isinstance(error, UserError):
        return error
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) and error.code else 1
        return UserError(code, f"sys.exit({error.code}) ended the job before it was done")
    failure = machine_failure(error)
    if failure and (is_out_of_memory(error) or not is_accelerator_error(error)):
        return failure
    if is_machine_error(error):
        return machine_error(error, folder, "use")  # unknown here: was it read or written?
    if isinstance(error, FileNotFoundError):
        return UserError(5, f"{error.filename or error}: no longer exists; run the same command again to recreate it")
    log = folder / "train.log"
    try:
        with log.open("a") as file:
            file.write(traceback.format_exc())
    except OSError:
        log = None
    return failure or internal_error(error, log)


@contextmanager
def as_user_errors(folder: Path):
    """Convert any exception of the block to a `UserError`, or to a `Stopped` if a signal ended it."""
    try:
        yield
    except KeyboardInterrupt as error:
        number = getattr(error, "number", signal.SIGINT)
        raise error if getattr(error, "where", None) else Stopped(number, "before the end") from None
    except (Exception, SystemExit) as error:
        if (number := pending()) and not isinstance(error, UserError):  # a library replaced our `Stopped`
            raise Stopped(number, "before the end") from None
        raise as_user_error(error, folder) from None


def internal_error(error: Exception, log: Path | None = None) -> UserError:
    """Convert a bug of our own to a UserError (exit 1). `log`: the file with the traceback."""
    where = f"; full traceback in {log}" if log else "; HYDRA_FULL_ERROR=1 shows the traceback"
    return UserError(1, f"internal: {type(error).__name__}: {str(error)[:120]}{where}; please report")


def print_error(error: UserError) -> int:
    """Print an error, after the first few of its bad files, and return its exit code."""
    rows = error.rows if isinstance(error, BadFiles) else ()
    for path, reason in rows[:SHOWN]:
        say_error(f"  {path!r}: {reason}")
    if len(rows) > SHOWN:
        say_error(f"  and {len(rows) - SHOWN:,} more")
    say_error(one_line(f"error: {error.line}"))
    return error.code


def read_status(folder: Path) -> dict:
    """Read the fields of status.json whose type is right; {} if there is no file."""
    said = read_json(folder / "status.json")
    said = {name: value for name, value in said.items() if isinstance(value, FIELDS.get(name, object))}
    return said if all(isinstance(override, str) for override in said.get("overrides", [])) else {}


def write_status(folder: Path, **fields) -> None:
    """Write status.json. `state`: running, done, failed, stopped or waiting; the last three have a code and a line."""
    write_atomically(folder / "status.json", json_text(fields, indent=1))


def state_after(error: UserError | Stopped) -> str:
    """Return the state of a job that ended with this error: one that Slurm has requeued waits for its next start."""
    if isinstance(error, Stopped):
        return "waiting" if error.requeued else "stopped"
    return "failed"


def update_status(folder: Path, **fields) -> dict:
    """Change fields of status.json and return all of them, even if the file cannot be written."""
    fields = read_status(folder) | fields
    with suppress(OSError):
        write_status(folder, **fields)
    return fields


def is_gone(status: dict, since: float) -> bool:
    """Return whether the process of a job in state "running" has ended; False if it runs on another host.

    `since`: when the status was written. A process that started later has reused the number. The same holds for the
    calling process, which has no job under way.
    """
    pid = status.get("pid")
    if status.get("host") not in (None, socket.gethostname()) or not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        pass
    return pid == os.getpid() or process_start(pid) > since + CLOCKS_DIFFER
