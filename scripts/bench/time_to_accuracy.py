"""How soon is each setting of a sweep as good as one of them is on average? Seconds of training, seed by seed.

python scripts/bench/time_to_accuracy.py SWEEP resize=none     a table in markdown

A job is there at the first epoch whose validation accuracy is within a point of the mean, over the jobs with
`resize=none`, of the highest that each has in any. Seconds are those of training steps, as if nothing were reused.
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
    parser.add_argument("sweep", type=Path, metavar="SWEEP", help="the folder of a sweep")
    parser.add_argument("choice", metavar="KEY=VALUE", help="what the setting that sets the accuracy was told")
    parser.add_argument("--within", type=float, default=1.0, help="percentage points that it may lack (1)")
    args = parser.parse_args()
    settings = leaderboard(args.sweep, "valid/accuracy", paired=False).settings
    say_text("\n".join(markdown(settings, chosen(settings, args.choice), args.within / 100)))


def chosen(settings: list[Setting], choice: str) -> Setting:
    """The one setting that was told so. Errors: none or several, exit 2."""
    found = [setting for setting in settings if choice in setting.choices]
    if len(found) != 1:
        known = sorted({choice for setting in settings for choice in setting.choices})
        raise UserError(
            2, f"{choice}: {len(found) or 'no'} settings of this sweep were told so; {nearest(choice, known)}"
        )
    return found[0]


def markdown(settings: list[Setting], measure: Setting, within: float) -> list[str]:
    """A row a setting, the seconds of each of its jobs."""
    reached = fmean(max(accuracy for _, accuracy in epochs(job)) for job in measure.jobs)
    goal = reached - within
    known = f"{measure.name} reaches {reached:.2%} on average"
    out = [f"| setting | seconds to {goal:.2%}, a seed each; {known} |", "|---|---|"]
    for setting in settings:
        out.append(f"| {setting.name} | {', '.join(when(job, goal) for job in setting.jobs)} |")
    return out


def epochs(job: JobRecord) -> list[tuple[float, float]]:
    """Seconds of training and the validation accuracy at the end of each epoch."""
    rows = read_jsonl(job.folder / "metrics.jsonl")
    return [(row["train_seconds"], row["valid/accuracy"]) for row in rows if "valid/accuracy" in row]


def when(job: JobRecord, goal: float) -> str:
    return next((f"{seconds:.1f}" for seconds, accuracy in epochs(job) if accuracy >= goal), "never")


if __name__ == "__main__":
    sys.exit(run(main))
