"""Compare the learning rates that finders suggest with the best rate of a grid search, on recorded curves.

python scripts/bench/finder_curves.py     record the curves, once
python scripts/bench/finder.py            evaluate every rule on them, in seconds

The rules of other libraries read the same range tests, each with its own smoothing, skipping and stopping
(finder_rules.py): 100 steps from 1e-5 to 10, although fastai starts at 1e-7 and Lightning runs from 1e-8 to 1. thaw's
trials take 1,320 steps on the stored activations of digits (11 rates x 40 x 3), which cost almost nothing, and 66 steps
on the full network.
"""

import json
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from finder_curves import HELD_OUT, SEEDS, TASKS, file_of, trained_by
from finder_rules import RULES, Rule, averaged

from thaw.config import compose
from thaw.config.paths import require_checkout
from thaw.runtime.console import say, say_error, say_text
from thaw.runtime.entry import Parser, run
from thaw.train.lr_suggest import read_range, read_trials

require_checkout(__file__)

DEFAULT = compose.compose_settings([]).find
AS_GOOD = 0.01  # a rate of the grid this close to the highest accuracy also counts as best


def suggested(known: dict, seeds: Iterable[str]) -> dict[str, list[float | None]]:
    """Return the suggestions of every rule by seed: trials read their own losses, all others the same range test."""
    out = {"thaw trials": [read_trials(**known["trials"][seed], find=DEFAULT).taken for seed in seeds]}
    for rule in ("edge", "valley"):
        out[f"thaw {rule}"] = [read_as(rule, **known["curves"][seed]) for seed in seeds]
    for name, rule in RULES.items():
        out[name] = [or_none(rule, **known["curves"][seed]) for seed in seeds]
    return out


def or_none(rule: Rule, rates: list[float], losses: list[float], **_) -> float | None:
    """Return the suggestion of a rule, or None if it has none."""
    try:
        return rule(rates, losses)
    except ValueError:
        return None


def read_as(rule: str, rates: list[float], losses: list[float], **_) -> float:
    """Apply a rule of thaw to a range test, cut off as thaw's own range test would stop."""
    find = replace(DEFAULT, rule=rule)
    n, average, lowest = 0, averaged(losses, find.smooth), math.inf
    for n, seen in enumerate(average, 1):
        lowest = min(lowest, seen)
        if n > 10 and seen > find.diverge * lowest and seen > 2 * np.mean(losses[:10]):
            break
    return read_range(rates[:n], losses[:n], find).taken


@dataclass(frozen=True)
class Score:
    """The quality of a rule's suggestions on a task."""

    near: float  # fraction within a factor of three of a best rate
    regret: float  # median loss of accuracy relative to the best rate
    worst: float  # the 90th percentile of the regret
    spread: float  # standard deviation in decades
    median: float  # of the rates
    none: int  # seeds without a suggestion


def score(known: dict, rates: list[float | None]) -> Score:
    """Score suggestions against the grid, whose accuracy is interpolated linearly over log rate and constant beyond it.

    Every rate at most a point below the highest mean accuracy is a best rate. A missing suggestion counts as outside
    the factor of three and is left out of the other figures.
    """
    mean = np.mean(list(known["grid"].values()), 0)
    given = np.log10([rate for rate in rates if rate is not None])
    grid = np.log10(known["rates"])
    best = grid[mean >= mean.max() - AS_GOOD]
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


def scored(name: str) -> dict[str, Score]:
    """Score every rule on a task and print a table; return nothing if the task is not fully recorded."""
    file = file_of(name)
    known = json.loads(file.read_text()) if file.exists() else {"trials": {}}
    if len(known["trials"]) < SEEDS:
        say_error(f"warning: {name}: not recorded yet; run finder_curves.py")
        return {}
    scores = {rule: score(known, rates) for rule, rates in suggested(known, known["trials"]).items()}
    mean = np.mean(list(known["grid"].values()), 0)
    say_text(f"\n{name}: best {mean.max():.1%} at {known['rates'][mean.argmax()]:.2g}, n={SEEDS}\n")
    say("| rule | median rate | within 3x | regret, median (points) | regret, 90th percentile | spread (decades) |")
    say("|---|---|---|---|---|---|")
    for rule, s in scores.items():
        regrets = f"{100 * s.regret:.1f} | {100 * s.worst:.1f}"
        none = f" {s.none} without a suggestion" if s.none else ""
        say(f"| {rule} | {s.median:.2g} | {s.near:.0%} | {regrets} | {s.spread:.2f} |{none}")
    return scores


def compare(title: str, tasks: list[dict[str, Score]]) -> None:
    """Print a table of the rules' means over tasks."""
    say_text(f"\n{title}: means over {len(tasks)} tasks\n")
    say("| rule | within 3x | regret (points) | regret, worst task | regret, 90th percentile | spread (decades) |")
    say("|---|---|---|---|---|---|")
    for rule in tasks[0] if tasks else ():
        rows = [task[rule] for task in tasks]
        near, regret, worst, spread = (
            np.mean([getattr(s, key) for s in rows]) for key in ("near", "regret", "worst", "spread")
        )
        most = max(s.regret for s in rows)
        say(f"| {rule} | {near:.0%} | {100 * regret:.1f} | {100 * most:.1f} | {100 * worst:.1f} | {spread:.2f} |")


def main() -> None:
    Parser(__doc__).parse_args()
    tasks = {name: scores for name in TASKS if (scores := scored(name))}
    groups = {
        "all": list(tasks),
        "seen while designing the rule, SGD": [n for n in tasks if not by_adam(n)],
        "seen while designing the rule, AdamW": [n for n in tasks if by_adam(n) and n not in HELD_OUT],
        "recorded afterwards, heads, AdamW": [n for n in HELD_OUT if trained_by(n) == "head"],
        "recorded afterwards, full networks, AdamW": [n for n in HELD_OUT if trained_by(n) == "all"],
    }
    for title, names in groups.items():
        compare(title, [tasks[name] for name in names if name in tasks])


def by_adam(name: str) -> bool:
    return name.endswith("AdamW")


if __name__ == "__main__":
    sys.exit(run(main))
