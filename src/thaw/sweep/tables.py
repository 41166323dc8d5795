"""The tables of leaderboard.md and report.html, each a head and rows of text."""

import math

from thaw.runtime.files import phase_results, short_path
from thaw.sweep.board import Board
from thaw.sweep.rank import COMBINATION
from thaw.sweep.words import (
    cause,
    difference_of,
    effect_text,
    epochs_of,
    epochs_text,
    mean_of,
    number_text,
    seconds_text,
    seeds_of,
    short_words,
    why_text,
)

TextTable = tuple[list[str], list[list[str]]]


def ranking(board: Board) -> TextTable:
    """Return a row for each setting, best first."""
    head = ["", "setting", value_head(board), "jobs", "vs best ± se", "epochs", "stopped", "seconds"]
    head += ["seconds spent", "Pareto"]
    return head, [
        [
            str(i + 1),
            setting.name,
            mean_of(board, setting),
            seeds_of(setting),
            difference_of(board, i),
            epochs_text(setting),
            why_text(setting),
            seconds_text(setting.seconds),
            seconds_text(setting.average("cost/seconds_paid")),
            "●" if i in board.front else "",
        ]
        for i, setting in enumerate(board.settings)
    ]


def value_head(board: Board) -> str:
    """Return the heading of the settings' means; sd: standard deviation, if any setting has one."""
    return board.monitor + ("" if all(math.isnan(setting.deviation) for setting in board.settings) else " ± sd")


def column_notes(board: Board) -> list[str]:
    """Return the explanations of the columns of the tables."""
    unit = "" if board.monitor.endswith("loss") else " in percentage points"
    return [
        f"{board.monitor}: mean ± standard deviation (sd) over the jobs of a setting (seeds, folds)",
        f"vs best: mean difference{unit} ± standard error (se), paired on the same images and seeds; "
        "the error is the larger of the one over images and the one over seeds",
        "epochs: total of all phases; stopped: why the last phase ended",
        "seconds: mean per job, as if nothing had been reused from the store; seconds spent: mean actually spent",
        "Pareto: ● no other setting is both better and faster",
    ]


def short_column_notes(board: Board) -> list[str]:
    """Return the explanations of the columns in the two lines that a terminal shows."""
    unit = "" if board.monitor.endswith("loss") else " in percentage points"
    return [
        f"sd: standard deviation over jobs; se: standard error; vs best: paired difference{unit}",
        "seconds: per job, as if nothing had been reused; Pareto ●: no other setting is both better and faster",
    ]


def effects_table(board: Board) -> TextTable:
    """Return a row for each value of each swept key."""
    body = []
    for effect in board.effects:
        origin = f"{effect.n} {effect.unit}{'s' * (effect.n != 1)}"
        origin += " of the other keys" if effect.unit == COMBINATION else ""
        body.append([effect.key, effect.value, effect_text(board, effect), origin])
    return ["key", "value", f"{board.monitor} ± standard error", "averaged over"], body


def front_table(board: Board) -> TextTable:
    """Return the Pareto front, fastest first."""
    chosen = [(i, board.settings[i]) for i in board.front]
    body = [[str(i + 1), s.name, mean_of(board, s), seconds_text(s.seconds)] for i, s in chosen]
    return ["rank", "setting", value_head(board), "seconds"], body


def failures_table(board: Board) -> TextTable:
    """Return the jobs that are not done, with cause and log."""
    body = [[job.name, short_words(board, job), job.state, cause(job), short_path(job.log)] for job in board.failures]
    if lost := board.total - len(board.jobs):
        body.append(["", f"{lost} more", "waiting", "never started", ""])
    return ["job", "setting", "state", "cause", "log"], body


def jobs_table(board: Board) -> TextTable:
    """Return a row for each finished job: its results, the epochs of each phase, why the last one stopped."""
    body = []
    for i, setting in enumerate(board.settings):
        for job in setting.jobs:
            reasons = [phase.get("stopped_because") for phase in phase_results(job.result).values()]
            body.append(
                [
                    job.name,
                    str(i + 1),
                    short_words(board, job),
                    number_text(job, "best/accuracy", "{:.2%}"),
                    number_text(job, "best/loss", "{:.4f}"),
                    str(job.result.get("best/phase", "")),
                    "+".join(map(str, epochs_of(job))),
                    next((reason for reason in reversed(reasons) if reason), ""),
                    number_text(job, "cost/seconds", "{:.1f}"),
                    number_text(job, "cost/seconds_paid", "{:.1f}"),
                ]
            )
    return [
        "job",
        "rank",
        "setting",
        "accuracy",
        "loss",
        "best phase",
        "epochs",
        "stopped because",
        "seconds",
        "seconds spent",
    ], body
