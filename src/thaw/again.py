"""Whether the same command was given before, told from what costs nothing to look at. Standard library only.

A run is known by what it depends on (`keys.run_parts`), which takes the network and the pictures to be loaded. Until
something changes on disk, in the code, the libraries or the machine, the same settings lead to the same parts: that is
what a stamp stands for, so that a finished run is recognised in the time it takes to read a folder.
"""

import json
import os
from dataclasses import asdict
from functools import cache
from hashlib import sha256
from pathlib import Path

from thaw import keys
from thaw.disk import state_of
from thaw.errors import UserError
from thaw.lock import machine
from thaw.machine import cores, listed_gpus
from thaw.names import LOCAL
from thaw.settings import Data, Settings
from thaw.store import key_of

ROOT = keys.HERE.parents[1]
UNRELATED = ("store", "wandb", "name", "tags", "notes", "fresh", "monitor")
UNRELATED += ("log_every", "verbose", "plan_only", "stop_after")
ENVIRONMENT = ("OMP_NUM_THREADS", "HF_HOME", "HF_HUB_CACHE")  # chooses where a setting says `auto`


def stamp(settings: Settings) -> str:
    """A key of the settings and of all that they name: files by size and time, code, libraries, machine."""
    related = {name: value for name, value in asdict(settings).items() if name not in UNRELATED}
    return key_of(
        {
            "settings": json.dumps(related),  # in the order of the phases and of the transforms
            "files": files(settings),
            "code": code() if settings.store.code == "check" else None,
            "versions": keys.versions(),
            "machine": [machine(), cores(), gpus(settings.deterministic), *map(os.environ.get, ENVIRONMENT)],
        }
    )


@cache
def code() -> str:
    """A hash of every module here, to the byte: which of them a run depends on is asked once it is set up."""
    return sha256(b"".join(file.read_bytes() for file in sorted(keys.HERE.rglob("*.py")))).hexdigest()


def named(settings: Settings) -> tuple[str, ...]:
    """The settings that may name files; not the folder that a table's paths are relative to, which may hold a disk."""
    data, backbone = settings.data, settings.backbone
    body = backbone.name.removeprefix(LOCAL) if backbone.name.startswith(LOCAL) else None
    paths = (data.root, data.classes, data.labels, body, backbone.weights, settings.init)
    return tuple(path for path in paths if path is not None)


def files(settings: Settings) -> list:
    """The files that the settings name, and those that a table of theirs names, by size and state."""
    there = sorted({path for name in named(settings) for path in places(name) if os.path.exists(path)})
    return [*map(content, there), *listed(settings.data)]


def listed(data: Data) -> list:
    """The pictures that a table names."""
    if data.kind != "csv":
        return []
    from thaw.data import csv_source

    try:
        return [[os.fsencode(file.path).hex(), file.size, file.state] for file in csv_source.listing(data).files]
    except UserError:
        return []  # said when the pictures are looked at


def gpus(which: bool) -> int | list[str] | None:
    """Return how many GPUs are left visible, None where none is hidden; or which, where bits depend on the model."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") is None:
        return None
    return listed_gpus() if which else len(listed_gpus())


def places(value: str) -> tuple[Path, Path]:
    """Where a setting that is a path can lie: as typed, or in the repository."""
    return Path(os.path.expanduser(value)).absolute(), ROOT / value


def content(path: Path) -> list:
    """Name, bytes and state of every file below a folder, or of the one file; links are followed once."""
    below, seen = [], set()
    for folder, folders, names in os.walk(path, followlinks=True):
        status = os.stat(folder)
        if (at := (status.st_dev, status.st_ino)) in seen:
            folders.clear()
            continue
        seen.add(at)
        below += [Path(folder) / name for name in names]
    stats = [(os.fsencode(file).hex(), file.stat()) for file in sorted(below or [path]) if file.exists()]
    return [[name, stat.st_size, state_of(stat)] for name, stat in stats]
