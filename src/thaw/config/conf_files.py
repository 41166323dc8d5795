"""Read from the text of conf/ what it offers: groups, choices, phases, and the type of every key.

Without a yaml library, so that a typing error is answered at once.
"""

import re
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from thaw.config.overrides import split_override, swept_choices
from thaw.config.schema import Settings


def read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def experiment_texts(typed, *confs: Path) -> list[str]:
    """The text of each experiment that was typed and that there is, after the text of those that it builds on."""
    names = [name for _, key, value in typed if key == "experiment" and value for name in swept_choices(value)]
    return [text for name in names for conf in confs for text in text_with_bases(conf / "experiment" / f"{name}.yaml")]


def text_with_bases(file: Path) -> list[str]:
    """The text of a yaml after those of its own folder that its defaults name."""
    if not file.is_file():
        return []
    text = read(file)
    bases = [base for base in re.findall(r"^ *- (\w+) *(?:#.*)?$", text, re.M) if base != file.stem]
    return [before for base in bases for before in text_with_bases(file.with_name(f"{base}.yaml"))] + [text]


def chosen_values(typed, recipes: list[str]) -> dict[str, list[str]]:
    """The values that were typed for each key, or that an experiment's yaml chooses for a group."""
    choice = r"^[ \t]*(?:- *override +/?)?(\w+): *([^\s{\[#][^\n#]*)"
    pairs = [pair for text in recipes for pair in re.findall(choice, text, re.M)]
    pairs += [(key, value) for sign, key, value in typed if sign != "~" and value]
    out = {}
    for key, value in pairs:
        out[key] = out.get(key, []) + swept_choices(value)
    return out


def group_names(conf: Path) -> list[str]:
    """The config groups, in the order of config.yaml, experiments last."""
    return [group for group in re.findall(r"^  - (\w+): ", read(conf / "config.yaml"), re.M) if (conf / group).is_dir()]


def choices_of(group: str, conf: Path) -> list[str]:
    """The choices of a group."""
    return sorted(file.stem for file in (conf / group).glob("*.yaml") if not file.name.startswith("_"))


def default_choice(group: str, conf: Path) -> str:
    """Return the choice of a group in config.yaml."""
    return re.search(rf"^  - {group}: *(\w+)", read(conf / "config.yaml"), re.M)[1]


def phase_names(argv: list[str], conf: Path) -> list[str]:
    """The phases of the checklist that the arguments choose, and those that they add."""
    typed = [split_override(arg) for arg in argv]
    recipes = experiment_texts(typed, conf)
    names = chosen_values(typed, recipes).get("checklist") or [default_choice("checklist", conf)]
    files = [conf / "checklist" / f"{name}.yaml" for name in names]
    texts = [read(file) for file in files if file.is_file()] + recipes
    phases = [name for text in texts for name in re.findall(r"^ *(\w+): *\{ *do:", text, re.M)]
    added = [re.fullmatch(r"checklist\.(\w+)", key) for sign, key, _ in typed if sign != "~"]
    return list(dict.fromkeys(phases + [match[1] for match in added if match]))


@cache
def key_types() -> dict[str, Any]:
    """The type of every key, dotted."""

    def walk(cls, prefix):
        for key, hint in get_type_hints(cls).items():
            yield prefix + key, hint
            if is_dataclass(hint):
                yield from walk(hint, f"{prefix}{key}.")

    return dict(walk(Settings, ""))
