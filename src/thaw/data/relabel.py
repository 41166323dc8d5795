"""Corrected labels and renamed classes, without moving a file."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches

from thaw.config.schema import Data
from thaw.data.csv_file import LABELS, PATHS, CsvTable, inside, read_csv_table
from thaw.data.listing import Listing, count_text, quoted
from thaw.data.spelling import Spellings, note_case, same_but_case
from thaw.runtime.errors import nearest

Where = Mapping[str, tuple[int, str]]  # (split, class) by path


def relabel(found: Listing, data: Data) -> Listing:
    """Return the listing with labels corrected by `data.labels`, and then classes renamed by `data.classes`.

    Stored results depend on the images' content alone, so none is computed again. Raise UserError (exit 3) with the
    line if a path or class does not exist or appears with two different values.
    """
    where = found.where
    if data.labels:
        where = apply_labels(found.root, where, read_csv_table("data.labels", data.labels), found.notes)
    if data.classes:
        where = rename_classes(where, read_csv_table("data.classes", data.classes), found.notes)
    return replace(found, where=where, files=[file for file in found.files if file.path in where])


def apply_labels(root: str, where: Where, sheet: CsvTable, notes: list[str]) -> Where:
    """Return `where` with the labels that a table with columns for path and label gives to some of the images.

    The columns are named as in a table of images, and paths are written as there: also with \\ for /, with ./ in front,
    or absolute. An image with an empty label is left out.
    """
    fixes, cased, paths = {}, {}, Spellings(where)
    given = read_pairs(sheet, PATHS, LABELS, {"", *(name for _, name in where.values())}, notes)
    for text, (line, label) in given.items():
        spelt = [text, *filter(None, (inside(root, text), inside(root, text.replace("\\", "/"))))]
        found = next((names for written in spelt for names in paths.find_file(written) if names), [])
        if len(found) != 1:
            near = f"did you mean {' or '.join(found[:3])}?" if found else near_path(text, where)
            raise sheet.error(line, f"no image is called {quoted(text)}; {near}")
        path = found[0]
        cased |= {text: path} if any(same_but_case(written, path) for written in spelt) else {}
        before, other = fixes.setdefault(path, (line, label))
        if other != label:
            raise sheet.error(
                line,
                f"the label of {quoted(path)} is {quoted(label)}, but {quoted(other)} in line {before}",
            )
    note_case(sheet.name, cased, notes)
    changed = sum(where[path][1] != name for path, (_, name) in fixes.items())
    dropped = {path for path, (_, name) in fixes.items() if not name}
    out = f" and leaves {count_text(len(dropped), 'image')} out" if dropped else ""
    notes.append(
        f"{sheet.name} changes {count_text(changed - len(dropped), 'label')} of the {len(fixes):,} it lists{out}"
    )
    new = {path: (where[path][0], name) for path, (_, name) in fixes.items()}
    return {path: answer for path, answer in {**where, **new}.items() if path not in dropped}


def rename_classes(where: Where, sheet: CsvTable, notes: list[str]) -> Where:
    """Return `where` with the classes renamed by a table with the columns from and to; an empty `to` drops a class."""
    names = {name for _, name in where.values()}
    given, known, cased = read_pairs(sheet, ["from"], ["to"], None, notes), Spellings(names), {}
    to = {}
    for written, answer in given.items():
        name = known.only(written, cased)
        if to.setdefault(name, answer)[1] != answer[1]:
            line, other = to[name]
            both = f"to is {quoted(answer[1])} for {quoted(name)}, but {quoted(other)} in line {line}"
            raise sheet.error(answer[0], both)
    note_case(sheet.name, cased, notes)
    for name, (line, _) in to.items():
        if name not in names:
            raise sheet.error(line, f"no class is called {quoted(name)}; {nearest(name, sorted(names))}")
    new = {name: to[name][1] if name in to else name for name in names}
    dropped = sum(not new[name] for _, name in where.values())
    classes = len(set(new.values()) - {""})
    notes.append(f"{sheet.name} turns {len(names)} classes into {classes}; {count_text(dropped, 'image')} left out")
    return {path: (split, new[name]) for path, (split, name) in where.items() if new[name]}


def read_pairs(
    sheet: CsvTable, keys: Sequence[str], values: Sequence[str], known: set[str] | None, notes: list[str]
) -> dict[str, tuple[int, str]]:
    """Map each cell of one column to its line and the cell of the other column.

    Raise UserError (exit 3) with the line if a cell has two values, or a value is not among the `known`.
    """
    out: dict[str, tuple[int, str]] = {}
    key, value, alike, cased = sheet.need(keys), sheet.need(values), Spellings(known or ()), {}
    for (line, _), name, answer in zip(sheet.rows, sheet.cells(key), sheet.cells(value), strict=True):
        if not name:
            raise sheet.error(line, f"{key} is empty")
        answer = alike.only(answer, cased)
        if known is not None and answer not in known:
            raise sheet.error(line, f"no class is called {quoted(answer)}; {nearest(answer, sorted(known - {''}))}")
        if name in out and out[name][1] != answer:
            first, before = out[name]
            both = f"{quoted(answer)} for {quoted(name)}, but {quoted(before)} in line {first}"
            raise sheet.error(line, f"{value} is {both}")
        out.setdefault(name, (line, answer))
    note_case(sheet.name, cased, notes)
    return out


def near_path(path: str, where: Where) -> str:
    """Return 'did you mean ...?' with paths of the same file name, else of a similar one in the same folder."""
    folder, _, name = path.rpartition("/")
    same = [other for other in where if other.rpartition("/")[2] == name]
    beside = [other for other in where if other.rpartition("/")[0] == folder][:2000]
    close = same[:3] or get_close_matches(path, beside, 3, 0.6)
    return f"did you mean {' or '.join(close)}?" if close else ""
