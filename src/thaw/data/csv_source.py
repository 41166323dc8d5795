"""Pictures that a table lists: a path and a label in every line, perhaps a split and a group."""

import math
import os
import re
from collections.abc import Iterable, Sequence
from functools import partial
from unicodedata import normalize

from thaw.config.schema import Data
from thaw.data.csv_file import LABELS, PATHS, CsvTable, inside, read_csv_table
from thaw.data.folder import NAMES
from thaw.data.listing import NOT_REGULAR, NOWHERE, File, Listing, count_text, file_of, short_repr
from thaw.data.suffixes import SUFFIXES
from thaw.data.table import SPLITS, TRAIN, VALID
from thaw.runtime.errors import UserError

SPLIT = ("split", "subset", "is_valid")
IS_VALID = {"true": VALID, "1": VALID, "yes": VALID, "false": TRAIN, "0": TRAIN, "no": TRAIN}  # as fastai writes it
SEVERAL = re.compile("[|;]")  # between the labels of one picture


def listing(data: Data, notes: list[str]) -> Listing:
    """The pictures in the lines of the table `data.root`, in folders from `data.images`, else from the table's own.

    Errors: what is not there, empty, in two ways or outside that folder, exit 3 with the line.
    """
    sheet = read_csv_table("data.root", data.root)
    path = column(sheet, "data.path_column", data.path_column, PATHS)
    split = split_column(sheet, data.split_column)
    group = data.group if data.group in sheet.columns else None
    label = label_column(sheet, data.label_column, {path, split, group})
    root = os.path.abspath(os.path.expanduser(data.images or os.path.dirname(data.root)))
    if not os.path.isdir(root):
        raise UserError(3, f"data.images={data.images}: no such folder")
    labels = labels_of(sheet, label)
    splits = splits_of(sheet, split) if split else [SPLITS[TRAIN]] * len(sheet.rows)
    groups = sheet.cells(group) if group else [""] * len(sheet.rows)
    files = files_of(sheet, root, filled_cells(sheet, path))
    first: dict[str, tuple[int, tuple]] = {}
    for (line, _), file, answer in zip(sheet.rows, files, zip(splits, labels, groups, strict=True), strict=True):
        before, known = first.setdefault(file.path, (line, answer))
        for what, one, other in zip(("split", "label", "group"), answer, known, strict=True):
            if one != other:
                both = f"{short_repr(one)}, but {short_repr(other)} in line {before}"
                raise sheet.error(line, f"the {what} of {short_repr(file.path)} is {both}")
    notes.append(f"{sheet.name}: paths from {path}, labels from {label}, splits from {split or 'no column'}")
    if again := len(files) - len(first):
        notes.append(f"{count_text(again, 'line')} said twice")
    return Listing(
        root,
        sorted(set(files)),
        {name: (SPLITS.index(answer[0]), answer[1]) for name, (_, answer) in first.items()},
        {SPLITS.index(name): f"the column {split}" for name in set(splits)} if split else {},
        notes,
        {name: answer[2] for name, (_, answer) in first.items()} if group else None,
    )


def column(sheet: CsvTable, key: str, typed: str | None, names: Sequence[str]) -> str:
    """The column that was typed, else the likeliest. Errors: none, exit 3."""
    return sheet.given(key, typed) if typed else sheet.need(names, key)


def label_column(sheet: CsvTable, typed: str | None, others: set[str | None]) -> str:
    """The column of labels. Errors: none, or a column for each class, exit 3."""
    if not typed and not sheet.find(LABELS):
        hot = [name for name in sheet.columns if name not in others and one_hot(sheet.cells(name))]
        if len(hot) > 1:
            what = f"{len(hot)} columns of 0 and 1 ({short_repr(hot[0])}, {short_repr(hot[1])}...)"
            raise UserError(3, f"{sheet.name} has {what}: several labels a picture are not supported; one column is")
    return column(sheet, "data.label_column", typed, LABELS)


def one_hot(cells: Iterable[str]) -> bool:
    return set(cells) <= {"0", "1", "0.0", "1.0"}


def split_column(sheet: CsvTable, typed: str | None) -> str | None:
    """The column of splits, if there is one; the word none means that there is not."""
    return None if typed == "none" else sheet.given("data.split_column", typed) if typed else sheet.find(SPLIT)


def filled_cells(sheet: CsvTable, name: str) -> list[str]:
    """The cells of a column. Errors: an empty one, exit 3."""
    cells = sheet.cells(name)
    for (line, _), cell in zip(sheet.rows, cells, strict=True):
        if not cell:
            raise sheet.error(line, f"{name} is empty ({cells.count('')} of {len(cells)} are)")
    return cells


def labels_of(sheet: CsvTable, name: str) -> list[str]:
    """The labels. Errors: an empty one, one number in two spellings, several in one cell, exit 3."""
    cells = filled_cells(sheet, name)
    lines: dict[str, int] = {}
    for (line, _), cell in zip(sheet.rows, cells, strict=True):
        lines.setdefault(cell, line)
    numbers: dict[float, str] = {}
    for cell, line in lines.items():
        parts = [part.strip() for part in cell.split(",")]
        if SEVERAL.search(cell) or (len(parts) > 1 and all(part in lines for part in parts)):
            raise sheet.error(line, f"{name} is {short_repr(cell)}: several labels a picture are not supported")
        if (value := number(cell)) is not None and (other := numbers.setdefault(value, cell)) != cell:
            both = f"{short_repr(cell)}, but {short_repr(other)} in line {lines[other]}"
            raise sheet.error(line, f"{name} is {both}; write one number one way")
    return cells


def number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def splits_of(sheet: CsvTable, name: str) -> list[str]:
    """The splits. Errors: a word for none, nothing to train on, exit 3."""
    cells = [cell.lower() for cell in filled_cells(sheet, name)]
    words = IS_VALID if set(cells) <= IS_VALID.keys() else NAMES
    for (line, _), cell in zip(sheet.rows, cells, strict=True):
        if cell not in words:
            raise sheet.error(line, f"{name} is {short_repr(cell)}; splits are train, valid and test")
    if TRAIN not in (codes := [words[cell] for cell in cells]):
        raise UserError(3, f"{sheet.name}: no line has train in the column {name}")
    return [SPLITS[code] for code in codes]


def files_of(sheet: CsvTable, root: str, cells: Sequence[str]) -> list[File]:
    """The file of each line. Errors: one outside of root, one that is not there, exit 3 with the first line."""
    files, missing = [], []
    for (line, _), cell in zip(sheet.rows, cells, strict=True):
        if inside(root, cell) is None:
            raise sheet.error(
                line, f"{short_repr(cell)} lies outside {root}; data.images=FOLDER says where pictures lie"
            )
        if (file := file_in(root, cell)) is None:
            missing.append((line, cell))
        else:
            files.append(file)
    if missing:
        line, cell = missing[0]
        many = f"{len(missing)} of {len(cells)} are missing"
        raise sheet.error(
            line, f"{short_repr(cell)} is not in {root} ({many}); data.images=FOLDER says where pictures lie"
        )
    return files


def file_in(root: str, cell: str) -> File | None:
    """The file that a cell means: as written, with / for \\, its accents spelt otherwise, a picture's suffix added; a
    folder or the like only where no file is called so; or none."""
    spelt = dict.fromkeys((cell, cell.replace("\\", "/"), *(normalize(form, cell) for form in ("NFC", "NFD"))))
    other = None
    for text in spelt if "\0" not in cell else ():
        for path in filter(None, (inside(root, text + suffix) for suffix in ("", *SUFFIXES))):
            file = file_of(path, partial(os.stat, os.path.join(root, path)))
            if file.bad not in (NOWHERE, NOT_REGULAR):
                return file
            other = other or (file if file.bad == NOT_REGULAR else None)
    return other
