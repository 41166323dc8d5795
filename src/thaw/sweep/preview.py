"""The preview of a run or a sweep (plan_only=true): the work to do, what is stored already, time and disk space."""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from thaw.config.overrides import split_override
from thaw.config.run_names import setting_names, setting_of
from thaw.config.schema import Settings
from thaw.data import file_state
from thaw.plan import plan, unused_settings
from thaw.plan.facts import known_facts
from thaw.plan.phases import Plan
from thaw.runtime import console
from thaw.runtime.errors import UserError
from thaw.runtime.files import format_bytes, format_duration, write_document
from thaw.store import estimates
from thaw.store.estimates import IMAGES, Estimate, PlannedArtifact
from thaw.store.store import Store

UNKNOWN = "nothing similar has run here yet"
MOST_SETTINGS = 40  # settings with a line of their own
NAMED = 4  # settings that a note names
HEAD = ("setting", "jobs", "epochs", "phases", "shared", "stored", "to do", "time", "store grows by")


class PlanOnly(Exception):
    """Ends a sweep once its preview has been shown. `code`: exit code of the first refused job, 0 if there is none."""

    def __init__(self, code: int):
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Cost:
    """The expected seconds and bytes of one or more jobs; nan if nothing similar has run here."""

    seconds: float  # as planned
    at_most: float  # with all cycles that `until: overfit` may add
    bytes: float

    def within(self, minutes: float | None) -> "Cost":
        """Return the cost with a time limit."""
        most = 60 * (minutes or math.inf)
        return replace(self, seconds=min(self.seconds, most), at_most=min(self.at_most, most))  # nan stays nan

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.seconds + other.seconds, self.at_most + other.at_most, self.bytes + other.bytes)


NO_COST = Cost(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class PlannedJob:
    """One job of a sweep with its plan, and what the store and earlier jobs contribute to it."""

    overrides: tuple[str, ...]
    plan: Plan
    stored: int  # number of phases that are in the store
    shared: int  # number of phases that an earlier job makes
    cost: Cost  # of the other phases
    done: bool  # finished in this sweep's folder

    @property
    def phases(self) -> int:
        return len(self.plan.phases)

    @property
    def setting(self) -> tuple[str, ...]:
        return setting_of(self.overrides)


def preview_run(settings: Settings, planned: Plan, store: Store) -> str:
    """Return a line with the phases of a run that are in the store, and the expected cost of the others."""
    artifacts = estimates.planned_artifacts(settings, planned, file_state.named_files(settings))
    known = {artifact.name: estimates.estimate(store, artifact, settings.fresh) for artifact in artifacts}
    stored = estimates.stored_phases(artifacts, known)
    named = f" ({', '.join(stored)})" if stored else ""
    rest = cost(artifacts, known, set())
    if len(stored) == len(planned.phases):
        start = "" if math.isnan(rest.seconds) else f"; about {time_text(rest)} to load and report"
        return f"in the store: all {len(stored)} phases{start}"
    to_do = f"the rest takes {time_text(rest.within(settings.minutes))}, the store grows by {bytes_text(rest)}"
    if math.isnan(rest.seconds + rest.bytes):
        to_do = f"time and disk space for the rest are unknown: {UNKNOWN}"
    return f"in the store: {len(stored)} of {len(planned.phases)} phases{named}; {to_do}"


def cost(artifacts: Sequence[PlannedArtifact], estimated: dict[str, Estimate], made: set[str]) -> Cost:
    """Return the cost of a job beyond what is stored and what earlier jobs `made`; add its own artifacts to `made`."""
    seconds = at_most = size = 0.0
    for artifact in artifacts:
        known = estimated[artifact.name]
        if artifact.phase == IMAGES:  # paid by every job: start, scan of the images, reports
            seconds, at_most = seconds + known.seconds, at_most + known.seconds
        if known.stored or artifact.name in made:
            continue
        if artifact.phase != IMAGES:
            seconds, at_most = seconds + (known.seconds if artifact.planned else 0.0), at_most + known.seconds
        if artifact.planned:
            made.add(artifact.name)
            size += known.bytes
    return Cost(seconds, at_most, size)


def preview_sweep(
    jobs: Iterable[tuple[int, Sequence[str], Settings]],
    store: Store,
    refuse: Callable,
    done: Collection[tuple[str, ...]],
    at_once: int,
    trials: int,
) -> list[str]:
    """Return the preview of a sweep as lines: a table with a row for each setting, then the totals.

    `jobs`: (number, overrides, settings). `refuse`: called with the number and the error of each job without a plan.
    `done`: the overrides of finished jobs. `trials`: number of trials of a search, not all of them known in advance; 0
    without a search.
    """
    planned, made, noted, files = [], set(), defaultdict(set), {}
    for number, overrides, settings in jobs:
        try:
            own = cut_after(plan.make_plan(settings, known_facts(settings, store.recall)), settings.stop_after)
        except UserError as error:
            refuse(number, error)
            continue
        what = repr([settings.data, file_state.paths_in(settings)])
        if what not in files:  # jobs with the same files share the scan
            files[what] = file_state.named_files(settings)
        artifacts = estimates.planned_artifacts(settings, own, files[what])
        known = {artifact.name: estimates.estimate(store, artifact, settings.fresh) for artifact in artifacts}
        stored = estimates.stored_phases(artifacts, known)
        with_made = {name: replace(one, stored=one.stored or name in made) for name, one in known.items()}
        shared = len(estimates.stored_phases(artifacts, with_made)) - len(stored)
        typed = tuple(override for override in overrides if split_override(override)[1] != "plan_only")
        for note in (*own.notes, *unused_settings.no_effect(list(overrides), settings, own.phases)):
            noted[note].add(setting_of(typed))
        over = typed in done and not settings.fresh
        own_cost = NO_COST if over else cost(artifacts, known, made).within(settings.minutes)
        planned.append(PlannedJob(typed, own, len(stored), shared, own_cost, over))
    if not planned:
        return []
    return [*settings_grid(planned), "", *totals(planned, at_once, trials), *note_lines(noted, planned)]


def note_lines(noted: Mapping[str, Collection[tuple]], planned: Sequence[PlannedJob]) -> list[str]:
    """Return a line for each note, with the settings it is about if these are not all. `noted`: note to settings."""
    settings = list(dict.fromkeys(job.setting for job in planned))
    names = dict(zip(settings, setting_names(settings), strict=True))
    lines = []
    for note, about in noted.items():
        which = [names[setting] for setting in settings if setting in about]
        more = f" and {len(which) - NAMED} more" if len(which) > NAMED else ""
        where = "" if len(which) == len(settings) else f" (in {', '.join(which[:NAMED])}{more})"
        lines.append(f"note: {note}{where}")
    return lines


def cut_after(planned: Plan, after: int | None) -> Plan:
    """Return the plan with its last phase cut after that many cycles, as a rung of hydra/sweeper=halving trains it."""
    if after is None:
        return planned
    last = planned.phases[-1]
    last = replace(last, cycles=last.cycles[:after], budget=min(last.budget, after))
    return replace(planned, phases=(*planned.phases[:-1], last))


def settings_grid(planned: Sequence[PlannedJob]) -> list[str]:
    """Return a table with a row for each setting and one for all."""
    settings: dict[tuple, list[PlannedJob]] = {}
    for job in planned:
        settings.setdefault(job.setting, []).append(job)
    names = setting_names(list(settings))
    rows = [row(name, own) for name, own in zip(names, settings.values(), strict=True)]
    more = len(rows) - MOST_SETTINGS
    if more > 0:
        rows[MOST_SETTINGS:] = [(f"... and {more} more", *[""] * (len(HEAD) - 1))]
    lines = console.grid(HEAD, [*rows, row("all", planned)])
    return [*lines[:-1], lines[1], lines[-1]] if len(settings) > 1 else lines[:-1]


def row(name: str, jobs: Sequence[PlannedJob]) -> tuple[str, ...]:
    """Return the table row of some jobs."""
    fits = [[phase for phase in job.plan.phases if phase.do == "fit"] for job in jobs]
    epochs = [(sum(f.epochs_budget for f in own), sum(sum(f.cycles) for f in own)) for own in fits]
    total = sum((job.cost for job in jobs), NO_COST)
    stored, shared = sum(job.stored for job in jobs), sum(job.shared for job in jobs)
    phases = sum(job.phases for job in jobs)
    low, high = min(a for a, _ in epochs), max(b for _, b in epochs)
    return (
        name,
        str(len(jobs)),
        str(low) if low == high else f"{low}–{high}",
        str(phases),
        str(shared),
        str(stored),
        str(phases - shared - stored),
        time_text(total),
        bytes_text(total),
    )


def totals(planned: Sequence[PlannedJob], at_once: int, trials: int) -> list[str]:
    """Return the lines below the table: jobs, phases, time and store of the whole sweep."""
    total = sum((job.cost for job in planned), NO_COST)
    phases, stored = sum(job.phases for job in planned), sum(job.stored for job in planned)
    shared = sum(job.shared for job in planned)
    settings, jobs = len({job.setting for job in planned}), len(planned)
    parts = f"{jobs} job{'s' * (jobs != 1)}, {settings} setting{'s' * (settings != 1)}"
    parts += f" × {jobs // settings} seeds" if settings < jobs and jobs % settings == 0 else ""
    parts += f" (the first {jobs} of {trials})" if trials > jobs else ""
    done = sum(job.done for job in planned)
    parts += f"; {done} already done" if done else ""
    parallel = f", {at_once} jobs at a time" if at_once > 1 else ""
    first = next((job.cost for job in planned if not job.done), NO_COST)
    lines = [
        f"jobs:   {parts}",
        f"phases: {phases} in all: {phases - shared - stored} to do, {shared} shared with an earlier job, "
        f"{stored} in the store",
        f"time:   first job {time_text(first)}, all jobs {time_text(total)} of compute time{parallel}",
        f"store:  grows by {bytes_text(total)}",
    ]
    if math.isnan(total.seconds + total.bytes):
        lines.append(f"?: {UNKNOWN}")
    return lines


def time_text(cost: Cost) -> str:
    """Return 14 s, or 14 s – 1 min 2 s if cycles may be added to the plan; '?' if unknown."""
    if math.isnan(cost.seconds):
        return "?"
    low, high = format_duration(cost.seconds), format_duration(cost.at_most)
    return low if low == high or math.isnan(cost.at_most) else f"{low} – {high}"


def bytes_text(cost: Cost) -> str:
    """Return 3.0 MB; '?' if unknown."""
    return "?" if math.isnan(cost.bytes) else format_bytes(cost.bytes)


def write_preview(lines: Sequence[str], folder: Path) -> Path:
    """Write the preview as plan.txt into the sweep's folder and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "plan.txt"
    write_document(file, "\n".join(lines) + "\n")
    return file
