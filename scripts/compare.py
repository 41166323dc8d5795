"""Compare finished runs, or the finished jobs of a sweep, setting by setting and image by image.

python scripts/compare.py RUN_A RUN_B            differing settings, phases side by side, images won and lost
python scripts/compare.py RUN_A RUN_B --all      full lists instead of the first 20 lines
python scripts/compare.py SWEEP                  every finished job against the best

Each run is compared with the first (in a sweep: with the best) on the validation images that both predicted and that
have the same label in both; p is from McNemar's exact test. Runs that share no such image are refused, exit 3.
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


FEW = 20  # lines per list without --all


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run or of a sweep")
    parser.add_argument("--all", action="store_true", help="full lists (default: the first 20 lines)")
    args = parser.parse_args()
    runs = compare.runs_of(args.runs)
    if len(args.runs) == 1:
        runs = best_first(runs)
    for line in compared(runs, sys.maxsize if args.all else FEW):
        say(line)


def best_first(runs: list) -> list:
    """Sort runs like the leaderboard: best first, ties by `tie_breakers`, those without a value last."""
    sign = -1 if higher_is_better(monitor := monitor_of(runs)) else 1

    def order(run) -> tuple:
        value = monitored_value(run, monitor)
        return math.isnan(value), sign * value, tie_breakers(lambda key: as_number(run.result.get(key)), monitor)

    return sorted(runs, key=order)


def compared(runs: list, few: int) -> list[str]:
    """Return the comparison as lines, with at most `few` lines per list."""
    duels = [compare.compare_images(runs[0], run) for run in runs[1:]]  # first, since it may refuse
    names = compare.labels(runs)
    out = [f"{name}  {short_path(run.folder)}" for name, run in zip(names, runs, strict=True)]
    for title, (head, rows) in (
        ("differing settings", compare.settings_table(runs)),
        ("differing inputs, as resolved from settings and images", compare.parts_table(runs)),
        ("phases", compare.phases_table(runs)),
    ):
        shown = rows if title == "phases" else rows[:few]
        out += ["", f"{title}:", *(grid(head, shown) if rows else ["none"])]
        out += [f"... {len(rows) - len(shown)} more; --all lists them"] if len(rows) > len(shown) else []
    head = ["run", "both correct", "only this run correct", "only A correct", "both wrong", "p (McNemar)", "verdict"]
    rows = []
    for name, duel in zip(names[1:], duels, strict=True):
        counts = [duel.both, len(duel.won), len(duel.lost), duel.neither]
        rows.append([name, *map(str, counts), f"{duel.p:.2g}", verdict(duel)])
    out += ["", "validation images, compared with A:", *grid(head, rows)]
    for name, duel in zip(names[1:], duels, strict=True):
        if any(duel.apart):
            alone, beside, other = duel.apart
            out.append(
                f"note: images left out: {alone:,} only in A, {beside:,} only in {name}, {other:,} with another label"
            )
    if len(duels) > 1:
        return out
    for title, images in (("correct only in B", duels[0].won), ("correct only in A", duels[0].lost)):
        if images:
            out += ["", f"{title} ({len(images)})"]
            out += grid(("path", "label", "A", "B"), images[:few])
        if len(images) > few:
            out.append(f"... {len(images) - few} more; --all lists them")
    return out


def verdict(duel) -> str:
    """Return the outcome of McNemar's test at the 5 % level."""
    if duel.p >= 0.05:
        return "no significant difference"
    return "better than A" if len(duel.won) > len(duel.lost) else "worse than A"


if __name__ == "__main__":
    sys.exit(run(main))
