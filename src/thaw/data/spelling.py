"""Names as people write them: with other Unicode accents, in another case, without the suffix of an image."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from unicodedata import normalize

from thaw.data.csv_file import inside
from thaw.data.listing import BROKEN_LINK, NOT_REGULAR, File, count_text, file_of, quoted
from thaw.data.suffixes import SUFFIXES

DIGITS = re.compile(r"\d+")


class Spellings:
    """A set of names, found by what is written for them."""

    def __init__(self, names: Iterable[str]):
        self.names, self.alike = set(names), defaultdict(list)
        for name in self.names:
            self.alike[loose(name)].append(name)

    def find(self, text: str) -> list[str]:
        """Return the exact name; else those that differ in the spelling of accents; else those that differ in case."""
        if text in self.names:
            return [text]
        found = sorted(self.alike.get(loose(text), ()))
        return [name for name in found if composed(name) == composed(text)] or found

    def only(self, text: str, cased: dict[str, str]) -> str:
        """Return the one name that is meant, recorded in `cased` if it differs in case; else the text as it is."""
        found = self.find(text)
        if len(found) != 1:
            return text
        if composed(found[0]) != composed(text):
            cased[text] = found[0]
        return found[0]

    def find_file(self, text: str) -> Iterator[list[str]]:
        """Yield the same for the text, then for the text with each suffix of an image added, the suffix in any case."""
        yield self.find(text)
        for suffix in SUFFIXES:
            found = self.find(text + suffix)
            yield [name for name in found if composed(name[: -len(suffix)]) == composed(text)] or found


def composed(name: str) -> str:
    """Return the composed spelling: macOS stores accents as separate characters, people type composed ones."""
    return normalize("NFC", name)


def loose(name: str) -> str:
    """Return what names that differ only in case and in the spelling of accents have in common."""
    return composed(composed(name).casefold())


def same_but_case(written: str, name: str) -> bool:
    """Return whether a name differs from what is written for it in case; an omitted suffix may have any case."""
    written, name = composed(written), composed(name)
    return not name.startswith(written) and name.casefold().startswith(written.casefold())


def note_case(table: str, cased: Mapping[str, str], notes: list[str]) -> None:
    """Add a note about names that a table writes in another case; `cased` maps what is written to the name."""
    if cased:
        written, name = next(iter(cased.items()))
        what = f"{count_text(len(cased), 'name')} in the wrong case"
        notes.append(f"{table}: {what}: {quoted(written)} is read as {quoted(name)}")


@dataclass
class Files:
    """The files below a folder, found by the cells of a table; a folder is listed once, and only if needed."""

    root: str
    listed: dict[str, Spellings] = field(default_factory=dict)

    def find(self, cell: str) -> list[File]:
        """Return the file that a cell means, several if it is ambiguous, or none.

        In this order: the exact path, / for \\, other accents, another case, and each with the suffix of an image
        added. A folder or special file is returned only if no regular file has the name.
        """
        other = []
        for path in self.exact(cell):
            file = self.file(path)
            if file.bad not in (BROKEN_LINK, NOT_REGULAR):
                return [file]
            other += [file] * (file.bad == NOT_REGULAR)
        for path in self.exact(cell):
            if found := self.look(path):
                return found
        return other[:1]

    def exact(self, cell: str) -> list[str]:
        """Return a cell as a path below the root, as written and with / for \\."""
        spelt = dict.fromkeys((cell, cell.replace("\\", "/"))) if "\0" not in cell else ()
        return [path for text in spelt if (path := inside(self.root, text))]

    def look(self, path: str) -> list[File]:
        """Return the regular files that a path can mean, looked up folder by folder."""
        folder, (*above, name) = "", path.split("/")
        for part in above:
            if len(found := self.names_in(folder).find(part)) != 1:
                return []
            folder += f"{found[0]}/"
        for names in self.names_in(folder).find_file(name):
            files = [self.file(folder + other) for other in names]
            if regular := [file for file in files if file.bad not in (BROKEN_LINK, NOT_REGULAR)]:
                return regular
        return []

    def names_in(self, folder: str) -> Spellings:
        if folder not in self.listed:
            try:
                names: Sequence[str] = os.listdir(os.path.join(self.root, folder))
            except OSError:  # its files can only be found by their exact names
                names = ()
            self.listed[folder] = Spellings(names)
        return self.listed[folder]

    def file(self, path: str) -> File:
        return file_of(path, partial(os.stat, os.path.join(self.root, path)))

    def did_you_mean(self, path: str, meant: Sequence[File]) -> str:
        """Return '; did you mean ...?' with the files that a path may mean, else with similar names beside it."""
        folder, _, name = path.rpartition("/")
        beside = sorted(self.names_in(folder).names)[:2000]
        # Other digits mean another image.
        alike = [other for other in beside if DIGITS.findall(other) == DIGITS.findall(name)]
        close = [os.path.join(folder, other) for other in get_close_matches(name, alike, 2, 0.8)]
        near = [file.path for file in meant] or close
        return f"; did you mean {' or '.join(map(quoted, near[:2]))}?" if near else ""
