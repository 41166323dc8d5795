"""Open the store for a run, and remember since when fresh=true trains anew."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from thaw.config.schema import Settings
from thaw.config.values import parse_bytes
from thaw.runtime.files import format_bytes, read_json, write_atomically
from thaw.store.code_hash import code_part
from thaw.store.prune import file_system_time, prune
from thaw.store.store import Store

FRESH = "fresh.json"  # in the folder of a sweep under way with fresh=true


def open_store(settings: Settings, say: Callable[[str], None]) -> Store:
    """The store of a run, within `store.max_size` where that can be."""
    s = settings.store
    root = Path(s.dir)
    if s.max_size is not None and root.is_dir():
        removed, _ = prune(root, parse_bytes(s.max_size, "store.max_size"))
        if removed:
            gone = format_bytes(sum(entry.bytes for entry in removed))
            say(f"store: {len(removed):,} artifacts ({gone}) removed, oldest use first; store.max_size={s.max_size}")
    return Store(
        root,
        say,
        s.wait_s,
        anew=("cycles", "finds") if settings.fresh else (),
        code=partial(code_part, check=s.code),
    )


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
