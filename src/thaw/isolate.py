"""A job of a sweep in a process of its own: what it does to memory, or dies of, is no other job's.

The process is forked from one that has everything imported and has computed nothing, so that it costs no start.
Standard library only.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PR_SET_PDEATHSIG = 1


def possible() -> bool:
    """Whether a process can be forked here safely: not on macOS, whose own libraries do not survive it."""
    return hasattr(os, "fork") and sys.platform != "darwin"


def run(work: Callable[[], int]) -> int:
    """The exit code of `work()` in a forked process, negative where a signal killed it.

    Signals that ask this process to stop go to that one, once each, and it is waited for; it stops too when this one
    dies.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setpgid(0, 0)  # Ctrl-C in the terminal reaches it through us alone, and so once
            die_with(parent)
            code = work()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    before = {number: signal.signal(number, lambda number, frame: os.kill(child, number)) for number in FORWARDED}
    try:
        _, status = os.waitpid(child, 0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return os.waitstatus_to_exitcode(status)


def die_with(parent: int) -> None:
    """Have this process asked to stop when its parent dies (Linux)."""
    if Path("/proc/self").exists():
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)
