"""Open the store for a run."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

from thaw.config.schema import Settings
from thaw.config.values import parse_bytes
from thaw.runtime.files import format_bytes
from thaw.store.code_hash import code_part
from thaw.store.prune import prune
from thaw.store.store import Store


def open_store(
    settings: Settings,
    say: Callable[[str], None],
    waits: Callable[[str | None], None] | None = None,
    since: float = math.inf,
) -> Store:
    """Return the store of a run, pruned to `store.max_size` as far as possible.

    With fresh=true, cycles and finders' curves older than `since` are made again. `waits` is called as in `Store`.
    """
    s = settings.store
    root = Path(s.dir)
    if s.max_size is not None and root.is_dir():
        removed, _ = prune(root, parse_bytes(s.max_size, "store.max_size"))
        if removed:
            what = f"{len(removed):,} stored result{'s' * (len(removed) != 1)}"
            freed = format_bytes(sum(entry.bytes for entry in removed))
            say(f"store: removed {what} ({freed}), least recently used first, for store.max_size={s.max_size}")
    return Store(
        root,
        say,
        s.wait_s,
        anew=("cycles", "finds") if settings.fresh else (),
        since=since,
        code=partial(code_part, check=s.code),
        waits=waits,
    )
