"""Artifacts for tests, filled by a function."""

from collections.abc import Callable
from pathlib import Path

from thaw.store.store import Store


def make(store: Store, kind: str, parts: dict, build: Callable[[Path], object], rows=None) -> tuple[Path, bool]:
    """Return the folder of an artifact and whether it existed; if not, `build(folder)` fills it."""
    with store.entry(kind, parts, rows) as entry:
        if entry.missing:
            build(entry.folder)
    return entry.path, not entry.missing
