"""How a job ends: status.json, and where it does not end well one line and an exit code. Standard library only."""

import json
import re
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from thaw.disk import is_machine, machine_error, write_whole
from thaw.errors import BadFiles, UserError
from thaw.files import BAD_FILES, write_bad_files

ACCELERATOR = re.compile(
    "CUDA (error|driver)|NVIDIA driver|cuDNN|CUDNN_STATUS|CUBLAS_STATUS|unable to find an engine|MPS (backend|device)"
)
SHOWN = 5  # bad files that are named on the terminal
refusals: list[int] = []  # exit codes of this process; a full disk takes no status.json that tells them


def chain(error: BaseException | None):
    """An error and what it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def as_refusal(error: Exception | SystemExit, folder: Path) -> UserError:
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
    if is_machine(error):
        return machine_error(error, folder)
    if isinstance(error, FileNotFoundError):
        return UserError(5, f"{error.filename or error}: was there and is gone; the same command makes it again")
    if isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker"):
        why = str(error).partition(". It is possible")[0]
        return UserError(5, f"{why}: memory may be short; try data.workers=0; what is done is in the store")
    if isinstance(error, MemoryError) or short_of_memory(error):
        why = str(error).partition(". ")[0][:120]
        return UserError(
            5, f"out of memory{f' ({why})' if why else ''}; try a smaller batch_size; what is done is kept"
        )
    log = folder / "train.log"
    try:
        with log.open("a") as file:
            file.write(traceback.format_exc())
    except OSError:
        log = None
    if of_accelerator(error):
        why = " ".join(str(error).split())[:160]
        return UserError(5, f"the accelerator failed ({why}); device=cpu works without it; what is done is kept")
    return internal(error, log)


def short_of_memory(error: Exception) -> bool:
    """Return whether torch had no memory: CUDA's error has a type of its own, the CPU's and Apple's a text."""
    texts = ("allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return type(error).__name__ == "OutOfMemoryError" or any(text in str(error) for text in texts)


def of_accelerator(error: Exception) -> bool:
    """Return whether an accelerator, its driver or its libraries failed, not what was computed on it."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return "AcceleratorError" in kinds or (isinstance(error, RuntimeError) and bool(ACCELERATOR.search(str(error))))


def internal(error: Exception, log: Path | None = None) -> UserError:
    """Our own bug as a line."""
    where = f"; full trace in {log}" if log else "; HYDRA_FULL_ERROR=1 shows the trace"
    return UserError(1, f"internal: {type(error).__name__}: {str(error)[:120]}{where}; please report")


def refused(error: UserError) -> int:
    """Say why, the first of several files before the line; the exit code."""
    rows = error.rows if isinstance(error, BadFiles) else ()
    for path, reason in rows[:SHOWN]:
        print(f"  {path!r}: {reason}", file=sys.stderr)
    if len(rows) > SHOWN:
        print(f"  and {len(rows) - SHOWN:,} more", file=sys.stderr)
    print(f"error: {error.line}", file=sys.stderr)
    refusals.append(error.code)
    return error.code


def status_of(folder: Path) -> dict:
    """What status.json says, or nothing."""
    try:
        return json.loads((folder / "status.json").read_text())
    except (OSError, ValueError):
        return {}


def status(folder: Path, **fields) -> None:
    """status.json: running, done, or failed with code and line."""
    write_whole(folder / "status.json", json.dumps(fields, indent=1))


def said(folder: Path, **fields) -> dict:
    """What status.json says, with these fields changed there as far as the disk takes it."""
    fields = status_of(folder) | fields
    with suppress(OSError):
        status(folder, **fields)
    return fields
