"""What jobs leave in their folders: tables are written; what is missing or cut short is read as nothing.

Standard library only.
"""

import csv
import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

BAD_FILES = "bad_files.csv"
DISPUTED = "disputed.csv"


def near(path: Path) -> str:
    """A path as short as it can be typed here."""
    path = Path(os.path.abspath(path))
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def phases_of(result: dict) -> dict[str, dict]:
    """Of each phase of a finished job what its result.json has, in its order."""
    out: dict[str, dict] = {}
    for key, value in result.items():
        if found := re.fullmatch(r"phase/(.+)/(\w+)", key):
            out.setdefault(found[1], {})[found[2]] = value
    return out


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


def read_table(file) -> Iterator[list[str]]:
    """The rows of a csv file, its head included, one at a time: there may be a column a class; none without a file."""
    file = Path(file)
    if file.exists():
        with file.open(newline="", encoding="utf-8") as lines:
            yield from filter(None, csv.reader(lines))


def write_table(path: Path, columns: tuple[str, ...], rows: Sequence[tuple]) -> None:
    """A .csv, bytes that are no text as escapes; where there are no rows, none is there."""
    if not rows:
        path.unlink(missing_ok=True)
        return
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        csv.writer(file).writerows([columns, *rows])


def write_bad_files(folder: Path, rows: Sequence[tuple[str, str]]) -> None:
    """bad_files.csv: path and reason of every file that is left out."""
    write_table(folder / BAD_FILES, ("path", "reason"), rows)


def write_lists(folder: Path, bad: Sequence[tuple[str, str]], disputed: Sequence[tuple[str, str, str]]) -> None:
    """What the notes of a scan say is listed: bad_files.csv, and disputed.csv, of the form of data.labels."""
    write_bad_files(folder, bad)
    write_table(folder / DISPUTED, ("path", "label", "content"), disputed)


def number(value) -> float:
    """A finite float, else nan."""
    try:
        value = float(value)
    except (TypeError, ValueError):
        return math.nan
    return value if math.isfinite(value) else math.nan


def show_bytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def duration(seconds: float) -> str:
    """Seconds as a person says them: 8.2 s, 3 min 20 s, 2 h 5 min; 'nan' as it is."""
    if math.isnan(seconds):
        return "nan"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
