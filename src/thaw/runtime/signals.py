"""Signals that ask the process to stop: it stops at once, or at the end of the step while a cycle trains."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

EXIT = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGXCPU: 5}
WHY = {signal.SIGINT: "SIGINT, Ctrl-C", signal.SIGXCPU: "the limit of CPU time is reached: ulimit -t"}
asked: list[int] = []  # signals that asked this process to stop, in order of arrival
chained: dict[int, Callable] = {}  # earlier handlers, called after the snapshot is written
listening: set[int] = set()  # pid of the process that stops; processes forked from it ignore the signal
modes: list[bool] = [True]  # stack of `stopping` blocks: does a signal end the innermost one at once?


class Stopped(KeyboardInterrupt):
    """A signal stopped the process; the work so far is in the store. Unlike the failure of a job, it ends a sweep.

    `where`: the point at which a job stopped, such as "after step 3"; None if it was not a job. `sweep`: a sweep was
    stopped, not one of its jobs.
    """

    def __init__(self, number: int, where: str | None = None, sweep: bool = False):
        why = WHY.get(number) or name_of(number)
        advice = "; run the same command again to continue" if where or sweep else ""
        self.line = f"{'sweep ' * sweep}stopped{f' {where}' if where else ''} ({why}){advice}"
        super().__init__(self.line)
        self.number, self.where = number, where
        self.code = EXIT.get(number, 128 + number)
        self.requeued = number in chained


def name_of(number: int) -> str:
    """Return the name of a signal, such as SIGTERM."""
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def listen() -> None:
    """Install handlers: a signal raises `Stopped` in the main thread, a second SIGINT exits at once.

    SIGUSR2 is Slurm's warning. submitit's handler for it requeues the job, and is called after the snapshot. An ignored
    SIGHUP stays ignored: with nohup, the run outlives its terminal.
    """
    if threading.current_thread() is not threading.main_thread():  # Python allows signal handlers only there
        return
    listening.clear()
    listening.add(os.getpid())
    for number in (*EXIT, signal.SIGUSR2):
        before = signal.getsignal(number)
        if ignored_by_nohup(number):
            continue
        if number == signal.SIGUSR2 and before is not on_signal:
            if not callable(before):
                continue
            chained[number] = before
        signal.signal(number, on_signal)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, EXIT)  # scripts/rerun.py blocks them while it becomes train.py


def ignored_by_nohup(number: int) -> bool:
    """Return whether this is SIGHUP and nohup has made the process ignore it."""
    return number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN


def on_signal(number: int, frame) -> None:
    """Record a signal; the first one stops the process, unless a `stopping` block defers it."""
    if number == signal.SIGINT and signal.SIGINT in asked:
        os._exit(EXIT[signal.SIGINT])
    asked.append(number)
    if len(asked) == 1 and os.getpid() in listening:  # cleaning up is not interrupted again
        raise_if_asked()


@contextmanager
def stopping(at_once: bool, where: str | None = None) -> Iterator[None]:
    """Let a signal end the block at once, or only be recorded, so that the block can check `pending` after each step.

    Raise `Stopped` at the end of the block if a signal was recorded; `where` is the point reached then.
    """
    modes.append(at_once)
    try:
        raise_if_asked()
        yield
    finally:
        modes.pop()
    raise_if_asked(where)


def raise_if_asked(where: str | None = None) -> None:
    """Raise `Stopped` if a signal was recorded and is not deferred."""
    if asked and modes[-1]:
        raise_stopped(asked[0], where)


def pending() -> int | None:
    """Return the first signal that asked the process to stop, or None."""
    return asked[0] if asked else None


def raise_stopped(number: int, where: str | None = None) -> None:
    """Call the earlier handler of this signal, if there was one, then raise `Stopped`."""
    if number in chained:
        with suppress(SystemExit):
            chained[number](number, None)
    raise Stopped(number, where)


def resend(ignored) -> None:
    """Send the signal again if a callback swallowed `Stopped`; replaces `sys.unraisablehook`."""
    if not isinstance(ignored.exc_value, Stopped):
        return sys.__unraisablehook__(ignored)
    asked.clear()
    main = threading.main_thread().ident  # it may be in a system call that only a signal to this thread interrupts
    threading.Timer(0.05, signal.pthread_kill, [main, ignored.exc_value.number]).start()


def end_in_a_line(kind: type[BaseException], error: BaseException, trace) -> None:
    """Report in one line a signal that came while modules were loading; replaces `sys.excepthook`."""
    if not isinstance(error, KeyboardInterrupt):
        return sys.__excepthook__(kind, error, trace)
    stopped = error if isinstance(error, Stopped) else Stopped(signal.SIGINT)
    with suppress(OSError, ValueError):
        os.write(2, f"{stopped.line}\n".encode())
    os._exit(stopped.code)
