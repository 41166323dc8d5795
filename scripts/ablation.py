"""Show what each step of the checklist contributes, from finished sweeps of experiment=ablation.

python scripts/ablation.py SWEEP...                       print a Markdown table, three columns per sweep
python scripts/ablation.py SWEEP... --image FILE.png      also draw the differences, one panel per sweep

Accuracy is that of the test images, which influence no choice. If a sweep has no test images, it is that of the
validation images, which favours jobs with more cycle ends to choose from. A difference is relative to
`without=nothing`, on the same images and seeds. Its error is the larger of the standard errors over images and over
seeds. Differences of more than two errors are bold; if no step had an effect, about one in twenty still would be.
"""

import math
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, stdev

from thaw.config.paths import require_checkout
from thaw.runtime.console import say_text
from thaw.runtime.entry import Parser, run
from thaw.runtime.errors import UserError
from thaw.runtime.failures import machine_error
from thaw.runtime.files import as_number
from thaw.sweep.board import leaderboard
from thaw.sweep.rank import CLEARLY, Difference, Setting, compare_to_best, scores
from thaw.sweep.text import markdown_cell

require_checkout(__file__)


KEY = "without="
ALL = "nothing"  # left out: the whole checklist


@dataclass(frozen=True)
class Row:
    """The result of leaving out one step."""

    step: str
    setting: Setting
    split: str  # the images of the accuracy: test or valid
    difference: Difference  # from the whole checklist

    @property
    def seconds(self) -> list[float]:
        """The seconds of each job, as if nothing had been reused."""
        return [as_number(job.result.get("cost/seconds")) for job in self.setting.jobs]

    @property
    def clear(self) -> bool:
        return not math.isnan(self.difference.mean) and not self.difference.tie


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("sweeps", nargs="+", type=Path, metavar="SWEEP", help="folder of a sweep")
    parser.add_argument(
        "--image", type=Path, metavar="FILE", help="also draw the differences, .png or .svg (default: no image)"
    )
    args = parser.parse_args()
    if args.image and args.image.suffix not in (".png", ".svg"):
        parser.error(f"--image {args.image}: must end with .png or .svg")
    tables = {sweep.resolve().name: rows_of(sweep) for sweep in args.sweeps}
    say_text("\n".join(markdown(tables)))
    if args.image:
        try:
            args.image.parent.mkdir(parents=True, exist_ok=True)
            draw(tables, args.image)
        except OSError as error:
            raise machine_error(error, args.image) from None


def rows_of(sweep: Path) -> list[Row]:
    """Return one row per step, in the order typed. Raise UserError (exit 6) if no job has the whole checklist."""
    board = leaderboard(sweep, "test/accuracy", paired=False)
    if any(math.isnan(setting.mean) for setting in board.settings):  # no test set
        board = leaderboard(sweep, "valid/accuracy", paired=False)
    split, read = board.monitor.partition("/")[0], partial(scores, monitor=board.monitor)
    steps = {step: setting for setting in board.settings for step in left_out(setting)}
    if ALL not in steps:
        raise UserError(6, f"{sweep}: no finished job with {KEY}{ALL}; run such a sweep with experiment=ablation")
    typed = dict.fromkeys(step for job in board.jobs for step in left_out(job))
    return [
        Row(step, steps[step], split, compare_to_best(steps[step], steps[ALL], read)) for step in typed if step in steps
    ]


def left_out(one) -> list[str]:
    """Return the steps that a job or a setting leaves out."""
    return [choice.removeprefix(KEY) for choice in one.choices if choice.startswith(KEY)]


def markdown(tables: dict[str, list[Row]]) -> list[str]:
    """Return a table with a row per step and three columns per sweep; clear differences are bold."""
    tables = {markdown_cell(name): rows for name, rows in tables.items()}
    columns = ("accuracy (%)", "difference (points)", "seconds")
    head = [f"{name}: {column}" for name in tables for column in columns]
    out = [f"| step left out | {' | '.join(head)} |", "|---" * (1 + len(head)) + "|"]
    for step in dict.fromkeys(row.step for rows in tables.values() for row in rows):
        cells = [markdown_cell(step.replace("_", " "))]
        for rows in tables.values():
            found = [row for row in rows if row.step == step]
            cells += cells_of(found[0]) if found else ["", "", ""]
        out.append(f"| {' | '.join(cells)} |")
    for name, rows in tables.items():
        seeds = {len(row.setting.jobs) for row in rows}
        images = {row.difference.images for row in rows}
        kind = {"test": "test", "valid": "validation"}[rows[0].split]
        out += ["", f"{name}: n = {numbers(seeds)} seeds, {numbers(images)} {kind} images; mean ± standard deviation; "]
        out[-1] += "difference ± standard error, bold if more than two standard errors from 0"
    return out


def cells_of(row: Row) -> list[str]:
    """Return the accuracy, difference and seconds of a row; the whole checklist has no difference."""
    difference = f"{100 * row.difference.mean:+.2f} ± {100 * row.difference.error:.2f}"
    if row.step == ALL:
        difference = ""
    elif row.clear:
        difference = f"**{difference}**"
    return [spread([100 * value for value in row.setting.values], 2), difference, spread(row.seconds, 1)]


def spread(values: list[float], digits: int) -> str:
    """Format the mean ± standard deviation."""
    deviation = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{fmean(values):.{digits}f}{deviation}"


def numbers(values: set[int]) -> str:
    """Format numbers as their range, e.g. 3 or 3–5."""
    return "–".join(map(str, sorted({min(values), max(values)})))


def draw(tables: dict[str, list[Row]], file: Path) -> None:
    """Draw one panel per sweep: the differences with two standard errors, and the seconds beside them."""
    from thaw.report.style import BEST, INK, VALID, axes_at, figure, image_style

    with image_style():
        rows = max(map(len, tables.values()))
        height = 0.3 * rows
        fig = figure(1.9 + 3.9 * len(tables), height + 1.0)
        for i, (name, table) in enumerate(tables.items()):
            axes = axes_at(fig, 1.7 + 3.9 * i, 0.45, 2.9, height)
            base = next(row for row in table if row.step == ALL)
            axes.axvline(0, color=INK, linewidth=0.8, alpha=0.6)
            for y, row in enumerate(table):
                colour = INK if not row.clear else VALID if row.difference.mean < 0 else BEST
                at, error = 100 * row.difference.mean, 100 * CLEARLY * row.difference.error
                axes.errorbar(at, y, xerr=error, fmt="o", color=colour, alpha=0.9, capsize=3, markersize=5)
                place = {"xycoords": ("axes fraction", "data"), "va": "center", "ha": "right", "fontsize": 8}
                axes.annotate(f"{fmean(row.seconds):.1f} s", (1.17, y), annotation_clip=False, **place)
            axes.set_ylim(len(table) - 0.5, -0.5)
            axes.set_yticks(range(len(table)), [row.step.replace("_", " ") for row in table] if i == 0 else [])
            axes.grid(True, axis="x")
            axes.set_title(f"{name}: {base.setting.mean:.1%} with every step, n = {len(base.setting.jobs)}")
            axes.set_xlabel("accuracy change without it, points ± 2 errors; < 0: it helps", fontsize=8)
        at = 1.6 / fig.get_figwidth(), 1 - 0.37 / fig.get_figheight()
        fig.text(*at, "step left out", ha="right", fontweight="bold", fontsize=10)
        fig.savefig(file, dpi=110)


if __name__ == "__main__":
    sys.exit(run(main))
