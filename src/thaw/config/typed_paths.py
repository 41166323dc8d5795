"""Typed paths, made absolute so that a command means the same in any folder."""

import re
from os.path import exists, expanduser
from pathlib import Path

from thaw.config.overrides import QUOTED, quote, split_values, unquote
from thaw.config.sources import SOURCES
from thaw.runtime.errors import UserError

PATH_KEYS = ("data.root", "data.classes", "data.labels")
PATH_KEYS += tuple(f"data.{option}" for source in SOURCES.values() for option in source.folders)
PATH_KEYS += ("backbone.weights", "store.dir", "wandb.dir", "init")
FOLDER_KEYS = ("hydra.run.dir", "hydra.sweep.dir")
NOT_FILES = ("null", "none", "pretrained", "packaged", "???")  # words allowed in place of a path


def typed_path(key: str, text: str) -> str:
    """Return a typed path as absolute, with `~` expanded; return a word that is not a path unchanged.

    Raise UserError (exit 2) if it is empty or a URL, (exit 5) if the current folder no longer exists.
    """
    if not text:
        raise UserError(2, f"{key} is empty; give {key}={'FOLDER' if key == 'data.root' else 'PATH'}")
    if re.match(r"[a-z][a-z0-9+]+://", text):
        raise UserError(2, f"{key}={text}: a URL is not possible; download it first and give the path")
    if text in NOT_FILES or text.startswith("${"):
        return text
    if key == "backbone.weights" and not exists(expanduser(text)):  # may be relative to the repository
        return text
    try:
        return str(Path.cwd() / expanduser(text))
    except FileNotFoundError:
        raise UserError(5, "the current folder no longer exists; change to another folder") from None


def quoted_path(key: str, value: str, multirun: bool, notes: list[str]) -> str:
    """Return a path, or several of a sweep, as absolute and quoted if needed. Errors are those of `typed_path`.

    In a sweep, a value with commas is one path if the whole exists or if not all of its parts do.
    """
    if re.fullmatch(rf"{QUOTED}(\s*,\s*{QUOTED})*", value):
        return ",".join(quote(typed_path(key, unquote(part)), multirun) for part in split_values(value))
    if multirun and (called := re.fullmatch(r"(choice|shuffle|sort)\((.*)\)", value, re.S)):
        inner = ",".join(in_function(key, part) for part in split_values(called[2]))
        return f"{called[1]}({inner})"
    if multirun and re.match(r"glob\(", value):
        return value
    whole, parts = typed_path(key, value), split_values(value)
    if multirun and len(parts) > 1:
        paths = [typed_path(key, part) for part in parts if part]
        if not exists(whole) and all(path in NOT_FILES or exists(path) for path in paths):
            return ",".join(quote(path, multirun) for path in paths)
        notes.append(f"{key}={value} is taken as one path, not as a sweep")
    return quote(whole, multirun)


def in_function(key: str, part: str) -> str:
    """Return one argument of choice(...): a path as absolute, or a named argument unchanged."""
    if re.fullmatch(QUOTED, part):
        return quote(typed_path(key, unquote(part)), swept=True)
    return part if "=" in part else quote(typed_path(key, part), swept=True)
