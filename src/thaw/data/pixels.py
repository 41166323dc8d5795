"""Images decoded once: uint8, with the shorter side that the run needs, stored by content.

No image is stored larger than in its file: a small one is enlarged whenever it is read. Images beyond
`data.pixels_budget` are not stored but decoded whenever they are read, with the same result.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import shorten

import numpy as np

from thaw.data.dataset import Dataset
from thaw.data.decode_cache import DecodeCache
from thaw.data.resize import LONGEST, fit_side, shrink
from thaw.data.table import TEST, Table
from thaw.runtime import machine
from thaw.runtime.files import format_bytes, json_values, read_text
from thaw.runtime.machine import readers
from thaw.store.store import Store

SHARD_BYTES = 1 << 28


class Pixels:
    """uint8 images [h, w, 3] by row of a table, with a shorter side of `side` pixels.

    `names` are the content names of the rows. `kept` maps them to images; `decode` is called for one that is missing.
    """

    def __init__(
        self,
        names: Sequence,
        kept: Mapping,
        side: int,
        decode: Callable[[int, int], np.ndarray] | None = None,
    ):
        self.names, self.kept, self.side, self.decode = names, kept, side, decode

    def __getitem__(self, row: int) -> np.ndarray:
        image = self.kept.get(self.names[row])
        if image is None:
            image = shrink(self.decode(int(row), self.side), self.side)
        return fit_side(image, self.side)

    def __len__(self) -> int:
        return len(self.names)


def on_the_fly(dataset: Dataset, side: int) -> Pixels:
    """Return the images of a dataset, each decoded whenever it is read."""
    return Pixels(dataset.table.hashes, {}, side, dataset.image)


def bytes_kept(table: Table, side: int) -> np.ndarray:
    """Return the bytes that each image takes if it is kept; an image of unknown size counts as a square."""
    height, width = (np.where(length > 0, length, side).astype(np.float64) for length in (table.heights, table.widths))
    shorter = np.minimum(height, width)
    longer = np.minimum(np.maximum(height, width), LONGEST * shorter)
    return 3 * shorter * longer * np.minimum(side / shorter, 1) ** 2


def kept_rows(table: Table, side: int, budget: float) -> np.ndarray:
    """Return the rows whose images are kept: as many as fit into `budget` bytes, equal ones once, test images last."""
    order = np.argsort(table.splits == TEST, kind="stable")
    _, first = np.unique(np.array(table.hashes, object)[order].astype(str), return_index=True)
    order = order[np.sort(first)]
    return order[np.cumsum(bytes_kept(table, side)[order]) <= budget]


def budget_note(table: Table, side: int, budget: float) -> str | None:
    """Return a line for the user if the images do not fit into the budget, else None."""
    rows = np.unique(np.array(table.hashes, object).astype(str), return_index=True)[1] if len(table) else []
    total, kept = bytes_kept(table, side)[rows].sum(), len(kept_rows(table, side, budget))
    if kept == len(rows):
        return None
    return (
        f"the decoded images take {format_bytes(total)}, more than data.pixels_budget: {len(rows) - kept:,} of "
        f"{len(rows):,} are decoded again whenever they are read"
    )


def load_pixels(
    dataset: Dataset,
    side: int,
    budget: float,
    store: Store,
    bar: Callable[[Iterable, int, str], Iterable],
    decode_cache: DecodeCache | None = None,
) -> Pixels:
    """Return every image of the dataset with a shorter side of `side` pixels, in the table's order.

    Image files within `budget` bytes are decoded once, into shards in the store. A shard lists the content names of its
    images, so only new images are decoded, even if labels or file names change. Images that the scan has just decoded
    come from `decode_cache`. Drawn images are held in memory.
    """
    table = dataset.table
    chosen, hashes = kept_rows(table, side, budget).tolist(), table.hashes
    if hashes and not table.sizes.any():
        return Pixels(
            hashes, {hashes[row]: fit_side(dataset.image(row, side), side) for row in chosen}, side, dataset.image
        )
    parts = {"side": side, "versions": machine.library_versions()}
    kept = find_shards(store, parts, {hashes[row] for row in chosen})
    rows = [row for row in chosen if hashes[row] not in kept]
    per_shard = max(1, SHARD_BYTES // (side * side * 4))
    parts_of = [rows[start : start + per_shard] for start in range(0, len(rows), per_shard)]
    for number, part in enumerate(parts_of, 1):
        text = "decode" + (f" {number}/{len(parts_of)}" if len(parts_of) > 1 else "")
        names = [hashes[row] for row in part]
        with store.entry("pixels", parts, rows=names, fault=shard_fault) as entry:
            if entry.missing:
                write_shard(entry.folder, names, bar(decode_rows(dataset, part, side, decode_cache), len(part), text))
        kept |= images_of(entry.path)
    return Pixels(hashes, kept, side, dataset.image)


def decode_rows(dataset: Dataset, rows: list[int], side: int, decode_cache: DecodeCache | None) -> Iterable[np.ndarray]:
    """Yield the shrunk images of the rows: from the decode cache, else decoded from their files in threads."""

    def image(row: int) -> np.ndarray:
        cached = decode_cache and decode_cache.get(dataset.table.hashes[row], side)
        return shrink(dataset.image(row, side), side) if cached is None else cached

    with ThreadPoolExecutor(readers()) as pool:
        yield from pool.map(image, rows)


def write_shard(folder: Path, hashes: list[str], images: Iterable[np.ndarray]) -> None:
    """Write a shard: a file of pixels, and for each image its content name, offset, height and width."""
    index, offset = [], 0
    with (folder / "pixels.u8").open("wb") as file:
        for content, image in zip(hashes, images, strict=True):
            file.write(image.tobytes())
            index.append([content, offset, *image.shape[:2]])
            offset += image.nbytes
    (folder / "index.json").write_text(json.dumps(index))


def find_shards(store: Store, parts: dict, wanted: Collection[str]) -> dict[str, np.ndarray]:
    """Return memory-mapped images by content name, from all shards made with `parts` that hold any of the `wanted`."""
    out = {}
    for path in store.shards("pixels", parts, wanted, shard_fault):
        out |= images_of(path)
    return out


def shard_fault(shard: Path) -> str | None:
    """Return why a shard cannot be used (its index names an image that is not in its file), or None."""
    index, most = next(iter(json_values(read_text(shard / "index.json"))), None), (shard / "pixels.u8").stat().st_size
    for row in index if isinstance(index, list) else [None]:
        good = isinstance(row, list) and [type(one) for one in row] == [str, int, int, int]
        if not (good and row[1] >= 0 and min(row[2:]) > 0 and row[1] + 3 * row[2] * row[3] <= most):
            return f"index.json has an invalid entry: {shorten(repr(row), 40)}"
    return None


def images_of(shard: Path) -> dict[str, np.ndarray]:
    """Return the memory-mapped images of a shard by content name."""
    data = np.memmap(shard / "pixels.u8", np.uint8, "r")
    return {
        content: data[offset : offset + height * width * 3].reshape(height, width, 3)
        for content, offset, height, width in json.loads((shard / "index.json").read_text())
    }
