"""The report of a sweep: leaderboard.md, .csv and .png, and report.html, made from the files of its folder."""

import os
import re
import shlex
from urllib.parse import quote

from thaw.report.page import render
from thaw.report.style import image_style, svg
from thaw.runtime.files import format_duration, write_csv, write_document
from thaw.sweep import tables, text, words
from thaw.sweep.board import UNSENT, Board, after_audition, seconds_of_all, sync_line, unsent_runs
from thaw.sweep.figure import curves_figure, leaderboard_figure

NUMERIC = ("", "jobs", "epochs", "seconds", "seconds spent", "rank", "accuracy", "loss", "job")
WRAPPED = ("setting", "stopped", "stopped because", "value", "cause", "log")  # columns whose text may be long


def write_sweep_report(board: Board) -> None:
    """Write leaderboard.md, leaderboard.csv, leaderboard.png and report.html into the sweep's folder.

    Also list its offline W&B runs in a file, quoted for xargs.
    """
    folder = board.folder
    if runs := unsent_runs(board):
        write_document(folder / UNSENT, "".join(f"{shlex.quote(run)}\n" for run in runs))
    write_document(folder / "leaderboard.md", text.markdown(board))
    head, *rows = text.csv_rows(board)
    write_csv(folder / "leaderboard.csv", head, rows)
    with image_style():
        drawn = leaderboard_figure(board)
        drawn.savefig(folder / "leaderboard.png", dpi=110)
        images = svg(drawn), svg(curves_figure(board))
    write_document(folder / "report.html", sweep_html(board, *images))


def sweep_html(board: Board, settings: str, curves: str) -> str:
    """Return report.html. `settings`, `curves`: figures as returned by `style.svg`."""
    job = board.best_job
    return render(
        "sweep/templates/sweep.html.j2",
        title=board.folder.resolve().name,
        about=" · ".join(filter(None, (text.status_line(board), board.common))),
        headline=headline(board),
        ranking=columns_and_rows(tables.ranking(board)),
        notes=[*tables.column_notes(board), *words.notes(board)],
        figure_title=f"{board.monitor} against seconds{', and the effect of each key' if board.effects else ''}",
        settings=settings,
        effects=columns_and_rows(tables.effects_table(board)),
        curves=curves,
        front=columns_and_rows(tables.front_table(board)),
        failures=columns_and_rows(tables.failures_table(board)),
        jobs=columns_and_rows(tables.jobs_table(board)),
        reports=reports(board),
        command=job.result.get("command", "") if job else "",
        audition=after_audition(board),
        sync=sync_line(board),
    )


def headline(board: Board) -> list[tuple[str, str, str]]:
    """Return (what, value, detail) for the tiles at the top."""
    cost, paid = seconds_of_all(board)
    out = [("jobs done", f"{board.done} of {board.total}", f"{len(board.failures)} failed or not started")]
    if board.settings:
        best = board.settings[0]
        out.append((f"best {board.monitor}", words.mean_of(board, best), best.name))
        ties = sum(difference.tie for difference in board.differences[1:])
        out.append(("settings", str(len(board.settings)), f"{ties} tied with the best"))
        out.append(("time of all jobs", format_duration(cost), f"spent: {format_duration(paid)}"))
    return out


def columns_and_rows(table: tables.TextTable) -> tuple[list[tuple[str, str]], list[list]]:
    """Return (name, class) of each column, and the rows; long text is split at the places where a line may break."""
    head, rows = table
    kinds = ["n" if name in NUMERIC else "w" if name in WRAPPED else "k" for name in head]
    parted = [
        [re.split(r"(?<=[_./,])", cell) if kind == "w" else cell for kind, cell in zip(kinds, row, strict=True)]
        for row in rows
    ]
    return list(zip(head, kinds, strict=True)), parted


def reports(board: Board) -> dict[str, str]:
    """Map the jobs that have a report to its URL, relative to the sweep's folder."""
    reported = [job for job in board.jobs if (job.folder / "report.html").exists()]
    return {job.name: f"{quote(os.fsencode(job.name), safe='')}/report.html" for job in reported}
