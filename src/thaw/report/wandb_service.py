"""One process of W&B for all jobs of a sweep; a process for each would cost every job a fifth of a second."""

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from thaw.report.wandb_run import TOKEN, connect
from thaw.runtime import processes

PATIENCE = 10  # seconds to wait for its start and for its end


@contextmanager
def shared_service() -> Iterator[None]:
    """Let the processes forked within the block share one process of W&B, if it starts.

    It belongs to a process of its own, since W&B starts threads, which do not survive a fork. It ends when this process
    and all those forked within the block have ended, so that a job that is stopped can still write its last rows.
    """
    if os.environ.get(TOKEN) or not processes.can_fork():
        yield
        return
    (told, tells), (lives, life) = os.pipe(), os.pipe()

    def keep(slot: int) -> int:
        for number in processes.FORWARDED:
            signal.signal(number, signal.SIG_IGN)
        os.close(life)
        import wandb

        connect(wandb)
        os.write(tells, os.environ[TOKEN].encode())
        os.read(lives, 1)  # until the last process with the other end has ended
        wandb.teardown(1)  # the exit code of runs that are not finished: their jobs were killed
        return 0

    keeper = processes.start(keep, 0)
    os.close(tells)
    os.close(lives)
    try:
        if select.select([told], [], [], PATIENCE)[0] and (token := os.read(told, 1000).decode()):
            os.environ[TOKEN] = token
        yield
    finally:
        os.environ.pop(TOKEN, None)
        os.close(told)
        os.close(life)
        end(keeper)


def end(keeper: int) -> None:
    """Wait for the process that keeps W&B's; kill it if something that a job left behind still holds the pipe."""
    deadline = time.monotonic() + PATIENCE
    with suppress(ChildProcessError):  # it has failed, and was waited for as a job is
        while not os.waitpid(keeper, os.WNOHANG)[0]:
            if time.monotonic() > deadline:
                os.kill(keeper, signal.SIGKILL)
                os.waitpid(keeper, 0)
                return
            time.sleep(0.02)
