"""Publish a filled folder as an artifact, with the SHA-256 of its files, by one rename."""

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from thaw.runtime.failures import is_machine_error, machine_error
from thaw.runtime.files import json_text, rename_away, sync
from thaw.store.lock import DONE

FORMAT = 1


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def publish(temporary: Path, path: Path, parts: Mapping, replace: bool) -> int:
    """Turn a filled temporary directory into the artifact at `path`, durably; `replace` one that exists.

    Return the bytes added: 0 if another process has published the artifact first.
    """
    files = {}
    for file in sorted(temporary.iterdir()):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
        files[file.name] = {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
    done = temporary / DONE
    with done.open("w") as opened:
        opened.write(json_text({"format": FORMAT, "files": files, "parts": parts}, indent=1))
        opened.flush()
        os.fsync(opened.fileno())
    sync(temporary)
    old = rename_away(path) if replace else None  # as late as possible, because others may be reading it
    try:
        temporary.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return 0
    finally:
        if old:
            shutil.rmtree(old, ignore_errors=True)
    sync(path.parent)
    return sum(entry["bytes"] for entry in files.values())


@contextlib.contextmanager
def machine_errors(path: Path):
    """Turn a disk error into a UserError (exit 5)."""
    try:
        yield
    except OSError as error:
        if not is_machine_error(error) and error.errno != errno.ENOTDIR:  # a file where a folder should be
            raise
        raise machine_error(error, path) from error
