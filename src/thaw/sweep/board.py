"""The leaderboard of a sweep: everything its tables, figures and reports are made from."""

import math
import shlex
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from thaw.config import run_names
from thaw.config.run_names import key_and_value
from thaw.runtime.files import as_number, short_path
from thaw.runtime.job_status import read_status
from thaw.sweep.jobs import JobRecord, keys_swept_in, monitor_of, planned_jobs, read_jobs, swept_keys
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

MOST_VALUES = 12  # main effects are shown for keys with at most this many values; keys of a search have more
AUDITION = "experiment=audition"
UNSENT, MOST_UNSENT = "wandb_runs.txt", 8  # a longer line could not be read


@dataclass(frozen=True)
class Board:
    """The contents of a leaderboard."""

    folder: Path
    monitor: str
    jobs: list[JobRecord]
    total: int  # number of jobs, including those that never started
    settings: list[Setting]  # best first
    differences: list[Difference]  # each setting's difference to the best one
    effects: list[Effect]
    front: list[int]  # the Pareto front as indices into `settings`, fastest first
    shared: tuple[str, ...]  # the overrides that all jobs have in common

    @property
    def done(self) -> int:
        return sum(job.state == "done" for job in self.jobs)

    @property
    def common(self) -> str:
        """The shared overrides as a short name."""
        return run_names.short_name(list(self.shared))

    @property
    def failures(self) -> list[JobRecord]:
        """The jobs that ended without a result or never started."""
        return [job for job in self.jobs if job.state not in ("done", "running")]

    @property
    def best_job(self) -> JobRecord | None:
        """The job with the best value within the best setting; None if no job has a result."""
        return next(iter(self.best_jobs(1)), None)

    def best_jobs(self, most: int) -> list[JobRecord]:
        """Return the job with the best value within each of the best settings, at most `most`."""
        sign = 1 if higher_is_better(self.monitor) else -1
        pairs = [list(zip(setting.values, setting.jobs, strict=True)) for setting in self.settings[:most]]
        return [max(own, key=lambda pair: -math.inf if math.isnan(pair[0]) else sign * pair[0])[1] for own in pairs]


def leaderboard(folder: Path, monitor: str | None = None, paired: bool = True) -> Board:
    """Return the leaderboard of a sweep's folder in its current state.

    `paired`: compare each setting with the best one, which reads the predictions of all jobs. Raise UserError (exit 6)
    if the folder contains no job.
    """
    jobs = read_jobs(folder)
    monitor = monitor or monitor_of(jobs)
    swept = keys_swept_in(folder)  # jobs that have not begun may differ in more keys than those that have
    settings = rank(jobs, monitor, swept)
    # The scores of the best setting are needed for every comparison and stay cached; the others are read once.
    read = lru_cache(2 * len(settings[0].jobs) + 1 if settings else 1)(lambda folder: scores(folder, monitor))
    as_typed = sorted(settings, key=lambda setting: jobs.index(setting.jobs[0]))
    keys = swept_keys(jobs)
    known = [job.choices for job in jobs if job.overrides]
    shared = set.intersection(*map(set, known)) if len(set(known)) > 1 else set()
    # With one swept key its effect would repeat the ranking; if each value was tried only once, nothing is averaged.
    effects_by_key = [effects(as_typed, key, keys) for key in keys] if len(keys) > 1 else []
    return Board(
        folder=folder,
        monitor=monitor,
        jobs=jobs,
        total=max(len(jobs), planned_jobs(folder) or 0),
        settings=settings,
        differences=[compare_to_best(setting, settings[0], read) for setting in settings] if paired else [],
        effects=[
            effect
            for of_key in effects_by_key
            if 1 < len(of_key) <= MOST_VALUES and len(of_key) < len(settings)
            for effect in of_key
        ],
        front=pareto(settings, monitor),
        shared=tuple(o for o in (known or [()])[0] if o in shared and key_and_value(o)[0] not in swept),
    )


def is_share(monitor: str) -> bool:
    """Return whether the monitored value lies between 0 and 1, as accuracies and F1 do."""
    return higher_is_better(monitor)


def after_audition(board: Board) -> str:
    """Return the command that trains the winner of experiment=audition by the whole checklist; '' for other sweeps."""
    if not (job := board.best_job) or AUDITION not in job.overrides:
        return ""
    return run_names.typed_command([override for override in job.overrides if override != AUDITION])


def unsent_runs(board: Board) -> list[str]:
    """Return the folders of all offline W&B runs."""
    records = [job.result or read_status(job.folder) for job in board.jobs]  # a failed job has a status, no result
    return [short_path(Path(record["wandb_offline"])) for record in records if record.get("wandb_offline")]


def sync_line(board: Board) -> str:
    """Return the command that uploads all offline runs to W&B; '' if there are none.

    Many are read from the file UNSENT, which `page.write_sweep_report` writes into the sweep's folder.
    """
    folders = unsent_runs(board)
    if len(folders) > MOST_UNSENT:
        return f"xargs wandb sync < {shlex.quote(short_path(board.folder / UNSENT))}"
    return shlex.join(["wandb", "sync", *folders]) if folders else ""


def seconds_of_all(board: Board) -> tuple[float, float]:
    """Return the total seconds of all finished jobs: as if nothing had been reused, and actually spent."""
    return tuple(
        math.fsum(value for job in board.jobs if not math.isnan(value := as_number(job.result.get(key))))
        for key in ("cost/seconds", "cost/seconds_paid")
    )
