"""'Until over-fitting' judged on recorded histories: what a rule loses in accuracy, and what it saves in epochs.

python scripts/bench/stop.py record [FILE]     train far past the best point, a line a run; goes on where it was
python scripts/bench/stop.py [FILE]            replay the rules over the histories

A history: 300 pictures of digits or drawn shapes, drawn anew for each seed; part of the labels of training *and*
validation wrong, as in a folder that people filled; 60 or 300 pictures to validate on; the eight steps, their last
with restarts over 31 epochs. After every cycle the validation loss of each picture is kept, and the accuracy on 800 or
more test pictures with right labels, which no rule sees. One thread, about half an hour; replaying takes seconds.
"""

import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from io import StringIO
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "src"))

from thaw.stop import CLEARLY, CycleEnd, best, judge, paired  # noqa: E402

HISTORIES = ROOT / "outputs/bench/stop.jsonl"
TRAIN_PICTURES = 300
SETTINGS = [
    "size=32", "batch_size=32", "data.workers=0", "~checklist.full.until", "threads=1", "wandb=disabled",
    "precision=float32",
]  # fmt: skip
TASKS = {
    "digits": ["data=digits", "augment=light"],
    "digits, not augmented": ["data=digits", "augment=none"],
    "shapes, not augmented": ["data=shapes", "data.limit=1400", "data.detail=0.25", "augment=none"],
}
CYCLES = {  # epochs of each cycle
    "2": (["scheduler.cycles=5", "scheduler.cycle_mult=2"], [1, 2, 4, 8, 16]),
    "1": (["scheduler.cycles=31", "scheduler.cycle_mult=1"], [1] * 31),
}
NOISE = (0.0, 0.2, 0.4)
VALID = (60, 300)
SEEDS = 4

Rule = Callable[["History", int], bool]  # whether to go on after so many cycles of the whole network
Export = Callable[[Sequence[CycleEnd]], int]  # which cycle end is kept


# recording ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    task: str
    noise: float
    valid: int
    mult: str
    seed: int


def cases() -> list[Case]:
    """All of them, seed by seed."""
    every = itertools.product(range(SEEDS), TASKS, NOISE, VALID, CYCLES)
    return [Case(task, noise, valid, mult, seed) for seed, task, noise, valid, mult in every]


def record(file: Path) -> None:
    """Add the histories that the file has not, each as one line."""
    file.parent.mkdir(parents=True, exist_ok=True)
    done = {Case(**json.loads(line)["case"]) for line in file.open()} if file.exists() else set()
    for number, case in enumerate(todo := cases()):
        if case in done:
            continue
        started = time.perf_counter()
        ends = train(case)
        with file.open("a") as lines:
            lines.write(json.dumps({"case": asdict(case), "ends": ends}) + "\n")
        print(f"{number + 1} of {len(todo)}, {time.perf_counter() - started:.0f} s: {case}", flush=True)


def train(case: Case) -> list[dict]:
    """Every cycle end of the run, those of the head phases included."""
    from hydra import compose, initialize_config_dir

    import train
    from thaw import cycles, shell
    from thaw.data import source
    from thaw.job import look, set_up
    from thaw.run import run
    from thaw.store import Store

    ends, load, run_cycle = [], source.load, cycles.run_cycle

    def load_drawn(*args):
        pictures = load(*args)
        draw(pictures.table, case)
        return pictures

    def run_and_keep(fit, cycle, *args):
        end, was_there = run_cycle(fit, cycle, *args)
        test = look(fit.job, fit.job.source.rows(source.TEST))
        ends.append(
            {
                "phase": fit.phase.name,
                "epochs": fit.phase.cycles[cycle],
                "train_loss": end.train_loss,
                "valid_losses": [round(loss, 6) for loss in end.validation.losses],
                "valid_accuracy": end.validation.accuracy,
                "test_accuracy": test.accuracy,
            }
        )
        return end, was_there

    source.load, cycles.run_cycle = load_drawn, run_and_keep
    try:
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
            chosen = [*SETTINGS, *TASKS[case.task], *CYCLES[case.mult][0]]
            chosen += [f"seed={case.seed}", f"store.dir={folder}/store"]
            typed = shell.tidy(chosen, train.CONF)
            train.register(typed.backbones)
            with initialize_config_dir(str(train.CONF), version_base="1.3"):
                settings = train.as_settings(compose("config", overrides=typed.argv), typed.argv)
            run(set_up(settings, Path(folder), Store(Path(folder) / "store")), lambda row: None)
    finally:
        source.load, cycles.run_cycle = load, run_cycle
    return ends


def draw(table, case: Case) -> None:
    """Draw who trains, validates and tests, and whose labels are wrong, in place."""
    import numpy as np

    from thaw.data.table import TEST, TRAIN, VALID

    rng = np.random.default_rng([case.seed, 7])
    rows = rng.permutation(np.flatnonzero(table.splits != TEST))
    own = rows[: TRAIN_PICTURES + case.valid]
    # The rest tests, beside the test half that digits have anyway.
    table.splits[rows] = TEST
    table.splits[own[:TRAIN_PICTURES]], table.splits[own[TRAIN_PICTURES:]] = TRAIN, VALID
    wrong = own[rng.random(len(own)) < case.noise]
    classes = len(table.classes)
    table.labels[wrong] = (table.labels[wrong] + rng.integers(1, classes, len(wrong))) % classes


# replaying ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class History:
    """The cycle ends of a run: those of the head phases, those of the whole network, and what testing found at each."""

    case: Case
    head: list[CycleEnd]
    full: list[CycleEnd]
    epochs: list[int]  # of each cycle of the whole network
    tests: list[float]  # accuracy on the test pictures at each cycle end, head phases first

    @property
    def before(self) -> CycleEnd:
        return self.head[best(self.head)]

    def trained(self, go_on: Rule) -> int:
        """After how many cycles the rule stops."""
        return next((n for n in range(1, len(self.full)) if not go_on(self, n)), len(self.full))

    def tested(self, n: int, export: Export) -> float:
        """Accuracy on the test pictures of what is exported after n cycles."""
        return self.tests[export([*self.head, *self.full[:n]])]


def read(file: Path) -> list[History]:
    return [history(json.loads(line)) for line in file.open()]


def history(line: dict) -> History:
    ends = [CycleEnd(e["train_loss"], e["valid_losses"], e["valid_accuracy"], True) for e in line["ends"]]
    heads = sum(end["phase"] != "full" for end in line["ends"])
    epochs = [end["epochs"] for end in line["ends"][heads:]]
    tests = [end["test_accuracy"] for end in line["ends"]]
    return History(Case(**line["case"]), ends[:heads], ends[heads:], epochs, tests)


def thaws(budget: int, most: int) -> Rule:
    """thaw's own rule."""
    return lambda history, n: judge(history.before, history.full[:n], budget, most).go_on


def loss_alone(budget: int, most: int) -> Rule:
    """thaw's rule without its look at accuracy: a clearly higher loss is over-fitting."""

    def go_on(history: History, n: int) -> bool:
        blind = [replace(end, accuracy=0.0) for end in history.full[:n]]
        return judge(replace(history.before, accuracy=0.0), blind, budget, most).go_on

    return go_on


def patience(cycles: int, most: int) -> Rule:
    """Stop after so many cycles without a lower validation loss."""

    def go_on(history: History, n: int) -> bool:
        losses = [end.valid_loss for end in (history.before, *history.full[:n])]
        return n < most and n - losses.index(min(losses)) < cycles

    return go_on


def fixed(cycles: int) -> Rule:
    return lambda history, n: n < cycles


def rules(budget: int, most: int) -> dict[str, Rule]:
    return {
        "thaw": thaws(budget, most),
        "thaw, by the loss alone": loss_alone(budget, most),
        "thaw, no budget": thaws(most, most),
        **{f"patience {n}": patience(n, most) for n in (1, 2, 3)},
        f"the budget, {budget}": fixed(budget),
        f"to the end, {most}": fixed(most),
    }


def lowest_loss(ends: Sequence[CycleEnd]) -> int:
    return min(range(len(ends)), key=lambda i: ends[i].valid_loss)


def not_clearly_worse(ends: Sequence[CycleEnd]) -> int:
    """The best of those whose loss is at most two standard errors above the lowest."""
    low = ends[lowest_loss(ends)]
    worse = [mean > CLEARLY * error for mean, error in (paired(end.valid_losses, low.valid_losses) for end in ends)]
    return max((i for i in range(len(ends)) if not worse[i]), key=lambda i: (ends[i].worth, -i))


EXPORTS = {
    "highest accuracy": best,
    "lowest loss": lowest_loss,
    "accuracy, loss not clearly worse": not_clearly_worse,
    "the last": lambda ends: len(ends) - 1,
}


def replay(histories: list[History]) -> None:
    """Tables in markdown: every stop rule, then what is exported, then thaw's rule by noise and validation pictures."""
    for mult, (_, lengths) in CYCLES.items():
        chosen = [history for history in histories if history.case.mult == mult]
        budget, most = (3, 5) if mult == "2" else (31, 31)
        ours = thaws(budget, most)
        print(f"\n## cycle_mult={mult}: budget {budget} cycles, at most {most} ({sum(lengths)} epochs)")
        print("\npoints of test accuracy below the best cycle end in hindsight, mean ± standard error")
        table("stop rule", {name: (chosen, rule, best) for name, rule in rules(budget, most).items()})
        table("exported", {name: (chosen, ours, export) for name, export in EXPORTS.items()})
        parts: dict[str, list[History]] = {}
        for one in chosen:
            for part in (f"{one.case.noise:.0%} wrong labels", f"{one.case.valid} to validate", one.case.task):
                parts.setdefault(part, []).append(one)
        table("thaw on", {part: (parts[part], ours, best) for part in sorted(parts)})
        table("thaw exporting the lowest loss, on", {part: (parts[part], ours, lowest_loss) for part in sorted(parts)})


def table(title: str, rows: dict[str, tuple[list[History], Rule, Export]]) -> None:
    """A row each; where all are over the same histories, with the paired difference to the first."""
    first: list[float] = []
    print(f"\n| {title} | points lost | at most | more than the first | epochs | n |\n|---|---|---|---|---|---|")
    for name, (histories, rule, export) in rows.items():
        cycles = [one.trained(rule) for one in histories]
        lost = [100 * (max(one.tests) - one.tested(n, export)) for one, n in zip(histories, cycles, strict=True)]
        epochs = statistics.fmean(sum(one.epochs[:n]) for one, n in zip(histories, cycles, strict=True))
        same = histories is next(iter(rows.values()))[0]
        first = first or lost
        more = show([a - b for a, b in zip(lost, first, strict=True)], "+") if same and lost is not first else ""
        print(f"| {name} | {show(lost)} | {max(lost):.1f} | {more} | {epochs:.1f} | {len(lost)} |")


def show(values: list[float], sign: str = "") -> str:
    """Mean ± standard error."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{statistics.fmean(values):{sign}.2f} ± {error:.2f}"


def main() -> None:
    asked = sys.argv[1:]
    recording = asked[:1] == ["record"]
    file = Path((asked[recording:] or [HISTORIES])[0])
    if recording:
        record(file)
    else:
        replay(read(file))


if __name__ == "__main__":
    main()
