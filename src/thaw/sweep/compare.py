"""Runs against one another: what they were told, what each phase bought, which images one wins from the other."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from thaw.config.conf_files import part
from thaw.config.run_names import key_and_value
from thaw.runtime.errors import UserError
from thaw.runtime.files import as_number, phase_results, read_json, read_shares, short_path
from thaw.sweep.jobs import JobRecord, read_jobs
from thaw.sweep.tables import TextTable

NOWHERE = "–"
NAMES = {"made": "weights to start from", "data.key": "images and labels", "data.test_key": "images to test"}


@dataclass(frozen=True)
class Comparison:
    """Two runs on the images that both validated, of one class in both. Rows: (path, truth, answer of a, of b)."""

    both: int  # right
    neither: int
    won: list[tuple]  # by b: a is wrong
    lost: list[tuple]
    apart: tuple[int, int, int] = (0, 0, 0)  # left out: only in a, only in b, of another class there

    @property
    def p(self) -> float:
        """McNemar's exact test: how likely so uneven a split of the images that one alone has right is by chance.

        Two-sided binomial test of the won against the lost with probability one half; 1 of none. McNemar (1947).
        """
        n = len(self.won) + len(self.lost)
        if not n:
            return 1.0
        from scipy.stats import binomtest

        return float(binomtest(len(self.won), n, 0.5).pvalue)


def runs_of(folders: Sequence[Path]) -> list[JobRecord]:
    """The finished runs of some folders, of a sweep all that are done. Errors: one not done, fewer than two, exit 6."""
    runs = []
    for folder in folders:
        jobs = read_jobs(folder)
        done = [job for job in jobs if job.result]
        if not done:
            states = ", ".join(dict.fromkeys("no result" if job.state == "done" else job.state for job in jobs))
            raise UserError(6, f"{short_path(folder)}: nothing to compare ({states}); it takes finished runs")
        runs += done
    runs = list({job.folder.resolve(): job for job in runs}.values())
    if len(runs) < 2:
        what = "one finished run is there" if len(folders) == 1 else "this is one and the same run"
        raise UserError(6, f"{short_path(runs[0].folder)}: {what}; give two or more, or a sweep")
    return runs


def labels(runs: Sequence[JobRecord]) -> list[str]:
    """A, B, ... Z, then 27 and so on."""
    return [chr(ord("A") + i) if i < 26 else str(i + 1) for i in range(len(runs))]


def settings_table(runs: Sequence[JobRecord]) -> TextTable:
    """The overrides in which the runs differ."""
    typed = [dict(map(key_and_value, run.overrides)) for run in runs]
    keys = dict.fromkeys(key for one in typed for key in one)
    keys = [key for key in keys if len({meaning(one.get(key)) for one in typed}) > 1]
    return ["setting", *labels(runs)], [[key, *(one.get(key, NOWHERE) for one in typed)] for key in keys]


def meaning(value: str | None) -> float | str | None:
    """What a typed value is, however it is spelt: True is true, 1e-3 is 0.001."""
    if not math.isnan(number := as_number(value)):
        return number
    return value.lower() if value and value.lower() in ("true", "false", "null") else value


def parts_table(runs: Sequence[JobRecord]) -> TextTable:
    """What the runs depended on and differ in, from their run.json; the same difference in several phases is a row."""
    flat = [dict(flatten(part(read_json(run.folder / "run.json"), "parts"))) for run in runs]
    rows: dict[tuple, list[str]] = {}
    for path in dict.fromkeys(path for one in flat for path in one):
        values = tuple(short_value(one[path]) if path in one else NOWHERE for one in flat)
        if len({repr(one.get(path)) for one in flat}) > 1:
            phase, name = (path[1], path[2:]) if path[0] == "phases" and len(path) > 1 else ("", path)
            if name not in (("phase",), ()):
                dotted = ".".join(name)
                rows.setdefault((NAMES.get(dotted, dotted), values), []).append(phase)
    out = []
    for (name, values), phases in rows.items():
        where = f" ({', '.join(filter(None, phases))})" if any(phases) else ""
        out.append([name + where, *values])
    return ["depends on", *labels(runs)], out


def flatten(parts: Mapping, path: tuple = ()):
    """(path, value) of every leaf."""
    for key, value in parts.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, (*path, key))
        else:
            yield (*path, key), value


def short_value(value) -> str:
    """A value in a table's cell."""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    if re.fullmatch(r"[0-9a-f]{16,}", text):
        return text[:8]
    return text if len(text) <= 40 else text[:39] + "…"


def phases_table(runs: Sequence[JobRecord]) -> TextTable:
    """Every phase of every run, phase by phase."""
    found = [phase_results(run.result) for run in runs]
    rows = []
    for name in dict.fromkeys(name for phases in found for name in phases):
        for label, phases in zip(labels(runs), found, strict=True):
            phase = phases.get(name)
            cells = [number_text(phase, *column) for column in PHASE] if phase else [NOWHERE] * len(PHASE)
            rows.append([name, label, *cells])
    for label, run in zip(labels(runs), runs, strict=True):
        best = [number_text(run.result, key, form) for key, form in BEST]
        rows.append(["best", label, best[0], best[1], "", "", best[2], ""])
    return ["phase", "run", *(key for key, _ in PHASE)], rows


PHASE = (("accuracy", "{:.2%}"), ("loss", "{:.4f}"), ("lr", "{:.3g}"), ("epochs", "{:g}"), ("seconds", "{:.1f}"))
PHASE += (("reused", "{:g}"),)
BEST = (("best/accuracy", "{:.2%}"), ("best/loss", "{:.4f}"), ("cost/seconds", "{:.1f}"))


def number_text(fields: Mapping, key: str, form: str) -> str:
    """A number; '' where there is none."""
    value = as_number(fields.get(key))
    return "" if math.isnan(value) else form.format(value)


def compare_images(a: JobRecord, b: JobRecord) -> Comparison:
    """b against a, image by image. Errors: no image that both validated, exit 3; no predictions, exit 6."""
    first, second = (read_answers(run.folder) for run in (a, b))
    for run, found in ((a, first), (b, second)):
        if not found:
            raise UserError(6, f"{short_path(run.folder)}: no predictions are there (valid_predictions.csv)")
    both = [path for path in first if path in second]
    rows = [(path, *first[path], second[path][1]) for path in both if first[path][0] == second[path][0]]
    if not rows:
        runs = f"{short_path(a.folder)} and {short_path(b.folder)}"
        other = "with other classes of the same images" if both else "on other images"
        raise UserError(3, f"{runs} were validated {other}: there is nothing to compare")
    return Comparison(
        apart=(len(first) - len(both), len(second) - len(both), len(both) - len(rows)),
        both=sum(truth == x == y for _, truth, x, y in rows),
        neither=sum(truth not in (x, y) for _, truth, x, y in rows),
        won=[row for row in rows if row[2] != row[1] == row[3]],
        lost=[row for row in rows if row[2] == row[1] != row[3]],
    )


def read_answers(folder: Path) -> dict[str, tuple[str, str]]:
    """Truth and prediction of each validation image, by its path."""
    rows = read_shares(folder / "valid_predictions.csv")
    next(rows, None)  # the head
    return {row[0]: (row[1], row[2]) for row in rows}
