"""Two or more finished runs against one another, or the jobs of a sweep.

python scripts/compare.py RUN_A RUN_B            settings that differ, phases side by side, images won and lost
python scripts/compare.py RUN_A RUN_B --all      every image won and lost, not the first 20
python scripts/compare.py SWEEP                  its finished jobs, each against the best

Every run is compared with the first, of a sweep with the best, on the validation images that both predicted and that
are of one class in both; p is that of McNemar's exact test. Runs that share no such image are refused, exit 3.
"""

import math
import sys
from pathlib import Path

from thaw.config.paths import require_checkout
from thaw.runtime.console import grid, say
from thaw.runtime.entry import Parser, run
from thaw.runtime.files import as_number, short_path
from thaw.sweep import compare
from thaw.sweep.jobs import monitor_of, monitored_value
from thaw.sweep.rank import higher_is_better, tie_breakers

require_checkout(__file__)


FEW = 20  # lines of a list unless --all


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs or of sweeps")
    parser.add_argument("--all", action="store_true", help="every image won and lost")
    args = parser.parse_args()
    runs = compare.runs_of(args.runs)
    if len(args.runs) == 1:
        runs = best_first(runs)
    for line in compared(runs, sys.maxsize if args.all else FEW):
        say(line)


def best_first(runs: list) -> list:
    """Order the runs of a sweep as its leaderboard does, those without a value last."""
    sign = -1 if higher_is_better(monitor := monitor_of(runs)) else 1

    def order(run) -> tuple:
        value = monitored_value(run, monitor)
        return math.isnan(value), sign * value, tie_breakers(lambda key: as_number(run.result.get(key)), monitor)

    return sorted(runs, key=order)


def compared(runs: list, few: int) -> list[str]:
    """Return the lines that compare every run with the first. few: most lines of a list."""
    duels = [compare.compare_images(runs[0], run) for run in runs[1:]]  # first, as it may refuse the runs
    names = compare.labels(runs)
    out = [f"{name}  {short_path(run.folder)}" for name, run in zip(names, runs, strict=True)]
    for title, (head, rows) in (
        ("settings that differ", compare.settings_table(runs)),
        ("recorded inputs that differ (run.json)", compare.parts_table(runs)),
        ("results by phase", compare.phases_table(runs)),
    ):
        shown = rows if title == "results by phase" else rows[:few]
        out += ["", f"{title}:", *(grid(head, shown) if rows else ["none"])]
        out += [f"... {len(rows) - len(shown)} more; --all lists them"] if len(rows) > len(shown) else []
    head = ["run", "both right", "only this run right", "only A right", "both wrong", "p (McNemar)", "verdict"]
    rows = []
    for name, duel in zip(names[1:], duels, strict=True):
        counts = [duel.both, len(duel.won), len(duel.lost), duel.neither]
        rows.append([name, *map(str, counts), f"{duel.p:.2g}", verdict(duel)])
    out += ["", "validation images, compared with A:", *grid(head, rows)]
    for name, duel in zip(names[1:], duels, strict=True):
        if any(duel.apart):
            alone, beside, other = duel.apart
            counts = f"{alone:,} only in A, {beside:,} only in {name}, {other:,} with different classes"
            out.append(f"note: images left out: {counts}")
    if len(duels) > 1:
        return out
    for title, images in (("only B is right", duels[0].won), ("only A is right", duels[0].lost)):
        if images:
            out += ["", f"{title} ({len(images)} image{'s' * (len(images) > 1)}):"]
            out += grid(("path", "class", "A", "B"), images[:few])
        if len(images) > few:
            out.append(f"... {len(images) - few} more; --all lists them")
    return out


def verdict(duel) -> str:
    """Return the outcome in words, at a significance level of 5%."""
    if duel.p >= 0.05:
        return "no significant difference"
    return "better than A" if len(duel.won) > len(duel.lost) else "worse than A"


if __name__ == "__main__":
    sys.exit(run(main))
