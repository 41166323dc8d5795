"""Remember since when fresh=true trains anew, so that what was stopped goes on."""

import json
from pathlib import Path

from thaw.runtime.files import read_json, write_atomically
from thaw.store.prune import file_system_time
from thaw.store.store import Store

FRESH = "fresh.json"  # in the folder of a sweep under way with fresh=true


def begin_fresh(store: Store, file: Path) -> None:
    """fresh=true: what was made before the run or the sweep began is made again; one that was stopped goes on.

    The file says when it began, from its first job until `end_fresh`.
    """
    store.root.mkdir(parents=True, exist_ok=True)
    if since := read_json(file).get("since"):
        store.since = since
        return
    store.since = file_system_time(store.root)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps({"since": store.since}))


def end_fresh(file: Path) -> None:
    """The run or the sweep is done: the same command begins anew."""
    file.unlink(missing_ok=True)
