"""Paths as they are typed, made into paths that mean the same wherever the command is given again."""

import re
from os.path import exists, expanduser
from pathlib import Path

from thaw.config.overrides import QUOTED, quote, split_values, unquote
from thaw.runtime.errors import UserError

PATH_KEYS = ("data.root", "data.images", "data.classes", "data.labels")
PATH_KEYS += ("backbone.weights", "store.dir", "wandb.dir", "init")
FOLDER_KEYS = ("hydra.run.dir", "hydra.sweep.dir")
NOT_FILES = ("null", "none", "pretrained", "packaged", "???")  # words that a path may be instead


def typed_path(key: str, text: str) -> str:
    """The absolute path that was typed, from the home or the folder that one stands in; what is no path as it is.

    Errors: an empty one, exit 2; that folder is gone, exit 5.
    """
    if not text:
        raise UserError(2, f"{key} is empty; give {key}={'FOLDER' if key == 'data.root' else 'PATH'}")
    if re.match(r"[a-z][a-z0-9+]+://", text):
        raise UserError(2, f"{key}={text}: is an address; fetch it first and give the path")
    if text in NOT_FILES or text.startswith("${"):
        return text
    if key == "backbone.weights" and not exists(expanduser(text)):  # it may be one of the checkout's
        return text
    try:
        return str(Path.cwd() / expanduser(text))
    except FileNotFoundError:
        raise UserError(5, "the folder that this was started in is gone; start from another") from None


def quoted_path(key: str, value: str, multirun: bool, notes: list[str]) -> str:
    """A path, or several of a sweep, absolute and quoted where needed. Errors: as of `typed_path`.

    A comma in a sweep belongs to the path where that exists as a whole, or where not all its parts do.
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
    """One argument of choice(...): a path, or what has a name, as it is."""
    if re.fullmatch(QUOTED, part):
        return quote(typed_path(key, unquote(part)), swept=True)
    return part if "=" in part else quote(typed_path(key, part), swept=True)
