"""Read from conf/ what it offers: groups, choices, phases, and the type of every key; and any other yaml.

Nothing heavier than yaml is imported, so that a typing error is answered at once.
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

# Scalars stay text, as names and overrides have to: `no` is a choice, and 1e-3 what was typed. In C where yaml has it.
BaseLoader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


def read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def load(file: Path) -> Any:
    """Read what a yaml holds: dictionaries, lists and strings. Errors: whatever is wrong with it."""
    return yaml.load(read(file), BaseLoader)


def read_yaml(file: Path) -> Any:
    """Read what a yaml holds; None of one that is not there or is broken."""
    try:
        return load(file)
    except (OSError, UnicodeError, yaml.YAMLError, RecursionError):
        return None


def part(data: Any, *keys: str, kind: type = dict) -> Any:
    """Return what a yaml holds below these keys, an empty one where that is not there or of another kind."""
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data if isinstance(data, kind) else kind()


def experiments(typed, *confs: Path) -> list[dict]:
    """Read each experiment that was typed and that there is, after those that it builds on. Errors: as of a yaml."""
    chosen = [
        value.strip("[]") for _, key, value in typed if key == "experiment" and value
    ]  # several at once in brackets
    names = [name for value in chosen for name in swept_choices(value)]
    files = [conf / "experiment" / f"{name}.yaml" for name in names for conf in confs]
    recipes = [recipe for file in files for recipe in with_bases(file)]
    for file in filter(Path.is_file, files):
        if not re.search(r"^# *@package +_global_ *$", read(file), re.M):
            raise UserError(2, f"{file}: needs the first line '# @package _global_': it sets keys of all groups")
    return recipes


def with_bases(file: Path, above: tuple[Path, ...] = ()) -> list[dict]:
    """Read a yaml after those of its own folder that its defaults name; nothing where there is none.

    Errors: one that is among its own bases, exit 2; what Hydra can make nothing of either, exit 2.
    """
    if not file.is_file():
        return []
    if file in above:
        chain = " names ".join(one.name for one in (*above[above.index(file) :], file))
        raise UserError(2, f"{file}: is built on itself: {chain} in its defaults")
    recipe = part(checked_yaml(file))
    bases = [base for base in part(recipe, "defaults", kind=list) if isinstance(base, str)]
    found = [before for base in bases for before in with_bases(file.parent / f"{base}.yaml", (*above, file))]
    return [*found, recipe]


def checked_yaml(file: Path) -> dict:
    """Read what a yaml of conf/ sets. Errors: no text, no yaml or no keys with values, exit 2."""
    try:
        data = load(file)
    except UnicodeError:
        raise UserError(2, f"{file}: is no text in UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(2, f"{file}: is no yaml: {error.problem}{line}") from None
    except yaml.YAMLError:
        raise UserError(2, f"{file}: is no yaml: it holds characters that a text cannot have") from None
    except RecursionError:
        raise UserError(2, f"{file}: is no yaml: its brackets are too deep") from None
    except OSError as error:
        raise UserError(5, f"cannot read {file}: {error.strerror}") from None
    if not isinstance(data, dict | None):
        raise UserError(2, f"{file}: must be keys with values, one a line, as the yaml files of conf/ are")
    return data or {}


def chosen_values(typed, recipes: list[dict]) -> dict[str, list[str]]:
    """Return the values that were typed for each key, or that an experiment's yaml chooses for a group or sweeps."""
    pairs = [pair for recipe in recipes for pair in choices_in(recipe)]
    pairs += [(key, value) for sign, key, value in typed if sign != "~" and value]
    out = {}
    for key, value in pairs:
        out[key] = out.get(key, []) + swept_choices(value)
    return out


def choices_in(recipe: dict) -> list[tuple[str, str]]:
    """Return the groups of a recipe's defaults with their choices, and the keys that it sweeps with their values."""
    entries = [entry for entry in part(recipe, "defaults", kind=list) if isinstance(entry, dict)]
    pairs = [pair for entry in entries for pair in entry.items()]  # of `override /data: csv` the last word is the group
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
    """The choices of a group."""
    files = [file for conf in confs for file in (conf / group).glob("*.yaml") if not file.name.startswith("_")]
    return sorted({file.stem for file in files})


def phase_names(argv: list[str], *confs: Path) -> list[str]:
    """Return the phases of the checklist that the arguments choose, and those that they add."""
    typed = [split_override(arg) for arg in argv]
    recipes = experiments(typed, *confs)
    names = chosen_values(typed, recipes).get("checklist") or [default_choices(confs[0]).get("checklist")]
    files = [conf / "checklist" / f"{name}.yaml" for name in names for conf in confs]
    checklists = [recipe for file in files for recipe in with_bases(file)]
    phases = [name for recipe in checklists + recipes for name in phases_in(recipe)]
    added = [re.fullmatch(r"checklist\.(\w+)", key) for sign, key, _ in typed if sign != "~"]
    return list(dict.fromkeys(phases + [match[1] for match in added if match]))


def phases_in(recipe: dict) -> list[str]:
    """Return the phases that a checklist or an experiment adds: those that say what they do."""
    entries = part(recipe, "checklist") or recipe
    return [name for name, entry in entries.items() if part(entry, "do", kind=str)]


@cache
def key_types() -> dict[str, Any]:
    """The type of every key, dotted."""

    def walk(cls, prefix):
        for key, hint in get_type_hints(cls).items():
            yield prefix + key, hint
            if is_dataclass(hint):
                yield from walk(hint, f"{prefix}{key}.")

    return dict(walk(Composed, ""))


def alternatives(hint) -> tuple:
    """The alternatives of a type: those of a union, else the type itself."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
