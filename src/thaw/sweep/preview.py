"""plan_only=true: what a run or a whole sweep would do, what of it lies in the store, what it would cost."""

import math
from collections.abc import Callable, Collection, Iterable, Sequence
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

UNKNOWN = "nothing like it has run here before"
MOST_SETTINGS = 40  # that have a line of their own
HEAD = ("setting", "jobs", "epochs", "phases", "shared", "stored", "to do", "time", "store grows by")


class PlanOnly(Exception):
    """A sweep was planned, and that is all that was asked for: whatever started it starts no more.

    code: the exit code of the first job that was refused, 0 without one.
    """

    def __init__(self, code: int):
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Cost:
    """Of a job or several: seconds and bytes to add; nan where nothing like it is known."""

    seconds: float  # as planned
    at_most: float  # with all cycles that `until: overfit` may go on to
    bytes: float

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.seconds + other.seconds, self.at_most + other.at_most, self.bytes + other.bytes)


NOTHING = Cost(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class PlannedJob:
    """One job of a sweep as planned, in the light of the store and of the jobs before it."""

    overrides: tuple[str, ...]
    plan: Plan
    stored: int  # phases in the store already
    shared: int  # phases that a job before it makes
    cost: Cost  # of the rest
    done: bool  # in this sweep's folder

    @property
    def phases(self) -> int:
        return len(self.plan.phases)

    @property
    def setting(self) -> tuple[str, ...]:
        return setting_of(self.overrides)


def preview_run(settings: Settings, planned: Plan, store: Store) -> str:
    """What of one run lies in the store, and what the rest would cost, in a line."""
    artifacts = estimates.planned_artifacts(settings, planned, file_state.named_files(settings))
    knows = {artifact.name: estimates.estimate(store, artifact, settings.fresh) for artifact in artifacts}
    there = estimates.stored_phases(artifacts, knows)
    named = f" ({', '.join(there)})" if there else ""
    rest = cost(artifacts, knows, set())
    if math.isnan(rest.seconds + rest.bytes):
        to_do = f"time and room for the rest are not known: {UNKNOWN}"
    else:
        to_do = f"the rest takes {time_text(rest)}, the store grows by {room_text(rest)}"
    return f"in the store: {len(there)} of {len(planned.phases)} phases{named}; {to_do}"


def cost(artifacts: Sequence[PlannedArtifact], knows: dict[str, Estimate], made: set[str]) -> Cost:
    """What a job adds to what lies in the store and to what jobs before it `made`, which those of its plan join."""
    seconds = at_most = size = 0.0
    for artifact in artifacts:
        known = knows[artifact.name]
        if artifact.phase == IMAGES:  # every job starts, looks and reports
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
    of: int,
) -> list[str]:
    """The preview of a sweep in lines: a table with a row a setting, then what all of it adds up to.

    Of each job its number, overrides and settings. `refuse(number, error)` is told of those that have no plan; `done`
    are the overrides of those that are done already.
    The sweep has `of` jobs where a search has not named them all.
    """
    planned, made, notes, files = [], set(), {}, {}
    for number, overrides, settings in jobs:
        try:
            own = cut_after(plan.make_plan(settings, known_facts(settings, store.recall)), settings.stop_after)
        except UserError as error:
            refuse(number, error)
            continue
        what = repr([settings.data, file_state.paths_in(settings)])
        if what not in files:  # looked at once for all jobs
            files[what] = file_state.named_files(settings)
        artifacts = estimates.planned_artifacts(settings, own, files[what])
        knows = {artifact.name: estimates.estimate(store, artifact, settings.fresh) for artifact in artifacts}
        there = estimates.stored_phases(artifacts, knows)
        with_made = {name: replace(known, stored=known.stored or name in made) for name, known in knows.items()}
        shared = len(estimates.stored_phases(artifacts, with_made)) - len(there)
        notes |= dict.fromkeys((*own.notes, *unused_settings.no_effect(list(overrides), settings, own.phases)))
        typed = tuple(override for override in overrides if split_override(override)[1] != "plan_only")
        over = typed in done and not settings.fresh
        planned.append(
            PlannedJob(typed, own, len(there), shared, NOTHING if over else cost(artifacts, knows, made), over)
        )
    if not planned:
        return []
    return [*settings_grid(planned), "", *sums(planned, at_once, of), *(f"note: {note}" for note in notes)]


def cut_after(planned: Plan, after: int | None) -> Plan:
    """The plan with the last phase cut after so many cycles: a rung of hydra/sweeper=halving."""
    if after is None:
        return planned
    last = planned.phases[-1]
    last = replace(last, cycles=last.cycles[:after], budget=min(last.budget, after))
    return replace(planned, phases=(*planned.phases[:-1], last))


def settings_grid(planned: Sequence[PlannedJob]) -> list[str]:
    """A row a setting, the sums below."""
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
    """The line of some jobs."""
    fits = [[phase for phase in job.plan.phases if phase.do == "fit"] for job in jobs]
    epochs = [(sum(f.epochs_budget for f in own), sum(sum(f.cycles) for f in own)) for own in fits]
    total = sum((job.cost for job in jobs), NOTHING)
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
        room_text(total),
    )


def sums(planned: Sequence[PlannedJob], at_once: int, of: int) -> list[str]:
    """What a sweep adds up to."""
    total = sum((job.cost for job in planned), NOTHING)
    phases, stored = sum(job.phases for job in planned), sum(job.stored for job in planned)
    shared = sum(job.shared for job in planned)
    settings, seeds = len({job.setting for job in planned}), len(planned)
    parts = f"{seeds} job{'s' * (seeds != 1)}, {settings} setting{'s' * (settings != 1)}"
    parts += f" × {seeds // settings} seeds" if settings < seeds and seeds % settings == 0 else ""
    parts += f" (the first {seeds} of {of})" if of > seeds else ""
    done = sum(job.done for job in planned)
    parts += f"; {done} done before" if done else ""
    at = f"; {at_once} at once" if at_once > 1 else ""
    first = next((job.cost for job in planned if not job.done), NOTHING)
    lines = [
        f"jobs:   {parts}",
        f"phases: {phases} in all, {phases - shared - stored} to do; {shared} are made by a job before, "
        f"{stored} lie in the store",
        f"time:   first job {time_text(first)}, all {time_text(total)} of computing{at}",
        f"store:  grows by {room_text(total)}",
    ]
    if math.isnan(total.seconds + total.bytes):
        lines.append(f"?: {UNKNOWN}")
    return lines


def time_text(cost: Cost) -> str:
    """14 s, or with the cycles beyond the plan 14 s – 1 min 2 s."""
    if math.isnan(cost.seconds):
        return "?"
    low, high = format_duration(cost.seconds), format_duration(cost.at_most)
    return low if low == high or math.isnan(cost.at_most) else f"{low} – {high}"


def room_text(cost: Cost) -> str:
    return "?" if math.isnan(cost.bytes) else format_bytes(cost.bytes)


def write_preview(lines: Sequence[str], folder: Path) -> Path:
    """The preview as a file of the sweep's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "plan.txt"
    write_document(file, "\n".join(lines) + "\n")
    return file
