"""Begin a W&B run, and end what W&B leaves behind when its server is slow or gone."""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from thaw.config.schema import Wandb
from thaw.runtime.files import read_jsonl

INIT_SECONDS = 8
PATIENCE = 8.0  # seconds that a run waits in all for a server to take tables, summary and exit
LEAVE_SECONDS = 2
HEAD = 7  # bytes of a .wandb file before its first record
LONGEST_TAG = 64  # a longer one makes wandb.init raise


@dataclass(frozen=True)
class RunIdentity:
    """What W&B shows of a run besides its numbers."""

    id: str
    name: str
    group: str | None
    tags: tuple[str, ...]
    notes: str | None
    config: Mapping


def begin_run(mode: str, wandb: Wandb, identity: RunIdentity):
    """A W&B run under way."""
    import wandb as guest

    logging.raiseExceptions = False  # else every line for a log on a full disk is a traceback on the terminal
    directory = Path(wandb.dir)
    directory.mkdir(parents=True, exist_ok=True)
    # W&B adds a folder `wandb` of its own: of the two names one is enough.
    root = directory.parent if directory.name == "wandb" else directory
    for folder in (root, directory):
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):  # where W&B would write to /tmp instead
            raise PermissionError(f"no right to write in {folder}")
    statistics = logging.getLogger("opentelemetry")  # W&B's own: that they were refused is nothing to us
    statistics.addHandler(logging.NullHandler())
    statistics.propagate = False
    with process_without_stderr():
        guest.setup(guest.Settings(silent=True))  # of the settings that it reads itself, and of its own process
    return guest.init(
        dir=root,
        project=wandb.project or os.environ.get("WANDB_PROJECT", "thaw"),
        id=identity.id,
        name=identity.name,
        job_type="train",
        tags=[tag[:LONGEST_TAG] for tag in identity.tags],
        config=dict(identity.config),
        mode=mode,
        reinit="finish_previous",
        settings=guest.Settings(
            silent=True,
            console="off",
            init_timeout=INIT_SECONDS,
            finish_timeout=PATIENCE,
            finish_timeout_raises=True,  # else what was not sent in time is lost without a word
            login_timeout=1,
        ),
        # Only what was set, so that WANDB_* variables still count.
        **{
            key: value
            for key, value in (("entity", wandb.entity), ("group", identity.group), ("notes", identity.notes))
            if value
        },
    )


@contextmanager
def process_without_stderr() -> Iterator[None]:
    """Give the processes that start within the block no standard error of ours."""
    try:
        kept = os.dup(2)
    except OSError:  # closed by whoever started the process (2>&-)
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)


def server_complaint(run: Path) -> str:
    """The last error in the log of W&B's own process, which takes an answer that it cannot read for a good one."""
    with suppress(OSError):
        errors = [e for e in read_jsonl(run / "logs/debug-internal.log") if e.get("level") == "ERROR"]
        return " ".join(f"{errors[-1].get('msg')} {errors[-1].get('error', '')}".split())[:120] if errors else ""
    return ""


def with_timeout(seconds: float, call: Callable) -> None:
    """`call()`, in a thread that is left behind when it takes longer. Errors: TimeoutError, those of the call."""
    ended: Future = Future()

    def work():
        try:
            ended.set_result(call())
        except BaseException as error:
            ended.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        ended.result(max(seconds, 0.0))
    except TimeoutError as error:
        raise TimeoutError(str(error) or f"no answer in {seconds:.0f} s") from None


def tear_down(code: int) -> None:
    """Have W&B's own process end with what it holds, which its exit hook would wait for."""
    import wandb

    with suppress(Exception):
        with_timeout(LEAVE_SECONDS, lambda: wandb.teardown(code))


def brief_error(error: Exception) -> str:
    """An error in a part of a line; of pydantic's, which W&B checks its settings with, the first setting and what
    is wrong with it."""
    with suppress(Exception):
        first, *_ = error.errors()
        return f"{'.'.join(map(str, first['loc']))}={first['input']!r}: {first['msg']}"[:160]
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def can_be_sent(run: Path) -> bool:
    """Whether W&B's file of a run has more in it than its head: on a full disk it has not."""
    return any(file.stat().st_size > HEAD for file in run.glob("run-*.wandb"))
