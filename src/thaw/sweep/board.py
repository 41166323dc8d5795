"""The leaderboard of a sweep: what its jobs add up to."""

import math
import shlex
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from thaw.config import run_names
from thaw.runtime.files import as_number, short_path
from thaw.runtime.job_status import read_status
from thaw.sweep.jobs import JobRecord, monitor_of, planned_jobs, read_jobs, swept_keys
from thaw.sweep.rank import (
    Difference,
    Effect,
    Setting,
    compare_to_best,
    effects,
    higher_is_better,
    pareto,
    rank,
    scores,
)

MOST_VALUES = 12  # of a key whose main effect is shown: beyond it is a search, not a choice
AUDITION = "experiment=audition"


@dataclass(frozen=True)
class Board:
    """All that a leaderboard shows."""

    folder: Path
    monitor: str
    jobs: list[JobRecord]
    total: int  # jobs, those included that never started
    settings: list[Setting]  # best first
    differences: list[Difference]  # of each to the first
    effects: list[Effect]
    front: list[int]  # positions among the settings, quickest first
    shared: tuple[str, ...]  # the overrides that all jobs have in common

    @property
    def done(self) -> int:
        return sum(job.state == "done" for job in self.jobs)

    @property
    def common(self) -> str:
        """What all jobs have in common, in words."""
        return run_names.short_name(list(self.shared))

    @property
    def failures(self) -> list[JobRecord]:
        """The jobs that are over and not done, or that never started."""
        return [job for job in self.jobs if job.state not in ("done", "running")]

    @property
    def best_job(self) -> JobRecord | None:
        """The job of the best setting with the best value."""
        if not self.settings:
            return None
        sign = 1 if higher_is_better(self.monitor) else -1
        pairs = list(zip(self.settings[0].values, self.settings[0].jobs, strict=True))
        return max(pairs, key=lambda pair: -math.inf if math.isnan(pair[0]) else sign * pair[0])[1]


def leaderboard(folder: Path, monitor: str | None = None, paired: bool = True) -> Board:
    """The leaderboard of a sweep's folder as it is now; unless `paired`, without reading the predictions.

    Errors: no job is there, exit 6.
    """
    jobs = read_jobs(folder)
    monitor = monitor or monitor_of(jobs)
    settings = rank(jobs, monitor)
    # Those of the best setting are asked for again and again and so stay; the others pass through.
    read = lru_cache(2 * len(settings[0].jobs) + 1 if settings else 1)(lambda one: scores(one, monitor))
    as_typed = sorted(settings, key=lambda setting: jobs.index(setting.jobs[0]))
    keys = swept_keys(jobs)
    known = [job.choices for job in jobs if job.overrides]
    shared = set.intersection(*map(set, known)) if len(set(known)) > 1 else set()
    return Board(
        folder=folder,
        monitor=monitor,
        jobs=jobs,
        total=max(len(jobs), planned_jobs(folder) or 0),
        settings=settings,
        differences=[compare_to_best(setting, settings[0], read) for setting in settings] if paired else [],
        effects=[
            effect
            for key in keys
            if 1 < len(found := effects(as_typed, key, keys)) <= MOST_VALUES
            if len(found) < len(settings) or len(keys) == 1  # else each value was tried once: a search, no average
            for effect in found
        ],
        front=pareto(settings, monitor),
        shared=tuple(override for override in (known or [()])[0] if override in shared),
    )


def is_share(monitor: str) -> bool:
    return higher_is_better(monitor)


def after_audition(board: Board) -> str:
    """The whole checklist for the backbone that won an audition of heads; '' of any other sweep."""
    if not (job := board.best_job) or AUDITION not in job.overrides:
        return ""
    return run_names.typed_command([override for override in job.overrides if override != AUDITION])


def sync_line(board: Board) -> str:
    """The one command that sends the runs written offline to W&B; '' where there are none."""
    told = [job.result or read_status(job.folder) for job in board.jobs]  # one that failed has no result
    folders = [short_path(Path(one["wandb_offline"])) for one in told if one.get("wandb_offline")]
    return shlex.join(["wandb", "sync", *folders]) if folders else ""


def seconds_of_all(board: Board) -> tuple[float, float]:
    """Seconds of all finished jobs: as if nothing were reused, and paid."""
    return tuple(
        math.fsum(value for job in board.jobs if not math.isnan(value := as_number(job.result.get(key))))
        for key in ("cost/seconds", "cost/seconds_paid")
    )
