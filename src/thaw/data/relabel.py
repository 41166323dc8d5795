"""Other classes for the images, and other names for the classes, with no file moved."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches

from thaw.config.schema import Data
from thaw.data.csv_file import LABELS, PATHS, CsvTable, inside, read_csv_table
from thaw.data.listing import Listing, count_text, short_repr
from thaw.data.spelling import Spellings, note_case, same_but_case
from thaw.runtime.errors import nearest

Where = Mapping[str, tuple[int, str]]  # (split, class) by path


def relabel(found: Listing, data: Data) -> Listing:
    """The listing with `data.labels` corrected first and then `data.classes` renamed, merged and dropped.

    What is stored of images goes by their content, so nothing is computed anew. Errors: a path or class that is not
    there, two answers for one, exit 3 with the line.
    """
    where = found.where
    if data.labels:
        where = apply_labels(found.root, where, read_csv_table("data.labels", data.labels), found.notes)
    if data.classes:
        where = rename_classes(where, read_csv_table("data.classes", data.classes), found.notes)
    return replace(found, where=where, files=[file for file in found.files if file.path in where])


def apply_labels(root: str, where: Where, sheet: CsvTable, notes: list[str]) -> Where:
    """The classes that a table with columns for path and label, called as in a table of images, gives some of them.

    A path may be written as there too: with \\ for /, with ./ before it, from the file system's root. An image whose
    label is empty is left out.
    """
    fixes, cased, paths = {}, {}, Spellings(where)
    given = answers(sheet, PATHS, LABELS, {"", *(name for _, name in where.values())}, notes)
    for text, (line, label) in given.items():
        spelt = [text, *filter(None, (inside(root, text), inside(root, text.replace("\\", "/"))))]
        found = next((names for written in spelt for names in paths.find_file(written) if names), [])
        if len(found) != 1:
            near = f"did you mean {' or '.join(found[:3])}?" if found else near_path(text, where)
            raise sheet.error(line, f"no image is called {short_repr(text)}; {near}")
        path = found[0]
        cased |= {text: path} if any(same_but_case(written, path) for written in spelt) else {}
        before, other = fixes.setdefault(path, (line, label))
        if other != label:
            raise sheet.error(
                line,
                f"the label of {short_repr(path)} is {short_repr(label)}, but {short_repr(other)} in line {before}",
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
    """The classes as a table with the columns from and to calls them; an empty `to` drops a class."""
    names = {name for _, name in where.values()}
    given, known, cased = answers(sheet, ["from"], ["to"], None, notes), Spellings(names), {}
    to = {}
    for written, answer in given.items():
        name = known.only(written, cased)
        if to.setdefault(name, answer)[1] != answer[1]:
            line, other = to[name]
            both = f"{short_repr(answer[1])}, but {short_repr(other)} in line {line}"
            raise sheet.error(answer[0], f"to of {short_repr(name)} is {both}")
    note_case(sheet.name, cased, notes)
    for name, (line, _) in to.items():
        if name not in names:
            raise sheet.error(line, f"no class is called {short_repr(name)}; {nearest(name, sorted(names))}")
    new = {name: to[name][1] if name in to else name for name in names}
    dropped = sum(not new[name] for _, name in where.values())
    classes = len(set(new.values()) - {""})
    notes.append(f"{sheet.name} makes {classes} classes of {len(names)} and leaves {count_text(dropped, 'image')} out")
    return {path: (split, new[name]) for path, (split, name) in where.items() if new[name]}


def answers(
    sheet: CsvTable, keys: Sequence[str], values: Sequence[str], known: set[str] | None, notes: list[str]
) -> dict[str, tuple[int, str]]:
    """By the cells of one column, the line and the cell of the other.

    Errors: two for one, or none of the `known`, exit 3 with the line.
    """
    out: dict[str, tuple[int, str]] = {}
    key, value, alike, cased = sheet.need(keys), sheet.need(values), Spellings(known or ()), {}
    for (line, _), name, answer in zip(sheet.rows, sheet.cells(key), sheet.cells(value), strict=True):
        if not name:
            raise sheet.error(line, f"{key} is empty")
        answer = alike.only(answer, cased)
        if known is not None and answer not in known:
            raise sheet.error(line, f"no class is called {short_repr(answer)}; {nearest(answer, sorted(known - {''}))}")
        if name in out and out[name][1] != answer:
            first, before = out[name]
            raise sheet.error(
                line, f"{value} of {short_repr(name)} is {short_repr(answer)}, but {short_repr(before)} in line {first}"
            )
        out.setdefault(name, (line, answer))
    note_case(sheet.name, cased, notes)
    return out


def near_path(path: str, where: Where) -> str:
    """'did you mean ...?' with paths of the same file name or, in the same folder, of a similar one."""
    folder, _, name = path.rpartition("/")
    same = [other for other in where if other.rpartition("/")[2] == name]
    beside = [other for other in where if other.rpartition("/")[0] == folder][:2000]
    close = same[:3] or get_close_matches(path, beside, 3, 0.6)
    return f"did you mean {', '.join(close)}?" if close else ""
