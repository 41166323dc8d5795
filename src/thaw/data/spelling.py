"""Names as people write them: accents spelt otherwise, letters in another case, the suffix of an image left out."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from unicodedata import normalize

from thaw.data.csv_file import inside
from thaw.data.listing import NOT_REGULAR, NOWHERE, File, count_text, file_of, short_repr
from thaw.data.suffixes import SUFFIXES

DIGITS = re.compile(r"\d+")


class Spellings:
    """Names, found by what is written for them."""

    def __init__(self, names: Iterable[str]):
        self.names, self.alike = set(names), defaultdict(list)
        for name in self.names:
            self.alike[loose(name)].append(name)

    def find(self, text: str) -> list[str]:
        """The name as it is written; else those that differ in the spelling of accents; else in case."""
        if text in self.names:
            return [text]
        found = sorted(self.alike.get(loose(text), ()))
        return [name for name in found if composed(name) == composed(text)] or found

    def only(self, text: str, cased: dict[str, str]) -> str:
        """The one name that is meant, noted in `cased` where it differs in case; else the text as it is."""
        found = self.find(text)
        if len(found) != 1:
            return text
        if composed(found[0]) != composed(text):
            cased[text] = found[0]
        return found[0]

    def find_file(self, text: str) -> Iterator[list[str]]:
        """The same, then with each of the suffixes of images added, the suffix in any case."""
        yield self.find(text)
        for suffix in SUFFIXES:
            found = self.find(text + suffix)
            yield [name for name in found if composed(name[: -len(suffix)]) == composed(text)] or found


def composed(name: str) -> str:
    """The composed spelling: a Mac writes accents as letters of their own, people type them composed."""
    return normalize("NFC", name)


def loose(name: str) -> str:
    """What names have in common that differ in case and in the spelling of accents."""
    return composed(composed(name).casefold())


def same_but_case(written: str, name: str) -> bool:
    """Whether a name is what is written for it but for the case of letters; a suffix that is left out has any."""
    written, name = composed(written), composed(name)
    return not name.startswith(written) and name.casefold().startswith(written.casefold())


def note_case(table: str, cased: Mapping[str, str], notes: list[str]) -> None:
    """Notes what a table writes in another case than it is called: names by what is written."""
    if cased:
        written, name = next(iter(cased.items()))
        what = f"{count_text(len(cased), 'name')} in another case than what is there"
        notes.append(f"{table}: {what}: {short_repr(written)} is taken for {short_repr(name)}")


@dataclass
class Files:
    """The files below a folder, found by what a table says; each folder is listed once, and only where it is needed."""

    root: str
    listed: dict[str, Spellings] = field(default_factory=dict)

    def find(self, cell: str) -> list[File]:
        """The file that a cell means; several where it is not clear which; none.

        Taken are, in this order: as written, with / for \\, its accents spelt otherwise, in another case, and each with
        an image's suffix added; a folder or the like only where no file is called so.
        """
        other = []
        for path in self.exact(cell):
            file = self.file(path)
            if file.bad not in (NOWHERE, NOT_REGULAR):
                return [file]
            other += [file] * (file.bad == NOT_REGULAR)
        for path in self.exact(cell):
            if found := self.look(path):
                return found
        return other[:1]

    def exact(self, cell: str) -> list[str]:
        """A cell as a path below the root, and with / for \\."""
        spelt = dict.fromkeys((cell, cell.replace("\\", "/"))) if "\0" not in cell else ()
        return [path for text in spelt if (path := inside(self.root, text))]

    def look(self, path: str) -> list[File]:
        """The regular files that a path can mean, of those folder by folder that lie there."""
        folder, (*above, name) = "", path.split("/")
        for part in above:
            if len(found := self.names_in(folder).find(part)) != 1:
                return []
            folder += f"{found[0]}/"
        for names in self.names_in(folder).find_file(name):
            files = [self.file(folder + other) for other in names]
            if regular := [file for file in files if file.bad not in (NOWHERE, NOT_REGULAR)]:
                return regular
        return []

    def names_in(self, folder: str) -> Spellings:
        if folder not in self.listed:
            try:
                names: Sequence[str] = os.listdir(os.path.join(self.root, folder))
            except OSError:  # what lies in it can be asked for by its exact name only
                names = ()
            self.listed[folder] = Spellings(names)
        return self.listed[folder]

    def file(self, path: str) -> File:
        return file_of(path, partial(os.stat, os.path.join(self.root, path)))

    def did_you_mean(self, path: str, meant: Sequence[File]) -> str:
        """'; did you mean ...?' with the files that a path may all mean, else with those beside it called nearly so."""
        folder, _, name = path.rpartition("/")
        beside = sorted(self.names_in(folder).names)[:2000]
        # With other digits it is another image.
        alike = [other for other in beside if DIGITS.findall(other) == DIGITS.findall(name)]
        close = [os.path.join(folder, other) for other in get_close_matches(name, alike, 2, 0.8)]
        near = [file.path for file in meant] or close
        return f"; did you mean {' or '.join(map(short_repr, near[:2]))}?" if near else ""
