"""Files that are there as a whole or not at all, and what a disk refuses as a line. Standard library only."""

import contextlib
import errno
import os
import shutil
from pathlib import Path

from thaw.errors import UserError
from thaw.lock import me

MACHINE = {
    errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENODEV, errno.ENOLCK,
    errno.ENOMEM, errno.ENOSPC, errno.ENXIO, errno.EPERM, errno.EROFS, errno.ESTALE,
}  # fmt: skip


def new_folder(folder: Path) -> Path:
    """Make the folder, or where it exists (two starts in one second) the first free name after it. Errors: exit 5."""
    for name in (folder, *(folder.with_name(f"{folder.name}-{n}") for n in range(2, 1000))):
        try:
            name.mkdir(parents=True)
            return name
        except FileExistsError:
            continue
        except OSError as error:
            raise machine_error(error, name, "make") from None
    raise UserError(5, f"{folder}: so many of this name are there; give another")


def aside(path: Path) -> Path:
    """Where a directory lies now that its place is free for another; `thaw.tend` clears what a kill leaves there."""
    gone = path.with_name(f"{path.name}.gone.{me('.')}")
    with contextlib.suppress(FileNotFoundError):
        path.rename(gone)
    return gone


def discard(path: Path) -> None:
    """Remove a directory so that nobody finds half of it."""
    shutil.rmtree(aside(path), ignore_errors=True)


def write_whole(path: Path, text: str) -> None:
    """Write a file beside its place and rename it: it is there as a whole, or as it was before."""
    temporary = path.with_name(f"{path.name}.tmp.{me('.')}")
    try:
        temporary.write_text(text)
        sync(temporary)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Have what a file or a directory holds outlast a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_machine(error: BaseException) -> bool:
    """Whether an error is the machine's (its disk, its permissions) and not ours."""
    return isinstance(error, OSError) and error.errno in MACHINE


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


def state_of(found: os.stat_result) -> str:
    """What differs once a file was written, or another took its place: a folder that is renamed keeps the times of its
    files, and an archive gives all of them one."""
    return f"{found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"
