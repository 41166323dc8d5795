"""The leaderboard as text: the last lines on the terminal, leaderboard.md, leaderboard.csv."""

import math
import re

from thaw.config.run_names import key_and_value
from thaw.runtime.console import grid, one_line
from thaw.runtime.files import short_path
from thaw.sweep.board import Board, after_audition, sync_line
from thaw.sweep.jobs import JobRecord
from thaw.sweep.tables import (
    TextTable,
    column_notes,
    effects_table,
    failures_table,
    front_table,
    jobs_table,
    ranking,
    short_column_notes,
)
from thaw.sweep.words import cause, effect_text, epochs_text, notes, short_words, why_text

MOST_LINES = 20  # settings listed on the terminal
WIDEST = 44  # characters of a setting's name on the terminal
MARKS = re.compile(r"[\\|*`<>\[\]&~]|(?<![^\W_])_|_(?![^\W_])|^#")  # an underscore within a word marks nothing


def effect_lines(board: Board) -> list[list[str]]:
    """Return a line for each swept key: the key, then its values with their means, in the order typed."""
    lines: dict[str, list[str]] = {}
    for effect in board.effects:
        lines.setdefault(effect.key, [effect.key]).append(
            f"{shorten_middle(effect.value, 24)} {effect_text(board, effect)}"
        )
    return list(lines.values())


def terminal(board: Board) -> list[str]:
    """Return the last lines that a sweep prints."""
    out = []
    if board.settings:
        head, rows = ranking(board)
        why = head.index("stopped")  # reasons are too long for a terminal, except for the rounds of halving
        why = -1 if any(row[why].startswith("stop_after=") for row in rows) else why
        cells = [
            [shorten_middle(cell, WIDEST) for i, cell in enumerate(row) if i != why]
            for row in (head, *rows[:MOST_LINES])
        ]
        out += ["", *grid(cells[0], cells[1:])]
        if len(board.settings) > MOST_LINES:
            out.append(f"... {len(board.settings) - MOST_LINES} more in leaderboard.md")
        out += [f"in every job: {board.common}"] if board.common else []
        if lines := effect_lines(board):
            most = max(map(len, lines))
            padded = [line + [""] * (most - len(line)) for line in lines]
            title = "averaged over the other keys, ± standard error"
            _, rule, *body = grid([""] * most, padded)
            out += ["", title, max(rule, "-" * len(title)), *body]
        out += ["", *(f"note: {note}" for note in (*short_column_notes(board), *notes(board)))]
        out += [f"best job ({board.best_job.name}): {board.best_job.result.get('command', '')}"]
        if line := after_audition(board):
            out.append(f"next, train the winner by the whole checklist: {line}")
        out += [f"look:  {short_path(board.folder)}/report.html, leaderboard.md"]
        if line := sync_line(board):
            out.append(f"W&B, after `wandb login`: {line}")
    out += ["", f"sweep: {board.done}/{board.total} jobs done, in {short_path(board.folder)}"]
    out += [failure_line(board, job) for job in board.failures]
    if lost := board.total - len(board.jobs):
        out.append(f"  {lost} more {'jobs' if lost > 1 else 'job'} never started")
    return out


def failure_line(board: Board, job: JobRecord) -> str:
    """Return the line of a job that is not done: its outcome, why, and where to read more."""
    if job.state == "waiting":
        return f"  job {job.name} ({short_words(board, job)}) never started"
    outcome = "died" if job.state == "dead" else job.state
    log = f"; see {short_path(job.log)}" if job.log != job.folder else ""
    return f"  job {job.name} ({short_words(board, job)}) {outcome}: {cause(job)}{log}"


def shorten_middle(text: str, most: int) -> str:
    """Return the start and the end of a text, at most that many characters."""
    if len(text) <= most:
        return text
    tail = most // 2
    return f"{text[: most - tail - 1]}…{text[-tail:]}"


# leaderboard.md -------------------------------------------------------------------------------------------------------


def markdown(board: Board) -> str:
    """Return leaderboard.md."""
    parts = [f"# {markdown_cell(board.folder.resolve().name)}", status_line(board)]
    if board.common:
        parts.append(f"In every job: {markdown_cell(board.common)}")
    if board.settings:
        parts += [
            "![](leaderboard.png)",
            markdown_table(ranking(board)),
            "\n".join(f"* {markdown_cell(note)}" for note in (*column_notes(board), *notes(board))),
        ]
    if board.effects:
        parts += ["## Effect of each key, averaged over the other keys", markdown_table(effects_table(board))]
    if board.front:
        parts += ["## Pareto front: no other setting is both better and faster", markdown_table(front_table(board))]
    if board.best_job:
        job = board.best_job
        parts += [
            "## Run the best job again",
            f"Job {markdown_cell(job.name)}, {markdown_cell(short_path(job.folder))}:",
            code_block(job.result.get("command", "")),
        ]
    if line := after_audition(board):
        parts += ["## Next: train the winner by the whole checklist", code_block(line)]
    if board.failures or board.total > len(board.jobs):
        parts += ["## Jobs that are not done", markdown_table(failures_table(board))]
    if board.settings:
        parts += ["## All finished jobs", markdown_table(jobs_table(board))]
    if line := sync_line(board):
        parts += ["## Upload to W&B (after `wandb login`)", code_block(line)]
    return "\n\n".join(parts) + "\n"


def status_line(board: Board) -> str:
    n = len(board.settings)
    return f"{board.done}/{board.total} jobs done, {n} setting{'s' * (n != 1)}, ranked by {board.monitor}"


def markdown_table(table: TextTable) -> str:
    """Return a Markdown table."""
    head, rows = table
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(markdown_cell, line))} |" for line in lines)


def markdown_cell(text: str) -> str:
    """Return a text in one line, escaped so that Markdown shows it as it is: no cells, links or HTML."""
    return " ".join(MARKS.sub(r"\\\g<0>", one_line(text)).split())


def code_block(text: str) -> str:
    """Return a Markdown code block whose fence is longer than any run of backticks in the text."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"


# leaderboard.csv ------------------------------------------------------------------------------------------------------


def csv_rows(board: Board) -> list[list]:
    """Return leaderboard.csv: a head, then a row for each setting with a column for each key; '' instead of nan."""
    keys = list(dict.fromkeys(key_and_value(override)[0] for setting in board.settings for override in setting.choices))
    head = [
        "rank",
        "setting",
        *keys,
        board.monitor,
        "sd",
        "n",
        "jobs_asked",
        "difference",
        "standard_error",
        "pairs",
        "tie",
    ]
    head += ["best/accuracy", "best/loss", "test/accuracy", "epochs", "stopped_because", "seconds", "seconds_paid"]
    head += ["front", "jobs", "command"]
    out = [head]
    for i, (setting, difference) in enumerate(zip(board.settings, board.differences, strict=True)):
        choices = dict(map(key_and_value, setting.choices))
        paired = ["", "", "", ""]
        if i and not math.isnan(difference.mean):
            paired = [difference.mean, difference.error, difference.images, difference.tie]
        row = [i + 1, setting.name, *(choices.get(key, "") for key in keys)]
        row += [setting.mean, setting.deviation, len(setting.jobs), setting.asked, *paired]
        row += [setting.average(key) for key in ("best/accuracy", "best/loss", "test/accuracy")]
        row += [epochs_text(setting), why_text(setting), setting.seconds, setting.average("cost/seconds_paid")]
        row += [i in board.front, " ".join(job.name for job in setting.jobs), setting.jobs[0].result.get("command", "")]
        out.append(["" if isinstance(value, float) and math.isnan(value) else value for value in row])
    return out
