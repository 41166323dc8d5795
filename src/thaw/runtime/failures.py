"""Errors caused by the machine and not by thaw: memory, processes, files, libraries, the accelerator."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from thaw.runtime.errors import UserError, one_line_text

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
OWN = ("thaw", "hydra_plugins", "train")  # a missing module of these is our own bug
MACHINE_ERRORS = {
    errno.EACCES, errno.EDQUOT, errno.EEXIST, errno.EFBIG, errno.EIO, errno.EISDIR, errno.ELOOP, errno.EMFILE,
    errno.ENAMETOOLONG, errno.ENFILE, errno.ENODEV, errno.ENOLCK, errno.ENOMEM, errno.ENOSPC, errno.ENOTDIR,
    errno.ENXIO, errno.EPERM, errno.EROFS, errno.ESTALE,
}  # fmt: skip


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and the chain of its causes."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def machine_failure(error: BaseException) -> UserError | None:
    """Convert an error of the machine to a UserError (exit 5); return None if it is our own bug or names a file.

    Why a library cannot be loaded is often told only by the cause of its ImportError.
    """
    if isinstance(error, (OSError, RuntimeError)) and str(error).startswith("DataLoader worker"):
        why = str(error).partition(". It is possible")[0]
        return UserError(5, f"{why}: memory may have run out; try data.workers=0; finished work is in the store")
    if isinstance(error, FileNotFoundError) and not error.filename:  # as os.getcwd() raises it
        return UserError(5, "a folder no longer exists, perhaps the current one; cd to one that exists")
    for one in causes(error) if isinstance(error, ImportError) else (error,):
        if line := scarce(one):
            return UserError(5, line)
    if isinstance(error, ImportError):
        return missing(error)
    if is_accelerator_error(error):
        why = one_line_text(error)
        advice = "device=cpu works without it; finished work is in the store"
        return UserError(5, f"the accelerator failed ({why}); {advice}")
    return None


def scarce(error: BaseException) -> str | None:
    """Return a line with the resource that ran out and what to do; None for any other error."""
    number, text = error.errno if isinstance(error, OSError) else None, library_text(error)
    if isinstance(error, MemoryError) or number == errno.ENOMEM or is_out_of_memory(error):
        why = " ".join(str(error).partition(". ")[0].split())[:120]
        loading = isinstance(error, ImportError)
        instead = "end other programs, or raise the limit (ulimit -v)" if loading else "try a smaller batch_size"
        return f"out of memory{f' ({why})' if why else ''}; {instead}; finished work is in the store"
    if number in (errno.EMFILE, errno.ENFILE) or FILES.search(text):
        return "too many open files; raise the limit (ulimit -n), or try data.workers=0"
    if number == errno.EAGAIN or THREADS.search(text):
        return (
            "cannot start another thread or process; end other programs, raise the limit (ulimit -u), or try threads=1 "
            "data.workers=0"
        )
    return None


def missing(error: ImportError) -> UserError | None:
    """Return what to install for an import that failed; None if the module is one of thaw's own."""
    if (error.name or "").partition(".")[0] in OWN:
        return None
    if isinstance(error, ModuleNotFoundError):
        return UserError(5, f"the Python package of `import {error.name}` is not installed in this environment")
    why = one_line_text(error)
    return UserError(5, f"a library cannot be loaded ({why}); `make setup` installs what thaw needs from PyPI")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out. CUDA's error has its own type; others are known by their text."""
    return type(error).__name__ == "OutOfMemoryError" or bool(MEMORY.search(library_text(error)))


def library_text(error: BaseException) -> str:
    """Return an error's text if C or C++ code raised it, else "": other texts may repeat what the user typed."""
    kinds = (RuntimeError, ImportError, SystemError)
    return str(error) if isinstance(error, kinds) or type(error).__module__.startswith("cv2") else ""


def is_accelerator_error(error: BaseException) -> bool:
    """Return whether an accelerator, its driver or its libraries failed."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return "AcceleratorError" in kinds or (isinstance(error, RuntimeError) and bool(ACCELERATOR.search(str(error))))


def is_machine_error(error: BaseException) -> bool:
    """Return whether an error is an OSError about the disk or permissions, and so not our own bug."""
    return isinstance(error, OSError) and error.errno in MACHINE_ERRORS


def names_file(error: BaseException) -> bool:
    """Return whether an error is an OSError about a named file."""
    return isinstance(error, OSError) and bool(error.filename)


def machine_error(error: OSError, path: Path, doing: str = "write") -> UserError:
    """Convert an OSError to a UserError (exit 5) that names the file, or `path` if the error names none."""
    path = Path(os.fsdecode(error.filename)) if error.filename else path
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(next(p for p in (path, *path.absolute().parents) if p.exists())).free
        return UserError(
            5,
            f"disk full while writing {path} ({free / 1e6:.0f} MB free); finished work is in the store: free some "
            "space, then run the same command again to continue",
        )
    return UserError(5, f"cannot {doing} {path}: {os.strerror(error.errno) if error.errno else error}")
