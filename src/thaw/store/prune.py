"""Look after the store: list it, keep it within its size. Standard library only.

What is in use is never removed: every process marks what it uses (`store.Store.use`, `lock.marked`), and what was
marked within the last hour stays. Marks and `now` are both times of the store's own file system, so that no clocks of
different machines are compared.
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

UNDER_WAY = "underway"
SNAPSHOTS = ("snapshot", "previous")  # how the files of work under way begin
HOUR, DAY = 3600, 86400
KEY = re.compile(r"[0-9a-f]{32}")
OWN = re.compile(
    r"([0-9a-f]{32}|clock)\."
)  # the names of artifacts and shards that are not whole, and `file_system_time`'s


@dataclass(frozen=True)
class StoredFolder:
    """An artifact, a shard of one, or the snapshots of a cycle under way."""

    path: Path
    kind: str
    bytes: int
    used: float  # seconds, by the clock of the file system


def list_folder(path: Path) -> list[Path]:
    """What lies in a directory; nothing where it is a file, or another process removed it meanwhile."""
    try:
        return sorted(path.iterdir())
    except OSError:
        return []


def artifact_paths(root: Path) -> list[Path]:
    """Where artifacts, shards of them and snapshots lie."""
    artifacts = [path for kind in list_folder(root) for path in list_folder(kind)]
    return artifacts + [path for artifact in artifacts for path in list_folder(artifact)]


def entries(root: Path) -> list[StoredFolder]:
    """All that a run could find, used longest ago first."""
    found = []
    for path in artifact_paths(root):
        names = path.relative_to(root).parts
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            files = {file.name: file.stat() for file in list_folder(path) if file.is_file()}
            times = [files[DONE].st_mtime] if DONE in files else [file.st_mtime for file in files.values()]
            made = DONE in files and all(map(KEY.fullmatch, names[1:]))  # else somebody's folder, whose DONE.json it is
            under_way = names[0] == UNDER_WAY and all(file.startswith(SNAPSHOTS) for file in files)
            if times and (made or under_way) and "." not in "".join(names):
                found.append(StoredFolder(path, names[0], sum(file.st_size for file in files.values()), max(times)))
    return sorted(found, key=lambda entry: (entry.used, str(entry.path)))


def prune(root: Path, size: float) -> tuple[list[StoredFolder], int]:
    """Remove what was used longest ago until the rest is at most `size` bytes: what was removed, and the bytes left.

    Never what was used in the last hour. What dead processes left half made, and what was damaged, goes in any case.
    """
    now = file_system_time(root)
    remove_leftovers(root, now)
    there = entries(root)
    left, removed = sum(entry.bytes for entry in there), []
    for entry in there:
        if left <= size or now - entry.used < HOUR:
            break
        try:
            remove_folder(entry.path)
        except OSError:  # not ours to remove, in a store shared by many
            continue
        left -= entry.bytes
        removed.append(entry)
    return removed, left


def remove_leftovers(root: Path, now: float) -> None:
    """Remove what nobody can use: damaged, half removed, left behind by dead processes; of the store's own alone."""
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
    """Whether the store named it: a store may lie in a folder with other things, whose yarn.lock is not ours."""
    return bool(OWN.match(path.name)) or path.relative_to(root).parts[0] in (UNDER_WAY, "facts")


def is_abandoned(owner: str, age: float) -> bool:
    """Whether `host.pid` is of a dead process; of another machine's nobody knows, a day is enough for it."""
    host, _, pid = owner.rpartition(".")
    return is_dead(f"{host} {pid}") or age > DAY


def file_system_time(root: Path) -> float:
    """The time by the clock that stamps the store's files."""
    probe = root / f"clock.tmp.{process_id('.')}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)
