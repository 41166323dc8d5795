"""The leaderboard on the terminal, as leaderboard.md and as the rows of leaderboard.csv."""

import math
import re

from thaw.config.run_names import key_and_value
from thaw.runtime.console import grid, one_line
from thaw.runtime.files import short_path
from thaw.sweep.board import Board, after_audition, sync_line
from thaw.sweep.tables import TextTable, column_notes, effects_table, failures_table, front_table, jobs_table, ranking
from thaw.sweep.words import cause, effect_text, epochs_text, notes, short_words, why_text

MOST_LINES = 20  # of settings on the terminal
WIDEST = 44  # letters of a setting's name there
MARKS = re.compile(r"[\\|*`<>\[\]&~]|(?<![^\W_])_|_(?![^\W_])|^#")  # an underscore within a word is none


def effect_lines(board: Board) -> list[list[str]]:
    """A line for each swept key: the key, then its values with their means, in the order typed."""
    lines: dict[str, list[str]] = {}
    for effect in board.effects:
        lines.setdefault(effect.key, [effect.key]).append(
            f"{shorten_middle(effect.value, 24)} {effect_text(board, effect)}"
        )
    return list(lines.values())


def terminal(board: Board) -> list[str]:
    """The last lines of a sweep."""
    out = []
    if board.settings:
        head, rows = ranking(board)
        why = head.index("stopped")  # too long for a terminal, but for the rung at which a setting was given up
        why = -1 if any(row[why].startswith("stop_after=") for row in rows) else why
        cells = [
            [shorten_middle(cell, WIDEST) for i, cell in enumerate(row) if i != why]
            for row in (head, *rows[:MOST_LINES])
        ]
        out += ["", *grid(cells[0], cells[1:])]
        if len(board.settings) > MOST_LINES:
            out.append(f"... {len(board.settings) - MOST_LINES} more in leaderboard.md")
        out += [f"in all of them: {board.common}"] if board.common else []
        if lines := effect_lines(board):
            most = max(map(len, lines))
            padded = [line + [""] * (most - len(line)) for line in lines]
            out += ["", *grid(["averaged over the rest", *[""] * (most - 1)], padded)]
        out += ["", *(f"note: {note}" for note in notes(board))]
        out += [f"best: {board.best_job.result.get('command', '')}"]
        if line := after_audition(board):
            out.append(f"next, all of the checklist: {line}")
        out += [f"look: {short_path(board.folder)}/report.html, leaderboard.md"]
        if line := sync_line(board):
            out.append(f"W&B, once logged in: {line}")
    out += ["", f"sweep: {board.done}/{board.total} jobs done, in {short_path(board.folder)}"]
    for job in board.failures:
        out.append(f"  job {job.name} {job.state} ({short_words(board, job)}): {cause(job)}; {short_path(job.log)}")
    if lost := board.total - len(board.jobs):
        out.append(f"  {lost} never started")
    return out


def shorten_middle(text: str, most: int) -> str:
    """At most that many letters of a text, its start and its end."""
    if len(text) <= most:
        return text
    tail = most // 2
    return f"{text[: most - tail - 1]}…{text[-tail:]}"


# leaderboard.md -------------------------------------------------------------------------------------------------------


def markdown(board: Board) -> str:
    """leaderboard.md."""
    parts = [f"# {markdown_cell(board.folder.resolve().name)}", status_line(board)]
    if board.common:
        parts.append(f"In all of them: {markdown_cell(board.common)}")
    if board.settings:
        parts += [
            "![](leaderboard.png)",
            markdown_table(ranking(board)),
            "\n".join(f"* {markdown_cell(note)}" for note in (*column_notes(board), *notes(board))),
        ]
    if board.effects:
        parts += ["## What each choice does, averaged over the rest", markdown_table(effects_table(board))]
    if board.front:
        parts += [
            "## Accuracy against seconds: no other setting is better and as quick",
            markdown_table(front_table(board)),
        ]
    if board.best_job:
        job = board.best_job
        parts += [
            "## The best again",
            f"From job {markdown_cell(job.name)}, {markdown_cell(short_path(job.folder))}:",
            code_block(job.result.get("command", "")),
        ]
    if line := after_audition(board):
        parts += ["## Next, all of the checklist for the winner", code_block(line)]
    if board.failures or board.total > len(board.jobs):
        parts += ["## Not done", markdown_table(failures_table(board))]
    if board.settings:
        parts += ["## Every job", markdown_table(jobs_table(board))]
    if line := sync_line(board):
        parts += ["## To W&B, once logged in", code_block(line)]
    return "\n\n".join(parts) + "\n"


def status_line(board: Board) -> str:
    n = len(board.settings)
    return f"{board.done}/{board.total} jobs done, {n} setting{'s' * (n != 1)}, compared by {board.monitor}"


def markdown_table(table: TextTable) -> str:
    """A table of Markdown."""
    head, rows = table
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(markdown_cell, line))} |" for line in lines)


def markdown_cell(text: str) -> str:
    """Text as Markdown shows it, in one line: no mark in it makes a cell, a link or HTML."""
    return " ".join(MARKS.sub(r"\\\g<0>", one_line(text)).split())


def code_block(text: str) -> str:
    """A block of code, whose fence is longer than any run of backticks in it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"


# leaderboard.csv ------------------------------------------------------------------------------------------------------


def csv_rows(board: Board) -> list[list]:
    """A head, then a row for each setting: numbers as they are, nothing where there is none, a column for each key."""
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
