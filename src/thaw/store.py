"""What is done stays done: artifacts addressed by what they were made from. Standard library only.

`DIR/<kind>/<key>/` holds files and, written last, DONE.json with their sizes and SHA-256 and the parts of the key. An
artifact is built in a private temporary directory and published by one rename, so that a builder killed at any point
leaves nothing that a reader can see, and two builders of the same thing need no lock: the second drops its own.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from thaw import signals
from thaw.errors import UserError

DONE = "DONE.json"
FORMAT = 1
TOUCH_SECONDS = 5.0
STALE_SECONDS = 30.0  # a lock that nobody touched for so long is nobody's
POLL_SECONDS = 0.2


def key_of(parts: Mapping) -> str:
    """The address of what is made from these parts: SHA-256 of their canonical JSON, 32 hex digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Store:
    """Artifacts below one directory, which may be shared between processes and machines."""

    def __init__(
        self, root: Path, warn: Callable[[str], None] = lambda line: None, wait_s: float = 0.0, anew: tuple = ()
    ):
        self.root = root
        self.warn = warn
        self.wait_s = wait_s
        self.anew = anew  # kinds that are made again though they are there
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

        Where another process is making it, wait for that up to `wait_s`, then make a private copy: correctness never
        depends on the lock, only double work does. Errors: no room, a read-only disk, exit 5.
        """
        key = key_of(parts)
        path = self.root / kind / key
        found = self.find(kind, key) if kind not in self.anew else None
        if found is None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with claim(path, self.wait_s, self.warn):
                    found = self.find(kind, key) if kind not in self.anew else None
                    if found is None:
                        self.build(path, parts, build)
            except OSError as error:
                raise machine_error(error, path) from error
        self.verified.add(path)
        with contextlib.suppress(OSError):  # the oldest use is pruned first
            os.utime(path / DONE)
        return path

    def build(self, path: Path, parts: Mapping, build: Callable[[Path], None]) -> None:
        """Fill a private temporary directory and publish it as `path`."""
        temporary = path.with_name(f"{path.name}.tmp.{socket.gethostname()}.{os.getpid()}")
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            build(temporary)
            publish(temporary, path, parts)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

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


@contextlib.contextmanager
def claim(path: Path, wait_s: float, say: Callable[[str], None]):
    """Hold `path`.lock, or go on without it: after `wait_s`, or where locks cannot be made.

    Ends early when the artifact appears. A holder touches its lock every few seconds; whether it still does is judged
    by own observation, never by comparing clocks, and a holder that died on this machine is not waited for.
    """
    lock = path.with_name(f"{path.name}.lock")
    started = seen_at = time.monotonic()
    seen, said, held = None, False, False
    while not (path / DONE).exists():
        try:
            descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            os.write(descriptor, f"{socket.gethostname()} {os.getpid()}".encode())
            os.close(descriptor)
            held = True
            break
        except FileExistsError:
            pass
        except OSError:
            break
        now = time.monotonic()
        try:
            touched, holder = lock.stat().st_mtime_ns, lock.read_text()
        except OSError:
            continue  # it was just given back
        if touched != seen:
            seen, seen_at = touched, now
        if now - seen_at > STALE_SECONDS or dead(holder):
            lock.unlink(missing_ok=True)
            continue
        if now - started >= wait_s:
            break
        if not said:
            say(f"waiting for {path.parent.name}/{path.name[:8]}, which {holder.replace(' ', ':')} is making")
            said = True
        if number := signals.pending():
            signals.leave(number, "while waiting for another job")
        time.sleep(POLL_SECONDS)
    stop = threading.Event()
    if held:
        threading.Thread(target=keep_touching, args=(lock, stop), daemon=True).start()
    try:
        yield
    finally:
        stop.set()
        if held:
            lock.unlink(missing_ok=True)


def keep_touching(lock: Path, stop: threading.Event) -> None:
    while not stop.wait(TOUCH_SECONDS):
        with contextlib.suppress(OSError):
            os.utime(lock)


def dead(holder: str) -> bool:
    """Whether the lock is of a process of this machine that is no more."""
    host, _, pid = holder.partition(" ")
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


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
