"""Errors that are the machine's and not ours: of memory, processes, files, libraries, accelerator."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from thaw.runtime.errors import UserError, in_a_line

ACCELERATOR = re.compile(
    "CUDA (error|driver)|NVIDIA driver|cuDNN|CUDNN_STATUS|CUBLAS_STATUS|unable to find an engine|MPS (backend|device)"
)
MEMORY = re.compile(
    "allocate memory|out of memory|CUBLAS_STATUS_ALLOC_FAILED|failed to map|cannot map zero-fill|bad_?alloc|"
    "insufficient memory|unable to allocate",
    re.I,
)
THREADS = re.compile("can't start new thread|resource temporarily unavailable|thread creation failed", re.I)
FILES = re.compile("too many open files", re.I)
OWN = ("thaw", "hydra_plugins", "train")  # whose modules are ours to have
MACHINE_ERRORS = {
    errno.EACCES, errno.EDQUOT, errno.EEXIST, errno.EFBIG, errno.EIO, errno.EISDIR, errno.ELOOP, errno.EMFILE,
    errno.ENAMETOOLONG, errno.ENFILE, errno.ENODEV, errno.ENOLCK, errno.ENOMEM, errno.ENOSPC, errno.ENOTDIR,
    errno.ENXIO, errno.EPERM, errno.EROFS, errno.ESTALE,
}  # fmt: skip


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def machine_failure(error: BaseException) -> UserError | None:
    """Return the line for an error of the machine, exit 5; None for one that is ours or names a file.

    What a library could not be loaded for stands in what its error came from.
    """
    if isinstance(error, (OSError, RuntimeError)) and str(error).startswith("DataLoader worker"):
        why = str(error).partition(". It is possible")[0]
        return UserError(5, f"{why}: memory may be short; try data.workers=0; what is done is in the store")
    if isinstance(error, FileNotFoundError) and not error.filename:  # as os.getcwd() raises it
        return UserError(5, "a folder is gone, perhaps the one that this was started in; cd to one that is there")
    for one in causes(error) if isinstance(error, ImportError) else (error,):
        if line := scarce(one):
            return UserError(5, line)
    if isinstance(error, ImportError):
        return missing(error)
    if is_accelerator_error(error):
        why = in_a_line(error)
        return UserError(5, f"the accelerator failed ({why}); device=cpu works without it; what is done is kept")
    return None


def scarce(error: BaseException) -> str | None:
    """Return what the machine has not enough of, and how to need less."""
    number, text = error.errno if isinstance(error, OSError) else None, said_by_library(error)
    if isinstance(error, MemoryError) or number == errno.ENOMEM or is_out_of_memory(error):
        why = " ".join(str(error).partition(". ")[0].split())[:120]
        loading = isinstance(error, ImportError)
        instead = "end other programs, or allow more (ulimit -v)" if loading else "try a smaller batch_size"
        return f"out of memory{f' ({why})' if why else ''}; {instead}; what is done is kept"
    if number in (errno.EMFILE, errno.ENFILE) or FILES.search(text):
        return "too many open files (ulimit -n); allow more, or try data.workers=0"
    if number == errno.EAGAIN or THREADS.search(text):
        return "no more threads or processes can be started (ulimit -u); end others, or try threads=1 data.workers=0"
    return None


def missing(error: ImportError) -> UserError | None:
    """Return what has to be installed for an import; None where the module would be ours."""
    if (error.name or "").partition(".")[0] in OWN:
        return None
    if isinstance(error, ModuleNotFoundError):
        return UserError(5, f"the Python package of `import {error.name}` is not installed in this environment")
    why = in_a_line(error)
    return UserError(5, f"a library cannot be loaded ({why}); `make setup` installs what thaw needs from PyPI")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether there was no memory: CUDA's error has a type of its own, that of others a text."""
    return type(error).__name__ == "OutOfMemoryError" or bool(MEMORY.search(said_by_library(error)))


def said_by_library(error: BaseException) -> str:
    """Return the text of an error that C or C++ raises, where it alone tells; none that a user may have typed."""
    kinds = (RuntimeError, ImportError, SystemError)
    return str(error) if isinstance(error, kinds) or type(error).__module__.startswith("cv2") else ""


def is_accelerator_error(error: BaseException) -> bool:
    """Return whether an accelerator, its driver or its libraries failed, not what was computed on it."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return "AcceleratorError" in kinds or (isinstance(error, RuntimeError) and bool(ACCELERATOR.search(str(error))))


def is_machine_error(error: BaseException) -> bool:
    """Whether an error is the machine's (its disk, its permissions) and not ours."""
    return isinstance(error, OSError) and error.errno in MACHINE_ERRORS


def names_file(error: BaseException) -> bool:
    """Return whether an error is the operating system's about a file."""
    return isinstance(error, OSError) and bool(error.filename)


def machine_error(error: OSError, path: Path, doing: str = "write") -> UserError:
    """An operating system's error as the line a person needs."""
    path = Path(os.fsdecode(error.filename)) if error.filename else path
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(next(p for p in (path, *path.absolute().parents) if p.exists())).free
        return UserError(
            5,
            f"disk full writing {path} ({free / 1e6:.0f} MB free); what is done is in the store: make room, then the "
            "same command goes on",
        )
    return UserError(5, f"cannot {doing} {path}: {os.strerror(error.errno) if error.errno else error}")
