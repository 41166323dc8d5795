"""The scan of what a source lists: every file is read once, nothing is guessed, nothing is dropped silently."""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from thaw.config.schema import Data, Settings
from thaw.config.sources import SOURCES
from thaw.data.bad_files import check_bad_files, why_unusable
from thaw.data.brightness import content_names
from thaw.data.decode_cache import DecodeCache
from thaw.data.listing import File, Listing, class_names, count_text, limit_files, name_some, quoted, say_if_refused
from thaw.data.relabel import relabel
from thaw.data.split import folds, groups_of, hold_out, join_groups
from thaw.data.table import SPLITS, TEST, TRAIN, VALID, Table
from thaw.data.verify import Verdict, verify_all, verify_held
from thaw.plan.facts import fact_names
from thaw.runtime.console import say_notes
from thaw.runtime.errors import UserError
from thaw.runtime.files import DISPUTED
from thaw.store.store import Store

SHOWN_CLASSES = 12


def scan_source(
    data: Data, cache: Path | None = None, progress: bool = False, decode_cache: DecodeCache | None = None
) -> tuple[Table, Mapping[str, np.ndarray] | None]:
    """Return the table of the settings' source, as `scan` does, and its images if they are not files.

    Print the notes even if the source is refused.
    """
    notes: list[str] = []
    with say_if_refused(notes):
        found = SOURCES[data.kind].load()(data, notes)
        return scan(found, data, cache, progress, decode_cache), found.images


def scan(
    found: Listing,
    data: Data,
    cache: Path | None = None,
    progress: bool = False,
    decode_cache: DecodeCache | None = None,
) -> Table:
    """Return the table of all listed images, each checked by decoding it, with its class and split.

    Labels and classes are changed by `data.labels` and `data.classes`. At most `data.limit` images serve for training
    and validation; they are chosen before any is read, by a hash of their path, in proportion to the classes. All test
    images are used. Files that cannot be used are left out: in train up to `tolerated_count`; in a given valid or test
    none is tolerated. If the source names no validation images, the share `data.valid` of train (with `data.fold`, a
    fifth) becomes validation; `data.group` keeps groups together.

    `cache` is a folder that keeps verdicts by path, size and time of change, so that unchanged files are not opened
    again. Decoded images are kept in `decode_cache`. Raise UserError: exit 3 for the data, exit 2 for a setting.
    """
    if data.fold is not None and VALID in found.given:
        own = f"the data already names its validation images ({found.given[VALID]})"
        raise UserError(3, f"data.fold={data.fold}: {own}; use only one of the two")
    found = relabel(found, data)
    classes, notes, where = class_names(found, data.allow_missing), found.notes, found.where
    groups = groups_of(found, data.group) if data.group else None
    files = within_limit(found, data.limit)
    verdicts = verdicts_on(found, files, data, cache, progress, decode_cache)
    bad = tuple((file.path, why) for file in files if (why := why_unusable(verdicts[file.path], data.min_side)))
    check_bad_files(bad, files, where, data.max_bad, notes)
    refused = dict(bad)
    files = [file for file in files if file.path not in refused]
    paths, seen = tuple(file.path for file in files), [verdicts[file.path] for file in files]
    hashes = content_names(seen, notes)
    index = {name: i for i, name in enumerate(classes)}
    labels = np.array([index[where[path][1]] for path in paths], np.int64)
    splits = np.array([where[path][0] for path in paths], np.uint8)
    own = [groups[path] for path in paths] if groups else None
    if VALID not in found.given:
        take_validation(labels, splits, hashes, own, data, notes)
    check_classes(labels, splits, classes, notes)
    if own:
        check_groups(own, splits, data, notes)
    leaks = find_copies(paths, labels, splits, hashes, data.leak, notes)
    if several := sum(verdict.frames for verdict in seen):
        notes.append(f"{count_text(several, 'image')} with several frames or pages: the first is used")
    return Table(
        found.root, classes, paths, labels, splits, hashes,
        np.array([file.size for file in files], np.int64),
        *(np.array([getattr(verdict, name) for verdict in seen], np.int32) for name in ("height", "width")),
        bad, leaks, tuple(notes), found.given.get(VALID, ""),
    )  # fmt: skip


def take_validation(
    labels: np.ndarray,
    splits: np.ndarray,
    hashes: Sequence[str],
    groups: Sequence[str] | None,
    data: Data,
    notes: list[str],
) -> None:
    """Turn some training images into validation images, by changing `splits` in place.

    Equal images and groups stay together.
    """
    rows = np.flatnonzero(splits == TRAIN)
    units = [hashes[i] for i in rows]
    if groups:
        units = join_groups([groups[i] for i in rows], units, notes)
    splits[rows[validation_mask(labels[rows], units, data)]] = VALID


def within_limit(found: Listing, limit: int | None) -> list[File]:
    """Return the files to use: all test images, and at most `limit` of the others."""
    if limit is None:
        return found.files
    tested = [file for file in found.files if found.where[file.path][0] == TEST]
    others = [file for file in found.files if found.where[file.path][0] != TEST]
    return sorted(tested + limit_files(others, found.where, limit, 1 if VALID in found.given else 2))


def verdicts_on(
    found: Listing, files: list[File], data: Data, cache: Path | None, progress: bool, decode_cache: DecodeCache | None
) -> dict[str, Verdict]:
    """Return what reading each file, or looking at each image in memory, showed."""
    if found.images is not None:
        return verify_held({file.path: found.images[file.path] for file in files})
    return verify_all(found.root, files, int(data.max_pixels), cache, progress, found.notes, decode_cache)


def validation_mask(labels: np.ndarray, units: Sequence[str], data: Data) -> np.ndarray:
    """Return which training rows become validation, bool [n]. Raise UserError (exit 3) if a fold has none."""
    if data.fold is None:
        return hold_out(labels, units, data.valid)
    chosen = folds(labels, units) == data.fold
    if not chosen.any():
        what = "groups" if data.group else "images"
        raise UserError(3, f"data.fold={data.fold} has no images: the classes have too few {what} to spare any for it")
    return chosen


def check_classes(labels: np.ndarray, splits: np.ndarray, classes: Sequence[str], notes: list[str]) -> None:
    """Add notes about classes that a split lacks.

    Raise UserError (exit 3) if train lacks a class, or if there are no validation images.
    """
    for code, split in enumerate(SPLITS):
        present = labels[splits == code]
        missing = [classes[i] for i in np.setdiff1d(range(len(classes)), present)]
        if code == VALID and not present.size:
            raise UserError(3, "no image is left for validation; every class needs at least two different images")
        if code == TRAIN and missing:
            raise UserError(3, f"classes without a usable image in train: {name_some(missing)}")
        if present.size and missing:
            notes.append(f"classes without images in {split}: {name_some(missing)}")


def check_groups(groups: Sequence[str], splits: np.ndarray, data: Data, notes: list[str]) -> None:
    """Add notes about groups that are in several splits of the source, and about the share that validation got.

    Raise UserError (exit 3) if `data.leak` forbids such groups.
    """
    sides = defaultdict(set)
    for group, split in zip(groups, splits.tolist(), strict=True):
        sides[group].add(split)
    if two := [group for group, codes in sides.items() if len(codes) > 1]:
        what = f"{count_text(len(two), 'group')} of data.group={data.group}"
        report_leak(f"{what} occur{'s' * (len(two) == 1)} in more than one split: {name_some(two)}", data.leak, notes)
    trained, held = (splits == TRAIN).sum(), (splits == VALID).sum()
    share = held / (trained + held)
    notes.append(f"{count_text(len(sides), 'group')}; validation has {share:.1%} of the images")


def find_copies(paths, labels, splits, hashes, leak, notes) -> tuple[tuple[str, str], ...]:
    """Return pairs of byte-equal images in different splits, each image with the first in another split.

    Add notes about all copies. Raise UserError (exit 3) if `leak` forbids such pairs.
    """
    rows: Mapping[str, list[int]] = defaultdict(list)
    for i, content in enumerate(hashes):
        rows[content].append(i)
    alike = [group for group in rows.values() if len(group) > 1]
    if alike:
        again = sum(map(len, alike)) - len(alike)
        notes.append(f"{count_text(again, 'image')} {'is' if again == 1 else 'are'} identical to another image")
    if two := sum(len(set(labels[group])) > 1 for group in alike):
        notes.append(
            f"warning: {count_text(two, 'image')} with a copy in another class ({DISPUTED} lists them: "
            "correct the labels there and pass the file as data.labels=FILE)"
        )
    leaks = {}
    for group in alike:
        first = {}  # row of each split
        for i in sorted(group, key=lambda i: splits[i]):
            first.setdefault(splits[i], i)
        for i in group if len(first) > 1 else []:
            other = next(row for split, row in first.items() if split != splits[i])
            leaks[(i, other) if splits[i] < splits[other] else (other, i)] = hashes[i]
    if leaks:
        first, n = " and ".join(quoted(paths[i]) for i in next(iter(leaks))), len(set(leaks.values()))
        line = f"{count_text(n, 'image')} occur{'s' * (n == 1)} in two splits: {first}"
        report_leak(line, leak, notes, share_text(splits, {j for _, j in leaks}))
    return tuple((paths[i], paths[j]) for i, j in leaks)


def share_text(splits: np.ndarray, copies: Collection[int]) -> str:
    """Return how many held-out images are copies of images in other splits: 1 of 499 test images is a copy."""
    n = np.bincount(splits[list(copies)], minlength=3)
    names = {VALID: "validation", TEST: "test"}
    shares = (f"{n[code]:,} of {(splits == code).sum():,} {name}" for code, name in names.items() if n[code])
    return f"{' and '.join(shares)} images {'is a copy' if len(copies) == 1 else 'are copies'}"


def report_leak(line: str, leak: str, notes: list[str], held_out: str = "") -> None:
    """Add a warning. Raise UserError (exit 3) instead if `leak` is error. `held_out`: as `share_text` has it."""
    if leak == "error":
        raise UserError(3, f"{line}; keep each in one split or set data.leak=warn")
    notes.append(f"warning: {line}; {f'{held_out}, which' if held_out else 'this'} makes the results too optimistic")


def scan_ahead(
    settings: Settings, store: Store, say: Callable[[str], None], decode_cache: DecodeCache | None = None
) -> Table:
    """Scan the user's own images before the plan is made, print the notes and the classes, and return the table.

    The store remembers the number of classes and of images per split, which the plan needs. Verdicts are kept until a
    file changes, so the scan of the run itself reads no file again. `decode_cache` is as in `scan`.
    Raise UserError (exit 3) if the images do not exist.
    """
    found, _ = scan_source(settings.data, store.root / "scan", True, decode_cache)
    say_notes(found.notes)
    sizes = [int(n) for n in np.bincount(found.labels, minlength=len(found.classes))]
    named = [f"{name} {n:,}" for name, n in zip(found.classes, sizes, strict=True)]
    more = f" and {len(named) - SHOWN_CLASSES} more" if len(named) > SHOWN_CLASSES else ""
    say(f"classes (all splits): {', '.join(named[:SHOWN_CLASSES])}{more}")
    splits = np.bincount(found.splits, minlength=3)
    counts = dict(zip(("train", "valid", "test"), map(int, splits), strict=True))
    store.remember(fact_names(settings)[0], counts | {"classes": len(found.classes)})
    return found
