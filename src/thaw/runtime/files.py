"""What jobs leave in their folders: tables are written; what is missing or cut short is read as nothing.

Standard library only.
"""

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
RESULT = {  # of the keys of result.json, their part after the last slash; a number is read by `as_number`
    "command": str, "commit": str, "key": str, "phase": str, "code": str, "identity": str, "model_sha256": str,
    "wandb_offline": str | None, "stopped_because": str | None, "overrides": list, "warnings": list,
}  # fmt: skip


def short_path(path: Path) -> str:
    """A path as short as it can be typed here."""
    path = Path(os.path.abspath(path))
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def phase_results(result: dict) -> dict[str, dict]:
    """Of each phase of a finished job what its result.json has, in its order."""
    out: dict[str, dict] = {}
    for key, value in result.items():
        if found := re.fullmatch(r"phase/(.+)/(\w+)", key):
            out.setdefault(found[1], {})[found[2]] = value
    return out


def read_text(file: Path) -> str:
    """The text of a file, with marks for what is not UTF-8; '' if it cannot be read."""
    return read_bytes(file).decode("utf-8", "replace")


def read_bytes(file: Path) -> bytes:
    """The bytes of a file; none if it cannot be read. A pipe is not: it would keep whoever opens it."""
    try:
        return file.read_bytes() if file.is_file() else b""
    except OSError:
        return b""


def json_values(*texts: str) -> list:
    """The values of some JSON texts; what is none, as what a crash cut short, is left out."""
    out = []
    for text in texts:
        with contextlib.suppress(ValueError, RecursionError):
            out.append(json.loads(text))
    return out


def json_text(value, indent: int | None = None) -> str:
    """Return strict JSON, null for a number that is none (nan, inf): NaN is no JSON, and most readers refuse it."""
    return json.dumps(finite(value), indent=indent, allow_nan=False)


def finite(value):
    """Return a number, text or nesting of them with None for every number that is none."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def json_objects(*texts: str) -> list[dict]:
    """The objects of some JSON texts."""
    return [value for value in json_values(*texts) if isinstance(value, dict)]


def read_json(file: Path) -> dict:
    """The object in a file; {} where there is none."""
    return next(iter(json_objects(read_text(file))), {})


def read_result(folder: Path) -> dict:
    """What result.json says, as far as it is what we write; {} where there is none."""
    said = read_json(folder / "result.json").items()
    return {key: value for key, value in said if isinstance(value, RESULT.get(key.rpartition("/")[2], object))}


def read_jsonl(file: Path) -> list[dict]:
    """The objects of a .jsonl."""
    return json_objects(*read_text(file).splitlines())


def read_csv(file) -> Iterator[list[str]]:
    """The rows of a csv file, its head included, one at a time: there may be a column a class; none without a file.

    What cannot be read ends it.
    """
    with (
        contextlib.suppress(OSError, csv.Error),
        Path(file).open(newline="", encoding="utf-8", errors="replace") as lines,
    ):
        yield from filter(None, csv.reader(lines))


def read_shares(file) -> Iterator[list[str]]:
    """The rows of a <split>_predictions.csv (path, truth, prediction, shares), its head included; none cut short."""
    rows = read_csv(file)
    head = next(rows, [])
    if len(head) >= 3:
        yield head
        yield from (row for row in rows if len(row) == len(head))


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence]) -> None:
    """Write a .csv of names as they are, bytes that are no text as escapes; where there are no rows, none is there."""
    if not rows:
        path.unlink(missing_ok=True)
        return
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        csv.writer(file).writerows([columns, *rows])


def write_document(path: Path, text: str) -> None:
    """Write a text that people open (.md, .txt, .html) without what a terminal or an editor would obey."""
    path.write_text(printable(text), encoding="utf-8")


def write_bad_files(folder: Path, rows: Sequence[tuple[str, str]]) -> None:
    """bad_files.csv: path and reason of every file that is left out."""
    write_csv(folder / BAD_FILES, ("path", "reason"), rows)


def write_data_lists(folder: Path, bad: Sequence[tuple[str, str]], disputed: Sequence[tuple[str, str, str]]) -> None:
    """What the notes of a scan say is listed: bad_files.csv, and disputed.csv, of the form of data.labels."""
    write_bad_files(folder, bad)
    write_csv(folder / DISPUTED, ("path", "label", "content"), disputed)


def as_number(value) -> float:
    """A finite float, else nan."""
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
    """Seconds as a person says them: 8.2 s, 3 min 20 s, 2 h 5 min; 'nan' as it is."""
    if math.isnan(seconds):
        return "nan"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def new_folder(folder: Path) -> Path:
    """Make the folder, or where it exists (two starts in one second) the first free name after it. Errors: exit 5."""
    for name in (folder, *(folder.with_name(f"{folder.name}-{n}") for n in range(2, 1000))):
        try:
            name.mkdir(parents=True)
            return name
        except FileExistsError:
            continue
        except OSError as error:
            raise machine_error(error, name, "make") from None
    raise UserError(5, f"{folder}: so many of this name are there; give another")


def rename_away(path: Path) -> Path:
    """Where a directory lies now that its place is free for another; `store.prune` clears what a kill leaves there."""
    gone = path.with_name(f"{path.name}.gone.{process_id('.')}")
    with contextlib.suppress(FileNotFoundError):
        path.rename(gone)
    return gone


def remove_folder(path: Path) -> None:
    """Remove a directory so that nobody finds half of it."""
    shutil.rmtree(rename_away(path), ignore_errors=True)


def write_atomically(path: Path, text: str) -> None:
    """Write a file beside its place and rename it: it is there as a whole, or as it was before."""
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
    """Have what a file or a directory holds outlast a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_stamp(found: os.stat_result) -> str:
    """What differs once a file was written, or another took its place: a folder that is renamed keeps the times of its
    files, and an archive gives all of them one."""
    return f"{found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"
