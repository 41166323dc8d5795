"""The metrics of a run: metrics.jsonl always, and W&B if it works.

No failure of W&B affects the run: the first one prints one line and ends the W&B run.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from thaw.config.schema import Wandb
from thaw.report.wandb_mode import choose_mode
from thaw.report.wandb_run import (
    PATIENCE,
    RunIdentity,
    begin_run,
    brief_error,
    can_be_sent,
    server_complaint,
    tear_down,
    with_timeout,
)
from thaw.runtime.console import say
from thaw.runtime.errors import UserError
from thaw.runtime.failures import is_machine_error
from thaw.runtime.files import finite, json_text
from thaw.runtime.job_status import update_status
from thaw.runtime.signals import Stopped

AXES = {  # x axis to the metrics that W&B draws over it
    "step": ("lr/*", "image_size", "batch_size", "trainable_fraction", "phase_index", "speed/*"),
    "epoch": ("train/*", "valid/loss", "valid/accuracy", "valid/f1_macro", "images_seen", "train_seconds"),
}


@dataclass
class Tracker:
    """Writes rows to metrics.jsonl, and to the W&B run as long as there is one and it works.

    As a context manager, it ends the W&B run with the outcome of the block. If a UserError refuses the job before
    `begin`, it creates a failed W&B run with the identity that `refused` returns (None: no run).
    """

    folder: Path
    wandb: Wandb
    say: Callable[[str], None] = say
    refused: Callable[[], RunIdentity] | None = None
    run: object = None
    id: str | None = None
    local: str | None = None  # folder of the W&B run on this machine
    unsent: str | None = None  # the same folder if the server lacks some of it, for `wandb sync`
    axes: set[str] = field(default_factory=set)
    patience: float = PATIENCE
    code: int = 0  # exit code of the run; 0 until it is known

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, kind, error, trace) -> None:
        if self.id is None and self.refused and isinstance(error, UserError):
            self.say = lambda line: None  # nothing is printed after the error
            with suppress(Exception):  # the refusal matters more than any W&B error
                self.begin(self.refused())
        if self.id is not None and isinstance(error, (UserError, Stopped)):
            self.summary({"error": error.line})
            self.finish(error.code)
            if self.unsent:
                update_status(self.folder, wandb_offline=self.unsent)
        elif error is None:
            self.finish(0)

    def begin(self, identity: RunIdentity) -> None:
        """Begin a W&B run if the mode allows one. Never prompt.

        `auto` is online with a login and a server that answers within three seconds, else offline. A run that cannot
        begin online begins offline.
        """
        self.id = identity.id
        try:
            mode, why = choose_mode(self.wandb.mode)
            if mode == "disabled":
                return
            try:
                self.run = begin_run(mode, self.wandb, identity)
            except Exception as error:
                if mode != "online":
                    raise
                mode, why = "offline", brief_error(error)
                tear_down(1)  # otherwise the id is in use
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
            self.say(
                f"wandb: offline ({why}); view: wandb leet {self.wandb.dir}; upload later: wandb sync {self.local}"
            )
        else:
            self.say(f"wandb: {self.run.url}")

    def tell(self, call: Callable, wait: bool = False) -> None:
        """Call `call(run)` if there is a W&B run; the first failure prints a line and ends the W&B run.

        With `wait`, for calls that need the server's answer, give up when the patience is used up: W&B itself would
        wait for a minute.
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
        except Exception as error:  # W&B may raise anything
            self.run = None
            tear_down(self.code)  # first, because its process then writes what it holds
            lost = is_machine_error(error) and not can_be_sent(Path(self.local))  # otherwise it may still write
            self.unsent = None if lost else self.local
            later = f"; upload later: wandb sync {self.unsent}" if self.unsent else ""
            self.say(f"wandb: stopped ({brief_error(error)}); metrics.jsonl has everything{later}")

    def log(self, row: Mapping) -> None:
        """Log one row of numbers and strings under their metric names."""
        path = self.folder / "metrics.jsonl"
        try:
            with path.open("a") as file:
                file.write(json_text(row) + "\n")
        except OSError as error:
            error.filename = str(path)  # the error of a failed write names no file
            raise
        for key in row:
            curve, _, name = key.rpartition("/")
            if name == "rate" and curve not in self.axes:  # the x axis of a finder's curve is its learning rate
                self.axes.add(curve)
                self.tell(lambda run, key=key: run.define_metric(key, hidden=True))
                self.tell(lambda run, key=key, curve=curve: run.define_metric(f"{curve}/*", step_metric=key))
        self.tell(lambda run: run.log(finite(row)))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence]) -> None:
        """Add a table to the summary; a cell with an array [h, w, 3] becomes an image."""
        if self.run is not None:
            import wandb

            def data() -> list[list]:
                return [[wandb.Image(cell) if hasattr(cell, "shape") else finite(cell) for cell in row] for row in rows]

            # In the summary, because W&B's terminal view would draw a chart of a logged table, before all others.
            self.tell(lambda run: run.summary.update({name: wandb.Table(list(columns), data())}), wait=True)

    def image(self, name: str, path: Path) -> None:
        if self.run is not None:
            import wandb

            self.tell(lambda run: run.log({name: wandb.Image(str(path))}), wait=True)

    def summary(self, values: Mapping) -> None:
        """Update the run's summary. Call it before `table`, which ends the W&B run if the server is down."""
        self.tell(lambda run: run.summary.update(finite(values)))

    def finish(self, code: int) -> None:
        """End the W&B run with an exit code."""
        self.code = code
        self.tell(lambda run: run.finish(exit_code=code), wait=True)
        if self.run is not None and self.unsent is None and (what := server_complaint(Path(self.local))):
            self.unsent = self.local
            self.say(f"wandb: the server may not have everything ({what}); upload again: wandb sync {self.local}")
        self.run = None
