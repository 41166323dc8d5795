"""The choice of validation images: a pure function of the images' content, independent of their names and order.

Images that must stay in one split form a *unit*: all copies of an image, or a group. Units are ordered by their names,
which are hashes: of the content, or of the group's name.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256

import numpy as np

from thaw.config.values import parse_pattern
from thaw.data.listing import Listing, count_text, name_some, quoted
from thaw.runtime.errors import UserError

FOLDS = 5
NEAR = 1e-9  # shares that differ by less count as equal


def hold_out(labels: np.ndarray, units: Sequence[str], share: float) -> np.ndarray:
    """Return which rows are held out, bool [n]: the first units of every class, up to `share` of the class.

    Units are visited in order. A unit is held out if that brings its classes, taken together, nearer to `share` of
    their rows. A class that then has several units but none held out gives the one that overshoots least. A unit with
    the last rows of a class is never held out. So if every unit is one image, a class of n images gives round(share *
    n), at least one and at most n - 1 (a single image is for training), and one more image moves at most one other.
    Groups come as close to the share as whole groups can.
    """
    parts, held, out = units_of(labels, units), defaultdict(float), np.zeros(len(labels), bool)

    def overshoot(shares: Mapping[int, float]) -> float:
        return sum(abs(held[label] + x - share) - abs(held[label] - share) for label, x in shares.items())

    def spares(shares: Mapping[int, float]) -> bool:
        return all(held[label] + x < 1 - NEAR for label, x in shares.items())

    def move(rows: list[int], shares: Mapping[int, float]) -> None:
        out[rows] = True
        for label, x in shares.items():
            held[label] += x

    of_class = defaultdict(list)
    for rows, shares in parts:
        for label in shares:
            of_class[label].append((rows, shares))
        if overshoot(shares) < -NEAR and spares(shares):
            move(rows, shares)
    for label in sorted(of_class):
        if not held[label] and (able := [part for part in of_class[label] if spares(part[1])]):
            move(*min(able, key=lambda part: round(overshoot(part[1]), 9)))
    return out


def folds(labels: np.ndarray, units: Sequence[str], count: int = FOLDS) -> np.ndarray:
    """Return the fold in which each row is validated, int [n]; -1 if its unit holds all rows of a class.

    Units are visited in order. Each goes to the fold with the least of its classes so far; if several are equal, to the
    smallest of them. The folds of a class differ by at most one image, or by about one group.
    """
    held, sizes, fold = [defaultdict(float) for _ in range(count)], [0] * count, np.full(len(labels), -1)
    for rows, shares in units_of(labels, units):
        able = [k for k in range(count) if all(held[k][label] + x < 1 - NEAR for label, x in shares.items())]
        if able:
            load = {k: round(sum(held[k][label] * x for label, x in shares.items()), 9) for k in able}
            chosen = min(able, key=lambda k: (load[k], sizes[k], k))
            fold[rows] = chosen
            sizes[chosen] += len(rows)
            for label, x in shares.items():
                held[chosen][label] += x
    return fold


def units_of(labels: np.ndarray, units: Sequence[str]) -> list[tuple[list[int], dict[int, float]]]:
    """Return the units in order: the rows of each, and its share of each of its classes."""
    labels, rows_of = labels.tolist(), defaultdict(list)
    size = Counter(labels)
    for row, unit in enumerate(units):
        rows_of[unit].append(row)
    return [
        (rows, {label: n / size[label] for label, n in Counter(labels[row] for row in rows).items()})
        for _, rows in sorted(rows_of.items())
    ]


def unit_name(group: str) -> str:
    """Return the name that orders a group: the SHA-256 of the group's own name, in hex."""
    return sha256(group.encode("utf-8", "surrogateescape")).hexdigest()


def join_groups(groups: Sequence[str], hashes: Sequence[str], notes: list[str]) -> list[str]:
    """Return the unit of each row: its group, merged with all groups that hold an image of equal content."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    names, group = np.unique([unit_name(group) for group in groups], return_inverse=True)
    contents, content = np.unique(hashes, return_inverse=True)
    size = len(names) + len(contents)
    edges = coo_array((np.ones(len(group), bool), (group, len(names) + content)), (size, size))
    count, part = connected_components(edges, directed=False)
    if count < len(names):
        notes.append(f"data.group: {count_text(len(names), 'group')} merged into {count:,}, as some share equal images")
    first = dict(zip(part[: len(names)][::-1], names[::-1].tolist(), strict=True))
    return [first[part[row]] for row in group]


def groups_of(found: Listing, pattern: str) -> Mapping[str, str]:
    """Return the group of each path: from the source, else the match of `pattern` (its first capturing group if any).

    An image without a group (an empty cell, no match) is a group of its own.
    Raise UserError if the pattern is not a regular expression (exit 2), if no image has a group, or if all have the
    same (exit 3).
    """
    paths = [file.path for file in found.files]
    groups = found.groups if found.groups is not None else dict(match_groups(paths, pattern))
    alone = [path for path in paths if not groups.get(path)]
    if len(alone) == len(paths):
        raise UserError(3, f"data.group={pattern}: matches none of {len(paths)} paths; the first is {quoted(paths[0])}")
    groups = {path: groups.get(path) or f"alone: {path}" for path in paths}
    names = set(groups.values())
    if len(names) == 1:
        raise UserError(3, f"data.group={pattern}: all {len(paths)} images are in one group, {name_some(names)}")
    if len(names) == len(paths):
        found.notes.append(f"warning: data.group={pattern} groups nothing: every image is a group of its own")
    elif alone:
        grouped = f"{len(paths) - len(alone):,} of {len(paths):,} images"
        many = count_text(len(names) - len(alone), "group")
        found.notes.append(f"data.group: {grouped} in {many}, {len(alone):,} in none")
    several = Counter(name for name, _ in {(groups[path], found.where[path][1]) for path in paths})
    if across := sum(classes > 1 for classes in several.values()):
        found.notes.append(f"data.group: {count_text(across, 'group')} with images of several classes")
    return groups


def match_groups(paths: Iterable[str], pattern: str) -> Iterable[tuple[str, str | None]]:
    find = parse_pattern(pattern, "data.group").search
    for path in paths:
        match = find(path)
        yield path, match and match[1 if match.re.groups else 0]
