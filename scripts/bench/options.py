"""Measure what options beyond the checklist contribute: accuracy relative to the defaults, seed by seed.

python scripts/bench/options.py [--folder DIR] [--only smoothing]     takes a quarter of an hour on one core

Digits: 480 training images, 120 validation images, scikit-learn's test half (899). Shapes: 500 drawn images to train,
500 to validate, 1,000 to test. All at 32 px, with 7 epochs of the full network and no cycle beyond the plan. The
exported weights are chosen by validation. A head phase is scored by the validation accuracy of its best cycle end,
which favours many cycles. Seconds are those of training, not of the later test-time augmentation and ensembles.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from thaw.config.paths import ROOT, require_checkout
from thaw.runtime.console import say
from thaw.runtime.entry import Parser, count, run

require_checkout(__file__)

SETS = {
    "digits": ("data=digits", "data.limit=600"),
    "shapes": ("data=shapes", "data.limit=1000", "data.valid=0.5", "data.test=1000"),
}
EVERY = ("size=32", "scheduler.max_cycles=3", "wandb=disabled", "threads=1")
TOGETHER = ("evaluate.ensemble=3", "evaluate.tta=4")
STORED = ("checklist.head_augmented.features=precomputed", "++checklist.head_augmented.views=3")
LONGER = "checklist.head_augmented.cycles=15"
FIXRES = "+checklist.fixres={do: fit, train: head, features: precomputed, epochs: 2, lr: 3e-3}"
HEAD = "phase/head_augmented/accuracy"
SUPER = "checklist=super_convergence"
FROM_SCRATCH = ("checklist=from_scratch", "~checklist.full.until", "rates=uniform")


class Option(NamedTuple):
    """An option: its settings, its metric, and the option it is compared with."""

    name: str
    overrides: tuple = ()
    key: str = "test/accuracy"
    against: str = "defaults"


LIVE = "head: 3 epochs live"
SCRATCH = "from scratch: 7 epochs, sgdr"
OPTIONS = [
    Option("defaults", TOGETHER),
    Option("evaluate.ensemble=3: together", TOGETHER, key="test/accuracy_ensemble"),
    Option("evaluate.ensemble=3: mean weights", TOGETHER, key="test/accuracy_average"),
    Option("evaluate.tta=4", TOGETHER, key="test/accuracy_tta"),
    Option("loss.smoothing=0.1", ("loss.smoothing=0.1",)),
    Option("bn=train", ("bn=train",)),
    Option("head=fastai", ("head=fastai",)),
    Option("fixres: the last layer at the end", (FIXRES,)),
    Option("head from 3 stored views, 3 epochs", STORED),
    Option(LIVE, TOGETHER, key=HEAD, against=LIVE),
    Option("head: 3 epochs of 3 stored views", STORED, HEAD, LIVE),
    Option("head: 15 epochs of 3 stored views", (*STORED, LONGER), HEAD, LIVE),
    Option("head: 15 epochs live", (LONGER,), HEAD, LIVE),
    Option(SCRATCH, FROM_SCRATCH, against=SCRATCH),
    Option("from scratch: 21 epochs, sgdr", (*FROM_SCRATCH, "epochs=21"), against=SCRATCH),
    Option("super_convergence: 7 epochs", (SUPER,), against=SCRATCH),
    Option("super_convergence: 7 epochs, twice the rate", (SUPER, "lr_factor=2"), against=SCRATCH),
]  # fmt: skip


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--seeds", type=count, default=3, metavar="N", help="seeds per option (default: %(default)s)")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="keep and reuse the runs there (default: temporary)")
    parser.add_argument("--only", default="", metavar="TEXT", help="options whose name contains it (default: all)")
    args = parser.parse_args()
    options = [o for o in OPTIONS if args.only in o.name]
    needed = {o.against for o in options}
    options = [o for o in OPTIONS if o in options or o.name in needed]
    for name, overrides in SETS.items():
        with tempfile.TemporaryDirectory() as temporary:
            folder = (args.folder or Path(temporary)) / name
            sweeps = {o.overrides: [] for o in options}
            for own in sweeps:
                sweeps[own] = sweep(folder, (*overrides, *EVERY, *own), args.seeds)
        say()
        say(f"{name}, {args.seeds} seeds: accuracy, mean ± standard deviation; difference, mean ± standard error")
        for o in options:
            found = values(sweeps[o.overrides], o)
            base = next(other for other in OPTIONS if other.name == o.against)
            differences = [a - b for a, b in zip(found, values(sweeps[base.overrides], base), strict=True)]
            error = statistics.stdev(differences) / len(differences) ** 0.5
            against = f"{statistics.mean(differences):+.2f} ± {error:.2f}" if o is not base else ""
            phase = o.key.split("/")[1] if o.key.startswith("phase/") else ""
            seconds = statistics.mean(cost(result, phase) for result in sweeps[o.overrides])
            accuracy = f"{statistics.mean(found):6.2f} ± {statistics.stdev(found):.2f} %"
            missing = sum(o.key not in result for result in sweeps[o.overrides])
            left = f"  {missing} runs lack it: test/accuracy is counted" if missing else ""
            say(f"{o.name:46} {accuracy}  {against:16} {seconds:6.1f} s{left}")


def sweep(folder: Path, overrides: tuple, seeds: int) -> list[dict]:
    """Train over the seeds with a shared store; return the results."""
    place = folder / sha256(" ".join(overrides).encode()).hexdigest()[:8]
    places = [f"hydra.sweep.dir={place}", f"store.dir={folder}/store"]
    command = [sys.executable, ROOT / "src/train.py", "-m", *places, *overrides, f"seed=range({seeds})"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return [json.loads((place / str(seed) / "result.json").read_text()) for seed in range(seeds)]


def values(results: list[dict], option: Option) -> list[float]:
    """Return the metric in percent per seed, or test/accuracy if only one cycle end exists to combine."""
    return [100 * result.get(option.key, result["test/accuracy"]) for result in results]


def cost(result: dict, phase: str) -> float:
    """Return the seconds of a phase, or of all phases if it is empty, as if nothing had been reused."""
    keys = (
        [f"phase/{phase}/seconds"]
        if phase
        else [key for key in result if key.endswith("/seconds") and key != "cost/seconds"]
    )
    return sum(result[key] for key in keys)


if __name__ == "__main__":
    sys.exit(run(main))
