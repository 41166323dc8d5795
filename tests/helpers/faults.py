"""Faults injected into runs in forked processes, without any support in src/."""

import hashlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from brief import untracked

import train
from thaw.config import paths
from thaw.runtime import entry, signals
from thaw.store.open import open_store
from thaw.train import run
from thaw.train.setup import set_up

SMALL = (
    "data.limit=80", "size=32", "batch_size=32", "checklist=fine_tune", "epochs=3",
    "find.trials=2", "find.trial_steps=4", "find.stored_steps=2", "stored_batch=32", "store.snapshot_s=0",
    "wandb=disabled", "optimizer.betas=[0.8,0.99]",
)  # fmt: skip
TIMES = ("speed/", "train_seconds")


def carry_out(settings, folder):
    """Train as a job does, with metrics.jsonl; return the result."""
    folder.mkdir(parents=True)
    return run.run_plan(set_up(settings, folder, open_store(settings, print)), untracked(folder))


def bits(folder):
    """Return what must be reproducible: the hash of the weights, and the metrics without times."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows = [{key: value for key, value in row.items() if not key.startswith(TIMES)} for row in rows]
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(), rows


def start_child(work, says: Path | None = None) -> int:
    """Run `work()` in a forked process and return its id; standard error goes to the file `says` if given."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            if says:
                os.dup2(os.open(says, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)  # instead of pytest's
            done = work()
            code = done if isinstance(done, int) else 0
        except signals.Stopped as stopped:
            code = stopped.code
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


def ended(child: int) -> int:
    """Wait for a child; return its exit code, or -n if signal n killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def in_child(work, says: Path | None = None) -> int:
    """Run `work()` in a forked process; return its exit code, which is the integer that `work` returns, if any."""
    return ended(start_child(work, says))


def run_train(*args: str, outputs: Path) -> int:
    """Run `python src/train.py ARGS` in this process; return its exit code."""
    paths.OUTPUTS = outputs
    sys.argv = ["train.py", "threads=1", *args]
    return entry.run(train.main)


def at_call(holder, name: str, number: int, act: Callable, after: bool = False):
    """Call `act(*args)` before (or after) call `number` of `holder.name`, counted from 0."""
    whole, count = getattr(holder, name), [0]

    def counted(*args, **kwargs):
        count[0] += 1
        now = count[0] == number + 1
        if now and not after:
            act(*args)
        out = whole(*args, **kwargs)
        if now and after:
            act(*args)
        return out

    setattr(holder, name, counted)


def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def cut_and_kill(descriptor: int):
    """Truncate the file of a descriptor to half its size, then die."""
    file = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
    if file.is_file():
        os.truncate(file, file.stat().st_size // 2)
    kill()


def from_call(holder, name: str, number: int, error: int, stays: bool):
    """Let call `number` of `holder.name`, counted from 0, fail, and all later ones if the fault `stays`.

    A failing write leaves half its data.
    """
    whole, count = getattr(holder, name), [0]

    def refuses(*args, **kwargs):
        count[0] += 1
        if count[0] == number + 1 or (stays and count[0] > number):
            if name in ("write_text", "write_bytes"):
                whole(args[0], args[1][: len(args[1]) // 2])
            raise OSError(error, os.strerror(error))
        return whole(*args, **kwargs)

    setattr(holder, name, refuses)
