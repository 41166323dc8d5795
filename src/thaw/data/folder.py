"""The layout of a folder of pictures: which files lie in it, and of which class and split each is."""

import hashlib
import os
import stat
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from thaw.errors import UserError

SPLITS = ("train", "valid", "test")
NAMES = {"train": 0, "valid": 1, "val": 1, "validation": 1, "test": 2}
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".avif",
            ".ppm", ".pgm", ".pbm", ".pnm")  # fmt: skip
JUNK = {"Thumbs.db", "desktop.ini", "__MACOSX"}


class File(NamedTuple):
    """A file in the folder, not opened yet."""

    path: str  # relative to root, '/' between parts
    size: int  # bytes
    mtime: int  # ns
    bad: str  # why it cannot even be opened, or nothing


def walk(root: str, notes: list[str]) -> tuple[list[File], list[str]]:
    """Files with a picture's suffix and all folders, relative to root, each real folder once, links last."""
    if os.path.isfile(root):
        raise UserError(3, f"data.root={root} is a file; give the folder that holds the class folders")
    files, folders, links, hidden, other, again = [], [], [], Counter(), Counter(), 0
    queue, seen = [""], set()
    while queue or links:
        at = queue.pop() if queue else links.pop(0)
        try:
            status = os.stat(os.path.join(root, at))
            if (status.st_dev, status.st_ino) in seen:
                again += 1
                continue
            entries = sorted(os.scandir(os.path.join(root, at)), key=lambda entry: entry.name)
        except OSError as error:
            if not at and isinstance(error, FileNotFoundError):
                raise UserError(3, f"data.root={root} does not exist") from error
            what = f"the folder {show(at)} in data.root" if at else f"data.root={root}"
            raise UserError(3, f"{what} cannot be read: {error.strerror}") from error
        if not at and not entries:
            raise UserError(3, f"data.root={root} is empty")
        seen.add((status.st_dev, status.st_ino))
        folders.append(at)
        for entry in entries:
            path, suffix = f"{at}/{entry.name}".lstrip("/"), os.path.splitext(entry.name)[1].lower()
            if entry.name.startswith(".") or entry.name in JUNK:
                hidden[entry.name] += 1
            elif os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
                (links if entry.is_symlink() else queue).append(path)
            elif suffix in SUFFIXES:
                files.append(file_of(path, entry))
            else:
                other[suffix or "no suffix"] += 1
    if hidden:
        notes.append(f"ignored {hidden.total()} hidden or system entries ({some(hidden)})")
    if other:
        notes.append(f"ignored {other.total()} files that are not pictures ({some(other)})")
    if again:
        notes.append(f"ignored {again} links to folders read already")
    return sorted(files), folders


def file_of(path: str, entry: os.DirEntry) -> File:
    """What the disk says of a file; what it is, if it is none."""
    try:
        status = entry.stat()
    except FileNotFoundError:
        return File(path, 0, 0, "link to nothing")
    except OSError as error:
        return File(path, 0, 0, error.strerror)
    return File(path, status.st_size, status.st_mtime_ns, "" if stat.S_ISREG(status.st_mode) else "not a regular file")


def layout(root: str, folders: list[str], files: list[File]) -> dict[str, int]:
    """The folders whose children are the classes, and the split of each: {'': 0} where root itself holds them.

    train/ is a split, and not a class of that name, if it has folders in it and valid/ or test/ lies beside it or
    nothing else does.
    """
    top = {path for path in folders if path and "/" not in path}
    holding = {path.split("/")[0] for path in folders if "/" in path}
    splits = {name: NAMES[name.lower()] for name in top if name.lower() in NAMES}
    busy = {file.path.split("/")[0] for file in files if "/" in file.path}
    train = [name for name, code in splits.items() if code == 0 and name in holding]
    if train and (len(splits) > len(train) or busy <= set(splits)):
        for code, split in enumerate(SPLITS):
            if len(same := sorted(name for name in splits if splits[name] == code)) > 1:
                raise UserError(3, f"data.root={root} has {some(same)}, which all mean {split}; keep one")
        return {name: code for name, code in splits.items() if name in holding or code == 1}
    if not top or top <= set(splits):
        raise UserError(3, f"data.root={root} has no class folders; it needs a folder per class, or train/ with them")
    return {"": 0}


def place(files, folders, tops, notes) -> tuple[list[File], dict[str, tuple[int, str]]]:
    """The files that lie in a class folder, and (split, class) of each path."""
    depth, where = 0 if "" in tops else 1, {}
    for file in files:
        parts = file.path.split("/")
        if len(parts) > depth + 1 and (not depth or parts[0] in tops):
            where[file.path] = tops[parts[0] if depth else ""], parts[depth]
    loose = [file.path for file in files if file.path not in where]
    if loose:
        notes.append(f"ignored {len(loose)} pictures outside the class folders ({some(loose)})")
    return [file for file in files if file.path in where], where


def agree(where, folders, tops, allow_missing) -> tuple[str, ...]:
    """The class names, sorted: those of train, after every disagreement was refused."""
    filled = {(split, name) for split, name in where.values()}
    names: dict[int, set[str]] = {code: set() for code in tops.values()}
    for path in folders:
        parent, _, name = path.rpartition("/")
        if not path or parent not in tops:
            continue
        if (tops[parent], name) in filled:
            names[tops[parent]].add(name)
        elif not (allow_missing and tops[parent]):
            raise UserError(3, f"class folder {show(path)} has no pictures; fill it or remove it")
    spellings = defaultdict(set)
    for name in set().union(*names.values()):
        spellings[unicodedata.normalize("NFC", name)].add(name)
    for same in spellings.values():
        if len(same) > 1:
            both = " and ".join(map(ascii, sorted(same)))
            raise UserError(3, f"class folders {both} are one name in two Unicode spellings; merge them")
    train = names[0]
    for code in sorted(names.keys() - {0}):
        if extra := names[code] - train:
            raise UserError(3, f"classes in {SPLITS[code]} but not in train: {some(extra)}")
        if code == 1 and not allow_missing and (missing := train - names[code]):
            advice = "add pictures or set data.allow_missing=true"
            raise UserError(3, f"classes in train but not in valid: {some(missing)}; {advice}")
    if len(train) < 2:
        raise UserError(3, f"only one class ({some(train) or 'none'}); a classifier needs two")
    return tuple(sorted(train))


def take(files: list[File], where: dict, limit: int, least: int) -> list[File]:
    """At most `limit` files: `least` of every split and class, the rest in proportion, chosen by a hash of the path."""
    groups = defaultdict(list)
    for file in files:
        groups[where[file.path]].append(file)
    if limit < (need := sum(min(least, len(group)) for group in groups.values())):
        raise UserError(2, f"data.limit={limit} is less than {need}, which {least} of every class and split take")
    ranked = []
    for group in groups.values():
        group.sort(key=lambda file: hashlib.sha256(os.fsencode(file.path)).digest())
        ranked += [((rank + 0.5) / len(group) if rank >= least else 0.0, file) for rank, file in enumerate(group)]
    return sorted(file for _, file in sorted(ranked)[:limit])


def some(names: Iterable[str]) -> str:
    """At most three of the names."""
    names = sorted(names)
    return ", ".join(map(show, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def show(name: str) -> str:
    """A name as one short line, whatever its bytes."""
    text = repr(name)
    return text if len(text) <= 60 else f"'...{text[-56:]}"
