"""What jobs leave in their folders, read so that what is missing or cut short is nothing. Standard library only."""

import csv
import json
import math
from pathlib import Path


def text_of(file: Path) -> str:
    """The text of a file, with marks for what is not UTF-8; '' without a file."""
    return bytes_of(file).decode("utf-8", "replace")


def bytes_of(file: Path) -> bytes:
    """The bytes of a file; none without a file."""
    return file.read_bytes() if file.exists() else b""


def json_objects(*texts: str) -> list[dict]:
    """The objects of some texts; what a crash cut short is left out."""
    out = []
    for text in texts:
        try:
            value = json.loads(text)
        except ValueError:
            continue
        out += [value] if isinstance(value, dict) else []
    return out


def json_of(file: Path) -> dict:
    """The object in a file; {} where there is none."""
    return next(iter(json_objects(text_of(file))), {})


def lines_of(file: Path) -> list[dict]:
    """The objects of a .jsonl."""
    return json_objects(*text_of(file).splitlines())


def read_table(file) -> list[list[str]]:
    """The rows of a csv file, its head included; none without a file."""
    file = Path(file)
    if not file.exists():
        return []
    with file.open(newline="", encoding="utf-8") as lines:
        return [row for row in csv.reader(lines) if row]


def number(value) -> float:
    """A finite float, else nan."""
    try:
        value = float(value)
    except (TypeError, ValueError):
        return math.nan
    return value if math.isfinite(value) else math.nan


def duration(seconds: float) -> str:
    """Seconds as a person says them: 8.2 s, 3 min 20 s, 2 h 5 min; 'nan' as it is."""
    if math.isnan(seconds):
        return "nan"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
