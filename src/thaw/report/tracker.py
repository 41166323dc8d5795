"""What a run tells the world: metrics.jsonl, the truth, and W&B, a guest. The only importer of wandb.

No fault of the tracker touches the run: its first failure says one line and ends the tracker.
"""

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from thaw.config.schema import Wandb
from thaw.report.wandb_mode import choose_mode
from thaw.runtime.console import say
from thaw.runtime.errors import UserError
from thaw.runtime.files import read_jsonl
from thaw.runtime.signals import Stopped

INIT_SECONDS = 8
PATIENCE = 8.0  # seconds that a run waits in all for a server to take tables, summary and exit
LEAVE_SECONDS = 2
LONGEST_TAG = 64  # a longer one makes wandb.init raise

AXES = {  # what W&B draws over which axis
    "step": ("lr/*", "image_size", "batch_size", "trainable_fraction", "phase_index", "speed/*"),
    "epoch": ("train/*", "valid/loss", "valid/accuracy", "valid/f1_macro", "images_seen", "train_seconds"),
}


@dataclass(frozen=True)
class RunIdentity:
    """What W&B shows of a run besides its numbers."""

    id: str
    name: str
    group: str | None
    tags: tuple[str, ...]
    notes: str | None
    config: Mapping


@dataclass
class Tracker:
    """Rows go to metrics.jsonl, then to the W&B run while there is one and it is well.

    Entered, it ends the W&B run with what ended the block. A job that was `refused` before it began to be tracked has a
    failed W&B run of that identity, where one is given.
    """

    folder: Path
    wandb: Wandb
    say: Callable[[str], None] = say
    refused: Callable[[], RunIdentity] | None = None
    run: object = None
    id: str | None = None
    local: str | None = None  # where W&B keeps the run on this machine
    unsent: str | None = None  # the same, where the server has not all of it: `wandb sync` takes it
    axes: set[str] = field(default_factory=set)
    patience: float = PATIENCE
    code: int = 0  # how the run ends, as far as is known

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, kind, error, trace) -> None:
        if self.id is None and self.refused and isinstance(error, UserError):
            with suppress(Exception):  # the refusal itself is what counts
                self.begin(self.refused())
        if self.id is not None and isinstance(error, (UserError, Stopped)):
            self.summary({"error": error.line})
            self.finish(error.code)

    def begin(self, identity: RunIdentity) -> None:
        """Begin a W&B run where the mode and the network allow one; never prompt.

        `auto` is online with a login and a server that answers within three seconds, else offline; so is what cannot
        begin online.
        """
        self.id = identity.id
        mode, why = choose_mode(self.wandb.mode)
        if mode == "disabled":
            return
        try:
            try:
                self.run = begin_run(mode, self.wandb, identity)
            except Exception as error:
                if mode != "online":
                    raise
                mode, why = "offline", brief_error(error)
                tear_down(1)  # else the id is in use
                self.run = begin_run(mode, self.wandb, identity)
            self.local = str(Path(self.run.dir).parent)
        except Exception as error:
            self.run = None
            self.say(f"wandb: not used ({brief_error(error)}); metrics.jsonl has everything")
            return
        for axis, names in AXES.items():
            self.tell(lambda run, axis=axis: run.define_metric(axis, hidden=True))
            for name in names:
                self.tell(lambda run, axis=axis, name=name: run.define_metric(name, step_metric=axis))
        if mode == "offline":
            self.unsent = self.local
            self.say(f"wandb: offline ({why}); look: wandb leet {self.wandb.dir}; later: wandb sync {self.local}")
        else:
            self.say(f"wandb: {self.run.url}")

    def tell(self, call: Callable, wait: bool = False) -> None:
        """`call(run)`, if there is a W&B run; the first failure ends it with a line.

        One that asks the server is waited for as long as there is patience: W&B would for a minute.
        """
        if self.run is None:
            return
        started = time.monotonic()
        try:
            if wait:
                with_timeout(self.patience, lambda: call(self.run))
                self.patience -= time.monotonic() - started
            else:
                call(self.run)
        except Exception as error:  # a guest's fault, whatever it is
            self.unsent = self.local
            self.say(
                f"wandb: stopped ({brief_error(error)}); metrics.jsonl has everything; later: wandb sync {self.local}"
            )
            self.run = None
            tear_down(self.code)

    def log(self, row: Mapping) -> None:
        """One row of numbers and strings, keys as dashboards know them."""
        path = self.folder / "metrics.jsonl"
        try:
            with path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            error.filename = str(path)  # a write that fails names no file
            raise
        for key in row:
            curve, _, name = key.rpartition("/")
            if name == "rate" and curve not in self.axes:  # a finder's curve is drawn over its own rate
                self.axes.add(curve)
                self.tell(lambda run, key=key: run.define_metric(key, hidden=True))
                self.tell(lambda run, key=key, curve=curve: run.define_metric(f"{curve}/*", step_metric=key))
        self.tell(lambda run: run.log(dict(row)))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence]) -> None:
        """A table of the summary; an array [h, w, 3] in a cell is a picture."""
        if self.run is not None:
            import wandb

            data = [[wandb.Image(cell) if hasattr(cell, "shape") else cell for cell in row] for row in rows]
            # Not a row: of what is logged W&B's terminal draws a chart of the table's width, before all others.
            self.tell(lambda run: run.summary.update({name: wandb.Table(columns=list(columns), data=data)}), wait=True)

    def picture(self, name: str, path: Path) -> None:
        if self.run is not None:
            import wandb

            self.tell(lambda run: run.log({name: wandb.Image(str(path))}), wait=True)

    def summary(self, values: Mapping) -> None:
        """What the run adds up to; before tables, which may find the server gone."""
        self.tell(lambda run: run.summary.update(dict(values)))

    def finish(self, code: int) -> None:
        """End with an exit code."""
        self.code = code
        self.tell(lambda run: run.finish(exit_code=code), wait=True)
        if self.run is not None and self.unsent is None and (what := server_complaint(Path(self.local))):
            self.unsent = self.local
            self.say(f"wandb: the server may not have all of it ({what}); to be sure: wandb sync {self.local}")
        self.run = None


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
