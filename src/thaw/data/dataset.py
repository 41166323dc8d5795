"""The images of a data source: a table of them, and a function that reads one."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np

from thaw.config.schema import Data
from thaw.config.sources import SOURCES
from thaw.data.decode import decode
from thaw.data.decode_cache import DecodeCache
from thaw.data.listing import quoted
from thaw.data.scan import scan_source
from thaw.data.table import Table, content_and_bits
from thaw.data.verify import read_file
from thaw.runtime.errors import UserError


@dataclass(frozen=True)
class Dataset:
    """A table of images, and `image(row, side)`: uint8 RGB [h, w, 3], its shorter side `side` pixels or longer."""

    table: Table
    image: Callable[[int, int], np.ndarray]

    def rows(self, split: int) -> np.ndarray:
        """Return the rows of a split, in the table's order."""
        return self.table.rows(split)


def load_dataset(
    data: Data, side: int, cache: Path | None = None, progress: bool = False, decode_cache: DecodeCache | None = None
) -> Dataset:
    """Return the images that the settings ask for, drawn ones with a side of `side` pixels. Else as in `scan`."""
    source = SOURCES[data.kind]
    if source.draws:
        return source.load()(data, side)
    table, held = scan_source(data, cache, progress, decode_cache)
    return of_files(table, data) if held is None else Dataset(table, lambda row, side: held[table.paths[row]])


def of_files(table: Table, data: Data) -> Dataset:
    """Return the images of a table of files, each decoded when it is read."""
    return Dataset(table, partial(image_of, table, int(data.max_pixels)))


def image_of(table: Table, max_pixels: int, row: int, side: int) -> np.ndarray:
    """Decode the image of a file. Raise UserError (exit 3) if the file is gone or differs from what the scan read."""
    data, (content, bits) = read_file(table, row), content_and_bits(table.hashes[row])
    if sha256(data).hexdigest() != content:
        raise UserError(
            3, f"{quoted(table.paths[row])} changed after the scan; run the same command again to read it again"
        )
    return decode(data, max_pixels=max_pixels, side=side, bits=bits)
