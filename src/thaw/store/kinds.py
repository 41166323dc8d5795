"""The files of each kind of artifact, and the check that an artifact is as it was published.

The hashes are stored with the artifact, so the check finds damage but not malice: everyone who can write to the store
is trusted.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thaw.runtime.files import json_objects
from thaw.store.lock import DONE
from thaw.store.publish import FORMAT, sha256_of

FILES = {
    "weights": {"weights.safetensors"},
    "pixels": {"pixels.u8", "index.json"},
    "activations": {"features.safetensors", "rows.json"},
    "finds": {"curve.json"},
    "cycles": {"weights.safetensors", "momentum.safetensors", "logits.safetensors", "record.json"},
}


def damage(kind: str, path: Path, done: str, contents: bool) -> str | None:
    """Return what is wrong with an artifact, given the text of its DONE.json, or None if it is whole.

    Compare sizes and, with `contents`, SHA-256. Raise OSError if a file cannot be read.
    """
    about = next(iter(json_objects(done)), {})
    files = about.get("files")
    if about.get("format") != FORMAT or not isinstance(files, Mapping):
        return "DONE.json cannot be read"
    if files.keys() != FILES.get(kind, files.keys()):
        return f"DONE.json does not list the files of {kind}"
    for name, entry in files.items():
        file, stated = path / name, entry if isinstance(entry, Mapping) else {}
        if Path(name).name != name or not file.is_file() or file.stat().st_size != stated.get("bytes"):
            return f"{name} is missing or cut short"
        if contents and sha256_of(file) != stated.get("sha256"):
            return f"{name} has changed since it was written"
    return None


def lacks_done(path: Path) -> bool:
    """Return whether a path exists but has no DONE.json.

    Use the folder's descriptor, because another folder may be published under its name between two calls.
    """
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    except NotADirectoryError:  # the path or one of its parents is a file
        return os.path.lexists(path)
    try:
        return not stat.S_ISREG(os.stat(DONE, dir_fd=folder).st_mode)
    except FileNotFoundError:
        return True
    finally:
        os.close(folder)


def is_numbers(value: Any) -> bool:
    """Return whether a value is a list of numbers."""
    return isinstance(value, list) and all(type(one) is float or is_whole(one) for one in value)


def is_whole(value: Any) -> bool:
    """Return whether a value is a whole number that a float can hold."""
    return type(value) is int and abs(value) < 1 << 63
