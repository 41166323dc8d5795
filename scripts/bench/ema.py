"""Compare an exponential moving average (EMA) of the weights with the weights that a run exports, by test accuracy.

python scripts/bench/ema.py [--seeds 5] [KEY=VALUE ...]     takes under ten minutes on one thread

The average covers parameters and batch-norm statistics over the steps of the full network's phase. It is evaluated at
the exported cycle end and influences no choice. Digits: 480 training images, 120 validation images, scikit-learn's test
half. Shapes: 500 drawn images to train, 500 to validate, 1,000 to test.
"""

import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import torch
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from thaw.config import compose
from thaw.config.paths import require_checkout
from thaw.data.table import TEST
from thaw.model import weights
from thaw.report.tracker import Tracker
from thaw.runtime.console import say, say_error, say_text
from thaw.runtime.entry import Parser, count, run
from thaw.store.store import Store
from thaw.train.predictions import predict
from thaw.train.run import run_plan
from thaw.train.setup import set_up

require_checkout(__file__)


DECAYS = (0.8, 0.9, 0.95, 0.98, 0.99)
EVERY = ("size=32", "threads=1", "wandb=disabled")
TASKS = {
    "digits": ("data=digits", "data.limit=600"),
    "shapes": ("data=shapes", "data.limit=1000", "data.valid=0.5", "data.test=1000"),
    "digits, one_cycle": ("data=digits", "data.limit=600", "scheduler=one_cycle"),
}


@dataclass
class EpochTracker(Tracker):
    """A tracker that also calls `on_epoch` with the epoch of the run after each epoch."""

    on_epoch: Callable[[int], None] | None = None

    def log(self, row: dict) -> None:
        super().log(row)
        if "valid/accuracy" in row:
            self.on_epoch(row["epoch"])


def averaged(overrides: list[str]) -> dict[str, float]:
    """Train once; return the test accuracy of the export and of every average at the same cycle end."""
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        settings = compose.compose_settings([*overrides, f"store.dir={folder}/store"])
        job = set_up(settings, Path(folder), Store(Path(folder) / "store"))
        averages, ends, first = {}, {}, next(job.network.parameters())

        def watch(optimizer: Optimizer, *_) -> None:
            # Skip optimizers of the head alone or of a finder's copy of the network.
            if any(p is first for group in optimizer.param_groups for p in group["params"]):
                follow(averages, job.network.model.state_dict())

        def end(epoch: int) -> None:
            ends[epoch] = {decay: {n: v.clone() for n, v in kept.items()} for decay, kept in averages.items()}

        hook = register_optimizer_step_post_hook(watch)
        try:
            best = run_plan(job, EpochTracker(Path(folder), settings.wandb, on_epoch=end))["best/epoch"]
        finally:
            hook.remove()
        rows = job.inputs.rows(TEST)
        plain = predict(job.inputs, rows).accuracy
        out = {"export": plain}
        if not ends[best]:
            say_error("warning: a head phase was best, so the averages count as the export")
            return out | dict.fromkeys(map(str, DECAYS), plain)
        for decay, average in ends[best].items():
            weights.load_weights(job.network.model, average, "the average", head=True)
            out[str(decay)] = predict(job.inputs, rows).accuracy
        return out


@torch.no_grad()
def follow(averages: dict[float, dict], weights: dict[str, torch.Tensor]) -> None:
    """Update every average with the weights; the first call initialises them."""
    for decay in DECAYS:
        kept = averages.setdefault(decay, {name: value.clone() for name, value in weights.items()})
        for name, value in weights.items():
            if value.is_floating_point():
                kept[name].lerp_(value, 1 - decay)
            else:
                kept[name].copy_(value)


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--seeds", type=count, default=5, metavar="N", help="seeds per task (default: %(default)s)")
    args, given = parser.parse_known_args()
    for name, overrides in TASKS.items():
        found = [averaged([*EVERY, *overrides, *given, f"seed={seed}"]) for seed in range(args.seeds)]
        say_text(f"\n{name}, n={args.seeds}: accuracy, mean ± standard deviation; difference, mean ± standard error")
        for key in found[0]:
            values = [100 * one[key] for one in found]
            differences = [value - 100 * one["export"] for value, one in zip(values, found, strict=True)]
            error = statistics.stdev(differences) / len(differences) ** 0.5
            against = f"{statistics.mean(differences):+.2f} ± {error:.2f}" if key != "export" else ""
            say(f"{key:8} {statistics.mean(values):.2f} ± {statistics.stdev(values):.2f} %  {against}")


if __name__ == "__main__":
    sys.exit(run(main))
