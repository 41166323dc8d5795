"""The jobs of a sweep in separate processes, so that one that leaks memory or crashes does not affect the others.

They are forked from a process that has imported everything and computed nothing, so they start at once.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from thaw.runtime import signals

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PR_SET_PDEATHSIG = 1


def can_fork() -> bool:
    """Return whether forking is safe on this platform: macOS's system libraries do not survive it."""
    return hasattr(os, "fork") and sys.platform != "darwin"


def run_all(works: Sequence[Callable[[int], int]], at_once: int, ended: Callable[[int, int], None]) -> int | None:
    """Run all `works` in forked processes, at most `at_once` at a time. Return the signal that stopped them, or None.

    Each work gets its place, 0 to at_once - 1, and returns its exit code. `ended(i, code)` is called with the exit
    code of the i-th, negative if a signal killed it. A signal that asks this process to stop is forwarded to the
    running ones, and no more start. A second one makes them leave at once, a third kills them. They also stop when
    this process dies.
    """
    asked: list[int] = []
    running: dict[int, tuple[int, int]] = {}  # pid to the index of its work and its place

    def pass_on(number: int, frame) -> None:
        asked.append(number)
        for child in running:
            with suppress(ProcessLookupError):
                os.kill(child, number if len(asked) < 3 else signal.SIGKILL)

    before = {number: signal.signal(number, pass_on) for number in FORWARDED if not signals.ignored_by_nohup(number)}
    todo = list(enumerate(works))
    try:
        while running or (todo and not asked):
            free = [place for place in range(at_once) if place not in {place for _, place in running.values()}]
            if todo and free and not asked:
                i, work = todo.pop(0)
                signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)  # until the new process is in `running`
                running[start(work, free[0])] = i, free[0]
                signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
                continue
            child, status = os.waitpid(-1, 0)
            if child in running:
                ended(running.pop(child)[0], os.waitstatus_to_exitcode(status))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return asked[0] if asked else None


def start(work: Callable[[int], int], place: int) -> int:
    """Fork a process that runs `work(place)` and exits with what it returns; return its pid."""
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setpgid(0, 0)  # so that Ctrl-C reaches it only once, forwarded by us
        signals.asked.clear()
        signals.listen()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
        die_with(parent)
        code = work(place)
    except signals.Stopped as stopped:  # before the work could handle it
        code = stopped.code
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def die_with(parent: int) -> None:
    """Send this process SIGTERM when its parent dies (Linux only)."""
    if Path("/proc/self").exists():
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)
