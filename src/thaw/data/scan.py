"""The strict reading of a folder of pictures: every file once, nothing guessed, nothing dropped in silence."""

import hashlib
import json
import os
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import PIL
from tqdm import tqdm

from thaw.data.decode import BadPicture, decode, has_frames
from thaw.data.folder import SPLITS, File, agree, layout, place, show, some, take, walk
from thaw.errors import UserError

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


class Verdict(NamedTuple):
    """What reading a file showed: its content, its size in pixels, upright, and why it cannot be used, or nothing."""

    hash: str  # SHA-256, hex; empty when the bytes could not be read
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
    class folders, or train/ without valid/: then `hold_out` takes the share `valid`. At most `limit` pictures, chosen
    by a hash of their path before anything is read, in proportion to the classes. Files that cannot be used are left
    out, up to the share `max_bad` (or one) of train, none of a given valid/ or test/. `cache` is a folder where the
    verdicts are kept by path, size and time of change, so that unchanged files are not opened again.
    `leak`: 'warn' or 'error' when splits share a picture. Raises UserError: 3 about the data, 2 about a setting.
    """
    if not 0 < valid < 1:
        raise UserError(2, f"data.valid={valid}: a share between 0 and 1, such as 0.2")
    root, notes = os.path.abspath(os.path.expanduser(os.fspath(root))), []
    files, folders = walk(root, notes)
    tops = layout(root, folders, files)
    held_out = 1 not in tops.values()
    files, where = place(files, folders, tops, notes)
    classes = agree(where, folders, tops, allow_missing)
    if limit is not None:
        files = take(files, where, limit, 2 if held_out else 1)
    verdicts = judge_all(root, files, max_pixels, cache, progress, notes)

    def why(file: File) -> str:
        seen = verdicts[file.path]
        small = min(seen.height, seen.width) < min_side
        return seen.bad or (f"{seen.width}x{seen.height} px, shorter side < data.min_side {min_side}" if small else "")

    bad = tuple((file.path, reason) for file in files if (reason := why(file)))
    bearable(bad, files, where, max_bad, notes)
    refused = dict(bad)
    files = [file for file in files if file.path not in refused]
    seen = [verdicts[file.path] for file in files]
    hashes = tuple(verdict.hash for verdict in seen)
    index = {name: i for i, name in enumerate(classes)}
    labels = np.array([index[where[file.path][1]] for file in files], np.int64)
    splits = np.array([where[file.path][0] for file in files], np.uint8)
    if held_out:
        rows = np.flatnonzero(splits == 0)
        splits[rows] = hold_out(labels[rows], [hashes[i] for i in rows], valid)
    enough(labels, splits, classes, notes)
    copies(labels, splits, hashes, leak, notes)
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
                raise UserError(3, f"{show(table.paths[i])} cannot be read any more: {error.strerror}") from error
            time.sleep(pause)


def judge_all(root, files, max_pixels, cache, progress, notes) -> dict[str, Verdict]:
    """A verdict on every file: from the kept table where the file is unchanged, else by reading it, in threads."""
    what = [FORMAT, root, max_pixels, PIL.__version__, cv2.__version__]
    table = cache and os.path.join(cache, f"scan-{sha256(json.dumps(what).encode())[:16]}.json")
    known = load(table) if table else {}
    rows, todo = {}, []
    for file in files:
        row = known.get(file.path)
        if row and row[:2] == [file.size, file.mtime]:
            rows[file.path] = Verdict(*row[2:])
        else:
            todo.append(file)
    fresh, chunks = {}, [todo[i : i + 8] for i in range(0, len(todo), 8)]
    pool = ThreadPoolExecutor(min(16, os.cpu_count() or 1))  # decoders release the lock; each may hold a big picture
    try:
        with tqdm(total=len(todo), desc="reading pictures", unit="", disable=None if progress else True) as bar:
            for chunk in pool.map(lambda chunk: [(file, judge(root, file, max_pixels)) for file in chunk], chunks):
                for file, verdict in chunk:
                    rows[file.path] = verdict
                    if verdict.hash:  # what could not be read may be readable next time
                        fresh[file.path] = [file.size, file.mtime, *verdict]
                bar.update(len(chunk))
    finally:  # what was read before an interruption is kept too
        pool.shutdown(cancel_futures=True)
        if table and fresh:
            publish(table, known | fresh, notes)
    if changed := sum(path in known and known[path][2] != row[2] for path, row in fresh.items()):
        notes.append(f"{changed} files changed since the last scan")
    return rows


def judge(root: str, file: File, max_pixels: int) -> Verdict:
    """A verdict on one file, by decoding it."""
    if file.bad:
        return Verdict("", 0, 0, False, file.bad)
    if file.size > (most := max(8 * max_pixels, 1 << 26)):  # 8 bytes: the largest pixel that is accepted
        return Verdict("", 0, 0, False, f"file of {file.size} bytes > {most}, the most data.max_pixels can need")
    try:
        with open(os.path.join(root, file.path), "rb") as opened:
            data = opened.read()
    except OSError as error:
        return Verdict("", 0, 0, False, error.strerror)
    if len(data) != file.size:
        return Verdict("", 0, 0, False, "changed while it was read")
    try:
        height, width = decode(data, max_pixels=max_pixels).shape[:2]
    except BadPicture as error:
        return Verdict(sha256(data), 0, 0, False, error.reason)
    return Verdict(sha256(data), height, width, has_frames(data), "")


def load(table: str) -> dict[str, list]:
    """The rows of a kept table; none when it is missing or not as it was written."""
    try:
        with open(table, "rb") as file:
            digest, body = file.readline().strip().decode(), file.read()
    except (OSError, ValueError):
        return {}
    return json.loads(body) if digest == sha256(body) else {}


def publish(table: str, rows: dict[str, list], notes: list[str]) -> None:
    """The table, whole or not at all; a scan does not fail over it."""
    body, temporary = json.dumps(rows, separators=(",", ":")).encode(), None
    try:
        os.makedirs(os.path.dirname(table), exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=os.path.dirname(table), prefix=".scan-", delete=False) as file:
            temporary = file.name
            file.write(sha256(body).encode() + b"\n" + body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, table)
    except OSError as error:
        notes.append(f"the scan is not kept for next time: {error.strerror}")
        if temporary:
            os.unlink(temporary)


def bearable(bad, files, where, max_bad, notes) -> None:
    """Refuses more bad files than allowed, split by split."""
    total, spoilt = Counter(where[file.path][0] for file in files), Counter(where[path][0] for path, _ in bad)
    for code, count in sorted(spoilt.items()):
        allowed = 0 if code or not max_bad else max(1, int(max_bad * total[code] + 1e-9))
        if count > allowed:
            path, reason = next(row for row in bad if where[row[0]][0] == code)
            rule = f"data.max_bad={max_bad} allows {allowed}" if code == 0 else "none is allowed there"
            line = f"{count} of {total[code]} files in {SPLITS[code]} cannot be used; {rule}"
            raise UserError(3, f"{line}. First: {show(path)}: {reason}")
    if bad:
        notes.append(f"{len(bad)} of {len(files)} files skipped; first: {show(bad[0][0])}: {bad[0][1]}")


def hold_out(labels: np.ndarray, hashes: Sequence[str], valid: float) -> np.ndarray:
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


def enough(labels, splits, classes, notes) -> None:
    """Refuses a class without a usable picture in train, and an empty validation set; notes what else is missing."""
    for code, split in enumerate(SPLITS):
        present = labels[splits == code]
        missing = [classes[i] for i in np.setdiff1d(range(len(classes)), present)]
        if code == 1 and not present.size:
            raise UserError(3, "no picture is left for validation; every class needs at least two different pictures")
        if code == 0 and missing:
            raise UserError(3, f"classes without a usable picture in train: {some(missing)}")
        if present.size and missing:
            notes.append(f"classes without pictures in {split}: {some(missing)}")


def copies(labels, splits, hashes, leak, notes) -> None:
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


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
