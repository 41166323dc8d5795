"""A comparison of runs: settings, results by phase, and the images that one run gets right and the other wrong."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from thaw.config.conf_files import part
from thaw.config.run_names import key_and_value
from thaw.runtime.errors import UserError
from thaw.runtime.files import as_number, phase_results, read_json, read_shares, short_path
from thaw.sweep.jobs import JobRecord, read_jobs
from thaw.sweep.tables import TextTable

MISSING = "–"
NAMES = {
    "made": "initial weights",
    "data.key": "images and labels",
    "data.test_key": "test images",
    "epochs": "epochs, each as image size/batch size/steps",
}


@dataclass(frozen=True)
class Comparison:
    """Two runs a and b on the validation images that both share with the same class.

    The rows of `won` and `lost` are (path, class, prediction of a, prediction of b).
    """

    both: int  # number of images that both get right
    neither: int
    won: list[tuple]  # b is right, a is wrong
    lost: list[tuple]  # a is right, b is wrong
    apart: tuple[int, int, int] = (0, 0, 0)  # images left out: only in a, only in b, with different classes

    @property
    def p(self) -> float:
        """The p-value of McNemar's exact test (McNemar, 1947); 1 if no image is won or lost.

        It is the two-sided binomial test of the images won against those lost with probability one half.
        """
        n = len(self.won) + len(self.lost)
        if not n:
            return 1.0
        from scipy.stats import binomtest

        return float(binomtest(len(self.won), n, 0.5).pvalue)


def runs_of(folders: Sequence[Path]) -> list[JobRecord]:
    """Return the finished runs of some folders; of a sweep, all finished jobs.

    Raise UserError (exit 6) if a folder has no finished run, or if there are fewer than two runs in all.
    """
    runs = []
    for folder in folders:
        jobs = read_jobs(folder)
        done = [job for job in jobs if job.result]
        if not done:
            states = ", ".join(dict.fromkeys("no result" if job.state == "done" else job.state for job in jobs))
            raise UserError(6, f"{short_path(folder)}: no finished run to compare ({states})")
        runs += done
    runs = list({job.folder.resolve(): job for job in runs}.values())
    if len(runs) < 2:
        what = "only one finished run" if len(folders) == 1 else "the same run was given more than once"
        raise UserError(6, f"{short_path(runs[0].folder)}: {what}; give two or more runs, or a sweep")
    return runs


def labels(runs: Sequence[JobRecord]) -> list[str]:
    """Return A, B, ... Z, then 27 and so on."""
    return [chr(ord("A") + i) if i < 26 else str(i + 1) for i in range(len(runs))]


def settings_table(runs: Sequence[JobRecord]) -> TextTable:
    """Return the overrides in which the runs differ."""
    typed = [dict(map(key_and_value, run.overrides)) for run in runs]
    keys = dict.fromkeys(key for one in typed for key in one)
    keys = [key for key in keys if len({meaning(one.get(key)) for one in typed}) > 1]
    return ["setting", *labels(runs)], [[key, *(one.get(key, MISSING) for one in typed)] for key in keys]


def meaning(value: str | None) -> float | str | None:
    """Return a typed value in one spelling: True is true, 1e-3 is 0.001."""
    if not math.isnan(number := as_number(value)):
        return number
    return value.lower() if value and value.lower() in ("true", "false", "null") else value


def parts_table(runs: Sequence[JobRecord]) -> TextTable:
    """Return the recorded inputs (the parts of run.json) in which the runs differ.

    A difference that is the same in several phases has one row.
    """
    flat = [dict(flatten(part(read_json(run.folder / "run.json"), "parts"))) for run in runs]
    rows: dict[tuple, list[str]] = {}
    for path in dict.fromkeys(path for one in flat for path in one):
        values = tuple(short_value(one[path]) if path in one else MISSING for one in flat)
        if len({repr(one.get(path)) for one in flat}) > 1:
            phase, name = (path[1], path[2:]) if path[0] == "phases" and len(path) > 1 else ("", path)
            if name not in (("phase",), ()):
                dotted = ".".join(name)
                rows.setdefault((NAMES.get(dotted, dotted), values), []).append(phase)
    out = []
    for (name, values), phases in rows.items():
        where = f" ({', '.join(filter(None, phases))})" if any(phases) else ""
        out.append([name + where, *values])
    return ["input", *labels(runs)], out


def flatten(parts: Mapping, path: tuple = ()):
    """Yield (path, value) of every leaf."""
    for key, value in parts.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, (*path, key))
        else:
            yield (*path, key), value


def short_value(value) -> str:
    """Return a value as text for a table's cell: at most 40 characters, or the first eight of a hash."""
    text = plain_value(value)
    if re.fullmatch(r"[0-9a-f]{16,}", text):
        return text[:8]
    return text if len(text) <= 40 else text[:39] + "…"


def plain_value(value, inner: bool = False) -> str:
    """Return a value of run.json without quotes and brackets: [[32, 64, 10], [32, 64, 10]] as 2 × 32/64/10."""
    if isinstance(value, list):
        texts = [plain_value(item, inner=True) for item in value]
        if inner:
            return (" " if any(isinstance(item, (list, dict)) for item in value) else "/").join(texts)
        counts = [(text, len(list(same))) for text, same in groupby(texts)]
        return ", ".join(f"{n} × {text}" if n > 1 else text for text, n in counts) or "none"
    if isinstance(value, dict):
        return " ".join(f"{key}={plain_value(item, inner=True)}" for key, item in value.items()) or "none"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def phases_table(runs: Sequence[JobRecord]) -> TextTable:
    """Return the results of every phase of every run, phase by phase."""
    found = [phase_results(run.result) for run in runs]
    rows = []
    for name in dict.fromkeys(name for phases in found for name in phases):
        for label, phases in zip(labels(runs), found, strict=True):
            phase = phases.get(name)
            cells = [number_text(phase, *column) for column in PHASE] if phase else [MISSING] * len(PHASE)
            rows.append([name, label, *cells])
    for label, run in zip(labels(runs), runs, strict=True):
        best = [number_text(run.result, key, form) for key, form in BEST]
        rows.append(["best", label, best[0], best[1], "", "", best[2], ""])
    return ["phase", "run", *(UNITS.get(key, key) for key, _ in PHASE)], rows


PHASE = (("accuracy", "{:.2%}"), ("loss", "{:.4f}"), ("lr", "{:.3g}"), ("epochs", "{:g}"), ("seconds", "{:.1f}"))
PHASE += (("reused", "{:g}"),)
UNITS = {"lr": "learning rate", "reused": "cycles reused"}
BEST = (("best/accuracy", "{:.2%}"), ("best/loss", "{:.4f}"), ("cost/seconds", "{:.1f}"))


def number_text(fields: Mapping, key: str, form: str) -> str:
    """Return a number as text; '' if it is missing."""
    value = as_number(fields.get(key))
    return "" if math.isnan(value) else form.format(value)


def compare_images(a: JobRecord, b: JobRecord) -> Comparison:
    """Compare b with a, image by image.

    Raise UserError (exit 3) if they share no validation image with the same class, or (exit 6) if one has no
    predictions.
    """
    first, second = (read_predictions(run.folder) for run in (a, b))
    for run, found in ((a, first), (b, second)):
        if not found:
            raise UserError(6, f"{short_path(run.folder)}: no predictions found (valid_predictions.csv)")
    both = [path for path in first if path in second]
    rows = [(path, *first[path], second[path][1]) for path in both if first[path][0] == second[path][0]]
    if not rows:
        runs = f"{short_path(a.folder)} and {short_path(b.folder)}"
        what = "have different classes for the same images" if both else "have no validation image in common"
        raise UserError(3, f"{runs} {what}: nothing to compare")
    return Comparison(
        apart=(len(first) - len(both), len(second) - len(both), len(both) - len(rows)),
        both=sum(truth == x == y for _, truth, x, y in rows),
        neither=sum(truth not in (x, y) for _, truth, x, y in rows),
        won=[row for row in rows if row[2] != row[1] == row[3]],
        lost=[row for row in rows if row[2] == row[1] != row[3]],
    )


def read_predictions(folder: Path) -> dict[str, tuple[str, str]]:
    """Map each validation image's path to its class and the prediction."""
    rows = read_shares(folder / "valid_predictions.csv")
    next(rows, None)  # skip the head
    return {row[0]: (row[1], row[2]) for row in rows}
