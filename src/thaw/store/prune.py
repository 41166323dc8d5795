"""List the contents of the store, and keep it within its size.

Nothing in use is removed: every process marks what it uses (`store.Store.use`, `lock.marked`), and what was marked
within the last hour stays. Marks and `now` are both times of the store's own file system, so that clocks of different
machines are never compared.
"""

import contextlib
import re
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from thaw.runtime.files import remove_folder
from thaw.runtime.machine import is_dead, process_id
from thaw.store.lock import DONE

IN_PROGRESS = "underway"
SNAPSHOTS = ("snapshot", "previous")  # how the names of snapshot files begin
HOUR, DAY = 3600, 86400
KEY = re.compile(r"[0-9a-f]{32}")
# Names of what is unfinished, locked or damaged, and of the probe of `file_system_time`.
OWN = re.compile(r"([0-9a-f]{32}|clock)\.")


@dataclass(frozen=True)
class StoredFolder:
    """An artifact, a shard, or the snapshots of a cycle in progress."""

    path: Path
    kind: str
    bytes: int
    used: float  # time of the last use in seconds, by the file system's clock


def list_folder(path: Path) -> list[Path]:
    """Return the paths in a directory; none if it is a file, or another process removed it."""
    try:
        return sorted(path.iterdir())
    except OSError:
        return []


def artifact_paths(root: Path) -> list[Path]:
    """Return the folders that may be artifacts, shards or snapshots."""
    artifacts = [path for kind in list_folder(root) for path in list_folder(kind)]
    return artifacts + [path for artifact in artifacts for path in list_folder(artifact)]


def entries(root: Path) -> list[StoredFolder]:
    """Return everything that a run could find, least recently used first."""
    found = []
    for path in artifact_paths(root):
        names = path.relative_to(root).parts
        with contextlib.suppress(FileNotFoundError):  # another process removed it
            files = {file.name: file.stat() for file in list_folder(path) if file.is_file()}
            times = [files[DONE].st_mtime] if DONE in files else [file.st_mtime for file in files.values()]
            made = DONE in files and all(map(KEY.fullmatch, names[1:]))  # else another program's DONE.json
            under_way = names[0] == IN_PROGRESS and all(file.startswith(SNAPSHOTS) for file in files)
            if times and (made or under_way) and "." not in "".join(names):
                found.append(StoredFolder(path, names[0], sum(file.st_size for file in files.values()), max(times)))
    return sorted(found, key=lambda entry: (entry.used, str(entry.path)))


def prune(root: Path, size: float) -> tuple[list[StoredFolder], int]:
    """Remove the least recently used until at most `size` bytes are left; return what was removed and the bytes left.

    Keep what was used within the last hour. Always remove damaged artifacts and what dead processes left unfinished.
    """
    now = file_system_time(root)
    remove_leftovers(root, now)
    stored = entries(root)
    left, removed = sum(entry.bytes for entry in stored), []
    for entry in stored:
        if left <= size or now - entry.used < HOUR:
            break
        try:
            remove_folder(entry.path)
        except OSError:  # another user's, in a shared store
            continue
        left -= entry.bytes
        removed.append(entry)
    return removed, left


def remove_leftovers(root: Path, now: float) -> None:
    """Remove the store's own files that nobody can use: damaged, half removed, or left by dead processes."""
    for path in filter(partial(is_own_name, root), [*list_folder(root), *artifact_paths(root)]):
        with contextlib.suppress(OSError):
            name, age = path.name, now - path.stat().st_mtime
            if ".bad." in name or ".gone." in name:
                shutil.rmtree(path, ignore_errors=True)
            elif ".tmp." in name and is_abandoned(name.partition(".tmp.")[2], age):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
            elif name.endswith(".lock") and (is_dead(path.read_text()) or age > DAY):
                path.unlink()


def is_own_name(root: Path, path: Path) -> bool:
    """Return whether the store named a path: its folder may hold other files, such as a project's yarn.lock."""
    return bool(OWN.match(path.name)) or path.relative_to(root).parts[0] in (IN_PROGRESS, "facts")


def is_abandoned(owner: str, age: float) -> bool:
    """Return whether the process `host.pid` is dead; one of another machine counts as dead after a day."""
    host, _, pid = owner.rpartition(".")
    return is_dead(f"{host} {pid}") or age > DAY


def file_system_time(root: Path) -> float:
    """Return the time by the clock that stamps the store's files."""
    probe = root / f"clock.tmp.{process_id('.')}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)
