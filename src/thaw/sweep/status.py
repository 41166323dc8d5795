"""The progress of a sweep or run: the state of each job, the best so far, the expected end."""

import math
import re
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from thaw.runtime.console import grid, one_line, text_width
from thaw.runtime.files import as_number, format_duration, read_json, read_jsonl, short_path
from thaw.sweep.board import Board
from thaw.sweep.jobs import JobRecord, monitored_value
from thaw.sweep.tables import value_head
from thaw.sweep.text import shorten_middle
from thaw.sweep.words import cause, mean_of, seeds_of, short_words, value_text

ENOUGH = 0.02  # share of a job that must be done before its own speed predicts its end
PIPE_WIDTH = 160  # columns if the output is not a terminal
MOST_LINES, MOST_SETTINGS = 20, 10  # jobs and settings that are listed
SHORTEST = 16  # characters that a shortened cell keeps even in a narrow terminal


@dataclass(frozen=True)
class JobProgress:
    """The progress of a running job."""

    phase: str  # '' before the first step
    share: float  # share of the planned optimizer steps; above 1 if cycles were added until over-fitting
    seconds: float  # since the job started
    value: float  # monitored value of the last epoch; nan before the first
    may_grow: bool = False  # whether cycles may be added to the plan


def job_progress(job: JobRecord, monitor: str, now: float) -> JobProgress:
    """Return the progress of a running job from its metrics.jsonl and run.json. `now`: seconds since 1970."""
    rows = read_jsonl(job.folder / "metrics.jsonl")
    steps = max((as_number(row.get("step")) for row in rows if "step" in row), default=0.0)
    values = [value for row in rows if not math.isnan(value := as_number(row.get(monitor)))]
    planned, most = planned_steps(read_json(job.folder / "run.json").get("parts"))
    share = steps / planned if planned > 0 else 0.0
    value = values[-1] if values else math.nan
    return JobProgress(phase_of(rows), share, now - started(job.folder), value, most > planned)


def phase_of(rows: list[dict]) -> str:
    """Return the phase of the last row of metrics; the keys of a finder's rows begin with its phase."""
    if not rows:
        return ""
    last = rows[-1]
    return str(last.get("phase") or next((key.partition("/")[0] for key in last if key.endswith("/rate")), ""))


def planned_steps(parts: dict) -> tuple[float, float]:
    """Return the optimizer steps of all fits without and with the cycles that may be added; 0 for a damaged plan."""
    with suppress(TypeError, ValueError, LookupError, AttributeError):
        fits = [phase for phase in parts["phases"].values() if phase.get("do") == "fit"]
        planned = [fit["epochs"][: sum(fit["cycles"][: fit["budget"]])] for fit in fits]
        most = [fit["epochs"] for fit in fits]
        return tuple(as_number(sum(steps or 0 for fit in some for _, _, steps in fit)) for some in (planned, most))
    return 0.0, 0.0


def started(folder: Path) -> float:
    """Return when a job started, in seconds since 1970: the time of the older of its first two files."""
    files = [file for file in (folder / ".hydra/overrides.yaml", folder / "status.json") if file.exists()]
    return min((file.stat().st_mtime for file in files), default=time.time())


def seconds_left(took: Sequence[float], running: list[JobProgress], waiting: int) -> float:
    """Return the seconds until the last job ends if as many jobs run at once as now; nan if unknown.

    A job is expected to take the mean of `took`, the seconds of the finished jobs; before one has finished, the time is
    extrapolated from the running jobs.
    """
    took = took or [one.seconds / one.share for one in running if one.share > ENOUGH]
    if not took or not running:
        return math.nan
    each = fmean(took)
    left = [max(each * (1 - one.share), 0.0) for one in running]
    return max(max(left), (sum(left) + waiting * each) / len(running))


def seconds_taken(board: Board) -> list[float]:
    """Return the seconds from start to end of each finished job."""
    done = [j.folder for j in board.jobs if j.state == "done" and j.result]
    took = [(folder / "status.json").stat().st_mtime - started(folder) for folder in done]
    return [seconds for seconds in took if seconds > 0]  # when a sweep is continued, Hydra rewrites all overrides


def end_line(board: Board, running: list[JobProgress], waiting: int, now: float) -> str:
    """Return when the last job is expected to end; '' if that is unknown.

    Without a finished job the time follows from the plans, and cycles that are added to a plan make it longer.
    """
    took = seconds_taken(board)
    left = seconds_left(took, running, waiting)
    if math.isnan(left):
        return ""
    clock = time.strftime("%H:%M", time.localtime(now + left))
    if took or not any(one.may_grow for one in running):
        return f"expected to end in about {format_duration(left)}, at {clock}"
    why = "cycles are added to the plan until over-fitting"
    if left == 0:
        return f"the end is unknown: {why}"
    return f"expected to end in at least {format_duration(left)}, not before {clock}: {why}"


def status_lines(board: Board, now: float) -> list[str]:
    """Return what scripts/status.py prints, fitted to the terminal's width: the jobs, the settings so far, the totals.

    Of many jobs only those that are not done have a line.
    """
    progress = {job.folder: job_progress(job, board.monitor, now) for job in board.jobs if job.state == "running"}
    head = ("job", "setting", "state", "phase", "progress", board.monitor, "time or reason")
    width = shutil.get_terminal_size((PIPE_WIDTH, 24)).columns
    listed = board.jobs if len(board.jobs) <= MOST_LINES else [job for job in board.jobs if job.state != "done"]
    rows = [job_row(board, job, progress.get(job.folder)) for job in listed[:MOST_LINES]]
    out = grid(*fitted(head, rows, width)) if rows else []
    if more := len(listed) - len(rows):
        out.append(f"... {more} more jobs are not done")
    if unlisted := board.total - len(board.jobs):
        out.append(f"... {unlisted} more {'jobs have' if unlisted > 1 else 'job has'} not started")
    counts = {
        state: sum(job.state == state for job in board.jobs)
        for state in ("done", "running", "failed", "stopped", "dead")
    }
    counts["waiting"] = board.total - sum(counts.values())
    summary = ", ".join(f"{n} {state}" for state, n in counts.items() if n or state == "done")
    out += [""] * bool(out) + [f"{short_path(board.folder)}: {summary} of {board.total}"]
    if board.common:
        out.append(shorten_middle(f"in every job: {board.common}", width))
    if len(board.settings) > 1:
        out += ["", *settings_so_far(board, width)]
    elif board.settings:
        best, n = board.settings[0], len(board.settings[0].jobs)
        value = f", {board.monitor} {mean_of(board, best)} ({n} job{'s' * (n != 1)})"
        name = shorten_middle(best.name, max(width - len("best so far: " + value), SHORTEST))
        out.append(f"best so far: {name}{value}")
    end = end_line(board, list(progress.values()), counts["waiting"], now)
    return [*out, end] if end else out


def settings_so_far(board: Board, width: int) -> list[str]:
    """Return the lines of the best settings so far."""
    shown = board.settings[:MOST_SETTINGS]
    rows = [[str(i), one.name, mean_of(board, one), seeds_of(one)] for i, one in enumerate(shown, 1)]
    lines = grid(*fitted(("", "best so far", value_head(board), "jobs"), rows, width))
    more = len(board.settings) - len(shown)
    return [*lines, f"... {more} more setting{'s' * (more > 1)}"] if more else lines


def job_row(board: Board, job: JobRecord, progress: JobProgress | None) -> list[str]:
    """Return the row of a job; `progress` is that of a running job, else None."""
    phase, share, value, more = "", "", "", ""
    if progress:
        share = "extended" if progress.share > 1 else f"{progress.share:.0%}"  # a cycle beyond the plan
        phase, value = progress.phase or "starting", value_or_nothing(board.monitor, progress.value)
        more = f"for {format_duration(progress.seconds)}"
        more += f", waiting for {job.waits_for} from another job" if job.waits_for else ""
    elif job.state == "done":
        value = value_or_nothing(board.monitor, monitored_value(job, board.monitor)) if job.result else ""
        more = f"in {format_duration(as_number(job.result.get('cost/seconds_paid')))}" if job.result else ""
    elif job.state != "waiting":
        more = cause(job)
    return [job.name, short_words(board, job), job.state, phase, share, value, more]


def fitted(head: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> tuple[Sequence[str], list[list[str]]]:
    """Return a table for `grid` that fits a width: names are shortened in the middle, the last column at its end."""
    name, last, rows = 1, len(head) - 1, [[one_line(cell) for cell in row] for row in rows]
    widest = [max(text_width(row[column]) for row in (head, *rows)) for column in range(len(head))]
    room = width - sum(widest[name + 1 : last]) - widest[0] - 2 * last
    of_last = max(min(widest[last], room // 2), room - widest[name], SHORTEST)
    most = {name: max(room - min(of_last, widest[last]), SHORTEST), last: of_last}
    cut = {name: shorten_middle, last: shorten_reason}
    return head, [
        [cut[column](cell, most[column]) if column in most else cell for column, cell in enumerate(row)] for row in rows
    ]


def shorten_reason(text: str, most: int) -> str:
    """Return the start of a reason, at most that many characters; the exit code at its end is kept."""
    if len(text) <= most:
        return text
    code = re.search(r" \(exit \d+\)$", text)
    end = "…" + (code[0] if code else "")
    return text[: most - len(end)].rstrip(" ;:,") + end


def value_or_nothing(monitor: str, value: float) -> str:
    """Return a value of `monitor` as text; '' if it is nan."""
    return "" if math.isnan(value) else value_text(monitor, value)
