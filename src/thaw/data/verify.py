"""Reading of image files: each once to judge it, and later for its pixels."""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np
import PIL
import pillow_heif
from tqdm import tqdm

from thaw.data.decode import BadImage, decode, has_frames, peak_of_grey16, size_of
from thaw.data.decode_cache import DecodeCache
from thaw.data.listing import File, count_text, quoted
from thaw.data.table import Table
from thaw.runtime.errors import UserError
from thaw.runtime.files import json_objects
from thaw.runtime.machine import readers

FORMAT = 5  # of the saved table; raise it when a verdict on the same bytes can change
ROW = [int, str, str, int, int, bool, str, int, int]  # of the saved table: size and state of a file, and its verdict
KEEP_EVERY_S = 60  # saves the work of a process that is killed later


class Verdict(NamedTuple):
    """The result of reading a file: its content hash, its upright size in pixels, and why it cannot be used, or ''.

    `peak` is its highest 8-bit value; `peak16` is the highest value of 16-bit grey, else 0.
    """

    hash: str  # SHA-256, hex; empty when the bytes could not be read
    height: int
    width: int
    frames: bool
    bad: str
    peak: int = 0
    peak16: int = 0


def read_file(table: Table, i: int) -> bytes:
    """Return the bytes of row i; try three times within 2 s, since network disks hiccup. Raise UserError (exit 3)."""
    for pause in (0.5, 1.5, None):
        try:
            with open(os.path.join(table.root, table.paths[i]), "rb") as file:
                return file.read()
        except OSError as error:
            if pause is None:
                raise UserError(3, f"{quoted(table.paths[i])} cannot be read any more: {error.strerror}") from error
            time.sleep(pause)


def verify_all(root, files, max_pixels, cache, progress, notes, decode_cache=None) -> dict[str, Verdict]:
    """Return a verdict on every file: from the saved table if the file is unchanged, else by reading it, in threads.

    Every decoded image is kept in the `decode_cache`.
    """
    what = [FORMAT, root, max_pixels, PIL.__version__, pillow_heif.__version__, cv2.__version__]
    table = cache and os.path.join(cache, f"scan-{sha256(json.dumps(what).encode())[:16]}.json")
    known = load_verdicts(table) if table else {}
    rows, todo = {}, []
    for file in files:
        row = known.get(file.path)
        if row and row[:2] == [file.size, file.state]:
            rows[file.path] = Verdict(*row[2:])
        else:
            todo.append(file)
    fresh, kept_at, chunks = {}, time.monotonic(), [todo[i : i + 8] for i in range(0, len(todo), 8)]
    pool = ThreadPoolExecutor(readers())  # decoders release the lock
    try:
        with tqdm(total=len(todo), desc="reading images", unit="", disable=None if progress else True) as bar:
            judged = pool.map(
                lambda chunk: [(file, verify_file(root, file, max_pixels, decode_cache)) for file in chunk], chunks
            )
            for chunk in judged:
                for file, verdict in chunk:
                    rows[file.path] = verdict
                    if verdict.hash:  # what could not be read may be readable next time
                        fresh[file.path] = [file.size, file.state, *verdict]
                bar.update(len(chunk))
                if table and time.monotonic() - kept_at > KEEP_EVERY_S:
                    save_verdicts(table, known | fresh, notes)
                    kept_at = time.monotonic()
    finally:  # what was read before an interruption is kept too
        pool.shutdown(cancel_futures=True)
        if table and fresh:
            save_verdicts(table, known | fresh, notes)
    if changed := sum(path in known and known[path][2] != row[2] for path, row in fresh.items()):
        notes.append(f"{count_text(changed, 'file')} changed since the last scan")
    return rows


def verify_file(root: str, file: File, max_pixels: int, decode_cache: DecodeCache | None = None) -> Verdict:
    """Return a verdict on one file by decoding it."""
    if file.bad:
        return Verdict("", 0, 0, False, file.bad)
    if file.size > (most := max(8 * max_pixels, 1 << 26)):  # 8 bytes: the largest pixel that is accepted
        return Verdict("", 0, 0, False, f"file of {file.size} bytes > {most}, the most that data.max_pixels can need")
    try:
        with open(os.path.join(root, file.path), "rb") as opened:
            data = opened.read()
    except OSError as error:
        return Verdict("", 0, 0, False, error.strerror)
    if len(data) != file.size:
        return Verdict("", 0, 0, False, "changed while being read")
    try:
        image = decode(data, max_pixels=max_pixels, side=decode_cache.side if decode_cache else 1)
    except BadImage as error:
        return Verdict(sha256(data), 0, 0, False, error.reason)
    content = sha256(data)
    if decode_cache:
        decode_cache.keep(content, image)
    return Verdict(content, *size_of(data), has_frames(data), "", int(image.max()), peak_of_grey16(data))


def verify_held(images: Mapping[str, np.ndarray]) -> dict[str, Verdict]:
    """Return verdicts on images in memory, whose content is their pixels."""
    return {path: Verdict(sha256(p.tobytes()), *p.shape[:2], False, "", int(p.max())) for path, p in images.items()}


def load_verdicts(table: str) -> dict[str, list]:
    """Return the rows of a saved table, none if it is missing or damaged."""
    try:
        with open(table, "rb") as file:
            digest, body = file.readline().strip().decode(), file.read()
    except (OSError, ValueError):
        return {}
    rows = next(iter(json_objects(body.decode("utf-8", "replace"))), {}) if digest == sha256(body) else {}
    return {path: row for path, row in rows.items() if isinstance(row, list) and [*map(type, row)] == ROW}


def save_verdicts(table: str, rows: dict[str, list], notes: list[str]) -> None:
    """Save the table, whole or not at all; a failure adds a note but does not stop the scan."""
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
        notes.append(f"the results of this scan cannot be saved for next time: {error.strerror}")
        if temporary:
            os.unlink(temporary)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
