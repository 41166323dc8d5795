"""How a job ends: status.json, and where it does not end well one line and an exit code."""

import os
import signal
import socket
import traceback
from contextlib import contextmanager, suppress
from pathlib import Path

from thaw.runtime.console import complain, one_line
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

CLOCKS_DIFFER = 60.0  # seconds, of this machine and of the one whose disk it is


FIELDS = {  # of status.json
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
SHOWN = 5  # bad files that are named on the terminal


def as_user_error(error: Exception | SystemExit, folder: Path) -> UserError:
    """Whatever ended a job, as a line: the user's doing, the machine's, or our own bug with its trace in train.log."""
    if isinstance(error, BadFiles):
        with suppress(OSError):
            write_bad_files(folder, error.rows)
            return BadFiles(f"{error.line}; all: {folder / BAD_FILES}", error.rows)
    if isinstance(error, UserError):
        return error
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) and error.code else 1
        return UserError(code, f"left by sys.exit({error.code}) before it was done")
    failure = machine_failure(error)
    if failure and (is_out_of_memory(error) or not is_accelerator_error(error)):
        return failure
    if is_machine_error(error):
        return machine_error(error, folder, "use")  # whether it was read or written is not known here
    if isinstance(error, FileNotFoundError):
        return UserError(5, f"{error.filename or error}: was there and is gone; the same command makes it again")
    log = folder / "train.log"
    try:
        with log.open("a") as file:
            file.write(traceback.format_exc())
    except OSError:
        log = None
    return failure or internal_error(error, log)


@contextmanager
def in_one_line(folder: Path):
    """Make whatever ends the block a `UserError`, or a `Stopped` where a signal asked for it."""
    try:
        yield
    except KeyboardInterrupt as error:
        number = getattr(error, "number", signal.SIGINT)
        raise error if getattr(error, "where", None) else Stopped(number, "before its end") from None
    except (Exception, SystemExit) as error:
        if (number := pending()) and not isinstance(error, UserError):  # of which a library made another
            raise Stopped(number, "before its end") from None
        raise as_user_error(error, folder) from None


def internal_error(error: Exception, log: Path | None = None) -> UserError:
    """Our own bug as a line."""
    where = f"; full trace in {log}" if log else "; HYDRA_FULL_ERROR=1 shows the trace"
    return UserError(1, f"internal: {type(error).__name__}: {str(error)[:120]}{where}; please report")


def print_error(error: UserError) -> int:
    """Say why, the first of several files before the line; the exit code."""
    rows = error.rows if isinstance(error, BadFiles) else ()
    for path, reason in rows[:SHOWN]:
        complain(f"  {path!r}: {reason}")
    if len(rows) > SHOWN:
        complain(f"  and {len(rows) - SHOWN:,} more")
    complain(one_line(f"error: {error.line}"))
    return error.code


def read_status(folder: Path) -> dict:
    """What status.json says, as far as it is what we write; nothing without one."""
    said = read_json(folder / "status.json")
    said = {name: value for name, value in said.items() if isinstance(value, FIELDS.get(name, object))}
    return said if all(isinstance(override, str) for override in said.get("overrides", [])) else {}


def write_status(folder: Path, **fields) -> None:
    """status.json: running, done, or failed with code and line."""
    write_atomically(folder / "status.json", json_text(fields, indent=1))


def update_status(folder: Path, **fields) -> dict:
    """What status.json says, with these fields changed there as far as the disk takes it."""
    fields = read_status(folder) | fields
    with suppress(OSError):
        write_status(folder, **fields)
    return fields


def is_gone(status: dict, since: float) -> bool:
    """Whether the process of a job that says it is running is no more; of another host's nobody here knows.

    since: when it said so. A process younger than that has its number after a restart of the machine. The process that
    asks has no job under way: one that names it could not write how it ended.
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
