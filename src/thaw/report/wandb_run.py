"""Begin a W&B run, and end what W&B leaves behind when its server is slow or gone."""

import logging
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from thaw.config.schema import Wandb
from thaw.runtime.files import read_jsonl

INIT_SECONDS = 8
PATIENCE = 8.0  # seconds that a run waits in all for a server to take tables, summary and exit
LEAVE_SECONDS = 2
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

    directory = Path(wandb.dir)
    directory.mkdir(parents=True, exist_ok=True)
    statistics = logging.getLogger("opentelemetry")  # W&B's own: that they were refused is nothing to us
    statistics.addHandler(logging.NullHandler())
    statistics.propagate = False
    guest.termsetup(guest.Settings(silent=True), None)
    return guest.init(
        # W&B adds a folder `wandb` of its own: of the two names one is enough.
        dir=directory.parent if directory.name == "wandb" else directory,
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
    """An error in a part of a line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
