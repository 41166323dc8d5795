"""The images that a source names, before any file is opened: the path, split and class of each."""

import hashlib
import os
import re
import stat
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from thaw.data.table import SPLITS, TRAIN, VALID
from thaw.runtime.console import say_notes
from thaw.runtime.errors import UserError
from thaw.runtime.files import file_stamp

BARELY_VISIBLE = re.compile("[\\s'\"\\u200b-\\u200f\\u2060\\ufeff]")
BROKEN_LINK = "broken link"
NOT_REGULAR = "not a regular file"


class File(NamedTuple):
    """A file that has not been opened yet."""

    path: str  # relative to the root, '/' between parts
    size: int  # bytes
    state: str  # its times and inode, which another file in its place does not share
    bad: str  # why it cannot even be opened, or ''


@dataclass(frozen=True)
class Listing:
    """The images that a source lists, none of them opened yet.

    `files` are sorted by path. `where` maps each path to (split, class). `given` says what names each split, such as
    {1: 'val/'}; if it lacks validation, that is taken from train. `groups` maps paths to groups if the source names
    any. `images` maps paths to pixels, uint8 RGB [h, w, 3], if the images are not files. `notes` are lines for the
    user, to which later steps add.
    """

    root: str
    files: list[File]
    where: Mapping[str, tuple[int, str]]
    given: Mapping[int, str]
    notes: list[str]
    groups: Mapping[str, str] | None = None
    images: Mapping[str, np.ndarray] | None = None


def file_of(path: str, status: Callable[[], os.stat_result]) -> File:
    """Return a file with its size and state, or with the reason why it cannot be used."""
    try:
        found = status()
    except (FileNotFoundError, NotADirectoryError):
        return File(path, 0, "", BROKEN_LINK)
    except OSError as error:
        return File(path, 0, "", error.strerror)
    return File(path, found.st_size, file_stamp(found), "" if stat.S_ISREG(found.st_mode) else NOT_REGULAR)


@contextmanager
def say_if_refused(notes: Sequence[str]) -> Iterator[None]:
    """Print the notes collected so far if the block raises UserError; otherwise they would be lost."""
    try:
        yield
    except UserError:
        say_notes(notes)
        raise


def class_names(found: Listing, allow_missing: bool) -> tuple[str, ...]:
    """Return the class names of train, sorted.

    Raise UserError (exit 3) if the splits disagree, if one name has two Unicode spellings, or if there is only one
    class.
    """
    names: dict[int, set[str]] = {code: set() for code in (TRAIN, *found.given)}
    for split, name in set(found.where.values()):
        names.setdefault(split, set()).add(name)
    spellings = defaultdict(set)
    for name in set().union(*names.values()):
        spellings[unicodedata.normalize("NFC", name)].add(name)
    for same in spellings.values():
        if len(same) > 1:
            both = " and ".join(map(ascii, sorted(same)))
            raise UserError(3, f"classes {both} are one name in two Unicode spellings; merge them")
    train = names[TRAIN]
    for code in sorted(names.keys() - {TRAIN}):
        if extra := names[code] - train:
            raise UserError(3, f"classes in {SPLITS[code]} but not in train: {name_some(extra)}")
        if code == VALID and not allow_missing and (missing := train - names[code]):
            advice = "add images or set data.allow_missing=true"
            raise UserError(3, f"classes in train but not in valid: {name_some(missing)}; {advice}")
    note_alike(train, found.notes)
    if not found.files:
        raise UserError(3, f"no images are listed in {found.root}")
    if len(train) < 2:
        raise UserError(3, f"only one class ({name_some(train) or 'none'}); a classifier needs at least two")
    return tuple(sorted(train))


def note_alike(names: Iterable[str], notes: list[str]) -> None:
    """Add a warning about classes that differ only in case, blanks, quotes or zero-width characters."""
    alike = defaultdict(list)
    for name in sorted(names):
        alike[BARELY_VISIBLE.sub("", name).casefold()].append(name)
    if twice := [same for same in alike.values() if len(same) > 1]:
        both, more = " and ".join(map(ascii, twice[0])), f" (and {len(twice) - 1} more)" if len(twice) > 1 else ""
        advice = "data.classes can merge them with a table from,to"
        notes.append(f"warning: classes {both}{more} differ only in case, blanks or quotes; {advice}")


def limit_files(files: list[File], where: Mapping, limit: int, least: int) -> list[File]:
    """Return at most `limit` files: `least` per split and class, then in proportion, chosen by a hash of the path.

    Raise UserError (exit 2) if `limit` is too small for that.
    """
    groups = defaultdict(list)
    for file in files:
        groups[where[file.path]].append(file)
    if limit < (need := sum(min(least, len(group)) for group in groups.values())):
        raise UserError(2, f"data.limit={limit} is too small: {least} of every class and split make {need}")
    ranked = []
    for group in groups.values():
        group.sort(key=lambda file: hashlib.sha256(os.fsencode(file.path)).digest())
        ranked += [((rank + 0.5) / len(group) if rank >= least else 0.0, file) for rank, file in enumerate(group)]
    return sorted(file for _, file in sorted(ranked)[:limit])


def name_some(names: Iterable[str]) -> str:
    """Return at most three of the names, and how many more there are."""
    names = sorted(names)
    return ", ".join(map(quoted, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def count_text(n: int, noun: str) -> str:
    """Return '1 image' or '2,000 images'."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def quoted(name: str) -> str:
    """Return a name in quotes as one short line, with unprintable characters escaped."""
    text = repr(name)
    return text if len(text) <= 60 else f"'...{text[-56:]}"
