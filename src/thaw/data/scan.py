"""The strict reading of a folder of pictures: every file once, nothing guessed, nothing dropped in silence."""

import hashlib
import json
import os
import stat
import tempfile
import time
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import PIL
from tqdm import tqdm

from thaw.data.decode import BadPicture, decode, has_frames
from thaw.errors import UserError

SPLITS = ("train", "valid", "test")
NAMES = {"train": 0, "valid": 1, "val": 1, "validation": 1, "test": 2}
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".avif",
            ".ppm", ".pgm", ".pbm", ".pnm")  # fmt: skip
JUNK = {"Thumbs.db", "desktop.ini", "__MACOSX"}
FORMAT = 1  # of the kept table; raise it when a verdict on the same bytes can change


@dataclass(frozen=True, eq=False)
class Table:
    """The usable pictures of a root, one row each, sorted by path.

    `root` absolute; `classes` sorted, a label is an index into them; `paths` relative to root, '/' between parts,
    undecodable bytes as surrogates; `hashes` SHA-256 of the file, hex; `sizes` in bytes; `heights` and `widths` in
    pixels, upright; `splits` index into SPLITS; `bad` (path, reason) of what was left out; `notes` lines for the user.
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
    bad: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)


class _File(NamedTuple):
    path: str
    size: int
    mtime: int  # ns
    bad: str  # why it cannot even be opened, or nothing


class _Verdict(NamedTuple):
    hash: str  # empty when the bytes could not be read
    height: int
    width: int
    frames: bool
    bad: str


def scan(
    root: str | os.PathLike,
    *,
    valid: float = 0.2,
    limit: int | None = None,
    max_bad: float = 0.01,
    min_side: int = 1,
    max_pixels: int = 64_000_000,
    cache: str | os.PathLike | None = None,
    progress: bool = False,
    allow_missing: bool = False,
    leak: str = "warn",
) -> Table:
    """Every picture under root, judged by decoding it, with its class and split.

    Root holds train/ and valid/ (or val/, validation/) and perhaps test/, each with a folder per class; or only the
    class folders, or train/ without valid/: then `_hold_out` takes the share `valid`. At most `limit` pictures, chosen
    by a hash of their path before anything is read, in proportion to the classes. Files that cannot be used are left
    out, up to the share `max_bad` (or one) of train, none of a given valid/ or test/. `cache` is a folder where the
    verdicts are kept by path, size and time of change, so that unchanged files are not opened again.
    `leak`: 'warn' or 'error' when splits share a picture. Raises UserError: 3 about the data, 2 about a setting.
    """
    if not 0 < valid < 1:
        raise UserError(2, f"data.valid={valid}: a share between 0 and 1, such as 0.2")
    root, notes = os.path.abspath(os.path.expanduser(os.fspath(root))), []
    files, folders = _walk(root, notes)
    tops = _layout(root, folders, files)
    held_out = 1 not in tops.values()
    files, where = _place(files, folders, tops, notes)
    classes = _agree(where, folders, tops, allow_missing)
    if limit is not None:
        files = _take(files, where, limit, 2 if held_out else 1)
    verdicts = _judge_all(root, files, max_pixels, cache, progress, notes)

    def why(file: _File) -> str:
        seen = verdicts[file.path]
        small = min(seen.height, seen.width) < min_side
        return seen.bad or (f"{seen.width}x{seen.height} px, shorter side < data.min_side {min_side}" if small else "")

    bad = tuple((file.path, reason) for file in files if (reason := why(file)))
    _bearable(bad, files, where, max_bad, notes)
    refused = dict(bad)
    files = [file for file in files if file.path not in refused]
    seen = [verdicts[file.path] for file in files]
    hashes = tuple(verdict.hash for verdict in seen)
    index = {name: i for i, name in enumerate(classes)}
    labels = np.array([index[where[file.path][1]] for file in files], np.int64)
    splits = np.array([where[file.path][0] for file in files], np.uint8)
    if held_out:
        rows = np.flatnonzero(splits == 0)
        splits[rows] = _hold_out(labels[rows], [hashes[i] for i in rows], valid)
    _enough(labels, splits, classes, notes)
    _copies(labels, splits, hashes, leak, notes)
    if many := sum(verdict.frames for verdict in seen):
        notes.append(f"{many} pictures have several frames or pages; the first is used")
    return Table(
        root, classes, tuple(file.path for file in files), labels, splits, hashes,
        np.array([file.size for file in files], np.int64),
        np.array([verdict.height for verdict in seen], np.int32),
        np.array([verdict.width for verdict in seen], np.int32),
        bad, tuple(notes),
    )  # fmt: skip


def read(table: Table, i: int) -> bytes:
    """The bytes of row i; tried three times within 2 s, since network disks hiccup. Raises UserError(3)."""
    for pause in (0.5, 1.5, None):
        try:
            with open(os.path.join(table.root, table.paths[i]), "rb") as file:
                return file.read()
        except OSError as error:
            if pause is None:
                raise UserError(3, f"{_show(table.paths[i])} cannot be read any more: {error.strerror}") from error
            time.sleep(pause)


def _walk(root: str, notes: list[str]) -> tuple[list[_File], list[str]]:
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
            what = f"the folder {_show(at)} in data.root" if at else f"data.root={root}"
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
                files.append(_status(path, entry))
            else:
                other[suffix or "no suffix"] += 1
    if hidden:
        notes.append(f"ignored {hidden.total()} hidden or system entries ({_some(hidden)})")
    if other:
        notes.append(f"ignored {other.total()} files that are not pictures ({_some(other)})")
    if again:
        notes.append(f"ignored {again} links to folders read already")
    return sorted(files), folders


def _status(path: str, entry: os.DirEntry) -> _File:
    try:
        status = entry.stat()
    except FileNotFoundError:
        return _File(path, 0, 0, "link to nothing")
    except OSError as error:
        return _File(path, 0, 0, error.strerror)
    return _File(path, status.st_size, status.st_mtime_ns, "" if stat.S_ISREG(status.st_mode) else "not a regular file")


def _layout(root: str, folders: list[str], files: list[_File]) -> dict[str, int]:
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
                raise UserError(3, f"data.root={root} has {_some(same)}, which all mean {split}; keep one")
        return {name: code for name, code in splits.items() if name in holding or code == 1}
    if not top or top <= set(splits):
        raise UserError(3, f"data.root={root} has no class folders; it needs a folder per class, or train/ with them")
    return {"": 0}


def _place(files, folders, tops, notes) -> tuple[list[_File], dict[str, tuple[int, str]]]:
    """The files that lie in a class folder, and (split, class) of each path."""
    depth, where = 0 if "" in tops else 1, {}
    for file in files:
        parts = file.path.split("/")
        if len(parts) > depth + 1 and (not depth or parts[0] in tops):
            where[file.path] = tops[parts[0] if depth else ""], parts[depth]
    loose = [file.path for file in files if file.path not in where]
    if loose:
        notes.append(f"ignored {len(loose)} pictures outside the class folders ({_some(loose)})")
    return [file for file in files if file.path in where], where


def _agree(where, folders, tops, allow_missing) -> tuple[str, ...]:
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
            raise UserError(3, f"class folder {_show(path)} has no pictures; fill it or remove it")
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
            raise UserError(3, f"classes in {SPLITS[code]} but not in train: {_some(extra)}")
        if code == 1 and not allow_missing and (missing := train - names[code]):
            advice = "add pictures or set data.allow_missing=true"
            raise UserError(3, f"classes in train but not in valid: {_some(missing)}; {advice}")
    if len(train) < 2:
        raise UserError(3, f"only one class ({_some(train) or 'none'}); a classifier needs two")
    return tuple(sorted(train))


def _take(files: list[_File], where: dict, limit: int, least: int) -> list[_File]:
    """At most `limit` files: `least` of every split and class, the rest in proportion, chosen by a hash of the path."""
    groups = defaultdict(list)
    for file in files:
        groups[where[file.path]].append(file)
    if limit < (need := sum(min(least, len(group)) for group in groups.values())):
        raise UserError(2, f"data.limit={limit} is less than {need}, which {least} of every class and split take")
    ranked = []
    for group in groups.values():
        group.sort(key=lambda file: _hash(os.fsencode(file.path)))
        ranked += [((rank + 0.5) / len(group) if rank >= least else 0.0, file) for rank, file in enumerate(group)]
    return sorted(file for _, file in sorted(ranked)[:limit])


def _judge_all(root, files, max_pixels, cache, progress, notes) -> dict[str, _Verdict]:
    """A verdict on every file: from the kept table where the file is unchanged, else by reading it, in threads."""
    what = [FORMAT, root, max_pixels, PIL.__version__, cv2.__version__]
    table = cache and os.path.join(cache, f"scan-{_hash(json.dumps(what).encode())[:16]}.json")
    known = _load(table) if table else {}
    rows, todo = {}, []
    for file in files:
        row = known.get(file.path)
        if row and row[:2] == [file.size, file.mtime]:
            rows[file.path] = _Verdict(*row[2:])
        else:
            todo.append(file)
    fresh, chunks = {}, [todo[i : i + 8] for i in range(0, len(todo), 8)]
    pool = ThreadPoolExecutor(min(16, os.cpu_count() or 1))  # decoders release the lock; each may hold a big picture
    try:
        with tqdm(total=len(todo), desc="reading pictures", unit="", disable=None if progress else True) as bar:
            for chunk in pool.map(lambda chunk: [(file, _judge(root, file, max_pixels)) for file in chunk], chunks):
                for file, verdict in chunk:
                    rows[file.path] = verdict
                    if verdict.hash:  # what could not be read may be readable next time
                        fresh[file.path] = [file.size, file.mtime, *verdict]
                bar.update(len(chunk))
    finally:  # what was read before an interruption is kept too
        pool.shutdown(cancel_futures=True)
        if table and fresh:
            _publish(table, known | fresh, notes)
    if changed := sum(path in known and known[path][2] != row[2] for path, row in fresh.items()):
        notes.append(f"{changed} files changed since the last scan")
    return rows


def _judge(root: str, file: _File, max_pixels: int) -> _Verdict:
    if file.bad:
        return _Verdict("", 0, 0, False, file.bad)
    if file.size > (most := max(8 * max_pixels, 1 << 26)):  # 8 bytes: the largest pixel that is accepted
        return _Verdict("", 0, 0, False, f"file of {file.size} bytes > {most}, the most data.max_pixels can need")
    try:
        with open(os.path.join(root, file.path), "rb") as opened:
            data = opened.read()
    except OSError as error:
        return _Verdict("", 0, 0, False, error.strerror)
    if len(data) != file.size:
        return _Verdict("", 0, 0, False, "changed while it was read")
    try:
        height, width = decode(data, max_pixels=max_pixels).shape[:2]
    except BadPicture as error:
        return _Verdict(_hash(data), 0, 0, False, error.reason)
    return _Verdict(_hash(data), height, width, has_frames(data), "")


def _load(table: str) -> dict[str, list]:
    """The rows of a kept table; none when it is missing or not as it was written."""
    try:
        with open(table, "rb") as file:
            digest, body = file.readline().strip().decode(), file.read()
    except (OSError, ValueError):
        return {}
    return json.loads(body) if digest == _hash(body) else {}


def _publish(table: str, rows: dict[str, list], notes: list[str]) -> None:
    """The table, whole or not at all; a scan does not fail over it."""
    body, temporary = json.dumps(rows, separators=(",", ":")).encode(), None
    try:
        os.makedirs(os.path.dirname(table), exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=os.path.dirname(table), prefix=".scan-", delete=False) as file:
            temporary = file.name
            file.write(_hash(body).encode() + b"\n" + body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, table)
    except OSError as error:
        notes.append(f"the scan is not kept for next time: {error.strerror}")
        if temporary:
            os.unlink(temporary)


def _bearable(bad, files, where, max_bad, notes) -> None:
    """Refuses more bad files than allowed, split by split."""
    total, spoilt = Counter(where[file.path][0] for file in files), Counter(where[path][0] for path, _ in bad)
    for code, count in sorted(spoilt.items()):
        allowed = 0 if code or not max_bad else max(1, int(max_bad * total[code] + 1e-9))
        if count > allowed:
            path, reason = next(row for row in bad if where[row[0]][0] == code)
            rule = f"data.max_bad={max_bad} allows {allowed}" if code == 0 else "none is allowed there"
            line = f"{count} of {total[code]} files in {SPLITS[code]} cannot be used; {rule}"
            raise UserError(3, f"{line}. First: {_show(path)}: {reason}")
    if bad:
        notes.append(f"{len(bad)} of {len(files)} files skipped; first: {_show(bad[0][0])}: {bad[0][1]}")


def _hold_out(labels: np.ndarray, hashes: Sequence[str], valid: float) -> np.ndarray:
    """Which rows are validation, (n,) bool: a function of each picture's content, so new files do not move old ones.

    A picture is held out if its hash, read as a fraction, is below `valid`; byte-equal pictures therefore go together.
    A class that this leaves without train pictures, or without validation pictures though it has two contents, has the
    one content nearest to the threshold moved: the only picture that files added later can move back. What lies in
    several classes is moved into train if need be, never into validation.
    """
    contents, owners = defaultdict(set), Counter()
    for label, content in set(zip(labels.tolist(), hashes, strict=True)):
        contents[label].add(content)
        owners[content] += 1
    shared = {content for content, count in owners.items() if count > 1}
    held = {content for content in owners if int(content[:16], 16) / 2**64 < valid}
    for _, group in sorted(contents.items()):
        if group <= held:
            held.discard(max(group - shared or group))  # hex sorts as the fraction does
    for group in contents.values():
        if len(group) > 1 and group - shared and not group & held:
            held.add(min(group - shared))
    return np.array([content in held for content in hashes], bool)


def _enough(labels, splits, classes, notes) -> None:
    """Refuses a class without a usable picture in train, and an empty validation set; notes what else is missing."""
    for code, split in enumerate(SPLITS):
        present = labels[splits == code]
        missing = [classes[i] for i in np.setdiff1d(range(len(classes)), present)]
        if code == 1 and not present.size:
            raise UserError(3, "no picture is left for validation; every class needs at least two different pictures")
        if code == 0 and missing:
            raise UserError(3, f"classes without a usable picture in train: {_some(missing)}")
        if present.size and missing:
            notes.append(f"classes without pictures in {split}: {_some(missing)}")


def _copies(labels, splits, hashes, leak, notes) -> None:
    """Notes byte-equal pictures: with two labels, in two splits (or refuses these), or just twice."""
    rows = defaultdict(list)
    for i, content in enumerate(hashes):
        rows[content].append(i)
    groups = [group for group in rows.values() if len(group) > 1]
    if groups:
        notes.append(f"{sum(map(len, groups)) - len(groups)} pictures are byte-equal copies of others")
    if two := sum(len(set(labels[group])) > 1 for group in groups):
        notes.append(f"warning: {two} pictures have copies in another class")
    if two := sum(len(set(splits[group])) > 1 for group in groups):
        line = f"{two} pictures lie in more than one split, so results there are too good"
        if leak == "error":
            raise UserError(3, f"{line}; remove the copies or set data.leak=warn")
        notes.append(f"warning: {line}")


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _some(names: Iterable[str]) -> str:
    """At most three of the names."""
    names = sorted(names)
    return ", ".join(map(_show, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _show(name: str) -> str:
    """A name as one short line, whatever its bytes."""
    text = repr(name)
    return text if len(text) <= 60 else f"'...{text[-56:]}"
