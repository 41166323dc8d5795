"""The start of a W&B run, and the cleanup when its server is slow or down."""

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
PATIENCE = 8.0  # seconds that a run waits in total for the server to accept tables, summary and exit
LEAVE_SECONDS = 2
HEAD = 7  # bytes of a .wandb file before its first record
TOKEN = "WANDB_SERVICE"  # the variable by which W&B finds a process that is already there
LONGEST_TAG = 64  # wandb.init raises for a longer one


@dataclass(frozen=True)
class RunIdentity:
    """The id, name, group, tags, notes and configuration of a W&B run."""

    id: str
    name: str
    group: str | None
    tags: tuple[str, ...]
    notes: str | None
    config: Mapping


def begin_run(mode: str, wandb: Wandb, identity: RunIdentity):
    """Start a W&B run. Raise PermissionError if its folder cannot be written, and any error of W&B."""
    import wandb as library

    logging.raiseExceptions = False  # otherwise each log line on a full disk prints a traceback
    directory = Path(wandb.dir)
    directory.mkdir(parents=True, exist_ok=True)
    # W&B adds its own folder `wandb`; avoid wandb/wandb.
    root = directory.parent if directory.name == "wandb" else directory
    for folder in (root, directory):
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):  # W&B would silently write to /tmp instead
            raise PermissionError(f"no permission to write to {folder}")
    statistics = logging.getLogger("opentelemetry")  # W&B's telemetry; its failures do not concern the user
    statistics.addHandler(logging.NullHandler())
    statistics.propagate = False
    connect(library)
    return library.init(
        dir=root,
        project=wandb.project or os.environ.get("WANDB_PROJECT", "thaw"),
        id=identity.id,
        name=identity.name,
        job_type="train",
        tags=[tag[:LONGEST_TAG] for tag in identity.tags],
        config=dict(identity.config),
        mode=mode,
        reinit="finish_previous",
        settings=library.Settings(
            silent=True,
            console="off",
            init_timeout=INIT_SECONDS,
            finish_timeout=PATIENCE,
            finish_timeout_raises=True,  # otherwise unsent data is lost silently
            login_timeout=1,
        ),
        # Passed only if set, so that the WANDB_* variables still apply.
        **{
            key: value
            for key, value in (("entity", wandb.entity), ("group", identity.group), ("notes", identity.notes))
            if value
        },
    )


def connect(library) -> None:
    """Start W&B's own process, which would print to our stderr, or find that of the sweep (`wandb_service`)."""
    with process_without_stderr():
        try:
            library.setup(library.Settings(silent=True))
        except Exception:
            if os.environ.pop(TOKEN, None) is None:
                raise
            library.setup(library.Settings(silent=True))  # that of the sweep is gone


@contextmanager
def process_without_stderr() -> Iterator[None]:
    """Hide the standard error of processes started within the block."""
    try:
        kept = os.dup(2)
    except OSError:  # closed by the parent process (2>&-)
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
    """Return the last error in the log of W&B's own process, or ''.

    W&B itself treats an answer that it cannot read as success.
    """
    with suppress(OSError):
        errors = [e for e in read_jsonl(run / "logs/debug-internal.log") if e.get("level") == "ERROR"]
        return " ".join(f"{errors[-1].get('msg')} {errors[-1].get('error', '')}".split())[:120] if errors else ""
    return ""


def with_timeout(seconds: float, call: Callable) -> None:
    """Run `call()` in a thread; raise TimeoutError and abandon the thread if it takes longer than `seconds`."""
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
    """End W&B's own process now; its exit hook would wait for it."""
    import wandb

    with suppress(Exception):
        with_timeout(LEAVE_SECONDS, lambda: wandb.teardown(code))
    os.environ.pop(TOKEN, None)  # that of the sweep goes on, and would not let the run begin once more


def brief_error(error: Exception) -> str:
    """Return an error as part of a line; for a pydantic error of W&B's settings, the first wrong setting and why."""
    with suppress(Exception):
        first, *_ = error.errors()
        return f"{'.'.join(map(str, first['loc']))}={first['input']!r}: {first['msg']}"[:160]
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def can_be_sent(run: Path) -> bool:
    """Return whether W&B's file of a run holds more than its head, which on a full disk it does not."""
    return any(file.stat().st_size > HEAD for file in run.glob("run-*.wandb"))
