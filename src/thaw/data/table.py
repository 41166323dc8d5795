"""The table of images that everything after the scan works with."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

SPLITS = ("train", "valid", "test")
TRAIN, VALID, TEST = range(3)
FULL = 16  # bits


@dataclass(frozen=True, eq=False)
class Table:
    """The usable images of a source, one row each, sorted by path.

    `root` is absolute. `classes` are sorted; a label is an index into them. `paths` are relative to root, with '/'
    between parts and undecodable bytes as surrogates. `hashes` are the SHA-256 of the content in hex, followed by '-12'
    for 16-bit grey of which 12 bits are used, since other pixels need another name. `sizes` are in bytes, 0 for drawn
    images. `heights` and `widths` are in pixels, upright. `splits` are indices into SPLITS. `bad` are (path, reason) of
    the files left out. `leaks` are pairs of paths in different splits that are byte-equal. `notes` are lines for the
    user. `valid_from` is what names the validation images, such as val/, or '' if they are taken from train.
    """

    root: str
    classes: tuple[str, ...]
    paths: tuple[str, ...]
    labels: np.ndarray  # int64
    splits: np.ndarray  # uint8
    hashes: tuple[str, ...]
    sizes: np.ndarray  # int64
    heights: np.ndarray  # int32
    widths: np.ndarray  # int32
    bad: tuple[tuple[str, str], ...] = ()
    leaks: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    valid_from: str = ""

    def __len__(self) -> int:
        return len(self.paths)

    def rows(self, split: int) -> np.ndarray:
        """Return the rows of a split, in order."""
        return np.flatnonzero(self.splits == split)

    @property
    def bits(self) -> int:
        """The bit depth that the values of its 16-bit grey images use."""
        return next((bits for _, bits in map(content_and_bits, self.hashes) if bits != FULL), FULL)

    @property
    def disputed(self) -> list[tuple[str, str, str]]:
        """(path, class, content) of images with an equal copy in another class, copies together."""
        rows = defaultdict(list)
        for row, content in enumerate(self.hashes):
            rows[content].append(row)
        two = [group for group in rows.values() if len(set(self.labels[group].tolist())) > 1]
        return [
            (self.paths[row], self.classes[self.labels[row]], self.hashes[row][:8]) for group in two for row in group
        ]


def content_and_bits(name: str) -> tuple[str, int]:
    """Split a name in a table's `hashes` into the file's SHA-256 and the bit depth of its 16-bit grey values."""
    content, _, bits = name.partition("-")
    return content, int(bits or FULL)
