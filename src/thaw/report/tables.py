"""The tables of report.html, as rows of text."""

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import PurePath

from thaw.report.page import thumbnail
from thaw.report.run_files import LARGEST, most_confused
from thaw.runtime.files import as_number, format_duration, format_loss, phase_results

MOST_LISTED = 50  # rows shown of a long table
MOST_PAIRS = 10
PHASE = {  # columns of the phase table, by their names in result.json
    "accuracy": lambda value: f"{value:.2%}",
    "loss": format_loss,
    "lr": lambda value: f"{value:.3g}",
    "epochs": lambda value: f"{value:g}",
    "seconds": format_duration,
}


def about(result: dict) -> str:
    """Return the overrides and the device of a run in one line."""
    overrides = as_text(result.get("overrides")) or ("default settings" if result else "")
    return " · ".join(part for part in (overrides, as_text(result.get("device"))) if part)


def phase_rows(result: dict) -> list[dict[str, str]]:
    """Return a row for each phase in the order of result.json, with the accuracy gained over the best one before."""
    rows, best = [], math.nan
    for name, fields in phase_results(result).items():
        values = {field: as_number(fields.get(field)) for field in PHASE}
        gain = 100 * (values["accuracy"] - best)
        rows.append(
            {
                "name": name,
                **{field: "" if math.isnan(value) else PHASE[field](value) for field, value in values.items()},
                "gain": "" if math.isnan(gain) else f"{gain:+.2f}",
                "tone": "good" if gain > 0 else "bad" if gain < 0 else "dim",
                "why": as_text(fields.get("stopped_because")) + (" (reused)" if fields.get("reused") else ""),
            }
        )
        best = max((value for value in (best, values["accuracy"]) if not math.isnan(value)), default=math.nan)
    return rows


def pairs(counts: Mapping[tuple[str, str], int], classes: int) -> list[list[str]]:
    """Return the most frequent mistakes as (truth, prediction, "n of m"); [] for two classes."""
    if classes < 3:
        return []
    totals = Counter()
    for (truth, _), count in counts.items():
        totals[truth] += count
    found = most_confused(counts, MOST_PAIRS if classes <= LARGEST else MOST_LISTED)
    return [[truth, predicted, f"{count} of {totals[truth]}"] for truth, predicted, count in found]


def class_rows(rows: list[tuple]) -> list[dict]:
    """Return the classes, lowest f1 first, at most LARGEST of them; shares are (width of the bar, text).

    `rows`: as from `per_class`. Classes without an image come last and have no shares.
    """
    return [
        {
            "name": name,
            "n": n,
            "shares": [(f"{share:.0%}", f"{share:.1%}") for share in shares] if n else [],
            "confused": confused,
        }
        for name, n, *shares, confused in sorted(rows, key=lambda row: (row[1] == 0, row[4]))[:LARGEST]
    ]


def wrong_images(rows: list[dict], images: list) -> list[dict[str, str]]:
    """Return the most confident mistakes, each with its classes, its confidence and its image.

    `images`: uint8 array [height, width, 3], or None, for each row of `most_wrong`.
    """
    out = []
    for row, image in zip(rows, images, strict=True):
        uri, kind = ("", "") if image is None else thumbnail(image)
        percent = "" if math.isnan(row["confidence"]) else f" · {row['confidence']:.0%}"
        out.append({**row, "file": PurePath(row["path"]).name, "percent": percent, "image": uri, "kind": kind})
    return out


def listing(table: list[list[str]], file: str) -> dict:
    """Return the first rows of a csv file beside the page, their number, and a note on how many are shown.

    `table`: the head, then the rows, which are padded or cut to its length.
    """
    head, *body = table or [[]]
    return {
        "file": file,
        "total": len(body),
        "shown": f"the first {MOST_LISTED} of {len(body):,} rows of" if len(body) > MOST_LISTED else "all rows of",
        "columns": [(name, "") for name in head],
        "rows": [[*row, *[""] * len(head)][: len(head)] for row in body[:MOST_LISTED]],
    }


def made_with(result: dict) -> list[list[str]]:
    """Return the device, versions, commit and keys of a run, from result.json."""
    keys = ("device", "versions", "commit", "key", "wandb_id")
    return [[key, as_text(result[key])] for key in keys if result.get(key)]


def as_text(value) -> str:
    """Format any value in one line: lists joined by spaces, dicts as "key value" pairs joined by commas."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {as_text(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return "" if value is None else str(value)
