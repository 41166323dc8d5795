"""Stopping when asked: at once, or while a cycle trains at the end of the step. Standard library only."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

EXIT = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGXCPU: 5}
WHY = {signal.SIGINT: "SIGINT, Ctrl-C", signal.SIGXCPU: "its CPU time is used up: ulimit -t"}
asked: list[int] = []  # the signals that ask this process to stop, in the order they came
chained: dict[int, Callable] = {}  # handlers that were there before, called once the snapshot is written
listening: set[int] = set()  # the process that stops; one that it forks leaves that to it
modes: list[bool] = [True]  # whether a signal ends what runs at once; the last holds


class Stopped(KeyboardInterrupt):
    """A signal asked for it, and the work so far is in the store. Ends a sweep too, as no failure of a job does.

    where: what a job was at; the same command goes on from there. Without it, it was no job.
    """

    def __init__(self, number: int, where: str | None = None):
        why = WHY.get(number) or name_of(number)
        goes_on = "; the same command goes on from there" if where else ""
        self.line = f"stopped{f' {where}' if where else ''} ({why}){goes_on}"
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
    """Have a signal raise `Stopped` in the main thread, a second SIGINT leave at once.

    SIGUSR2 is Slurm's warning, for which submitit has a handler that puts the job back into the queue: it is called
    after the snapshot. A SIGHUP that is ignored stays so: nohup has the run outlive its terminal.
    """
    if threading.current_thread() is not threading.main_thread():  # Python takes signals there alone
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
    signal.pthread_sigmask(signal.SIG_UNBLOCK, EXIT)  # what waited while one program became another (scripts/rerun.py)


def ignored_by_nohup(number: int) -> bool:
    """Whether this is a hangup that nohup has the process ignore."""
    return number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN


def on_signal(number: int, frame) -> None:
    """Note the signal; the first one ends what runs, unless that is put off."""
    if number == signal.SIGINT and signal.SIGINT in asked:
        os._exit(EXIT[signal.SIGINT])
    asked.append(number)
    if len(asked) == 1 and os.getpid() in listening:  # the end of what runs is not interrupted again
        heed()


@contextmanager
def stopping(at_once: bool, where: str | None = None) -> Iterator[None]:
    """Have a signal end the block at once, or else be noted, for one who looks at `pending` after each step.

    Errors: a signal that was noted, at the end of the block; `where` is what the job was at then.
    """
    modes.append(at_once)
    try:
        heed()
        yield
    finally:
        modes.pop()
    heed(where)


def heed(where: str | None = None) -> None:
    """End what runs where a signal was noted and is to end it now. Errors: `Stopped`."""
    if asked and modes[-1]:
        leave(asked[0], where)


def pending() -> int | None:
    """The signal that asks to stop, if one came."""
    return asked[0] if asked else None


def leave(number: int, where: str | None = None) -> None:
    """End what runs, after the handler from before, which may end it too. Errors: `Stopped`."""
    if number in chained:
        with suppress(SystemExit):
            chained[number](number, None)
    raise Stopped(number, where)


def insist(ignored) -> None:
    """Ask again where a callback could not raise it, in the place of `sys.unraisablehook`."""
    if not isinstance(ignored.exc_value, Stopped):
        return sys.__unraisablehook__(ignored)
    asked.clear()
    main = threading.main_thread().ident  # which may wait in a call that only a signal of its own ends
    threading.Timer(0.05, signal.pthread_kill, [main, ignored.exc_value.number]).start()


def end_in_a_line(kind: type[BaseException], error: BaseException, trace) -> None:
    """Say in a line that a signal came while the modules were loaded, in the place of `sys.excepthook`."""
    if not isinstance(error, KeyboardInterrupt):
        return sys.__excepthook__(kind, error, trace)
    stopped = error if isinstance(error, Stopped) else Stopped(signal.SIGINT)
    with suppress(OSError, ValueError):
        os.write(2, f"{stopped.line}\n".encode())
    os._exit(stopped.code)
