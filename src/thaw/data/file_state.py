"""The state of the files that the settings name: their sizes and times, without reading them."""

import os
from pathlib import Path

from thaw.config.paths import ROOT
from thaw.config.schema import Data, Settings
from thaw.config.sources import SOURCES
from thaw.config.timm_names import LOCAL
from thaw.runtime.errors import UserError
from thaw.runtime.files import file_stamp


def paths_in(settings: Settings) -> tuple[str, ...]:
    """Return the settings that may name files.

    The folder of a table's images is not among them, since it may hold a whole disk.
    """
    data, backbone = settings.data, settings.backbone
    local = backbone.name.removeprefix(LOCAL) if backbone.name.startswith(LOCAL) else None
    paths = (data.root, data.classes, data.labels, local, backbone.weights, settings.init)
    return tuple(path for path in paths if path is not None)


def check_paths_exist(data: Data) -> None:
    """Raise UserError (exit 3) if the user's own images, or tables about any images, do not exist."""
    source = SOURCES[data.kind]
    keys = ("root", *source.folders) if source.local else ()
    for key in (*keys, *(() if source.draws else ("labels", "classes"))):
        path = getattr(data, key)
        if path is not None and not os.path.exists(os.path.expanduser(path)):
            folder = key in source.folders or (key == "root" and not source.suffixes)
            from thaw.data.folder import suggest_folders

            close = suggest_folders(os.path.abspath(os.path.expanduser(path))) if folder else ""
            raise UserError(3, f"data.{key}={path}: no such {'folder' if folder else 'file'}{close}")


def named_files(settings: Settings) -> list:
    """Return the size and state of the files that the settings name, and of those that their table names."""
    there = sorted({path for name in paths_in(settings) for path in possible_paths(name) if os.path.exists(path)})
    return [*map(folder_content, there), *table_files(settings.data)]


def table_files(data: Data) -> list:
    """Return the images that a table names."""
    source = SOURCES[data.kind]
    if not source.suffixes:
        return []
    try:
        return [[os.fsencode(file.path).hex(), file.size, file.state] for file in source.load()(data, []).files]
    except UserError:
        return []  # reported when the images are read


def possible_paths(value: str) -> tuple[Path, Path]:
    """Return the paths that a path in the settings may mean: as typed, or in the repository."""
    return Path(os.path.expanduser(value)).absolute(), ROOT / value


def folder_content(path: Path) -> list:
    """Return the name, size and state of every file below a folder, or of a single file; links are followed once.

    Files whose state is unknown are left out; reading them later reports it.
    """
    below, seen = [], set()
    for folder, folders, names in os.walk(path, followlinks=True):
        status = os.stat(folder)
        if (at := (status.st_dev, status.st_ino)) in seen:
            folders.clear()
            continue
        seen.add(at)
        below += [Path(folder) / name for name in names]
    stats = [(os.fsencode(file).hex(), status_of(file)) for file in sorted(below or [path])]
    return [[name, stat.st_size, file_stamp(stat)] for name, stat in stats if stat]


def status_of(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except OSError:
        return None
