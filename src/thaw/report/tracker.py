"""What a run tells the world: metrics.jsonl, the truth, and W&B, a guest.

No fault of the tracker touches the run: its first failure says one line and ends the tracker.
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

AXES = {  # what W&B draws over which axis
    "step": ("lr/*", "image_size", "batch_size", "trainable_fraction", "phase_index", "speed/*"),
    "epoch": ("train/*", "valid/loss", "valid/accuracy", "valid/f1_macro", "images_seen", "train_seconds"),
}


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
            if self.unsent:
                update_status(self.folder, wandb_offline=self.unsent)
        elif error is None:
            self.finish(0)

    def begin(self, identity: RunIdentity) -> None:
        """Begin a W&B run where the mode and the network allow one; never prompt.

        `auto` is online with a login and a server that answers within three seconds, else offline; so is what cannot
        begin online.
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
            self.run = None
            tear_down(self.code)  # first: its process writes what it holds
            lost = is_machine_error(error) and not can_be_sent(Path(self.local))  # else its process may yet write
            self.unsent = None if lost else self.local
            later = f"; later: wandb sync {self.unsent}" if self.unsent else ""
            self.say(f"wandb: stopped ({brief_error(error)}); metrics.jsonl has everything{later}")

    def log(self, row: Mapping) -> None:
        """One row of numbers and strings, keys as dashboards know them."""
        path = self.folder / "metrics.jsonl"
        try:
            with path.open("a") as file:
                file.write(json_text(row) + "\n")
        except OSError as error:
            error.filename = str(path)  # a write that fails names no file
            raise
        for key in row:
            curve, _, name = key.rpartition("/")
            if name == "rate" and curve not in self.axes:  # a finder's curve is drawn over its own rate
                self.axes.add(curve)
                self.tell(lambda run, key=key: run.define_metric(key, hidden=True))
                self.tell(lambda run, key=key, curve=curve: run.define_metric(f"{curve}/*", step_metric=key))
        self.tell(lambda run: run.log(finite(row)))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence]) -> None:
        """A table of the summary; an array [h, w, 3] in a cell is an image."""
        if self.run is not None:
            import wandb

            def data() -> list[list]:
                return [[wandb.Image(cell) if hasattr(cell, "shape") else finite(cell) for cell in row] for row in rows]

            # Not a row: of what is logged W&B's terminal draws a chart of the table's width, before all others.
            self.tell(lambda run: run.summary.update({name: wandb.Table(list(columns), data())}), wait=True)

    def image(self, name: str, path: Path) -> None:
        if self.run is not None:
            import wandb

            self.tell(lambda run: run.log({name: wandb.Image(str(path))}), wait=True)

    def summary(self, values: Mapping) -> None:
        """What the run adds up to; before tables, which may find the server gone."""
        self.tell(lambda run: run.summary.update(finite(values)))

    def finish(self, code: int) -> None:
        """End with an exit code."""
        self.code = code
        self.tell(lambda run: run.finish(exit_code=code), wait=True)
        if self.run is not None and self.unsent is None and (what := server_complaint(Path(self.local))):
            self.unsent = self.local
            self.say(f"wandb: the server may not have all of it ({what}); to be sure: wandb sync {self.local}")
        self.run = None
