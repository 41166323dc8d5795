"""What a run tells the world: metrics.jsonl, the truth, and W&B, a guest. The only importer of wandb.

No fault of the tracker touches the run: its first failure says one line and ends the tracker.
"""

import json
import netrc
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlparse

from thaw.network import answers
from thaw.settings import Wandb

INIT_SECONDS = 20
FINISH_SECONDS = 20
LONGEST_TAG = 64  # a longer one makes wandb.init raise

AXES = {  # what W&B draws over which axis
    "step": ("lr/*", "image_size", "batch_size", "trainable_fraction", "phase_index", "speed/*"),
    "epoch": ("train/loss", "valid/loss", "valid/accuracy", "valid/f1_macro", "images_seen", "train_seconds"),
}


@dataclass(frozen=True)
class Identity:
    """What W&B shows of a run besides its numbers."""

    id: str
    name: str
    group: str | None
    tags: tuple[str, ...]
    notes: str | None
    config: Mapping


@dataclass
class Tracker:
    """Rows go to metrics.jsonl, then to the W&B run while there is one and it is well."""

    folder: Path
    say: Callable[[str], None]
    run: object = None
    mode: str = "disabled"
    id: str | None = None
    axes: set[str] = field(default_factory=set)

    def tell(self, call: Callable) -> None:
        """`call(run)`, if there is a W&B run; the first failure ends it with a line."""
        if self.run is None:
            return
        try:
            call(self.run)
        except Exception as error:  # a guest's fault, whatever it is
            self.say(f"wandb: stopped ({type(error).__name__}: {str(error)[:120]}); metrics.jsonl goes on")
            self.run = None

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
                self.tell(lambda run, key=key: run.define_metric(key))
                self.tell(lambda run, key=key, curve=curve: run.define_metric(f"{curve}/*", step_metric=key))
        self.tell(lambda run: run.log(dict(row)))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence]) -> None:
        """A table; an array [h, w, 3] in a cell is a picture."""
        if self.run is not None:
            import wandb

            data = [[wandb.Image(cell) if hasattr(cell, "shape") else cell for cell in row] for row in rows]
            self.tell(lambda run: run.log({name: wandb.Table(columns=list(columns), data=data)}))

    def picture(self, name: str, path: Path) -> None:
        if self.run is not None:
            import wandb

            self.tell(lambda run: run.log({name: wandb.Image(str(path))}))

    def configure(self, columns: Mapping) -> None:
        """More columns of the configuration, known only once the run is under way."""
        self.tell(lambda run: run.config.update(dict(columns), allow_val_change=True))

    @property
    def offline(self) -> str | None:
        """The folder that `wandb sync` takes, where the run is written offline."""
        return str(Path(self.run.dir).parent) if self.run is not None and self.mode == "offline" else None

    def finish(self, summary: Mapping, code: int) -> None:
        """Write the summary and the exit code."""
        self.tell(lambda run: run.summary.update(dict(summary)))
        self.tell(lambda run: run.finish(exit_code=code))


def open_tracker(folder: Path, wandb: Wandb, identity: Identity, say: Callable[[str], None]) -> Tracker:
    """A tracker that writes into `folder`, with a W&B run beside it where the mode and the network allow one.

    `auto` is online with a login and a server that answers within three seconds, else offline. Never prompts.
    """
    tracker = Tracker(folder, say, id=identity.id)
    (folder / "metrics.jsonl").open("w").close()  # of an attempt before in the same folder: all rows come again
    mode, why = decide(wandb.mode)
    if mode == "disabled":
        return tracker
    directory = Path(wandb.dir)
    try:
        import wandb as guest

        directory.mkdir(parents=True, exist_ok=True)
        tracker.run = guest.init(
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
                silent=True, console="off", init_timeout=INIT_SECONDS, finish_timeout=FINISH_SECONDS, login_timeout=1
            ),
            # Only what was set, so that WANDB_* variables still count.
            **{
                key: value
                for key, value in (("entity", wandb.entity), ("group", identity.group), ("notes", identity.notes))
                if value
            },
        )
    except Exception as error:
        say(f"wandb: not used ({type(error).__name__}: {str(error).strip()[:120]}); metrics.jsonl has everything")
        return tracker
    tracker.mode = mode
    for axis, names in AXES.items():
        tracker.tell(lambda run, axis=axis: run.define_metric(axis))
        for name in names:
            tracker.tell(lambda run, axis=axis, name=name: run.define_metric(name, step_metric=axis))
    if mode == "offline":
        say(f"wandb: offline ({why}); look: wandb leet {directory}")
    else:
        say(f"wandb: {tracker.run.url}")
    return tracker


def decide(mode: str) -> tuple[str, str]:
    """The mode to start W&B in, and why."""
    if mode != "auto":
        return mode, f"wandb={mode}"
    if chosen := os.environ.get("WANDB_MODE"):
        return chosen, f"WANDB_MODE={chosen}"
    url = os.environ.get("WANDB_BASE_URL") or default_server()
    host = urlparse(url).hostname
    if not has_login(host):
        return "offline", "no login; `wandb login` makes one"
    if not answers(url):
        return "offline", f"{host} does not answer"
    return "online", "logged in"


def default_server() -> str:
    import wandb

    return wandb.Settings().base_url


def has_login(host: str) -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
