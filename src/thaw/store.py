"""What is done stays done: artifacts addressed by what they were made from. Standard library only.

`DIR/<kind>/<key>/` holds files and, written last, DONE.json with their sizes and SHA-256 and the parts of the key. An
artifact is built in a private temporary directory and published by one rename, so that a builder killed at any point
leaves nothing that a reader can see, and two builders of the same thing need no lock: the second drops its own.
Of what grows with the pictures `<key>/` holds immutable shards, each such a directory.
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
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

from thaw import signals
from thaw.errors import UserError

DONE = "DONE.json"
FORMAT = 1
TOUCH_SECONDS = 5.0
STALE_SECONDS = 30.0  # a lock that nobody touched for so long is nobody's
POLL_SECONDS = 0.2
USE_SECONDS = 600.0  # what a process uses is marked so often; thaw.prune spares what was marked within the hour


def key_of(parts: Mapping) -> str:
    """The address of what is made from these parts: SHA-256 of their canonical JSON, 32 hex digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Store:
    """Artifacts below one directory, which may be shared between processes and machines.

    `code(kind)` is the part of every key that says which code makes a kind; `anew` are kinds that are made again though
    they are there.
    """

    def __init__(
        self,
        root: Path,
        warn: Callable[[str], None] = lambda line: None,
        wait_s: float = 0.0,
        anew: tuple = (),
        code: Callable[[str], Mapping] = lambda kind: {},
    ):
        self.root = root
        self.warn = warn
        self.waits: Callable[[str | None], None] = lambda name: None  # told which artifact of another job it waits for
        self.wait_s = wait_s
        self.anew = anew
        self.code = code
        self.verified: set[Path] = set()
        self.used: set[Path] = set()
        self.added = 0  # bytes that this process published

    def key(self, kind: str, parts: Mapping) -> str:
        return key_of({**parts, "code": self.code(kind)})

    def place(self, kind: str, parts: Mapping, rows: Sequence | None = None) -> Path:
        """Where the artifact of a kind made from `parts` lies, or of it the shard that holds `rows`."""
        path = self.root / kind / self.key(kind, parts)
        return path if rows is None else path / key_of({"rows": rows})

    def find(self, path: Path) -> Path | None:
        """The directory of an artifact that is there and whole, else None.

        Sizes are compared always, contents when this process first opens it; what is damaged is moved aside with a
        line of warning. Errors: it cannot be read, exit 5.
        """
        try:
            done = json.loads((path / DONE).read_text())
            for name, entry in done["files"].items():
                file = path / name
                if not file.is_file() or file.stat().st_size != entry["bytes"]:
                    return self.move_aside(path, f"{name} is missing or cut short")
                if path not in self.verified and sha256_of(file) != entry["sha256"]:
                    return self.move_aside(path, f"{name} is not what was written")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise machine_error(error, path, "read") from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            return self.move_aside(path, f"{DONE} cannot be read ({error})")
        self.verified.add(path)
        return path

    def move_aside(self, path: Path, why: str) -> None:
        for n in range(1000):
            aside = path.with_name(f"{path.name}.bad.{n}")
            if not aside.exists():
                with contextlib.suppress(FileNotFoundError):  # another process did it, or pruned it
                    path.rename(aside)
                    self.warn(f"store: {self.short(path)} is damaged ({why}): moved aside, made again when needed")
                break

    def short(self, path: Path) -> str:
        """activations/1a2b3c4d of a path."""
        kind, key, *_ = path.relative_to(self.root).parts
        return f"{kind}/{key[:8]}"

    def make(
        self, kind: str, parts: Mapping, build: Callable[[Path], None], rows: Sequence | None = None
    ) -> tuple[Path, bool]:
        """The directory of the artifact made from `parts`, and whether it was there or `build` had to fill it.

        With `rows`, of the shard of it that holds them. Where another process is making it, wait for that up to
        `wait_s`, then make a private copy: correctness never depends on the lock, only double work does. Errors: no
        room, a read-only disk, exit 5.
        """
        path = self.place(kind, parts, rows)
        temporary = path.with_name(f"{path.name}.tmp.{me('.')}")
        anew = kind in self.anew
        was_there = not anew and self.find(path) is not None
        if not was_there:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                claimed = claim(path, self.short(path), self.wait_s, self.warn, self.waits)
                with claimed as lock, marked((lock, temporary), self.used):
                    was_there = not anew and self.find(path) is not None
                    if not was_there:
                        about = {**parts, "code": self.code(kind)} | ({} if rows is None else {"rows": rows})
                        self.build(temporary, path, about, build, replace=anew)
            except OSError as error:
                if not is_machine(error):
                    raise
                raise machine_error(error, path) from error
        self.verified.add(path)
        self.use(path)
        return path, was_there

    def build(self, temporary: Path, path: Path, parts: Mapping, build: Callable[[Path], None], replace: bool) -> None:
        """Fill a private temporary directory and publish it as `path`, in the place of one that is there if asked."""
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            build(temporary)
            if replace:
                discard(path)
            self.added += publish(temporary, path, parts)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def use(self, path: Path) -> None:
        """Mark an artifact as used now: what was not used for longest is pruned first."""
        self.used.add(path)
        mark(path)

    def shards(self, kind: str, parts: Mapping) -> list[Path]:
        """The shards of the artifact made from `parts` that are there and whole."""
        found = [self.find(done.parent) for done in sorted(self.place(kind, parts).glob(f"*/{DONE}")) if whole(done)]
        paths = [path for path in found if path is not None]
        for path in paths:
            self.use(path)
        return paths

    def remember(self, name: str, facts: Mapping) -> None:
        """Keep small facts under a name, the last ones win. They only ever inform; nothing correct depends on them."""
        path = self.root / "facts" / f"{name}.json"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps(facts))
        except OSError as error:
            raise machine_error(error, path) from error

    def recall(self, name: str) -> dict:
        """The facts kept under a name, or none."""
        try:
            return json.loads((self.root / "facts" / f"{name}.json").read_text())
        except (OSError, ValueError):
            return {}


@cache
def machine() -> str:
    """Where a process number means something: the host, and which start and which container of it."""
    marks = []
    for read in (lambda: Path("/proc/sys/kernel/random/boot_id").read_text(), lambda: os.readlink("/proc/self/ns/pid")):
        with contextlib.suppress(OSError):
            marks.append(read())
    return socket.gethostname() + (f"-{hashlib.sha256(''.join(marks).encode()).hexdigest()[:6]}" if marks else "")


def me(between: str) -> str:
    """This process, among those of all machines."""
    return f"{machine()}{between}{os.getpid()}"


def mark(path: Path) -> None:
    with contextlib.suppress(OSError):
        os.utime(path / DONE)


def whole(done: Path) -> bool:
    """Whether a DONE.json is that of an artifact, neither being built nor moved aside."""
    return "." not in done.parent.name


@contextlib.contextmanager
def claim(path: Path, name: str, wait_s: float, say: Callable[[str], None], waits: Callable[[str | None], None]):
    """Hold `path`.lock, yielding it, or go on without it (None): after `wait_s`, or where locks cannot be made.

    Ends early when the artifact appears. A holder touches its lock every few seconds (`marked`); whether it still does
    is judged by own observation, never by comparing clocks, and a holder that died on this machine is not waited for.
    """
    lock = path.with_name(f"{path.name}.lock")
    started = seen_at = time.monotonic()
    seen, said, held = None, False, False
    while not (path / DONE).exists():
        try:
            descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            os.write(descriptor, me(" ").encode())
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
            say(f"waiting for {name}, which {holder.replace(' ', ':')} is making")
            waits(name)
            said = True
        if number := signals.pending():
            signals.leave(number, "while waiting for another job")
        time.sleep(POLL_SECONDS)
    if said:
        waits(None)
    try:
        yield lock if held else None
    finally:
        if held:
            lock.unlink(missing_ok=True)


@contextlib.contextmanager
def marked(held: Sequence[Path | None], used: set[Path]):
    """Keep touching what is held, so that others see that it is, and what this process uses, so that it is spared."""
    stop = threading.Event()

    def touch() -> None:
        since = time.monotonic()
        while not stop.wait(TOUCH_SECONDS):
            for path in filter(None, held):
                with contextlib.suppress(OSError):
                    os.utime(path)
            if time.monotonic() - since > USE_SECONDS:
                since = time.monotonic()
                for path in list(used):
                    mark(path)

    threading.Thread(target=touch, daemon=True).start()
    try:
        yield
    finally:
        stop.set()


def dead(holder: str) -> bool:
    """Whether the lock is of a process of this machine that is no more."""
    host, _, pid = holder.partition(" ")
    if host != machine() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


def publish(temporary: Path, path: Path, parts: Mapping) -> int:
    """Make a filled temporary directory the artifact at `path`, durably; the bytes added. Another may have won: 0."""
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
    sync(temporary)
    try:
        temporary.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return 0
    sync(path.parent)
    return sum(entry["bytes"] for entry in files.values())


def discard(path: Path) -> None:
    """Remove a directory so that nobody finds half of it."""
    gone = path.with_name(f"{path.name}.gone.{me('.')}")
    with contextlib.suppress(FileNotFoundError):
        path.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


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


MACHINE = {
    errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENODEV, errno.ENOLCK,
    errno.ENOMEM, errno.ENOSPC, errno.ENXIO, errno.EPERM, errno.EROFS, errno.ESTALE,
}  # fmt: skip


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
