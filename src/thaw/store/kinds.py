"""What the artifacts of each kind hold, and whether one is as it was published. Standard library only.

Each says itself what it holds, so that damage is seen, not malice: whoever can write to the store has to be trusted.
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
    """Say what is wrong with an artifact, by the text of its DONE.json; None: it is whole.

    Sizes are compared, with `contents` SHA-256 as well. Errors: a file cannot be read, OSError.
    """
    about = next(iter(json_objects(done)), {})
    files = about.get("files")
    if about.get("format") != FORMAT or not isinstance(files, Mapping):
        return "DONE.json cannot be read"
    if files.keys() != FILES.get(kind, files.keys()):
        return f"DONE.json does not list the files of {kind}"
    for name, entry in files.items():
        file, said = path / name, entry if isinstance(entry, Mapping) else {}
        if Path(name).name != name or not file.is_file() or file.stat().st_size != said.get("bytes"):
            return f"{name} is missing or cut short"
        if contents and sha256_of(file) != said.get("sha256"):
            return f"{name} is not what was written"
    return None


def lacks_done(path: Path) -> bool:
    """Return whether something is there that has no DONE.json.

    One folder is looked into, by its descriptor: by its name it may be another one, published between two looks.
    """
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    except NotADirectoryError:  # a file in its place, or in that of a folder above
        return os.path.lexists(path)
    try:
        return not stat.S_ISREG(os.stat(DONE, dir_fd=folder).st_mode)
    except FileNotFoundError:
        return True
    finally:
        os.close(folder)


def is_numbers(value: Any) -> bool:
    """Whether a value is a list of numbers."""
    return isinstance(value, list) and all(type(one) is float or is_whole(one) for one in value)


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number that a float can hold."""
    return type(value) is int and abs(value) < 1 << 63
