"""Stopping when asked: a flag in the handler, the snapshot at the end of the step. Standard library only."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress

EXIT = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
asked: list[int] = []  # the signals that ask this process to stop, in the order they came
chained: dict[int, Callable] = {}  # handlers that were there before, called once the snapshot is written


class Stopped(KeyboardInterrupt):
    """A signal asked for it, and the work so far is in the store. Ends a sweep too, as no failure of a job does."""

    def __init__(self, number: int, where: str):
        self.line = f"stopped {where} (signal {number}); the same command goes on from there"
        super().__init__(self.line)
        self.code = EXIT.get(number, 128 + number)
        self.requeued = number in chained


def listen() -> None:
    """Take a signal as a request to stop after the step, a second SIGINT as one to leave at once.

    SIGUSR2 is Slurm's warning, for which submitit has a handler that puts the job back into the queue: it is called
    after the snapshot. A SIGHUP that is ignored stays so: nohup has the run outlive its terminal.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
        before = signal.getsignal(number)
        if ignored_by_nohup(number):
            continue
        if number == signal.SIGUSR2 and before is not on_signal:
            if not callable(before):
                continue
            chained[number] = before
        signal.signal(number, on_signal)


def ignored_by_nohup(number: int) -> bool:
    """Whether this is a hangup that nohup has the process ignore."""
    return number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN


def on_signal(number: int, frame) -> None:
    if number == signal.SIGINT and signal.SIGINT in asked:
        os._exit(EXIT[signal.SIGINT])
    asked.append(number)


def pending() -> int | None:
    """The signal that asks to stop, if one came."""
    return asked[0] if asked else None


def leave(number: int, where: str) -> None:
    """End the run after its snapshot, and after the handler from before, which may end it too. Errors: `Stopped`."""
    if number in chained:
        with suppress(SystemExit):
            chained[number](number, None)
    raise Stopped(number, where)
