"""What is done stays done: artifacts addressed by what they were made from. Standard library only.

`DIR/<kind>/<key>/` holds files and, written last, DONE.json with their sizes and SHA-256 and the parts of the key. An
artifact is built in a private temporary directory and published by one rename, so that a builder killed at any point
leaves nothing that a reader can see, and two builders of the same thing need no lock: the second drops its own.
"""

import errno
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from thaw.errors import UserError

DONE = "DONE.json"
FORMAT = 1


def key_of(parts: Mapping) -> str:
    """The address of what is made from these parts: SHA-256 of their canonical JSON, 32 hex digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Store:
    """Artifacts below one directory, which may be shared between processes and machines."""

    def __init__(self, root: Path, warn: Callable[[str], None] = lambda line: None):
        self.root = root
        self.warn = warn
        self.verified: set[Path] = set()

    def find(self, kind: str, key: str) -> Path | None:
        """The directory of an artifact that is there and whole, else None.

        Sizes are compared always, contents when this process first opens it; what is damaged is moved aside with a
        line of warning.
        """
        path = self.root / kind / key
        try:
            done = json.loads((path / DONE).read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            return self.move_aside(path, f"{DONE} cannot be read ({error})")
        for name, entry in done["files"].items():
            file = path / name
            if not file.is_file() or file.stat().st_size != entry["bytes"]:
                return self.move_aside(path, f"{name} is missing or cut short")
            if path not in self.verified and sha256_of(file) != entry["sha256"]:
                return self.move_aside(path, f"{name} is not what was written")
        self.verified.add(path)
        return path

    def move_aside(self, path: Path, why: str) -> None:
        for n in range(1000):
            aside = path.with_name(f"{path.name}.bad.{n}")
            if not aside.exists():
                path.rename(aside)
                break
        self.warn(f"store: {path.parent.name}/{path.name[:8]} is damaged ({why}); made again")

    def make(self, kind: str, parts: Mapping, build: Callable[[Path], None]) -> Path:
        """The directory of the artifact made from `parts`: the one that is there, or a new one filled by `build`.

        Errors: no room, a read-only disk, exit 5.
        """
        key = key_of(parts)
        if (path := self.find(kind, key)) is not None:
            return path
        path = self.root / kind / key
        temporary = path.with_name(f"{key}.tmp.{socket.gethostname()}.{os.getpid()}")
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            build(temporary)
            publish(temporary, path, parts)
        except OSError as error:
            raise machine_error(error, path) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self.verified.add(path)
        return path

    def like(self, kind: str, parts: Mapping) -> list[Path]:
        """The artifacts of a kind whose key holds all of `parts`, whatever else it holds."""
        out = []
        for done in sorted((self.root / kind).glob(f"*/{DONE}")):
            if "." not in done.parent.name:  # neither being built nor moved aside
                made = json.loads(done.read_text())["parts"]
                if {name: made.get(name) for name in parts} == parts and (path := self.find(kind, done.parent.name)):
                    out.append(path)
        return out

    def remember(self, name: str, facts: Mapping) -> None:
        """Keep small facts under a name, the last ones win. They only ever inform; nothing correct depends on them."""
        path = self.root / "facts" / f"{name}.json"
        temporary = path.with_name(f"{path.name}.tmp.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(facts))
            temporary.replace(path)
        except OSError as error:
            raise machine_error(error, path) from error

    def recall(self, name: str) -> dict:
        """The facts kept under a name, or none."""
        try:
            return json.loads((self.root / "facts" / f"{name}.json").read_text())
        except (OSError, ValueError):
            return {}


def publish(temporary: Path, path: Path, parts: Mapping) -> None:
    """Make a filled temporary directory the artifact at `path`, durably; keep the one that is there if another won."""
    files = {}
    for file in sorted(temporary.iterdir()):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
        files[file.name] = {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
    done = temporary / DONE
    with done.open("w") as opened:
        json.dump({"format": FORMAT, "files": files, "parts": parts}, opened, indent=1)
        opened.flush()
        os.fsync(opened.fileno())
    sync_directory(temporary)
    try:
        temporary.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def machine_error(error: OSError, path: Path) -> UserError:
    """An operating system's error as the line a person needs."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(next(p for p in (path, *path.parents) if p.exists())).free
        return UserError(5, f"disk full writing {path} ({free / 1e6:.0f} MB free); make room, the same command goes on")
    return UserError(5, f"cannot write {path}: {os.strerror(error.errno) if error.errno else error}")
