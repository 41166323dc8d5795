"""Evaluate rules for training "until over-fitting" on recorded histories: accuracy lost and epochs saved.

python scripts/bench/histories.py     record the histories, once
python scripts/bench/stop.py          replay the rules on them, in seconds
"""

import json
import math
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from histories import CYCLES, FILE, REAL, Case

from thaw.config.paths import require_checkout
from thaw.runtime.console import say, say_text
from thaw.runtime.entry import Parser, run
from thaw.runtime.errors import UserError
from thaw.train.early_stopping import CLEARLY, CycleEnd, best_cycle, judge, paired_difference

require_checkout(__file__)


Rule = Callable[["History", int], bool]  # whether to go on after n cycles of the full network
PATIENCES = (1, 2, 3, 5, 10)
Export = Callable[[Sequence[CycleEnd]], int]  # the index of the exported cycle end


@dataclass(frozen=True)
class History:
    """The cycle ends of a run in its head phases and its full network, with the test accuracy of each."""

    case: Case
    head: list[CycleEnd]
    full: list[CycleEnd]
    epochs: list[int]  # of each cycle of the full network
    tests: list[float]  # accuracy on the test images at each cycle end, head phases first

    @property
    def before(self) -> CycleEnd:
        return self.head[best_cycle(self.head)]

    def trained(self, go_on: Rule) -> int:
        """Return the number of cycles after which the rule stops."""
        return next((n for n in range(1, len(self.full)) if not go_on(self, n)), len(self.full))

    def tested(self, n: int, export: Export) -> float:
        """Return the test accuracy of the export after n cycles."""
        return self.tests[export([*self.head, *self.full[:n]])]


def history(line: dict) -> History:
    """Return the history of a recorded line."""
    ends = [CycleEnd(e["train_loss"], e["valid_losses"], e["valid_accuracy"], True) for e in line["ends"]]
    heads = sum(end["phase"] != "full" for end in line["ends"])
    epochs = [end["epochs"] for end in line["ends"][heads:]]
    tests = [end["test_accuracy"] for end in line["ends"]]
    return History(Case(**line["case"]), ends[:heads], ends[heads:], epochs, tests)


def thaws(budget: int, most: int) -> Rule:
    """Return thaw's own rule."""
    return lambda history, n: judge(history.before, history.full[:n], budget, most).go_on


def loss_alone(budget: int, most: int) -> Rule:
    """Return thaw's rule by loss only: a clearly higher loss is over-fitting."""

    def go_on(history: History, n: int) -> bool:
        blind = [replace(end, accuracy=0.0) for end in history.full[:n]]
        return judge(replace(history.before, accuracy=0.0), blind, budget, most).go_on

    return go_on


def patience(cycles: int, most: int, badness: Callable[[CycleEnd], float]) -> Rule:
    """Return a rule that stops after `cycles` cycles without a new lowest badness."""

    def go_on(history: History, n: int) -> bool:
        seen = [badness(end) for end in (history.before, *history.full[:n])]
        return n < most and n - seen.index(min(seen)) < cycles

    return go_on


def loss(end: CycleEnd) -> float:
    return end.valid_loss


def errors(end: CycleEnd) -> float:
    return -end.accuracy


def fixed(cycles: int) -> Rule:
    """Return a rule that always trains `cycles` cycles."""
    return lambda history, n: n < cycles


def rules(budget: int, most: int, longest: int) -> dict[str, Rule]:
    """Return all rules by name, thaw's first. All but thaw's may train the `longest` number of cycles recorded."""
    return {
        "thaw": thaws(budget, most),
        "thaw, by the loss alone": loss_alone(budget, most),
        "thaw, no budget": thaws(longest, longest),
        **{f"patience {n}": patience(n, longest, loss) for n in PATIENCES if n < longest},
        **{f"patience {n}, by accuracy": patience(n, longest, errors) for n in PATIENCES if n < longest},
        **{f"always {n} cycles": fixed(n) for n in sorted({budget, most, longest})},
    }


def lowest_loss(ends: Sequence[CycleEnd]) -> int:
    return min(range(len(ends)), key=lambda i: ends[i].valid_loss)


def not_clearly_worse(ends: Sequence[CycleEnd]) -> int:
    """Return the best end whose loss is at most two standard errors above the lowest."""
    low = ends[lowest_loss(ends)]
    worse = [
        mean > CLEARLY * error
        for mean, error in (paired_difference(end.valid_losses, low.valid_losses) for end in ends)
    ]
    return max((i for i in range(len(ends)) if not worse[i]), key=lambda i: (ends[i].worth, -i))


def most_probable(ends: Sequence[CycleEnd]) -> int:
    """Return the end with the highest mean probability of the correct label: bounded, smoother than accuracy."""
    return max(range(len(ends)), key=lambda i: statistics.fmean(math.exp(-loss) for loss in ends[i].valid_losses))


def within_noise(ends: Sequence[CycleEnd]) -> int:
    """Return the end of lowest loss among those whose accuracy is within a standard error of the highest."""
    top = max(end.accuracy for end in ends)
    error = math.sqrt(top * (1 - top) / len(ends[0].valid_losses))
    near = [i for i, end in enumerate(ends) if end.accuracy >= top - error]
    return min(near, key=lambda i: ends[i].valid_loss)


EXPORTS = {
    "highest accuracy": best_cycle,
    "highest mean probability of the label": most_probable,
    "lowest loss within a standard error": within_noise,
    "lowest loss": lowest_loss,
    "accuracy, loss not clearly worse": not_clearly_worse,
    "the last": lambda ends: len(ends) - 1,
}


def replay(histories: list[History]) -> None:
    """Print Markdown tables: the stop rules, the exports, and thaw's rule by noise, validation images and task."""
    for mult, (_, lengths) in CYCLES.items():
        for images, real in (("drawn images", False), ("real images", True)):
            chosen = [one for one in histories if one.case.mult == mult and (one.case.task in REAL) == real]
            if not chosen:
                continue
            budget, most = (3, 4) if mult == "2" else (31, 31)
            say_text(
                f"\n## {images}, cycle_mult={mult}: {budget} cycles planned, at most {most}, of {sum(lengths)} epochs"
            )
            say_text("\npoints of test accuracy below the best cycle end in hindsight, mean ± standard error")
            tables(chosen, budget, most, len(lengths))


def tables(chosen: list[History], budget: int, most: int, longest: int) -> None:
    """Print the tables of histories of one length."""
    ours, parts = thaws(budget, most), {}
    table("stop rule", {name: (chosen, rule, best_cycle) for name, rule in rules(budget, most, longest).items()})
    table("exported", {name: (chosen, ours, export) for name, export in EXPORTS.items()})
    for one in chosen:
        drawn = (f"{one.case.noise:.0%} wrong labels", f"{one.case.valid} validation images")
        for part in (one.case.task, *(() if one.case.task in REAL else drawn)):
            parts.setdefault(part, []).append(one)
    table("thaw on", {part: (parts[part], ours, best_cycle) for part in sorted(parts)})
    table("thaw exporting the lowest loss, on", {part: (parts[part], ours, lowest_loss) for part in sorted(parts)})


def table(title: str, rows: dict[str, tuple[list[History], Rule, Export]]) -> None:
    """Print a row per rule, with the paired difference from the first row if both use the same histories."""
    first: list[float] = []
    say_text(
        f"\n| {title} | points lost | most lost | difference from first row | epochs | n |\n|---|---|---|---|---|---|"
    )
    for name, (histories, rule, export) in rows.items():
        cycles = [one.trained(rule) for one in histories]
        lost = [100 * (max(one.tests) - one.tested(n, export)) for one, n in zip(histories, cycles, strict=True)]
        epochs = statistics.fmean(sum(one.epochs[:n]) for one, n in zip(histories, cycles, strict=True))
        same = histories is next(iter(rows.values()))[0]
        first = first or lost
        apart = [a - b for a, b in zip(lost, first, strict=True)] if same else []
        more = show(apart, histories, "+") if same and lost is not first else ""
        say(f"| {name} | {show(lost, histories)} | {max(lost):.1f} | {more} | {epochs:.1f} | {len(lost)} |")


def show(values: list[float], histories: list[History], sign: str = "") -> str:
    """Format the mean ± standard error over image sets; the runs of a task and a seed share their images."""
    sets: dict[tuple, list[float]] = {}
    for value, one in zip(values, histories, strict=True):
        sets.setdefault((one.case.task, one.case.seed), []).append(value)
    means = list(map(statistics.fmean, sets.values()))
    error = statistics.stdev(means) / len(means) ** 0.5 if len(means) > 1 else float("nan")
    return f"{statistics.fmean(values):{sign}.2f} ± {error:.2f}"


def main() -> None:
    Parser(__doc__).parse_args()
    if not FILE.exists():
        raise UserError(6, f"{FILE}: no histories are recorded; run python scripts/bench/histories.py")
    replay([history(json.loads(line)) for line in FILE.open()])


if __name__ == "__main__":
    sys.exit(run(main))
