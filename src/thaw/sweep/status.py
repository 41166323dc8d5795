"""A sweep under way: where each job is, what is best so far, when it will end."""

import math
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from thaw.runtime.console import grid
from thaw.runtime.files import as_number, format_duration, read_json, read_jsonl, short_path
from thaw.sweep.board import Board
from thaw.sweep.jobs import JobRecord, monitored_value
from thaw.sweep.words import cause, mean_of, short_words, value_text

ENOUGH = 0.02  # share of a job from which on its own time says how long it will take


@dataclass(frozen=True)
class JobProgress:
    """Where a running job is."""

    phase: str  # '' before the first step
    share: float  # of the planned optimizer steps; until over-fitting a job may do more of them, and this be above 1
    seconds: float  # since it started
    value: float  # of `monitor` at the last epoch; nan before the first


def job_progress(job: JobRecord, monitor: str, now: float) -> JobProgress:
    """Where a running job is, from its metrics.jsonl and the plan in its run.json. now: seconds since 1970."""
    rows = read_jsonl(job.folder / "metrics.jsonl")
    steps = max((as_number(row.get("step")) for row in rows if "step" in row), default=0.0)
    values = [value for row in rows if not math.isnan(value := as_number(row.get(monitor)))]
    total = as_number(planned_steps(read_json(job.folder / "run.json").get("parts")))
    share = steps / total if total > 0 else 0.0
    return JobProgress(phase_of(rows), share, now - started(job.folder), values[-1] if values else math.nan)


def phase_of(rows: list[dict]) -> str:
    """The phase of the last row; a finder's rows are named by it."""
    if not rows:
        return ""
    last = rows[-1]
    return str(last.get("phase") or next((key.partition("/")[0] for key in last if key.endswith("/rate")), ""))


def planned_steps(parts: dict) -> int:
    """The optimizer steps of all fits as planned, of those that may go on without the cycles beyond.

    0 of what is no plan that we wrote.
    """
    with suppress(TypeError, ValueError, LookupError, AttributeError):
        fits = [phase for phase in parts["phases"].values() if phase.get("do") == "fit"]
        return sum(steps or 0 for fit in fits for _, _, steps in fit["epochs"][: sum(fit["cycles"][: fit["budget"]])])
    return 0


def started(folder: Path) -> float:
    """When a job started, in seconds since 1970: Hydra writes its overrides then, and the job how it goes on."""
    files = [file for file in (folder / ".hydra/overrides.yaml", folder / "status.json") if file.exists()]
    return min((file.stat().st_mtime for file in files), default=time.time())


def seconds_left(board: Board, running: list[JobProgress], waiting: int) -> float:
    """Until the last job ends, if as many run at once as now; nan where nothing is known yet.

    A job takes what those done took, by the clock; before one is done, what those under way tell of themselves.
    """
    done = [j.folder for j in board.jobs if j.state == "done" and j.result]
    took = [(folder / "status.json").stat().st_mtime - started(folder) for folder in done]
    took = [seconds for seconds in took if seconds > 0]  # where a sweep goes on, Hydra writes all overrides again
    took += [] if took else [one.seconds / one.share for one in running if one.share > ENOUGH]
    if not took or not running:
        return math.nan
    each = fmean(took)
    left = [max(each * (1 - one.share), 0.0) for one in running]
    return max(max(left), (sum(left) + waiting * each) / len(running))


def status_lines(board: Board, now: float) -> list[str]:
    """What is to be said of a sweep, or of a run, while it is under way."""
    at = {job.folder: job_progress(job, board.monitor, now) for job in board.jobs if job.state == "running"}
    rows = []
    for job in board.jobs:
        phase, share, value, more = "", "", "", ""
        if job.state == "running":
            here = at[job.folder]
            share = "beyond" if here.share > 1 else f"{here.share:.0%}"  # one more cycle than planned
            phase, value = here.phase or "starting", value_or_nothing(board.monitor, here.value)
            more = f"for {format_duration(here.seconds)}"
            more += f", waits for {job.waits_for}, which another job is making" if job.waits_for else ""
        elif job.state == "done":
            value = value_or_nothing(board.monitor, monitored_value(job, board.monitor)) if job.result else ""
            more = f"in {format_duration(as_number(job.result.get('cost/seconds_paid')))}" if job.result else ""
        elif job.state != "waiting":
            more = cause(job)
        rows.append((job.name, short_words(board, job), job.state, phase, share, value, more))
    out = list(grid(("job", "setting", "state", "phase", "share", board.monitor, ""), rows))
    started_none = board.total - len(board.jobs)
    if started_none:
        out.append(f"... {started_none} more have not started")
    counts = {
        state: sum(job.state == state for job in board.jobs)
        for state in ("done", "running", "failed", "stopped", "dead")
    }
    counts["waiting"] = board.total - sum(counts.values())
    said = ", ".join(f"{n} {state}" for state, n in counts.items() if n or state == "done")
    out += ["", f"{short_path(board.folder)}: {said} of {board.total}"]
    if board.common:
        out.append(f"in all of them: {board.common}")
    if board.settings:
        best = board.settings[0]
        out.append(f"best so far: {best.name}, {board.monitor} {mean_of(board, best)} (n = {len(best.jobs)})")
    left = seconds_left(board, list(at.values()), counts["waiting"])
    if not math.isnan(left):
        out.append(f"ends in about {format_duration(left)}, {time.strftime('%H:%M', time.localtime(now + left))}")
    return out


def value_or_nothing(monitor: str, value: float) -> str:
    return "" if math.isnan(value) else value_text(monitor, value)
