"""The table of images: what everything after the scan works with."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

SPLITS = ("train", "valid", "test")
TRAIN, VALID, TEST = range(3)
FULL = 16  # bits


@dataclass(frozen=True, eq=False)
class Table:
    """The usable images of a source, one row each, sorted by path.

    `root` absolute; `classes` sorted, a label is an index into them; `paths` relative to root, '/' between parts,
    undecodable bytes as surrogates; `hashes` SHA-256 of the content, hex, with '-12' behind it for 16-bit grey of which
    12 bits are used, as other pixels need another name; `sizes` in bytes, 0 for drawn images; `heights` and `widths`
    in pixels, upright; `splits` index into SPLITS; `bad` (path, reason) of what was left out; `leaks` pairs of paths in
    different splits that are byte-equal; `notes` lines for the user; `valid_from` what names the validation images,
    such as val/, '' where they are taken from train.
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
        """How many bits the values of its images of 16-bit grey use."""
        return next((bits for _, bits in map(content_and_bits, self.hashes) if bits != FULL), FULL)

    @property
    def disputed(self) -> list[tuple[str, str, str]]:
        """(path, class, content) of the images of which an equal copy is of another class, copies together."""
        rows = defaultdict(list)
        for row, content in enumerate(self.hashes):
            rows[content].append(row)
        two = [group for group in rows.values() if len(set(self.labels[group].tolist())) > 1]
        return [
            (self.paths[row], self.classes[self.labels[row]], self.hashes[row][:8]) for group in two for row in group
        ]


def content_and_bits(name: str) -> tuple[str, int]:
    """The SHA-256 of a file in one of a table's `hashes`, and how many bits its values use if it is 16-bit grey."""
    content, _, bits = name.partition("-")
    return content, int(bits or FULL)
