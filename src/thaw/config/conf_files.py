"""Readers of yaml files, and of the groups, choices, phases and keys that conf/ offers.

Imports nothing heavier than yaml, so that a typing error is answered at once.
"""

import re
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

from thaw.config.composed import Composed
from thaw.config.overrides import split_override, swept_choices
from thaw.runtime.errors import UserError

# Keeps scalars as text: a choice may be called `no`, and 1e-3 stays as it was typed. The C loader is faster.
BaseLoader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


def read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def load(file: Path) -> Any:
    """Read a yaml as dictionaries, lists and strings. Errors of reading and parsing are not caught."""
    return yaml.load(read(file), BaseLoader)


def read_yaml(file: Path) -> Any:
    """Read a yaml; return None if it does not exist or is broken."""
    try:
        return load(file)
    except (OSError, UnicodeError, yaml.YAMLError, RecursionError):
        return None


def part(data: Any, *keys: str, kind: type = dict) -> Any:
    """Return the value below nested keys, or an empty `kind` if it does not exist or is of another kind."""
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data if isinstance(data, kind) else kind()


def experiments(typed, *confs: Path) -> list[dict]:
    """Read the typed experiments that exist, each after those that its defaults name.

    Raise UserError (exit 2) if one is broken or has no `@package _global_`.
    """
    chosen = [
        value.strip("[]") for _, key, value in typed if key == "experiment" and value
    ]  # several at once in brackets
    names = [name for value in chosen for name in swept_choices(value)]
    files = [conf / "experiment" / f"{name}.yaml" for name in names for conf in confs]
    recipes = [recipe for file in files for recipe in with_bases(file)]
    for file in filter(Path.is_file, files):
        if not re.search(r"^# *@package +_global_ *$", read(file), re.M):
            raise UserError(2, f"{file}: an experiment needs the first line '# @package _global_'")
    return recipes


def with_bases(file: Path, above: tuple[Path, ...] = ()) -> list[dict]:
    """Read a yaml after those of its folder that its defaults name; return nothing if it does not exist.

    Raise UserError (exit 2) if one is broken or if the defaults form a cycle.
    """
    if not file.is_file():
        return []
    if file in above:
        chain = " -> ".join(one.name for one in (*above[above.index(file) :], file))
        raise UserError(2, f"{file}: its defaults form a cycle: {chain}")
    recipe = part(checked_yaml(file))
    bases = [base for base in part(recipe, "defaults", kind=list) if isinstance(base, str)]
    found = [before for base in bases for before in with_bases(file.parent / f"{base}.yaml", (*above, file))]
    return [*found, recipe]


def checked_yaml(file: Path) -> dict:
    """Read a yaml of settings. Raise UserError (exit 2) if it is broken or not a dictionary, (exit 5) if unreadable."""
    try:
        data = load(file)
    except UnicodeError:
        raise UserError(2, f"{file}: not UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(2, f"{file}: not valid yaml: {error.problem}{line}") from None
    except yaml.YAMLError:
        raise UserError(2, f"{file}: not valid yaml: it contains characters that yaml does not allow") from None
    except RecursionError:
        raise UserError(2, f"{file}: not valid yaml: its brackets are nested too deeply") from None
    except OSError as error:
        raise UserError(5, f"cannot read {file}: {error.strerror}") from None
    if not isinstance(data, dict | None):
        raise UserError(2, f"{file}: must contain one `key: value` per line, as the yaml files in conf/ do")
    return data or {}


def chosen_values(typed, recipes: list[dict]) -> dict[str, list[str]]:
    """Return, for each key, the values that were typed or that an experiment chooses or sweeps."""
    pairs = [pair for recipe in recipes for pair in choices_in(recipe)]
    pairs += [(key, value) for sign, key, value in typed if sign != "~" and value]
    out = {}
    for key, value in pairs:
        out[key] = out.get(key, []) + swept_choices(value)
    return out


def choices_in(recipe: dict) -> list[tuple[str, str]]:
    """Return (group, choice) from the defaults of a recipe and (key, values) from its sweep."""
    entries = [entry for entry in part(recipe, "defaults", kind=list) if isinstance(entry, dict)]
    pairs = [pair for entry in entries for pair in entry.items()]  # the key may be `override /data`
    pairs = [(key.rpartition(" ")[2].removeprefix("/"), value) for key, value in pairs]
    pairs += part(recipe, "hydra", "sweeper", "params").items()
    return [(key, value) for key, value in pairs if isinstance(value, str)]


def default_choices(conf: Path) -> dict[str, str]:
    """Return the config groups with their choices, in the order of config.yaml, experiments last."""
    choices = choices_in(part(read_yaml(conf / "config.yaml")))
    return {group: choice for group, choice in choices if "/" not in group and (conf / group).is_dir()}


def group_names(conf: Path) -> list[str]:
    """Return the names of the config groups, in the order of config.yaml."""
    return list(default_choices(conf))


def choices_of(group: str, *confs: Path) -> list[str]:
    """Return the choices of a group, sorted; files that start with an underscore are bases, not choices."""
    files = [file for conf in confs for file in (conf / group).glob("*.yaml") if not file.name.startswith("_")]
    return sorted({file.stem for file in files})


def phase_names(argv: list[str], *confs: Path) -> list[str]:
    """Return the phases of the chosen checklist, and those that the arguments add."""
    typed = [split_override(arg) for arg in argv]
    recipes = experiments(typed, *confs)
    names = chosen_values(typed, recipes).get("checklist") or [default_choices(confs[0]).get("checklist")]
    files = [conf / "checklist" / f"{name}.yaml" for name in names for conf in confs]
    checklists = [recipe for file in files for recipe in with_bases(file)]
    phases = [name for recipe in checklists + recipes for name in phases_in(recipe)]
    added = [re.fullmatch(r"checklist\.(\w+)", key) for sign, key, _ in typed if sign != "~"]
    return list(dict.fromkeys(phases + [match[1] for match in added if match]))


def phases_in(recipe: dict) -> list[str]:
    """Return the phases that a checklist or an experiment defines: the entries with a `do`."""
    entries = part(recipe, "checklist") or recipe
    return [name for name, entry in entries.items() if part(entry, "do", kind=str)]


@cache
def key_types() -> dict[str, Any]:
    """Return the type of every dotted key."""

    def walk(cls, prefix):
        for key, hint in get_type_hints(cls).items():
            yield prefix + key, hint
            if is_dataclass(hint):
                yield from walk(hint, f"{prefix}{key}.")

    return dict(walk(Composed, ""))


def alternatives(hint) -> tuple:
    """Return the members of a union, or the type itself if it is not a union."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
