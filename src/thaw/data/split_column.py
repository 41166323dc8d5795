"""The split of each row of a table, from its columns."""

from collections import Counter
from collections.abc import Collection, Sequence
from difflib import get_close_matches

from thaw.data.csv_file import CsvTable, number
from thaw.data.folder import NAMES
from thaw.data.listing import quoted
from thaw.data.table import SPLITS, TEST, TRAIN, VALID
from thaw.runtime.errors import UserError, nearest

# Names of split columns: SURE always, LIKELY if most cells are names of splits, other columns if all cells are.
SURE = ("split", "subset")
LIKELY = ("set", "partition", "phase", "usage", "part", "dataset")
FLAGS = {"is_train": TRAIN, "is_training": TRAIN, "is_valid": VALID, "is_val": VALID, "is_validation": VALID,
         "is_test": TEST}  # fmt: skip
FOLDS = ("fold", "folds", "kfold", "k_fold", "fold_id", "cv_fold", "cv")
WORDS = {**NAMES, "publictest": VALID, "privatetest": TEST}  # the last two are Kaggle's
YES = {**dict.fromkeys(("true", "1", "1.0", "yes", "t", "y"), True),
       **dict.fromkeys(("false", "0", "0.0", "no", "f", "n"), False)}  # fmt: skip


def split_columns(sheet: CsvTable, typed: str | None, others: Collection[str | None], notes: list[str]) -> list[str]:
    """Return the columns that give the split: the typed one ('none': no column), one of split names, or flags.

    Add a note about columns of fold numbers, which are not used. Raise UserError (exit 3) if several columns qualify.
    """
    if typed:
        return [] if typed == "none" else [sheet.given("data.split_column", typed)]
    free = [column for column in sheet.columns if column not in others]
    words = [column for column in free if column.casefold() in SURE or says_splits(column, sheet.cells(column))]
    flags = [column for column in free if column.casefold() in FLAGS and column not in words]
    if len(words) + bool(flags) > 1:
        several = " and ".join(map(quoted, (words + flags)[:3]))
        raise UserError(3, f"{sheet.name}: {several} all look like splits; choose one: data.split_column={words[0]}")
    for column in free if not words + flags else ():
        if column.casefold() in FOLDS and all(number(cell) is not None for cell in sheet.cells(column)):
            advice = f"data.group={column} data.fold=0 keeps the images of each together"
            notes.append(f"{sheet.name}: the numbers in {column} are not used; {advice}")
    return words + flags


def says_splits(column: str, cells: Sequence[str]) -> bool:
    """Return whether a column holds names of splits: train, another one, and no other words (LIKELY: at most half)."""
    words = Counter(cell.lower() for cell in cells if cell)
    codes = {WORDS[word] for word in words if word in WORDS}
    others = sum(n for word, n in words.items() if word not in WORDS)
    allowed = words.total() // 2 if column.casefold() in LIKELY else 0
    return others <= allowed and TRAIN in codes and len(codes) > 1


def splits_of(sheet: CsvTable, columns: Sequence[str]) -> list[int]:
    """Return the split of each row.

    Raise UserError (exit 3) if a cell names no split, a row is in none or in two, or no row is in train.
    """
    if not columns:
        return [TRAIN] * len(sheet.rows)
    cells = [[cell.lower() for cell in sheet.cells(column)] for column in columns]
    for column, own in zip(columns, cells, strict=True):
        if column.casefold() in FLAGS and set(own) & YES.keys() and (odd := sorted(set(own) - YES.keys())):
            line = sheet.rows[own.index(odd[0])][0]
            raise sheet.error(line, f"{column} is {quoted(odd[0])}; it must be true or false, or 1 or 0")
    is_flag = all(set(column) <= YES.keys() for column in cells)
    splits = flagged(sheet, columns, cells) if is_flag else worded(sheet, columns[0], cells[0])
    if TRAIN not in splits:
        raise UserError(3, f"{sheet.name}: the column {', '.join(columns)} puts no image in train")
    return splits


def worded(sheet: CsvTable, column: str, cells: Sequence[str]) -> list[int]:
    """Return the splits of a column of split names. Raise UserError (exit 3) if a cell is another word."""
    for (line, _), cell in zip(sheet.rows, cells, strict=True):
        if cell not in WORDS:
            folds = f"data.group={column} data.fold=0 validates on a fold" if number(cell) is not None else ""
            close = nearest(cell, [word for word in NAMES if get_close_matches(cell, [word], 1, 0.7)])
            advice = folds or "; ".join(filter(None, (close, "data.split_column=none ignores the column")))
            raise sheet.error(line, f"{column} is {quoted(cell)}; splits are train, valid and test; {advice}")
    return [WORDS[cell] for cell in cells]


def flagged(sheet: CsvTable, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> list[int]:
    """Return the splits of yes/no columns; a row that is 'no' in all of them is in the first split without a column."""
    codes, splits = [FLAGS.get(column.casefold(), VALID) for column in columns], []
    rest = next((code for code in (TRAIN, VALID, TEST) if code not in codes), None)
    for (line, _), row in zip(sheet.rows, zip(*cells, strict=True), strict=True):
        said = {code for code, cell in zip(codes, row, strict=True) if YES[cell]} or {rest}
        if len(said) > 1 or None in said:
            what = " and ".join(SPLITS[code] for code in sorted(said - {None})) or "no split"
            raise sheet.error(line, f"{', '.join(columns)} say {what}; an image is in exactly one")
        splits += said
    return splits
