"""How good are the rates that finders suggest? Against the best rate by grid search, on the same curves.

python scripts/bench/finder_curves.py     record them, once
python scripts/bench/finder.py            read them by every rule, in seconds

Every rule of other libraries reads the same range tests, with its own smoothing, skipping and stopping
(finder_rules.py): 100 steps from 1e-5 to 10, where fastai itself begins at 1e-7 and Lightning goes from 1e-8 to 1.
thaw's trials take 1,320 steps on the stored features of digits (11 rates x 40 x 3), which cost next to nothing, and 66
on the whole network.
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
from thaw.runtime.console import complain, say, say_text
from thaw.runtime.entry import Parser, run
from thaw.train.lr_suggest import read_range, read_trials

require_checkout(__file__)

DEFAULT = compose.compose_settings([]).find
AS_GOOD = 0.01  # so far below the highest accuracy a rate of the grid is a best one too


def suggested(known: dict, seeds: Iterable[str]) -> dict[str, list[float | None]]:
    """What every rule suggests for every seed: trials for their own figures, all others for the same range test."""
    out = {"thaw trials": [read_trials(**known["trials"][seed], find=DEFAULT).taken for seed in seeds]}
    for rule in ("edge", "valley"):
        out[f"thaw {rule}"] = [read_as(rule, **known["curves"][seed]) for seed in seeds]
    for name, rule in RULES.items():
        out[name] = [or_none(rule, **known["curves"][seed]) for seed in seeds]
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

    A best rate is the one of the highest mean accuracy, and every other that is at most a point below it. No suggestion
    counts as none within the factor and is left out of the rest.
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
    """Every rule on a task, with a table of them; nothing where the task is not recorded."""
    file = file_of(name)
    known = json.loads(file.read_text()) if file.exists() else {"trials": {}}
    if len(known["trials"]) < SEEDS:
        complain(f"{name}: not recorded yet")
        return {}
    scores = {rule: score(known, rates) for rule, rates in suggested(known, known["trials"]).items()}
    mean = np.mean(list(known["grid"].values()), 0)
    say_text(f"\n{name}: best {mean.max():.1%} at {known['rates'][mean.argmax()]:.2g}, n={SEEDS}\n")
    say("| rule | median rate | within 3x | regret, median | 90th percentile | spread, decades |")
    say("|---|---|---|---|---|---|")
    for rule, s in scores.items():
        regrets = f"{100 * s.regret:.1f} | {100 * s.worst:.1f}"
        none = f" {s.none} without a suggestion" if s.none else ""
        say(f"| {rule} | {s.median:.2g} | {s.near:.0%} | {regrets} | {s.spread:.2f} |{none}")
    return scores


def compare(title: str, tasks: list[dict[str, Score]]) -> None:
    """A table of the rules' means over tasks."""
    say_text(f"\n{title}: means over {len(tasks)} tasks\n")
    say("| rule | within 3x | regret | its worst task | 90th percentile | spread, decades |")
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
        "seen while the rule was made, by SGD": [n for n in tasks if not by_adam(n)],
        "seen while the rule was made, by AdamW": [n for n in tasks if by_adam(n) and n not in HELD_OUT],
        "recorded afterwards, heads by AdamW": [n for n in HELD_OUT if trained_by(n) == "head"],
        "recorded afterwards, whole networks by AdamW": [n for n in HELD_OUT if trained_by(n) == "all"],
    }
    for title, names in groups.items():
        compare(title, [tasks[name] for name in names if name in tasks])


def by_adam(name: str) -> bool:
    return name.endswith("AdamW")


if __name__ == "__main__":
    sys.exit(run(main))
