"""Measure how soon each setting of a sweep reaches the accuracy of one of them, in seconds of training per seed.

python scripts/bench/time_to_accuracy.py SWEEP resize=none     print a Markdown table

The goal is the mean, over the jobs with `resize=none`, of their highest validation accuracy, minus one point. A job
reaches it at its first epoch with that accuracy. Seconds are those of training steps, as if nothing had been reused.
"""

import sys
from pathlib import Path
from statistics import fmean

from thaw.config.paths import require_checkout
from thaw.runtime.console import say_text
from thaw.runtime.entry import Parser, run
from thaw.runtime.errors import UserError, nearest
from thaw.runtime.files import read_jsonl
from thaw.sweep.board import leaderboard
from thaw.sweep.jobs import JobRecord
from thaw.sweep.rank import Setting

require_checkout(__file__)


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("sweep", type=Path, metavar="SWEEP", help="folder of a sweep")
    parser.add_argument("choice", metavar="KEY=VALUE", help="choice of the reference setting")
    parser.add_argument(
        "--within", type=float, default=1.0, metavar="POINTS", help="points below its accuracy (default: %(default)s)"
    )
    args = parser.parse_args()
    settings = leaderboard(args.sweep, "valid/accuracy", paired=False).settings
    say_text("\n".join(markdown(settings, chosen(settings, args.choice), args.within / 100)))


def chosen(settings: list[Setting], choice: str) -> Setting:
    """Return the only setting with a choice. Raise UserError (exit 2) if none or several have it."""
    found = [setting for setting in settings if choice in setting.choices]
    if len(found) != 1:
        known = sorted({choice for setting in settings for choice in setting.choices})
        raise UserError(
            2, f"{choice}: {len(found) or 'no'} settings of this sweep have this choice; {nearest(choice, known)}"
        )
    return found[0]


def markdown(settings: list[Setting], measure: Setting, within: float) -> list[str]:
    """Return a table with a row per setting: the seconds of each of its jobs."""
    reached = fmean(max(accuracy for _, accuracy in epochs(job)) for job in measure.jobs)
    goal = reached - within
    known = f"{measure.name} reaches {reached:.2%} on average"
    out = [f"| setting | seconds to {goal:.2%}, per seed; {known} |", "|---|---|"]
    for setting in settings:
        out.append(f"| {setting.name} | {', '.join(when(job, goal) for job in setting.jobs)} |")
    return out


def epochs(job: JobRecord) -> list[tuple[float, float]]:
    """Return the seconds of training and the validation accuracy at the end of each epoch."""
    rows = read_jsonl(job.folder / "metrics.jsonl")
    return [(row["train_seconds"], row["valid/accuracy"]) for row in rows if "valid/accuracy" in row]


def when(job: JobRecord, goal: float) -> str:
    """Return the seconds until a job reaches the goal, or never."""
    return next((f"{seconds:.1f}" for seconds, accuracy in epochs(job) if accuracy >= goal), "never")


if __name__ == "__main__":
    sys.exit(run(main))
