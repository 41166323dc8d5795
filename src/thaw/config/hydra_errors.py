"""What Hydra or OmegaConf refused, as one line a person can act on. Standard library only."""

import re
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from textwrap import shorten
from types import UnionType
from typing import Any, Union, get_args, get_origin

from thaw.config.conf_files import choices_of, group_names, key_types, phase_names
from thaw.config.overrides import bracket_depth, split_override, split_overrides, swept_choices, without_quoted
from thaw.runtime.errors import UserError, nearest

# What other programs call it.
ALIASES = {
    **dict.fromkeys(("model", "arch", "architecture", "net", "network", "encoder"), "backbone"),
    **dict.fromkeys(("learning_rate", "max_lr", "base_lr", "rate", "lrs"), "lr"),
    **dict.fromkeys(("optim", "opt"), "optimizer"),
    **dict.fromkeys(("sched", "schedule", "lr_scheduler"), "scheduler"),
    **dict.fromkeys(("dataset", "datamodule"), "data"),
    **dict.fromkeys(("path", "dir", "folder", "data.path", "data.dir", "data_dir", "data.folder"), "data.root"),
    **dict.fromkeys(("folds", "kfold", "cv", "data.folds"), "data.fold"),
    **dict.fromkeys(("val_split", "valid_pct", "val_pct", "test_size", "data.val"), "data.valid"),
    **dict.fromkeys(("img_size", "image_size", "resolution", "data.size", "sz"), "size"),
    **dict.fromkeys(("bs", "batch", "data.batch_size"), "batch_size"),
    **dict.fromkeys(("wd", "decay"), "optimizer.weight_decay"),
    **dict.fromkeys(("epoch", "num_epochs", "max_epochs", "trainer.max_epochs"), "epochs"),
    **dict.fromkeys(("num_workers", "n_workers"), "data.workers"),
    **dict.fromkeys(("gpu", "gpus", "accelerator"), "device"),
    **dict.fromkeys(("pretrained", "weights", "checkpoint"), "backbone.weights"),
    **dict.fromkeys(("aug", "augmentation", "transforms"), "augment"),
    **dict.fromkeys(("phases", "recipe"), "checklist"),
    **dict.fromkeys(("resume", "ckpt"), "init"),
    **dict.fromkeys(("ratios", "layer_rates", "discriminative"), "rates.ratios"),
    "label_smoothing": "loss.smoothing",
    "amp": "precision",
    "logger": "wandb",
}


def explain(error: Exception, argv: list[str], conf: Path) -> UserError:
    """What Hydra or OmegaConf refused, as one line: the value, its key, what is possible instead.

    Recognised by the names of the exceptions in its chain, so that nothing has to be imported.
    """
    if isinstance(error, UserError):
        return error
    chain = [error]
    while cause := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(cause)
    by_name = {type(one).__name__: one for one in reversed(chain)}
    return UserError(2, shorten(one_line(str(error), by_name, argv, conf), 199, placeholder=" ..."))


def one_line(text: str, errors: dict[str, Exception], argv: list[str], conf: Path) -> str:
    typed = {key: value for _, key, value in split_overrides(argv)}
    full_key = str(next((key for one in errors.values() if (key := getattr(one, "full_key", None))), ""))
    source = re.match(r"In '([^']+)': \w+ raised while composing", text)
    where = f"conf/{source[1]}.yaml: " if source else ""
    if "OverrideParseException" in errors:
        return explain_grammar(errors["OverrideParseException"].override, text)
    if sweep := re.match(r"(?:Ambiguous value for argument|Sweep parameters) '(.*)'", text):
        return explain_sweep(sweep[1])
    if missing := re.search(r"Could not (?:find|load) '([^']+)'", text):
        group, _, name = missing[1].rpartition("/")
        group = next((known for known in group_names(conf) if missing[1].startswith(f"{known}/")), group)
        options = choices_of(group, conf) or options_of(errors)
        return explain_choice(group, missing[1].removeprefix(f"{group}/") if group else name, typed, options)
    if "Config group override must be" in text:
        groups = [group for group in group_names(conf) if group in typed]
        group = next(g for g in groups if not set(swept_choices(typed[g] or "")) <= set(choices_of(g, conf)))
        return explain_choice(group, typed[group] or "", typed, choices_of(group, conf))
    if "MissingMandatoryValue" in errors:
        return explain_unset(full_key, conf)
    if gone := re.match(r"Could not delete(?: from config\.)? '([^'=]+)", text):
        return explain_deletion(gone[1], argv, conf)
    if "ValidationError" in errors:
        return where + explain_type(full_key, typed, str(errors["ValidationError"]))
    if {"InterpolationKeyError", "InterpolationResolutionError"} & set(errors):
        return f"{shown_setting(full_key, typed)}: {text.splitlines()[0].rpartition('interpolation: ')[2]}"
    unknown = re.match(r"Could not override '([^']+)'", text)
    if unknown or {"ConfigAttributeError", "ConfigKeyError"} & set(errors):
        # Of `find={stps: 3}` Hydra names find, OmegaConf find.stps.
        key = full_key if not unknown or full_key.startswith(f"{unknown[1]}.") else unknown[1]
        return where + explain_key(key, typed, argv, conf)
    text = re.sub(r"^.*[Tt]o append to your.*$", "", text.partition("Config search path")[0], flags=re.M)
    return " ".join(text.split()) or next(iter(errors))


def options_of(errors: dict[str, Exception]) -> list[str]:
    options = [getattr(one, "options", None) or [] for one in errors.values()]
    return [name for names in options for name in names if not name.startswith("_")]


def shown_setting(key: str, typed: dict[str, str | None]) -> str:
    """The setting as it was typed, not longer than it can be read."""
    value = typed.get(key)
    if value is None:
        return key
    return f"{key}={value if len(value) <= 60 else value[:28] + '...' + value[-28:]}"


def explain_grammar(override: str, text: str) -> str:
    sign, key, value = split_override(override)
    setting = shown_setting(sign + key, {sign + key: value})
    if function := re.search(r"Unknown function '(\w+)'\s*Available: (\S+)", text):
        return f"{setting}: no such function {function[1]}; {nearest(function[1], function[2].split(','))}"
    opened, rest = bracket_depth(value or ""), without_quoted(value or "")
    if opened > 0 or "'" in rest or '"' in rest:
        return f"{setting}: a bracket or quote is not closed"
    if opened < 0:
        return f"{setting}: a bracket is closed that was not opened"
    if not re.fullmatch(r"[\w.$/@]+", key):
        return f"{setting}: {key} is no name of a setting; they are written key=value, --help lists them"
    return f"{setting}: a value with such characters needs quotes inside quotes: \"{key}='{value}'\""


def explain_sweep(override: str) -> str:
    key, _, value = override.partition("=")
    of_list = key == "lr" or any(get_origin(hint) is list for hint in alternatives(key_types().get(key)))
    advice = f", or give a list: '{key}=[{value}]'" if of_list and "(" not in value else ""
    return f"{shown_setting(key, {key: value})} is a sweep: add -m{advice}"


def explain_choice(group: str, name: str, typed: dict, options: list[str]) -> str:
    if re.match(r"\[", typed.get(group) or ""):
        return f"{shown_setting(group, typed)}: one choice a run; for a sweep add -m and leave out the brackets"
    return f"{group}={name}: no such choice; {nearest(name, options)}".rstrip("; ")


def explain_unset(key: str, conf: Path) -> str:
    if (conf / key).is_dir() and "." not in key:
        return f"{key} cannot be left out; give {key}={'|'.join(choices_of(key, conf))}"
    return f"{key} is not set; give {key}={'FOLDER' if key == 'data.root' else 'VALUE'}"


def explain_deletion(key: str, argv: list[str], conf: Path) -> str:
    phases = phase_names(argv, conf)
    if key.startswith("checklist."):
        return f"~{key}: no such phase; {nearest(key.removeprefix('checklist.'), phases)}"
    hint = key_types().get(key)
    if hint is None:
        close = get_close_matches(key, phases, 1) or phases[-1:]
        return f"~{key}: only phases can be taken away, such as '~checklist.{close[0]}'"
    instead = f"; {key}=null unsets it" if type(None) in alternatives(hint) or hint is Any else ""
    return f"~{key}: only phases can be taken away{instead}"


def explain_key(key: str, typed: dict, argv: list[str], conf: Path) -> str:
    setting = shown_setting(key, typed)
    if key.startswith("checklist."):
        phase, phases = key.split(".")[1], phase_names(argv, conf)
        new = f"'checklist.{phase}={{do: fit, epochs: 2}}'"
        return f"{setting}: no such phase; {nearest(phase, phases)} Or a new one, {new}"
    if key.startswith("hydra"):
        return f"{setting}: no such setting of Hydra; --cfg hydra lists them"
    close = close_keys(key, [*key_types(), "experiment"])
    value = f"={typed[key]}" if len(close) == 1 and typed.get(key) and len(typed[key]) < 40 else ""
    return f"{setting}: no such key; " + (f"did you mean {', '.join(close)}{value}?" if close else "--help lists them")


def close_keys(key: str, known: list[str]) -> list[str]:
    """The keys that were probably meant: another program's name, the same last part, a slip of the finger."""
    if key in ALIASES:
        return [ALIASES[key]]
    last = key.split(".")[-1]
    same = [name for name in known if name.split(".")[-1] == last and ".facts." not in name]
    if same or last in ALIASES:
        return (same or [ALIASES[last]])[:3]
    close = get_close_matches(key, known, 3, 0.7)
    lasts = get_close_matches(last, [name.split(".")[-1] for name in known], 1, 0.75)
    return close or [name for name in known if name.split(".")[-1] in lasts][:3]


def alternatives(hint) -> tuple:
    """The alternatives of a type: those of a union, else the type itself."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def explain_type(key: str, typed: dict, text: str) -> str:
    key, item, _ = key.partition("[")
    hint, setting = key_types().get(key), shown_setting(key, typed)
    if hint is None or hint is Any:
        return f"{setting}: {text.splitlines()[0]}"
    if is_dataclass(hint):
        inside = ", ".join(f"{key}.{field.name}" for field in fields(hint)[:3])
        return f"{setting}: is a group of settings such as {inside}"
    plain = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    if item:
        inner = next(get_args(part)[0] for part in alternatives(hint) if get_origin(part) is list)
        return f"{setting}: each item must be {plain.get(inner, 'a value')}"
    a_list = f"a list such as '{key}=[{typed.get(key) or '...'}]'"
    names = [plain.get(part, a_list if get_origin(part) is list else "a dictionary") for part in alternatives(hint)]
    return f"{setting}: must be {' or '.join(names)}"
