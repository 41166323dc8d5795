"""How many pictures of which classes a user's own are, read before anything is planned."""

import os
from collections.abc import Callable

import numpy as np

from thaw.data import csv_source, folder, scan
from thaw.data.spool import Spool
from thaw.data.table import Table
from thaw.errors import UserError
from thaw.facts import fact_names
from thaw.settings import Settings
from thaw.store import Store

MOST_CLASSES = 12  # that are named


def count(settings: Settings, store: Store, say: Callable[[str], None], spool: Spool | None = None) -> Table:
    """The table of the user's own pictures, so that the plan knows how many there are; says which classes they are of.

    What was read of a file is kept until it changes: the scan of the run itself reads none a second time. `spool` as
    for `scan`. Errors: they are not there, exit 3.
    """
    if not os.path.exists(os.path.expanduser(settings.data.root)):
        what = "folder" if settings.data.kind == "folder" else "file"
        raise UserError(3, f"data.root={settings.data.root}: no such {what}")
    listing = {"folder": folder.listing, "csv": csv_source.listing}[settings.data.kind](settings.data)
    found = scan.scan(listing, settings.data, store.root / "scan", True, spool)
    sizes = [int(n) for n in np.bincount(found.labels, minlength=len(found.classes))]
    named = [f"{name} {n:,}" for name, n in zip(found.classes, sizes, strict=True)]
    more = f" and {len(named) - MOST_CLASSES} more" if len(named) > MOST_CLASSES else ""
    say(f"classes: {', '.join(named[:MOST_CLASSES])}{more}")
    splits = np.bincount(found.splits, minlength=3)
    counts = dict(zip(("train", "valid", "test"), map(int, splits), strict=True))
    store.remember(fact_names(settings)[0], counts | {"classes": len(found.classes)})
    return found
