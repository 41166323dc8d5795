"""Small distinct images for tests, and the settings for scanning them."""

import io
from itertools import count

import numpy as np
import pytest
from PIL import Image

from thaw.config.schema import Data, DataFacts
from thaw.data import csv_source, folder
from thaw.data import scan as scanning
from thaw.runtime.errors import UserError

NUMBERS = count(100)
UNSET = dict.fromkeys(("fold", "group", "limit", "classes", "labels"))
FILES = {
    "max_bad": 0.01,
    "max_pixels": 64e6,
    "min_side": 1,
    "allow_missing": False,
    "leak": "warn",
    "pixels_budget": "20GB",
}
DEFAULTS = {"kind": "folder", "valid": 0.2, "workers": 0, "crop_pct": 1.0, "facts": DataFacts(), **FILES, **UNSET}


def image(number, format="PNG", size=(8, 6), **options):
    """Return the bytes of an image that is different for every number."""
    file = io.BytesIO()
    Image.frombytes("RGB", size, np.random.default_rng(number).bytes(size[0] * size[1] * 3)).save(
        file, format, **options
    )
    return file.getvalue()


def put(path, data=None):
    """Write a file, by default with a new distinct image; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(image(next(NUMBERS)) if data is None else data)
    return path


def tree(root, **images):
    """Write class folders with the given numbers of distinct images; '__' in a name stands for '/'."""
    for name, n in images.items():
        for i in range(n):
            put(root / name.replace("__", "/") / f"{i}.png")
    return root


def data(root, **options):
    """Return data settings: the defaults of conf/ with changes."""
    return Data(**{**DEFAULTS, "root": str(root), **{k: str(v) if k == "images" else v for k, v in options.items()}})


def scan(root, cache=None, **options):
    """Return the table of a folder, or of a .csv or .tsv file."""
    chosen = data(root, **options)
    listing = csv_source.listing if chosen.root.endswith((".csv", ".tsv")) else folder.listing
    return scanning.scan(listing(chosen, []), chosen, cache)


def refused(root, code=3, **options):
    """Check that a scan is refused with an exit code; return the error line."""
    with pytest.raises(UserError) as caught:
        scan(root, **options)
    assert caught.value.code == code and "\n" not in caught.value.line
    assert len(caught.value.line.replace(str(root), "ROOT").replace(str(getattr(root, "parent", "")), "ROOT")) <= 200
    return caught.value.line


def has_note(table, text):
    """Return whether a note of the table contains the text."""
    return any(text in note for note in table.notes)


def sides(table):
    """Return the split of every path."""
    return dict(zip(table.paths, table.splits.tolist(), strict=True))
