"""The report of a sweep: leaderboard.md, .csv and .png, and report.html, from the files of its folder alone."""

import csv
import re
from html import escape

from thaw.report import page
from thaw.report.style import picture_style, svg
from thaw.runtime.files import format_duration
from thaw.sweep import tables, text, words
from thaw.sweep.board import Board, after_audition, seconds_of_all, sync_line
from thaw.sweep.figure import curves_figure, leaderboard_figure

NUMERIC = ("", "n", "epochs", "seconds", "paid", "rank", "accuracy", "loss", "job")
WRAPPED = ("setting", "stopped", "stopped because", "value", "cause", "log")  # columns whose text may be long


def write_sweep_report(board: Board) -> None:
    """Write leaderboard.md, leaderboard.csv, leaderboard.png and report.html into the sweep's folder."""
    folder = board.folder
    (folder / "leaderboard.md").write_text(text.markdown(board), encoding="utf-8", errors="backslashreplace")
    with (folder / "leaderboard.csv").open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        csv.writer(file).writerows(text.csv_rows(board))
    with picture_style():
        drawn = leaderboard_figure(board)
        drawn.savefig(folder / "leaderboard.png", dpi=110)
        pictures = svg(drawn), svg(curves_figure(board))
    (folder / "report.html").write_text(sweep_html(board, *pictures), encoding="utf-8", errors="backslashreplace")


def sweep_html(board: Board, settings: str, curves: str) -> str:
    """report.html; the drawn ones are <svg> elements."""
    name = board.folder.resolve().name
    notes = "".join(f"<li>{escape(note)}</li>" for note in (*tables.column_notes(board), *words.notes(board)))
    job = board.best_job
    again = page.preformatted(job.result.get("command", ""), "wrap") if job else ""
    audition = page.preformatted(after_audition(board), "wrap")
    parts = [
        f"<h1>{escape(name)}</h1>",
        f'<div class="dim">{escape(" · ".join(filter(None, (text.status_line(board), board.common))))}</div>',
        f'<div class="tiles">{"".join(page.tile(*tile) for tile in headline(board))}</div>',
        page.section("Settings, best first", html_table(tables.ranking(board)) + f'<ul class="dim">{notes}</ul>'),
        page.section("Accuracy against seconds, and what each choice does", settings),
        page.section("Averaged over the rest", html_table(tables.effects_table(board))),
        page.section("Learning, every job", curves),
        page.section("No other setting is better and as quick", html_table(tables.front_table(board))),
        page.section("Not done", html_table(tables.failures_table(board), linked=board)),
        page.section("Every job", html_table(tables.jobs_table(board), linked=board)),
        page.section("How to run the best again", again),
        page.section("Next, all of the checklist for the winner", audition),
        page.section("To W&B, once logged in", page.preformatted(sync_line(board), "wrap")),
    ]
    return page.document(name, parts)


def headline(board: Board) -> list[tuple[str, str, str]]:
    """(what, value, detail) of the numbers that come first."""
    cost, paid = seconds_of_all(board)
    out = [("jobs done", f"{board.done} of {board.total}", f"{len(board.failures)} failed or not started")]
    if board.settings:
        best = board.settings[0]
        out.append((f"best {board.monitor}", words.mean_of(board, best), best.name))
        ties = sum(difference.tie for difference in board.differences[1:])
        out.append(("settings", str(len(board.settings)), f"{ties} not to be told from the best"))
        out.append(("time of all jobs", format_duration(cost), f"paid: {format_duration(paid)}"))
    return out


def html_table(table: tables.TextTable, linked: Board | None = None) -> str:
    """A table of text as html; with `linked` the first column leads to that job's own report, where it has one."""
    head, rows = table
    body = [[escape(cell) for cell in row] for row in rows]
    for row in body if linked else []:
        if row[0] and (linked.folder / row[0] / "report.html").exists():
            row[0] = f'<a href="{row[0]}/report.html">{row[0]}</a>'
    kinds = ["n" if name in NUMERIC else "w" if name in WRAPPED else "k" for name in head]
    for row in body:  # a long name breaks where its parts meet
        row[:] = [re.sub(r"(?<=[_./,])", "<wbr>", c) if k == "w" else c for k, c in zip(kinds, row, strict=True)]
    body = [[f'<td class="{kind}">{cell}</td>' for kind, cell in zip(kinds, row, strict=True)] for row in body]
    return page.table(head, body, {i for i, kind in enumerate(kinds) if kind == "n"}) if rows else ""
