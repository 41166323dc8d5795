"""The contents of a run's folder as rows and numbers, for the report and for W&B's tables."""

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from thaw.config import run_names
from thaw.runtime.files import (
    BAD_FILES,
    DISPUTED,
    as_number,
    format_duration,
    format_loss,
    json_objects,
    read_bytes,
    read_csv,
    read_jsonl,
    read_result,
    read_shares,
    read_text,
)

LARGEST = 200  # classes up to which a confusion matrix is shown; a larger one is unreadable


def confusion_matrix(counts: Mapping[tuple[str, str], int], classes: list[str]) -> list[list[int]]:
    """Return counts of images, [true class][predicted class]; [] for more than LARGEST classes.

    `counts`: images by (truth, prediction).
    """
    if len(classes) > LARGEST:
        return []
    return [[counts.get((row, column), 0) for column in classes] for row in classes]


def most_confused(counts: Mapping[tuple[str, str], int], most: int) -> list[tuple[str, str, int]]:
    """Return the most frequent mistakes, (truth, prediction, count); equal counts are sorted by name."""
    found = [(truth, taken, n) for (truth, taken), n in counts.items() if truth != taken]
    return sorted(found, key=lambda pair: (-pair[2], pair[0], pair[1]))[:most]


def per_class(counts: Mapping[tuple[str, str], int], classes: list[str]) -> list[tuple]:
    """Return (class, n, precision, recall, f1, most confused with) of every class; the last is '' without a mistake.

    A ratio without a denominator (no image of the class, or none predicted as it) is 0.
    """
    true, predicted, worst = Counter(), Counter(), {}
    places = {name: i for i, name in enumerate(classes)}
    for (truth, prediction), count in sorted(counts.items(), key=lambda item: (-item[1], places.get(item[0][1], 0))):
        true[truth] += count
        predicted[prediction] += count
        if truth != prediction:
            worst.setdefault(truth, prediction)
    rows = []
    for name in classes:
        right, n, p = counts.get((name, name), 0), true[name], predicted[name]
        rows.append((name, n, right / (p or 1), right / (n or 1), 2 * right / (n + p or 1), worst.get(name, "")))
    return rows


def most_wrong(rows: list[dict], n: int) -> list[dict]:
    """Return the `n` wrong images whose predicted class has the highest probability, highest first.

    `rows`: as from `read_predictions`, with path, truth, prediction and confidence (of the prediction, in [0, 1]).
    """
    wrong = [row for row in rows if row["truth"] != row["prediction"]]
    wrong.sort(key=lambda row: -1.0 if math.isnan(row["confidence"]) else row["confidence"], reverse=True)
    return [{key: row[key] for key in ("path", "truth", "prediction", "confidence")} for row in wrong[:n]]


def read_predictions(file) -> tuple[list[str], list[dict]]:
    """Read the classes and the rows (path, truth, prediction, confidence) of a `valid_predictions.csv`.

    Both are empty without a file. Columns are read by position, because a class may be called 'path'.
    """
    table = read_shares(file)
    classes = next(table, [])[3:]
    rows = []
    for path, truth, prediction, *shares in table:
        known = prediction in classes and len(shares) == len(classes)
        confidence = as_number(shares[classes.index(prediction)]) if known else math.nan
        rows.append({"path": path, "truth": truth, "prediction": prediction, "confidence": confidence})
    return classes, rows


def read_run(folder) -> dict:
    """Read all that a report shows from the files of a run's folder; the value of a missing file is empty."""
    folder = Path(folder)
    above = folder.resolve().parent
    classes, rows = read_predictions(folder / "valid_predictions.csv")
    result = read_result(folder)
    counts = Counter((row["truth"], row["prediction"]) for row in rows)
    return {
        "name": folder.resolve().name,
        "sweep": above.name if (above / "multirun.yaml").exists() else "",
        "metrics": read_jsonl(folder / "metrics.jsonl"),
        "result": result,
        "finds": finder_results(folder, result),
        "plan": read_text(folder / "plan.txt"),
        "timeline": read_bytes(folder / "plan.png"),
        "classes": classes,
        "predictions": rows,
        "confusion": counts,
        "per_class": per_class(counts, classes),
        "wrong": most_wrong(rows, 16),
        "bad_files": list(read_csv(folder / BAD_FILES)),
        "disputed": list(read_csv(folder / DISPUTED)),
        "leaks": list(read_csv(folder / "leaks.csv")),
        "leaks_sheet": read_bytes(folder / "leaks.png"),
    }


def finder_results(folder: Path, result: dict) -> list[dict | bytes]:
    """Return every finder's curve, in the order of the phases in `result`; its png if there is no .json."""
    finds = []
    for name in sorted({file.stem for file in folder.glob("find_*") if file.suffix in (".json", ".png")}):
        found = json_objects(read_text(folder / f"{name}.json"))
        phase = found[0].get("phase") if found else name
        drawn = found[0] if found else read_bytes(folder / f"{name}.png")
        finds.append((" ".join(result).find(f"phase/{phase}/"), drawn))
    return [found for _, found in sorted(finds, key=lambda find: find[0])]


def run_title(run: dict) -> str:
    """Return the name of a run; for a job of a sweep, followed by its overrides."""
    if not run.get("sweep"):
        return run["name"]
    return f"{run['name']}: {run_names.short_name(list(run['result'].get('overrides', []))) or 'default'}"


def headline(run: dict) -> list[tuple[str, str, str]]:
    """Return (name, value, detail) of the main numbers, those that are known."""
    result, rows = run["result"], run["predictions"]
    best, loss, test = (as_number(result.get(key)) for key in ("best/accuracy", "best/loss", "test/accuracy"))
    seconds, paid = as_number(result.get("cost/seconds")), as_number(result.get("cost/seconds_paid"))
    wrong = sum(row["truth"] != row["prediction"] for row in rows)
    low, high = wilson(len(rows) - wrong, len(rows))
    out = [
        ("accuracy", f"{best:.1%}", f"95% CI {100 * low:.1f}–{high:.1%}" if rows else "validation"),
        ("loss", format_loss(loss), "validation, calibrated" if "best/temperature" in result else "validation"),
        ("test accuracy", f"{test:.1%}", "evaluated once"),
        ("time", format_duration(seconds), f"{format_duration(paid)} now, rest reused" if paid < seconds else ""),
        ("misclassified", f"{wrong} of {len(rows)}" if rows else "nan", "validation images"),
    ]
    return [row for row in out if not row[1].startswith("nan")]


def wilson(right: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % confidence interval of right / n; (0, 1) if n is 0."""
    if not n:
        return 0.0, 1.0
    z, p = 1.96, right / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def as_array(values):
    """Return an array of floats, with nan for values that are not numbers."""
    import numpy as np

    return np.array([as_number(value) for value in values], dtype=float)


def column(rows: list[dict], key: str):
    """Return one key of all rows as an array, with nan for rows that lack it."""
    return as_array(row.get(key) for row in rows)
