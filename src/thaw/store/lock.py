"""Who is making what, and what is in use, told among processes and machines by files.

Nothing correct depends on it: without a lock only work is done twice.
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

DONE = "DONE.json"  # an artifact that has it is whole; its time is the last use
STALE_SECONDS = 30.0  # a lock that nobody touched for so long is nobody's
POLL_SECONDS = 0.2
TOUCH_SECONDS = 5.0
USE_SECONDS = 600.0  # what a process uses is marked so often; `prune` spares what was marked within the hour


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
    """Hold `path`.lock, yielding it, or go on without it (None): after `wait_s`, or where locks cannot be made.

    Ends early when the artifact is `there`. A holder touches its lock every few seconds (`marked`); whether it still
    does is judged by own observation, never by comparing clocks, and a holder that died on this machine is not waited
    for. filelock does not do here: flock does not reach across every network disk, and its leases wait without saying
    for whom.
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
            continue  # it was just given back
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
    """Create a lock that says whose it is: True. False where it is there already, None where none can be made."""
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
                    mark_used(path)

    threading.Thread(target=touch, daemon=True).start()
    try:
        yield
    finally:
        stop.set()


@contextlib.contextmanager
def only_one_at_work(folder: Path):
    """Whether no other process is at work in a folder, for as long as this one is; nothing is left of it.

    The system gives the lock back when this process and all that it forked are dead: the jobs of a sweep outlive it for
    a step. Where a file system has no locks, nobody is known of.
    """
    from filelock import lock_descriptor  # late: only a sweep needs it, and it loads slowly

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
                    path.unlink(missing_ok=True)  # while it is held, so that it is nobody else's
                    folder.rmdir()  # of a sweep that was refused before it began


def is_same_file(opened: IO, path: Path) -> bool:
    """Return whether a path still leads to an opened file; another process may have removed it meanwhile."""
    try:
        return os.path.samestat(os.fstat(opened.fileno()), path.stat())
    except FileNotFoundError:
        return False
