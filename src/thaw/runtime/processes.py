"""Jobs of a sweep in processes of their own: what one does to memory, or dies of, is no other job's.

The processes are forked from one that has everything imported and has computed nothing, so that they cost no start.
Standard library only.
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
    """Whether a process can be forked here safely: not on macOS, whose own libraries do not survive it."""
    return hasattr(os, "fork") and sys.platform != "darwin"


def run_all(works: Sequence[Callable[[int], int]], at_once: int, ended: Callable[[int, int], None]) -> int | None:
    """Carry out all `works`, at most `at_once` at a time: each is told its place, 0 to at_once - 1, and gives its code.

    `ended(i, code)` is told the exit code of the i-th, negative where a signal killed it. A signal that asks this
    process to stop goes to those that run, which are waited for; no more start, and its number is returned. The second
    has them leave at once, the third kills them. They stop too when this process dies.
    """
    asked: list[int] = []
    running: dict[int, tuple[int, int]] = {}  # of each process its work and its place

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
                signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)  # until whom to pass them on to is known
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
    """The number of a forked process that does `work(place)` and leaves with what that returns."""
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setpgid(0, 0)  # Ctrl-C in the terminal reaches it through us alone, and so once
        signals.asked.clear()
        signals.listen()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
        die_with(parent)
        code = work(place)
    except signals.Stopped as stopped:  # before the work could say so itself
        code = stopped.code
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def die_with(parent: int) -> None:
    """Have this process asked to stop when its parent dies (Linux)."""
    if Path("/proc/self").exists():
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)
