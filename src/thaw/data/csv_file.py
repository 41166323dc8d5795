"""A table in a text file: its columns by name, its rows with the line numbers on which they begin."""

import csv
import io
import math
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

from thaw.data.listing import quoted
from thaw.runtime.errors import UserError, nearest

DELIMITERS = ",;\t"
MOST_BYTES = 1 << 30

# Usual names of columns, most likely first.
PATHS = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "image_name",
         "image_id", "img", "img_path", "picture", "photo", "fname", "id", "name")  # fmt: skip
LABELS = ("label", "labels", "class", "class_name", "category", "target", "species", "breed", "diagnosis", "y")


@dataclass(frozen=True)
class CsvTable:
    """A table: `name` is the setting with the file, for errors; `rows` are (line, cells), with a cell per column."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]

    def error(self, line: int, text: str) -> UserError:
        """Return a UserError (exit 3) about a line."""
        return UserError(3, f"{self.name} line {line}: {text}".removesuffix("; "))

    def find(self, names: Sequence[str]) -> str | None:
        """Return the column with the first of the names that exists, in any case, or None."""
        found = {column.casefold(): column for column in reversed(self.columns)}
        return next((found[name] for name in names if name in found), None)

    def need(self, names: Sequence[str], key: str | None = None) -> str:
        """Return the same, or raise UserError (exit 3) with the table's columns and the closest of them."""
        if found := self.find(names):
            return found
        close = [column for column in self.columns if get_close_matches(column.casefold(), names, 1, 0.7)]
        advice = f"; set {key}={close[0] if close else 'NAME'}" if key else ""
        have = ", ".join(self.columns[:6]) + (", ..." if len(self.columns) > 6 else "")
        raise self.error(1, f"no column is called {' or '.join(names[:3])}; the columns are {have[:90]}{advice}")

    def given(self, key: str, column: str) -> str:
        """Return the column that the user typed, or raise UserError (exit 3) with the closest names."""
        if column not in self.columns:
            raise UserError(3, f"{key}={column}: {self.name} has no such column; {nearest(column, self.columns)}")
        return column

    def cells(self, column: str) -> list[str]:
        """Return the cells of a column, in the order of the rows."""
        at = self.columns.index(column)
        return [cells[at] for _, cells in self.rows]


def read_csv_table(key: str, file: str) -> CsvTable:
    """Read a table from a UTF-8 file with any line ends, separated by `,` `;` or tab; a byte-order mark may begin it.

    Line 1 names the columns. Cells are stripped and empty lines are skipped. Raise UserError (exit 3), with the line if
    there is one, if the file does not exist, is not text, or has lines of unequal length.
    """
    name, path = f"{key}={file}", Path(os.path.expanduser(file))
    try:
        kind, size = (found := path.stat()).st_mode, found.st_size
        if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):  # opening a pipe would block
            raise UserError(3, f"{name} is not a regular file; give a .csv file")
        if size > MOST_BYTES:
            raise UserError(3, f"{name}: {size:,} bytes are too many for a table; the most is {MOST_BYTES:,}")
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(3, f"{name} does not exist") from None
    except IsADirectoryError:
        raise UserError(3, f"{name} is a folder; give a .csv file") from None
    except OSError as error:
        raise UserError(3, f"{name} cannot be read: {error.strerror}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(3, f"{name} line {line}: not UTF-8 text; save the file as CSV UTF-8") from None
    columns, *rows = parse(name, text) or [(1, ())]
    sheet = CsvTable(name, columns[1], tuple(rows))
    if not rows:
        line_1 = f" below line 1, which names the columns ({quoted(', '.join(sheet.columns))})" if sheet.columns else ""
        raise UserError(3, f"{name} has no rows{line_1}")
    if doubled := [column for column in sheet.columns if sheet.columns.count(column) > 1]:
        raise sheet.error(1, f"two columns are called {quoted(doubled[0])}")
    for line, cells in rows:
        if len(cells) != len(sheet.columns):
            raise sheet.error(line, f"{len(cells)} cells, but line 1 names {len(sheet.columns)} columns")
    return sheet


def parse(name: str, text: str) -> list[tuple[int, tuple[str, ...]]]:
    """Return every line that is not empty as (line number, cells); a cell in quotes may span several lines."""
    out, line, declared = [], 1, re.match("sep=(.)\r?\n", text)  # Excel's way to declare the delimiter
    first = text.lstrip().splitlines()[:1]
    try:
        delimiter = declared[1] if declared else max(DELIMITERS, key=lambda mark: len(next(rows_of(first, mark), [])))
        reader = rows_of(io.StringIO(text, newline=""), delimiter)
        for cells in islice(reader, 1 if declared else 0, None):
            if any(cells := tuple(cell.strip() for cell in cells)):
                out.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(3, f"{name} line {line}: {error}") from None
    return out


def rows_of(lines: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    """Return a csv reader that accepts blanks before a quote."""
    return csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)


def inside(root: str, text: str) -> str | None:
    """Return a path relative to root, or None if it leads outside of root."""
    path = os.path.normpath(os.path.join(root, text))
    return path[len(root.rstrip("/")) + 1 :] if path.startswith(f"{root.rstrip('/')}/") else None


def number(text: str) -> float | None:
    """Return a cell as a finite number, or None if it is not one."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
