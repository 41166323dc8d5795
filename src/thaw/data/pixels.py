"""Pictures decoded once: uint8, the shorter side as long as the run needs it, kept by content in the store."""

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from thaw import keys, signals
from thaw.data.source import Source
from thaw.store import Store

LONGEST = 4  # a picture is cut to at most this many times its shorter side
SHARD_BYTES = 1 << 28


class Pixels:
    """uint8 pictures [h, w, 3] by row of a table."""

    def __init__(self, arrays: list[np.ndarray]):
        self.arrays = arrays

    def __getitem__(self, row: int) -> np.ndarray:
        return self.arrays[row]

    def __len__(self) -> int:
        return len(self.arrays)


def fit_side(picture: np.ndarray, side: int) -> np.ndarray:
    """The picture with a shorter side of `side` pixels: area averaging when it shrinks, cubic when it grows."""
    height, width = picture.shape[:2]
    longest = LONGEST * min(height, width)
    top, left = max(0, (height - longest) // 2), max(0, (width - longest) // 2)
    picture = picture[top : top + min(height, longest), left : left + min(width, longest)]
    height, width = picture.shape[:2]
    scale = side / min(height, width)
    if scale == 1:
        return np.ascontiguousarray(picture)
    size = (max(side, round(width * scale)), max(side, round(height * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def pixels(source: Source, side: int, store: Store, bar: Callable[[Iterable, int, str], Iterable]) -> Pixels:
    """Every picture of the source with a shorter side of `side`, in the table's order.

    Files are decoded once for each side: shards in the store list the content hashes of their rows, so that only new
    pictures are decoded, whatever happened to labels and names. Drawn pictures are made in memory.
    """
    if source.table.hashes and not source.table.sizes.any():
        return Pixels([fit_side(source.picture(row), side) for row in range(len(source.table))])
    parts = {"side": side, "versions": keys.versions()}
    hashes = source.table.hashes
    kept = shards(store, parts)
    rows = list({h: row for row, h in enumerate(hashes) if h not in kept}.values())
    per_shard = max(1, SHARD_BYTES // (side * side * 4))
    parts_of = [rows[start : start + per_shard] for start in range(0, len(rows), per_shard)]
    for number, part in enumerate(parts_of, 1):
        text = "decode" + (f" {number}/{len(parts_of)}" if len(parts_of) > 1 else "")

        def build(folder: Path, part=part, text=text) -> None:
            write(folder, [hashes[row] for row in part], bar(decoded(source, part, side), len(part), text))

        kept |= pictures_of(store.make("pixels", parts, build, rows=[hashes[row] for row in part])[0])
    return Pixels([kept[h] for h in hashes])


def decoded(source: Source, rows: list[int], side: int) -> Iterable[np.ndarray]:
    with ThreadPoolExecutor() as pool:
        yield from pool.map(lambda row: fit_side(source.picture(row), side), rows)


def write(folder: Path, hashes: list[str], pictures: Iterable[np.ndarray]) -> None:
    """Fill a shard: a file of bytes, and for each picture its hash, offset, height and width.

    Errors: a signal that asks to stop.
    """
    index, offset = [], 0
    with (folder / "pixels.u8").open("wb") as file:
        for content, picture in zip(hashes, pictures, strict=True):
            if number := signals.pending():
                signals.leave(number, "while pictures were decoded")
            file.write(picture.tobytes())
            index.append([content, offset, *picture.shape[:2]])
            offset += picture.nbytes
    (folder / "index.json").write_text(json.dumps(index))


def shards(store: Store, parts: dict) -> dict[str, np.ndarray]:
    """Memory-mapped pictures of all shards that were made as `parts` say, by content hash."""
    out = {}
    for path in store.shards("pixels", parts):
        out |= pictures_of(path)
    return out


def pictures_of(shard: Path) -> dict[str, np.ndarray]:
    """Memory-mapped pictures of a shard, by content hash."""
    data = np.memmap(shard / "pixels.u8", np.uint8, "r")
    return {
        content: data[offset : offset + height * width * 3].reshape(height, width, 3)
        for content, offset, height, width in json.loads((shard / "index.json").read_text())
    }
