"""Would an exponential average of the weights pay? Test accuracy of it beside the weights that a run exports.

python scripts/bench/ema.py [--seeds 5] [key=value ...]     under ten minutes on one thread

The average (parameters and batch-norm statistics) is kept over the steps of the whole network's phase and looked at
where the exported cycle ends; nothing is chosen by it. 480 digits to train on, 120 to validate and scikit-learn's test
half; 500 drawn shapes, 500 to validate, 1,000 to test.
"""

import statistics
import sys
import tempfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import torch

from thaw.config import compose
from thaw.config.paths import require_checkout
from thaw.data.table import TEST
from thaw.model import weights
from thaw.runtime.console import complain, say
from thaw.runtime.entry import Parser, run
from thaw.store.store import Store
from thaw.train import cycle
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


def averaged(overrides: list[str]) -> dict[str, float]:
    """Accuracy of a run's export and, at the same cycle end, of every average."""
    averages, ends, steps_of, run_cycle = {}, [], cycle.optimizer_steps, cycle.run_cycle

    def watch(fit, *args):
        for step in steps_of(fit, *args):
            if fit.phase.train == "all":
                follow(averages, fit.context.network.model.state_dict())
            yield step

    def end(fit, *args):
        ended = run_cycle(fit, *args)
        if averages:
            ends.append(
                (ended[0].key, {decay: {n: v.clone() for n, v in kept.items()} for decay, kept in averages.items()})
            )
        return ended

    cycle.optimizer_steps, cycle.run_cycle = watch, end
    try:
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
            settings = compose.compose_settings([*overrides, f"store.dir={folder}/store"])
            job = set_up(settings, Path(folder), Store(Path(folder) / "store"))
            key = run_plan(job, lambda row: None)["key"]
            rows = job.dataset.rows(TEST)
            plain = predict(job, rows).accuracy
            out = {"export": plain}
            there = dict(ends).get(key)
            if there is None:
                complain("a head phase was best: its plain figure is counted")
                return out | dict.fromkeys(map(str, DECAYS), plain)
            for decay in DECAYS:
                weights.load_weights(job.network.model, there[decay], "the average", head=True)
                out[str(decay)] = predict(job, rows).accuracy
            return out
    finally:
        cycle.optimizer_steps, cycle.run_cycle = steps_of, run_cycle


@torch.no_grad()
def follow(averages: dict[float, dict], weights: dict[str, torch.Tensor]) -> None:
    """Move every average towards the weights; they begin as the weights of the first step."""
    for decay in DECAYS:
        kept = averages.setdefault(decay, {name: value.clone() for name, value in weights.items()})
        for name, value in weights.items():
            if value.is_floating_point():
                kept[name].lerp_(value, 1 - decay)
            else:
                kept[name].copy_(value)


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    args, given = parser.parse_known_args()
    for name, overrides in TASKS.items():
        found = [averaged([*EVERY, *overrides, *given, f"seed={seed}"]) for seed in range(args.seeds)]
        say(f"\n{name}, n={args.seeds}: accuracy, mean ± standard deviation; difference, mean ± standard error")
        for key in found[0]:
            values = [100 * one[key] for one in found]
            differences = [value - 100 * one["export"] for value, one in zip(values, found, strict=True)]
            error = statistics.stdev(differences) / len(differences) ** 0.5
            against = f"{statistics.mean(differences):+.2f} ± {error:.2f}" if key != "export" else ""
            say(f"{key:8} {statistics.mean(values):.2f} ± {statistics.stdev(values):.2f} %  {against}")


if __name__ == "__main__":
    sys.exit(run(main))
