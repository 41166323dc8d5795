"""How good are the rates that finders suggest? Against the best rate by grid search, on the same curves.

python scripts/bench/finder.py [--cache FOLDER] [--only TASK ...]     an hour on a core; recorded once

A task is a find phase, with the fits that use its rate cut to a fixed budget. Its best rate comes from a grid, three
rates a decade, five seeds: accuracy on all pictures that were not trained on. Twenty seeds each record a range
test, never stopped, and thaw's trials. Every rule of other libraries reads the same range tests, with its own
smoothing, skipping and stopping (finder_rules.py).
"""

import argparse
import copy
import io
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

import numpy as np
import photographs
import photos
from finder_rules import RULES, Rule, averaged

from thaw import composed, cycles, job, plan, search, tend
from thaw.data import source
from thaw.errors import UserError
from thaw.plan import Phase
from thaw.settings import Find, Settings
from thaw.setup import set_up
from thaw.suggest import read_range, read_trials

GRID = {  # three rates a decade to 10, of a head from 1e-4, of a whole network from 1e-3; for AdamW a tenth of it
    "head": [10 ** (k / 3) for k in range(-12, 4)],
    "all": [10 ** (k / 3) for k in range(-9, 4)],
}
GRID_SEEDS, SEEDS = 5, 20
DEFAULT = Find("trials", 1e-5, 10.0, 6, 1, 40, 3, 100, 0.8, 4.0)

HEAD = ["~checklist.find_full", "~checklist.full", "checklist.head_augmented.features=precomputed"]
AFTER = [
    "~checklist.find_head", "~checklist.head_augmented", "~checklist.full.until", "+checklist.find_full.features=live",
    "checklist.head_precomputed={do: fit, train: head, features: precomputed, epochs: 3, lr: 0.1}",
]  # fmt: skip
AFTER_ADAM = ["optimizer=adamw", *AFTER, "checklist.head_precomputed.lr=0.01"]
SCRATCH = ["checklist=from_scratch", "~checklist.full.until"]
DIGITS = ["size=32"]
COARSE = ["data=shapes", "data.limit=2400", "data.valid=0.5", "data.workers=0", "size=32", "data.detail=0.25"]
FINE = [*COARSE[:-1], "data.detail=0.4"]
PHOTOS = [
    "data=folder",
    "backbone=tiny",
    "data.root=PHOTOS",
    "data.valid=0.4",
    "data.workers=0",
    "size=40",
    "augment=side_on",
]
DRAWN = ["data=folder", "backbone=tiny", "data.root=DRAWN", "data.workers=0", "size=64", "augment=standard"]
TINY = ["backbone.weights=conf/backbone/tiny.safetensors"]
ADAM = ["optimizer=adamw"]
TASKS = {
    "digits, head": [*DIGITS, *HEAD],
    "digits, head, AdamW": [*DIGITS, *ADAM, *HEAD],
    "digits, full after head": [*DIGITS, *AFTER],
    "digits, full after head, AdamW": [*DIGITS, *AFTER_ADAM],
    "digits, scratch, AdamW": [*DIGITS, *ADAM, *SCRATCH],
    "coarse shapes, scratch": [*COARSE, *SCRATCH],
    "coarse shapes, head": [*COARSE, *HEAD],
    "fine shapes, full": [*FINE, *SCRATCH, *TINY],
    "photographs, head": [*PHOTOS, *HEAD],
    "photographs, full after head": [*PHOTOS, *AFTER],
    "drawn shapes, full after head": [*DRAWN, *AFTER],
    "drawn shapes, full after head, AdamW": [*DRAWN, *AFTER_ADAM],
    "drawn shapes, head": [*DRAWN, *HEAD],
    "coarse shapes, full after head": [*COARSE, *AFTER],
    **(
        HELD_OUT := {  # not looked at when the rule for trials was chosen
            "digits, scratch": [*DIGITS, *SCRATCH],
            "digits, resnet18, scratch": [*DIGITS, "backbone=resnet18", *SCRATCH],
            "digits, full after head, batch 16": [*DIGITS, *AFTER, "batch_size=16"],
            "photographs, full after head, AdamW": [*PHOTOS, *AFTER_ADAM],
            "coarse shapes, scratch, AdamW": [*COARSE, *ADAM, *SCRATCH],
        }
    ),
}


def prepared(overrides: list[str], folder: Path) -> tuple[job.Job, Phase, list[Phase]]:
    """The job with everything before its find trained, the find, and the fits that use its rate."""
    folder.mkdir(parents=True, exist_ok=True)
    given = [
        o.replace("=PHOTOS", f"={folder.parent}/photos").replace("=DRAWN", f"={folder.parent}/drawn") for o in overrides
    ]
    if ADAM[0] not in given:
        given.append("optimizer=sgd")
    settings = composed.settings_of([*given, "threads=1", f"store.dir={folder.parent}/store"])
    made = set_up(settings, folder, tend.open_store(settings, print))
    phases = list(made.plan.phases)
    while phases[0].do == "fit":
        fully(made, phase := phases.pop(0), phase.lr)
    return made, phases[0], phases[1:]


def fully(made: job.Job, phase: Phase, lr: float) -> None:
    """Train the planned cycles of a phase from the weights that are there."""
    fit_ = cycles.begin(made, phase, job.layer_groups(made, phase), lr, None, None)
    batches = job.train_batches(made, phase, range(phase.epochs_budget), phase.name)
    for _ in cycles.steps_of(fit_, batches, 0):
        pass


def rates(settings: Settings, trained: str) -> list[float]:
    """The grid of a task."""
    return [rate / (10 if settings.optimizer.name == "adamw" else 1) for rate in GRID[trained]]


def tried(made: job.Job, find: Phase) -> dict:
    """The package's trials."""
    rates, losses = search.tried(made, find, *plan.find_length(made.settings, find))
    return {"rates": rates, "losses": losses}


def swept(made: job.Job, find: Phase) -> dict:
    """A range test that is never stopped."""
    made.settings.find = replace(made.settings.find, rule="edge", diverge=1e30)
    steps = made.settings.find.steps
    rates, losses = search.swept(made, find, steps, 1)
    return {"rates": rates, "losses": losses}


def judged(made: job.Job, fits: list[Phase], rate: float) -> tuple[float, float]:
    """Accuracy and loss after the fits at a rate, on all pictures that were not trained on."""
    try:
        for phase in fits:
            fully(made, phase, rate)
    except UserError:  # not finite
        return 0.0, math.inf
    seen = job.look(made, np.concatenate([made.source.rows(source.VALID), made.source.rows(source.TEST)]))
    return seen.accuracy, seen.loss


def file_of(cache: Path, name: str) -> Path:
    return cache / f"{name.replace(', ', '_').replace(' ', '-')}.json"


def trained_by(name: str) -> str:
    return "head" if HEAD[0] in TASKS[name] else "all"


def record(name: str, cache: Path, folder: Path) -> None:
    """What is missing of a task's curves and grid, into a file of its own."""
    file = file_of(cache, name)
    known = json.loads(file.read_text()) if file.exists() else {"curves": {}, "grid": {}}
    known.setdefault("trials", {})
    for seed in map(str, range(SEEDS)):
        known["curves"].setdefault(seed, {})
        curves, trials, grid = known["curves"][seed], known["trials"], known["grid"].get(seed, [])
        gridded = int(seed) >= GRID_SEEDS or (grid and len(grid) == len(known["rates"]))
        if "100" in curves and seed in trials and gridded:
            continue
        began = time.perf_counter()
        with redirect_stdout(io.StringIO()):
            made, find, fits = prepared([*TASKS[name], f"seed={seed}"], folder / name)
            if seed not in trials:
                trials[seed] = tried(made, find)
                file.write_text(json.dumps(known))
            if "100" not in curves:
                curves["100"] = [swept(made, find)]
                file.write_text(json.dumps(known))
            if not gridded:
                known.setdefault("rates", rates(made.settings, trained_by(name)))
                known["grid"][seed] = grid
                start = copy.deepcopy(made.network.state_dict())
                for rate in known["rates"][len(grid) :]:
                    made.network.load_state_dict(start)
                    grid.append(judged(made, fits, rate))
                    file.write_text(json.dumps(known))
        print(f"{name}, seed {seed}: {time.perf_counter() - began:.1f} s", file=sys.stderr, flush=True)


def suggested(known: dict, seeds: Iterable[str]) -> dict[str, list[float | None]]:
    """What every rule suggests for every seed: trials for their own figures, all others for the same range test."""
    out = {"thaw trials": [read_trials(**known["trials"][seed], find=DEFAULT).taken for seed in seeds]}
    for rule in ("edge", "valley"):
        out[f"thaw {rule}"] = [read_as(rule, **known["curves"][seed]["100"][0]) for seed in seeds]
    for name, rule in RULES.items():
        out[name] = [or_none(rule, **known["curves"][seed]["100"][0]) for seed in seeds]
    return out


def or_none(rule: Rule, rates: list[float], losses: list[float], **_) -> float | None:
    try:
        return rule(rates, losses)
    except ValueError:
        return None


def read_as(rule: str, rates: list[float], losses: list[float], **_) -> float:
    """thaw's own rules for range tests, stopped where its range test would have stopped."""
    find = replace(DEFAULT, rule=rule)
    n, average, lowest = 0, averaged(losses, find.smooth), math.inf
    for n, seen in enumerate(average, 1):
        lowest = min(lowest, seen)
        if n > 10 and seen > find.diverge * lowest and seen > 2 * np.mean(losses[:10]):
            break
    return read_range(rates[:n], losses[:n], find).taken


@dataclass(frozen=True)
class Score:
    """How good the suggestions of a rule are on a task."""

    near: float  # share within a factor of three of a best rate
    regret: float  # median, in accuracy
    worst: float  # the 90th percentile of the regret
    spread: float  # standard deviation in decades
    median: float  # of the rates
    none: int  # seeds without a suggestion


def score(known: dict, rates: list[float | None]) -> Score:
    """Against the grid: accuracy between its rates on a straight line over log rate, beyond its ends that of the end.

    Every rate whose mean accuracy is within a standard error of the highest is a best one. No suggestion counts as
    none within the factor and is left out of the rest.
    """
    accuracy = np.array([[at[0] for at in known["grid"][seed]] for seed in known["grid"]])
    mean, n = accuracy.mean(0), len(accuracy)
    noise = (accuracy - mean - accuracy.mean(1, keepdims=True) + accuracy.mean()).std() * math.sqrt(2 / (n - 1))
    given = np.log10([rate for rate in rates if rate is not None])
    grid = np.log10(known["rates"])
    best = grid[mean >= mean.max() - noise]
    near = np.abs(given[:, None] - best).min(1) <= math.log10(3) + 1e-9
    regret = mean.max() - np.interp(given, grid, mean)
    return Score(
        near.sum() / len(rates),
        float(np.median(regret)),
        float(np.quantile(regret, 0.9)),
        float(given.std(ddof=1)),
        float(10 ** np.median(given)),
        len(rates) - len(given),
    )


def report(cache: Path, first: int = 0) -> None:
    """A table for each task and one over all, as markdown, of the seeds from `first` on."""
    scores = {}
    for name in TASKS:
        file = file_of(cache, name)
        known = json.loads(file.read_text()) if file.exists() else {}
        full = {seed: grid for seed, grid in known.get("grid", {}).items() if len(grid) == len(known["rates"])}
        seeds = [
            seed for seed in known.get("trials", {}) if int(seed) >= first and "100" in known["curves"].get(seed, {})
        ]
        if len(full) < GRID_SEEDS or len(seeds) < 3:
            print(f"{name}: not recorded yet", file=sys.stderr)
            continue
        known["grid"] = full
        mean = np.mean([[at[0] for at in grid] for grid in full.values()], 0)
        scores[name] = {rule: score(known, rates) for rule, rates in suggested(known, seeds).items()}
        print(f"\n{name}: best {mean.max():.1%} at {known['rates'][mean.argmax()]:.2g}, n={len(seeds)}\n")
        print("| rule | median rate | within 3x | regret, median | 90th percentile | spread, decades |")
        print("|---|---|---|---|---|---|")
        for rule, s in scores[name].items():
            regrets = f"{100 * s.regret:.1f} | {100 * s.worst:.1f}"
            none = f" {s.none} without a suggestion" if s.none else ""
            print(f"| {rule} | {s.median:.2g} | {s.near:.0%} | {regrets} | {s.spread:.2f} |{none}")
    for title, names in (
        ("all tasks", list(scores)),
        ("tuned on", [name for name in scores if name not in HELD_OUT]),
        ("held out", [name for name in scores if name in HELD_OUT]),
    ):
        if not names:
            continue
        print(f"\n{title}: means over {len(names)} tasks\n")
        print("| rule | within 3x | regret | its worst task | 90th percentile | spread, decades |")
        print("|---|---|---|---|---|---|")
        for rule in next(iter(scores.values())):
            rows = [scores[name][rule] for name in names]
            near, regret, worst, spread = (
                np.mean([getattr(s, key) for s in rows]) for key in ("near", "regret", "worst", "spread")
            )
            most = max(s.regret for s in rows)
            print(f"| {rule} | {near:.0%} | {100 * regret:.1f} | {100 * most:.1f} | {100 * worst:.1f} | {spread:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=composed.OUTPUTS / "bench/finder")
    parser.add_argument("--only", nargs="*", default=list(TASKS))
    parser.add_argument("--first", type=int, default=0, help="read seeds from here on; 4: none the rule was chosen by")
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        photographs.draw(Path(folder) / "photos")
        photos.draw(Path(folder) / "drawn", 1500)
        for name in args.only:
            record(name, args.cache, Path(folder))
    report(args.cache, args.first)


if __name__ == "__main__":
    main()
