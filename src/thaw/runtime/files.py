"""Reading and writing the files in job folders. A missing or truncated file reads as empty."""

import contextlib
import csv
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from thaw.runtime.console import printable
from thaw.runtime.errors import UserError
from thaw.runtime.failures import machine_error
from thaw.runtime.machine import process_id

BAD_FILES = "bad_files.csv"
DISPUTED = "disputed.csv"
RESULT = {  # types in result.json by the part of a key after its last slash; `as_number` reads the numbers
    "command": str, "commit": str, "key": str, "phase": str, "code": str, "identity": str, "model_sha256": str,
    "wandb_offline": str | None, "stopped_because": str | None, "overrides": list, "warnings": list,
}  # fmt: skip


def short_path(path: Path) -> str:
    """Return a path relative to the current folder if it is inside it, else the absolute path."""
    path = Path(os.path.abspath(path))
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def phase_results(result: dict) -> dict[str, dict]:
    """Return the fields of each phase in a result.json, {phase: {field: value}}, in the file's order."""
    out: dict[str, dict] = {}
    for key, value in result.items():
        if found := re.fullmatch(r"phase/(.+)/(\w+)", key):
            out.setdefault(found[1], {})[found[2]] = value
    return out


def read_text(file: Path) -> str:
    """Read a text file, with U+FFFD for bytes that are not UTF-8; '' if it cannot be read."""
    return read_bytes(file).decode("utf-8", "replace")


def read_bytes(file: Path) -> bytes:
    """Read the bytes of a regular file; b'' if it cannot be read. Opening a pipe would block."""
    try:
        return file.read_bytes() if file.is_file() else b""
    except OSError:
        return b""


def json_values(*texts: str) -> list:
    """Parse JSON texts and skip invalid ones, such as a line that a crash cut short."""
    out = []
    for text in texts:
        with contextlib.suppress(ValueError, RecursionError):
            out.append(json.loads(text))
    return out


def json_text(value, indent: int | None = None) -> str:
    """Return strict JSON, with null for nan and inf: most readers refuse NaN."""
    return json.dumps(finite(value), indent=indent, allow_nan=False)


def finite(value):
    """Replace every nan and inf in a value, or in nested dicts and lists, by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def json_objects(*texts: str) -> list[dict]:
    """Parse JSON texts and return those that are objects."""
    return [value for value in json_values(*texts) if isinstance(value, dict)]


def read_json(file: Path) -> dict:
    """Read a JSON object from a file; {} if there is none."""
    return next(iter(json_objects(read_text(file))), {})


def read_result(folder: Path) -> dict:
    """Read the fields of result.json whose type is right; {} if there is no file."""
    said = read_json(folder / "result.json").items()
    return {key: value for key, value in said if isinstance(value, RESULT.get(key.rpartition("/")[2], object))}


def read_jsonl(file: Path) -> list[dict]:
    """Read the objects of a .jsonl file and skip invalid lines."""
    return json_objects(*read_text(file).splitlines())


def read_csv(file) -> Iterator[list[str]]:
    """Yield the rows of a csv file, head included; none without a file. Stop at the first row that cannot be read.

    Rows come one at a time, because a file may have one column per class.
    """
    with (
        contextlib.suppress(OSError, csv.Error),
        Path(file).open(newline="", encoding="utf-8", errors="replace") as lines,
    ):
        yield from filter(None, csv.reader(lines))


def read_shares(file) -> Iterator[list[str]]:
    """Yield the complete rows of a <split>_predictions.csv (path, truth, prediction, probabilities), head included."""
    rows = read_csv(file)
    head = next(rows, [])
    if len(head) >= 3:
        yield head
        yield from (row for row in rows if len(row) == len(head))


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence]) -> None:
    """Write a .csv, with escapes for bytes that are not text. Without rows, remove the file instead."""
    if not rows:
        path.unlink(missing_ok=True)
        return
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        csv.writer(file).writerows([columns, *rows])


def write_document(path: Path, text: str) -> None:
    """Write a text that people open (.md, .txt, .html), with control characters escaped."""
    path.write_text(printable(text), encoding="utf-8")


def write_bad_files(folder: Path, rows: Sequence[tuple[str, str]]) -> None:
    """Write bad_files.csv: path and reason of every file that is left out."""
    write_csv(folder / BAD_FILES, ("path", "reason"), rows)


def write_data_lists(folder: Path, bad: Sequence[tuple[str, str]], disputed: Sequence[tuple[str, str, str]]) -> None:
    """Write the lists that a scan's notes refer to: bad_files.csv, and disputed.csv in the form of data.labels."""
    write_bad_files(folder, bad)
    write_csv(folder / DISPUTED, ("path", "label", "content"), disputed)


def as_number(value) -> float:
    """Convert a value to a finite float, or nan if that is not possible."""
    try:
        value = float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return value if math.isfinite(value) else math.nan


def format_bytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def format_loss(loss: float) -> str:
    return f"{loss:.4f}" if abs(loss) < 1e4 else f"{loss:.3g}"


def format_duration(seconds: float) -> str:
    """Format seconds as 8.2 s, 3 min 20 s or 2 h 5 min; nan as 'nan'."""
    if math.isnan(seconds):
        return "nan"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def new_folder(folder: Path) -> Path:
    """Create a folder; if it exists (two starts in one second), create the first free NAME-2, NAME-3, ... instead.

    Raise UserError (exit 5) if that fails.
    """
    for name in (folder, *(folder.with_name(f"{folder.name}-{n}") for n in range(2, 1000))):
        try:
            name.mkdir(parents=True)
            return name
        except FileExistsError:
            continue
        except OSError as error:
            raise machine_error(error, name, "create") from None
    raise UserError(5, f"{folder}: 999 folders with this name exist; give another name")


def rename_away(path: Path) -> Path:
    """Rename a directory to free its place and return the new path; `store.prune` clears it if we are killed."""
    gone = path.with_name(f"{path.name}.gone.{process_id('.')}")
    with contextlib.suppress(FileNotFoundError):
        path.rename(gone)
    return gone


def remove_folder(path: Path) -> None:
    """Remove a directory; rename it first, so that no other process sees it half removed."""
    shutil.rmtree(rename_away(path), ignore_errors=True)


def write_atomically(path: Path, text: str) -> None:
    """Write a file completely or not at all, by writing a temporary one and renaming it."""
    temporary = path.with_name(f"{path.name}.tmp.{process_id('.')}")
    try:
        temporary.write_text(text)
        sync(temporary)
        temporary.replace(path)
    except BaseException:  # a signal too
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Flush a file or a directory to disk, so that it survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_stamp(found: os.stat_result) -> str:
    """Return a text that changes when a file is written or replaced.

    Modification times alone do not suffice: a renamed folder keeps them, and an archive may give all files the same.
    """
    return f"{found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"
