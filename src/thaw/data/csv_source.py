"""Images listed by a table: each line has a path and a label, perhaps a split and a group."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from difflib import get_close_matches

from thaw.config.schema import Data
from thaw.data.csv_file import LABELS, PATHS, CsvTable, inside, number, read_csv_table
from thaw.data.listing import File, Listing, count_text, quoted
from thaw.data.spelling import Files, note_case, same_but_case
from thaw.data.split_column import split_columns, splits_of
from thaw.data.table import SPLITS
from thaw.runtime.errors import UserError

SHOWN = 8  # line numbers that a note shows
SEVERAL = re.compile("[|;]")  # between the labels of one image


def listing(data: Data, notes: list[str]) -> Listing:
    """Return the images in the lines of the table `data.root`, below `data.images` or else the table's own folder.

    Lines without a path or a label are left out; a file that does not exist counts as bad. Raise UserError (exit 3),
    with the line if there is one, if a cell is invalid, lines contradict each other, a path leads outside that folder,
    or no file exists.
    """
    sheet = read_csv_table("data.root", data.root)
    path = column(sheet, "data.path_column", data.path_column, PATHS)
    group = group_column(sheet, data.group)
    others = {path, group, data.label_column or sheet.find(LABELS)}
    columns = split_columns(sheet, data.split_column, others, notes)
    label = label_column(sheet, data.label_column, {path, group, *columns})
    root = os.path.abspath(os.path.expanduser(data.images or os.path.dirname(data.root)))
    if not os.path.isdir(root):
        raise UserError(3, f"data.images={data.images}: no such folder")
    sheet = filled_rows(sheet, (path, label), notes)
    labels, splits = labels_of(sheet, label), splits_of(sheet, columns)
    groups = sheet.cells(group) if group else [""] * len(sheet.rows)
    files = files_of(sheet, root, sheet.cells(path), notes)
    first: dict[str, tuple[int, tuple]] = {}
    for (line, _), file, answer in zip(sheet.rows, files, zip(splits, labels, groups, strict=True), strict=True):
        before, known = first.setdefault(file.path, (line, answer))
        if answer != known:
            raise sheet.error(line, contradiction(file.path, answer, known, before))
    named = ", ".join(columns)
    notes.append(f"{sheet.name}: paths from {path}, labels from {label}, splits from {named or 'no column'}")
    if again := len(files) - len(first):
        notes.append(f"{count_text(again, 'duplicate line')}")
    return Listing(
        root,
        sorted({file.path: file for file in files}.values()),
        {name: answer[:2] for name, (_, answer) in first.items()},
        dict.fromkeys(set(splits), f"the column {named}") if columns else {},
        notes,
        {name: answer[2] for name, (_, answer) in first.items()} if group else None,
    )


def contradiction(path: str, answer: tuple[int, str, str], known: tuple[int, str, str], before: int) -> str:
    """Say in what two lines about one file differ."""
    answer, known = ((SPLITS[split], *rest) for split, *rest in (answer, known))
    what, one, other = next(
        row for row in zip(("split", "label", "group"), answer, known, strict=True) if row[1] != row[2]
    )
    return f"the {what} of {quoted(path)} is {quoted(one)}, but {quoted(other)} in line {before}"


def column(sheet: CsvTable, key: str, typed: str | None, names: Sequence[str]) -> str:
    """Return the column that the user typed, else the most likely one. Raise UserError (exit 3) if there is none."""
    return sheet.given(key, typed) if typed else sheet.need(names, key)


def label_column(sheet: CsvTable, typed: str | None, others: set[str | None]) -> str:
    """Return the column of labels. Raise UserError (exit 3) if there is none, or if each class has its own."""
    if not typed and not sheet.find(LABELS):
        hot = [name for name in sheet.columns if name not in others and one_hot(sheet.cells(name))]
        if len(hot) > 1:
            what = f"{len(hot)} columns of 0 and 1 ({quoted(hot[0])}, {quoted(hot[1])}...)"
            raise UserError(3, f"{sheet.name} has {what}: give one column of labels; an image can only have one label")
    return column(sheet, "data.label_column", typed, LABELS)


def group_column(sheet: CsvTable, typed: str | None) -> str | None:
    """Return the column of groups, or None if a regular expression was typed.

    Raise UserError (exit 3) if the name of a column is misspelt.
    """
    if typed is None or typed in sheet.columns:
        return typed
    names = {name.casefold(): name for name in sheet.columns}
    if close := get_close_matches(typed.casefold(), names, 1, 0.8):
        raise UserError(3, f"data.group={typed}: no column has that name; did you mean {names[close[0]]}?")
    return None


def one_hot(cells: Iterable[str]) -> bool:
    return set(cells) <= {"0", "1", "0.0", "1.0"}


def filled_rows(sheet: CsvTable, names: Sequence[str], notes: list[str]) -> CsvTable:
    """Return the table without the rows in which one of these cells is empty; add a warning about them.

    Raise UserError (exit 3) if no row is left.
    """
    at = {name: sheet.columns.index(name) for name in names}
    lacking = [(line, name) for line, cells in sheet.rows for name in names if not cells[at[name]]]
    if not lacking:
        return sheet
    line, name = lacking[0]
    lines = {line for line, _ in lacking}
    if len(lines) == len(sheet.rows):
        raise sheet.error(line, f"{name} is empty; {' or '.join(names)} is empty in all {len(lines)} lines")
    what = f"{len(lines):,} of {count_text(len(sheet.rows), 'line')} left out because {' or '.join(names)} is empty"
    which = ", ".join(map(str, sorted(lines)[:SHOWN])) + (", ..." if len(lines) > SHOWN else "")
    notes.append(f"warning: {sheet.name}: {what}: {which}")
    return replace(sheet, rows=tuple(row for row in sheet.rows if row[0] not in lines))


def labels_of(sheet: CsvTable, name: str) -> list[str]:
    """Return the labels. Raise UserError (exit 3) if a number has two spellings or a cell has several labels."""
    cells = sheet.cells(name)
    lines: dict[str, int] = {}
    for (line, _), cell in zip(sheet.rows, cells, strict=True):
        lines.setdefault(cell, line)
    numbers: dict[float, str] = {}
    for cell, line in lines.items():
        parts = [part.strip() for part in cell.split(",")]
        if SEVERAL.search(cell) or (len(parts) > 1 and all(part in lines for part in parts)):
            raise sheet.error(line, f"{name} is {quoted(cell)}: an image can only have one label")
        if (value := number(cell)) is not None and (other := numbers.setdefault(value, cell)) != cell:
            both = f"{quoted(cell)}, but {quoted(other)} in line {lines[other]}"
            raise sheet.error(line, f"{name} is {both}; write a number in one way only")
    return cells


def files_of(sheet: CsvTable, root: str, cells: Sequence[str], notes: list[str]) -> list[File]:
    """Return the file of each line, a bad one if it does not exist; add notes about those and about the case of names.

    Raise UserError (exit 3) with the first line if a path leads outside of root or if no file exists.
    """
    found, files, missing, cased = Files(root), [], [], {}
    for (line, _), cell in zip(sheet.rows, cells, strict=True):
        if (own := inside(root, cell)) is None:
            advice = "set data.images to the folder of the images"
            raise sheet.error(line, f"{quoted(cell)} is outside {root}; {advice}")
        match found.find(cell):
            case [file]:
                if same_but_case(own, file.path):
                    cased[cell] = file.path
            case meant:
                missing.append((line, cell, found.did_you_mean(own, meant)))
                file = File(own, 0, "", f"does not exist (line {line}){missing[-1][2]}")
        files.append(file)
    if len(missing) == len(cells):
        line, cell, meant = missing[0]
        advice = meant or "; set data.images to the folder of the images"
        raise sheet.error(line, f"{quoted(cell)} is not in {root} (all {len(cells)} are missing){advice}")
    if missing:
        line, cell, _ = missing[0]
        what = f"{len(missing):,} of {count_text(len(cells), 'line')} name a file that does not exist"
        notes.append(f"warning: {sheet.name}: {what}, first in line {line}: {quoted(cell)}")
    note_case(sheet.name, cased, notes)
    return files
