"""Locks and marks of use: files that show other processes and machines what is being made and what is in use.

Correctness never depends on them: without a lock, work may only be done twice.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from thaw.runtime import signals
from thaw.runtime.machine import is_dead, process_id

DONE = "DONE.json"  # its existence makes an artifact whole, its modification time is the last use
STALE_SECONDS = 30.0  # a lock that was not touched for this long is abandoned
POLL_SECONDS = 0.2
TOUCH_SECONDS = 5.0
USE_SECONDS = 600.0  # between two marks of what a process uses; `prune` spares what was marked within the hour


def mark_used(path: Path) -> None:
    with contextlib.suppress(OSError):
        os.utime(path / DONE)


@contextlib.contextmanager
def claim(
    path: Path,
    name: str,
    there: Callable[[], bool],
    wait_s: float,
    say: Callable[[str], None],
    waits: Callable[[str | None], None],
):
    """Hold `path`.lock and yield it; yield None after `wait_s`, or if locks cannot be made.

    Stop waiting when the artifact is `there`. A holder touches its lock every few seconds (`marked`). Whether it still
    does so is judged by watching the lock, never by comparing clocks. Do not wait for a holder that died on this
    machine. filelock is no alternative: flock does not work on every network disk, and filelock's leases do not name
    the holder while they wait.
    """
    lock = path.with_name(f"{path.name}.lock")
    started = seen_at = time.monotonic()
    seen, said, held = None, False, None
    while not there():
        held = create(lock)
        if held is not False:
            break
        now = time.monotonic()
        try:
            touched, holder = lock.stat().st_mtime_ns, lock.read_text()
        except FileNotFoundError:
            continue  # it was just released
        except OSError:
            break
        if touched != seen:
            seen, seen_at = touched, now
        if now - seen_at > STALE_SECONDS or is_dead(holder):
            lock.unlink(missing_ok=True)
            continue
        if now - started >= wait_s:
            break
        if not said:
            say(f"waiting for {name}, which {holder.replace(' ', ':')} is making")
            waits(name)
            said = True
        with signals.stopping(at_once=True):
            time.sleep(POLL_SECONDS)
    if said:
        waits(None)
    try:
        yield lock if held else None
    finally:
        if held:
            lock.unlink(missing_ok=True)


def create(lock: Path) -> bool | None:
    """Create a lock that names this process. Return True; False if it exists already, None if it cannot be made."""
    try:
        descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return False
    except OSError:
        return None
    with contextlib.suppress(OSError), os.fdopen(descriptor, "w") as file:
        file.write(process_id(" "))
    return True


@contextlib.contextmanager
def marked(held: Sequence[Path | None], used: set[Path]):
    """Keep touching what is `held`, so that others see it, and marking what was `used`, so that it is not pruned."""
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
                    mark_used(path)

    threading.Thread(target=touch, daemon=True).start()
    try:
        yield
    finally:
        stop.set()


@contextlib.contextmanager
def only_one_at_work(folder: Path):
    """Lock a folder and yield whether no other process works in it; the lock file is removed at the end.

    The system releases the lock when this process and all its forks are dead, since the jobs of a sweep outlive it by a
    step. On a file system without locks, yield True.
    """
    from filelock import lock_descriptor  # imported here: only a sweep needs it, and it loads slowly

    path, free = folder / ".at-work", True
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            file = held.enter_context(path.open("a"))
            free = lock_descriptor(file.fileno(), blocking=False) and is_same_file(file, path)
        try:
            yield free
        finally:
            if free:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)  # before the lock is released, so that nobody else holds it
                    folder.rmdir()  # empty if the sweep was refused before it began


def is_same_file(opened: IO, path: Path) -> bool:
    """Return whether a path still leads to an opened file, which another process may have removed."""
    try:
        return os.path.samestat(os.fstat(opened.fileno()), path.stat())
    except FileNotFoundError:
        return False
