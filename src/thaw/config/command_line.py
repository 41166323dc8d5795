"""Translation of the typed command line into one that Hydra accepts.

Imports nothing heavier than yaml, so that a typing error is answered at once.
"""

import fnmatch
import re
import shlex
from dataclasses import dataclass
from os.path import exists, expanduser
from pathlib import Path

from thaw.config.conf_files import (
    choices_of,
    chosen_values,
    experiments,
    group_names,
    part,
    phase_names,
    read_yaml,
)
from thaw.config.flags import config_dirs, flags_and_rest
from thaw.config.hydra_settings import chosen_plugins, idle_hydra_settings
from thaw.config.overrides import QUOTED, bracket_depth, in_shell, join_override, quote, split_override, swept_choices
from thaw.config.seeds import refuse_search, with_seeds
from thaw.config.sources import LISTED, SOURCES, source_at
from thaw.config.timm_names import check_backbone
from thaw.config.typed_paths import FOLDER_KEYS, PATH_KEYS, quoted_path
from thaw.runtime.errors import UserError, nearest

TEXT_KEYS = ("name", "notes", "wandb.project", "wandb.entity", "data.group")
TEXT_KEYS += tuple(f"data.{option}" for source in SOURCES.values() for option in source.texts)
OPEN = ("checklist", "augment.transforms")  # dictionaries that accept new entries
PATTERNS = r"""['"]?[^'",()=\[\]]+['"]?|\[[^()=\[\]]*\]"""  # an argument of glob(): one pattern, or several in brackets


@dataclass(frozen=True)
class CommandLine:
    """A command line that Hydra accepts, and what must be known about it before Hydra starts."""

    argv: list[str]
    backbones: tuple[str, ...]  # timm names without a yaml in conf/backbone
    notes: tuple[str, ...]  # lines to print
    multirun: bool  # whether it is a sweep: by -m, by seeds=N, or by an experiment that starts one


def normalise(argv: list[str], conf: Path) -> CommandLine:
    """Return the typed arguments in the form that Hydra accepts.

    Move flags to the front, quote paths and free text, expand `~`, make seeds=N a sweep, and add the groups that
    `data.root` implies unless they were chosen. Raise UserError (exit 2) if an argument is not a setting.
    """
    flags, rest = flags_and_rest(argv)
    typed = [split_override(arg) for arg in join_split_arguments(rest)]
    for before, this in zip([None, *typed], typed, strict=False):
        refuse_bare_word(before, this, conf)
    asked = typed
    flags, typed = with_seeds(flags, typed)
    confs = [conf, *config_dirs(flags)]
    typed = [(sign, key, expand_glob(key, value, confs)) for sign, key, value in typed]
    recipes = experiments(typed, *confs)
    multirun = is_sweep(flags, typed, recipes)
    notes, phases = idle_hydra_settings(typed, recipes, multirun), phase_names(rest, *confs)
    typed = [normalise_one(*parts, phases, multirun, notes) for parts in typed]
    typed += [("", group, choice) for group, choice in implied_groups(typed, recipes, notes)]
    typed += chosen_plugins(typed, [part(read_yaml(conf / "local.yaml")), *recipes])
    refuse_search(asked, typed)
    wanted = chosen_values(typed, recipes).get("backbone", [])
    known = {*choices_of("backbone", *confs), "null"}
    backbones = dict.fromkeys(name for name in wanted if re.fullmatch(r"\w[\w.:/-]*", name) and name not in known)
    for name in backbones:
        check_backbone(name, known - {"null"})
    return CommandLine(flags + [join_override(*parts) for parts in typed], tuple(backbones), tuple(notes), multirun)


def join_split_arguments(args: list[str]) -> list[str]:
    """Join arguments that spaces split: `lr=[1e-4,` `1e-3]`, `seed=0,` `1` and `lr` `=` `0.1`."""
    out = []
    for arg in args:
        before = out[-1] if out else ""
        _, key, value = split_override(before)
        if before and ((arg.startswith("=") and value is None) or (value == "" and "=" not in arg)):
            out[-1] += arg
        elif (
            value
            and key not in PATH_KEYS + TEXT_KEYS
            and "=" not in arg
            and (value.endswith(",") or bracket_depth(value) > 0)
        ):
            out[-1] += " " + arg
        else:
            out.append(arg)
    return out


def refuse_bare_word(before: tuple | None, this: tuple, conf: Path) -> None:
    """Raise UserError (exit 2) if an argument sets nothing, with what was probably meant."""
    sign, key, value = this
    arg = join_override(*this)
    if value is not None and key:
        return
    if sign == "~" and re.fullmatch(r"\w[\w./]*", key) and "/" not in key.removeprefix("hydra/"):
        return
    if value is not None:
        raise UserError(2, f"{arg}: a setting needs a name before the =")
    if before and before[1] in PATH_KEYS + TEXT_KEYS:
        advice = f"a value with spaces needs quotes: {shlex.quote(f'{join_override(*before)} {arg}')}"
        raise UserError(2, f"{arg}: is it part of {before[1]}? {advice}")
    if exists(expanduser(arg)):
        raise UserError(2, f"{arg}: not a setting; for a folder of images type {in_shell(f'data.root={arg}')}")
    if "/" in arg or arg[0] == "~":
        raise UserError(2, f"{arg}: not a setting, and no file or folder of this name exists")
    groups = [group for group in group_names(conf) if arg in choices_of(group, conf)]
    if groups:
        raise UserError(2, f"{arg}: did you mean {' or '.join(f'{group}={arg}' for group in groups)}?")
    raise UserError(2, f"{arg}: not a setting; settings are written key=value (--help lists them)")


def expand_glob(key: str, value: str | None, confs: list[Path]) -> str | None:
    """Replace `glob(PATTERNS, exclude=PATTERNS)` as the value of a group by the choices in --help that it matches.

    Raise UserError (exit 2) if it matches none, if the choice is a base file such as _shared, or if several choices
    are in brackets, which Hydra would merge.
    """
    choices = choices_of(key, *confs) if "." not in key else []
    if not choices or value is None:
        return value
    glob = re.fullmatch(rf"glob\(\s*(?:include\s*=\s*)?({PATTERNS})\s*(?:,\s*exclude\s*=\s*({PATTERNS})\s*)?\)", value)
    if glob is None:
        if "[" in value:
            raise UserError(2, f"{key}={value}: only one choice per run; for a sweep, add -m and remove the brackets")
        if base := next((name for name in swept_choices(value) if name.startswith("_")), None):
            raise UserError(2, f"{key}={base}: no such choice; {nearest(base, choices)}")
        return value
    include, exclude = ([word.strip(" '\"") for word in (part or "").strip("[]").split(",")] for part in glob.groups())
    matched = [
        name
        for name in choices
        if any(fnmatch.fnmatch(name, one) for one in include) and not any(fnmatch.fnmatch(name, one) for one in exclude)
    ]
    if not matched:
        raise UserError(2, f"{key}={value}: matches no choice; known: {', '.join(choices)}")
    return ",".join(matched)


def is_sweep(flags: list[str], typed: list[tuple], recipes: list[dict]) -> bool:
    """Return whether this is a sweep: by -m or an experiment, unless hydra.mode says otherwise.

    Raise UserError (exit 2) if -m and hydra.mode=RUN are both given.
    """
    modes = [value for _, key, value in typed if key == "hydra.mode"]
    if {"-m", "--multirun"} & set(flags):
        if modes and modes[-1] != "MULTIRUN":
            raise UserError(2, f"-m contradicts hydra.mode={modes[-1]}; remove one of the two")
        return True
    modes = modes or [part(recipe, "hydra", "mode", kind=str) for recipe in recipes]
    return "MULTIRUN" in (modes[-1:] or "")


def normalise_one(sign, key, value, phases: list[str], multirun: bool, notes: list[str]) -> tuple[str, str, str | None]:
    """Return one setting in the form that Hydra accepts."""
    if key in FOLDER_KEYS:
        return sign, key, quoted_path(key, value, False, notes)
    if key.startswith("hydra") or sign == "~":
        return "++" if key.startswith("hydra.job.env_set.") else sign, key, value
    # Hydra accepts the misspelt +lrr=1 silently, so a plus is kept (and needed) only in dictionaries with new entries.
    entry = next((key.removeprefix(f"{name}.") for name in OPEN if key.startswith(f"{name}.")), None)
    new = entry and (sign or value.startswith("{") or key.startswith("augment") or entry.split(".")[0] in phases)
    whole = key == "augment.transforms" and value.startswith("{")  # merged into the existing entries
    sign = "++" if new or whole else ""
    if key in PATH_KEYS:
        value = quoted_path(key, value, multirun, notes)
    elif key in TEXT_KEYS and value != "null":
        value = value if re.fullmatch(QUOTED, value) else quote(value, multirun)
    elif key == "monitor":
        value = re.sub(r"\bval(idation)?/", "valid/", value)
    return sign, key, value


def implied_groups(typed, recipes: list[dict], notes: list[str]) -> list[tuple[str, str]]:
    """Return the groups and choices that `data.root` or a choice of photographs as data implies."""
    groups, out = chosen_values(typed, recipes), []
    root = [value for sign, key, value in typed if key == "data.root" and sign != "~" and value != "null"]
    if root and "data" not in groups:
        out.append(("data", source_at(root[-1].strip("'\""))))
    if (kinds := {*groups.get("data", []), *(kind for _, kind in out)}) and kinds <= set(LISTED):
        own = {"backbone": "resnet50", "augment": "standard"}
        out += [(group, choice) for group, choice in own.items() if group not in groups]
    if out:
        why = "data.root" if root else f"data={groups['data'][0]}"
        notes.append(f"{why} implies {' '.join(f'{group}={choice}' for group, choice in out)}")
    return out
