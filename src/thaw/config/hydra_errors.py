"""Explanations of what Hydra or OmegaConf refused, each in one line that a user can act on."""

import re
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from textwrap import shorten
from typing import Any, get_args, get_origin

from thaw.config.conf_files import alternatives, checked_yaml, choices_of, group_names, key_types, phase_names
from thaw.config.flags import config_dirs
from thaw.config.overrides import (
    bracket_depth,
    in_shell,
    quote,
    split_override,
    split_overrides,
    split_values,
    swept_choices,
    unquote,
    without_quoted,
)
from thaw.config.similar_keys import OTHER_VALUES, close_keys
from thaw.config.sources import root_form
from thaw.runtime.errors import UserError, nearest

Accepts = Callable[[str], bool]


def explain(error: Exception, argv: list[str], conf: Path, accepts: Accepts = lambda word: True) -> UserError:
    """Return an error of Hydra or OmegaConf as a UserError (exit 2): the setting, and what is possible instead.

    Recognise it by the class names in its chain, without importing either library. Advise only what `accepts` takes.
    """
    if isinstance(error, UserError):
        return error
    chain = [error]
    while cause := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(cause)
    by_name = {type(one).__name__: one for one in reversed(chain)}
    try:
        line = one_line(str(error), by_name, Typed(argv, [conf, *config_dirs(argv)], accepts))
    except UserError as broken:  # a chosen yaml is broken
        return broken
    return UserError(2, shorten(line, 199, placeholder=" ..."))


def one_line(text: str, errors: dict[str, Exception], typed: "Typed") -> str:
    """Return the explanation of an error, given its text and its chain of causes by class name."""
    full_key = str(next((key for one in errors.values() if (key := getattr(one, "full_key", None))), ""))
    source = re.match(r"In '([^']+)': \w+ raised while composing", text)
    own = [conf / f"{source[1]}.yaml" for conf in typed.confs[1:]] if source else []  # yaml files of --config-dir
    where = f"{next(filter(Path.is_file, own), f'conf/{source[1]}.yaml')}: " if source else ""
    if "OverrideParseException" in errors:
        return explain_grammar(errors["OverrideParseException"].override, text, typed)
    if sweep := re.match(r"(?:Ambiguous value for argument|Sweep parameters) '(.*?)'(?:\n1\.| requires|$)", text, re.S):
        return explain_sweep(sweep[1], typed)
    typed.check_files()
    if unset := [key for sign, key, _ in split_overrides(typed.argv) if sign == "~" and key in typed.settings]:
        return explain_deletion(unset[0], typed)
    if "RecursionError" in errors:
        return "the defaults of yaml files in conf/ form a cycle"
    if missing := re.search(r"Could not (?:find|load) '([^']+)'", text):
        group, _, name = missing[1].rpartition("/")
        group = next((known for known in group_names(typed.confs[0]) if missing[1].startswith(f"{known}/")), group)
        options = choices_of(group, *typed.confs) or options_of(errors)
        return explain_choice(group, missing[1].removeprefix(f"{group}/") if group else name, typed, options)
    if "Config group override must be" in text:
        groups = [group for group in group_names(typed.confs[0]) if group in typed.values]
        known = {group: choices_of(group, *typed.confs) for group in groups}
        group = next(g for g in groups if not set(swept_choices(typed.values[g] or "")) <= set(known[g]))
        return explain_choice(group, typed.values[group] or "", typed, known[group])
    if "MissingMandatoryValue" in errors:
        return explain_unset(full_key, typed)
    if gone := re.match(r"Could not delete(?: from config\.)? '([^'=]+)", text):
        return explain_deletion(gone[1], typed)
    if line := explain_shape(text, full_key, errors):
        return where + line
    if "ValidationError" in errors:
        return where + explain_type(full_key, str(errors["ValidationError"]), typed)
    if merging := re.match(r"Error merging override (\S+?)=", text):
        return explain_type(merging[1].lstrip("+"), text, typed)
    if {"InterpolationKeyError", "InterpolationResolutionError"} & set(errors):
        return f"{typed.shown(full_key)}: {text.splitlines()[0].rpartition('interpolation: ')[2]}"
    unknown = re.match(r"Could not override '([^']+)'", text)
    if unknown or {"ConfigAttributeError", "ConfigKeyError"} & set(errors):
        # For `find={stps: 3}`, Hydra names find and OmegaConf the exact key find.stps.
        key = full_key if not unknown or full_key.startswith(f"{unknown[1]}.") else unknown[1]
        return where + explain_key(key, typed)
    text = re.sub(r"^.*[Tt]o append to your.*$", "", text.partition("Config search path")[0], flags=re.M)
    return " ".join(text.split()) or next(iter(errors))


def explain_shape(text: str, key: str, errors: dict[str, Exception]) -> str | None:
    """Explain a value of the wrong form, such as a list for a dictionary; return None for any other error."""
    if merged := re.search(r"Merge error: (\w+) is not a subclass of (\w+)", text):
        group = re.sub("(Keys|Conf)$", "", merged[2]).lower()
        return f"{group}: must contain options, not a {merged[1]}; choose by `override /{group}: NAME` under defaults"
    if "Cannot merge DictConfig with ListConfig" in text or "Cannot merge ListConfig with DictConfig" in text:
        return f"{key or 'a setting'}: a list where a dictionary is needed, or the other way round"
    if "KeyValidationError" in errors:
        return "the name of a setting is not text"
    if "Unsupported type in defaults" in text:
        return "each entry of `defaults` must be a name or `group: name`"
    if "does not support sweep type : INTERVAL" in text:
        return "interval(...) needs a search; add hydra/sweeper=optuna"
    return None


@dataclass(frozen=True)
class Typed:
    """A typed command line, the folders of its yaml files, and a test for what would be accepted instead."""

    argv: list[str]
    confs: list[Path]
    accepts: Accepts

    @cached_property
    def values(self) -> dict[str, str | None]:
        return {key: value for _, key, value in split_overrides(self.argv)}

    @property
    def settings(self) -> set[str]:
        """The keys that are not groups."""
        return key_types().keys() - set(group_names(self.confs[0]))

    @property
    def phases(self) -> list[str]:
        return phase_names([word for word in self.argv if word[:2] != "--"], *self.confs)

    def shown(self, key: str) -> str:
        """Return the setting as it was typed, with a long value shortened."""
        if (value := self.values.get(key)) is None:
            return key
        return f"{key}={value if len(value) <= 60 else value[:28] + '...' + value[-28:]}"

    def advice(self, before: str, word: str, after: str = "") -> str:
        """Return advice to type a word, or "" if the word is too long or would not be accepted."""
        return f"{before}{in_shell(word)}{after}" if len(word) <= 90 and self.accepts(word) else ""

    def check_files(self) -> None:
        """Raise UserError (exit 2) if a chosen yaml or conf/local.yaml is broken."""
        files = [conf / group / f"{choice}.yaml" for conf in self.confs for group, choice in self.values.items()]
        for file in filter(Path.is_file, [*files, self.confs[0] / "local.yaml"]):
            checked_yaml(file)


def options_of(errors: dict[str, Exception]) -> list[str]:
    """Return the choices that Hydra lists in its errors, without base files."""
    return [name for one in errors.values() for name in getattr(one, "options", None) or [] if name[:1] != "_"]


def explain_grammar(override: str, text: str, typed: Typed) -> str:
    """Explain a setting that Hydra cannot parse."""
    sign, key, value = split_override(override)
    setting = replace(typed, argv=[override]).shown(key).replace(key, sign + key, 1)
    function = re.search(r"Unknown function '(\w+)'\s*Available: (\S+)", text)
    if function and re.match(rf"{function[1]}\(", value or ""):
        return f"{setting}: no such function {function[1]}; {nearest(function[1], function[2].split(','))}"
    opened, rest = bracket_depth(value or ""), without_quoted(value or "")
    if opened > 0 or "'" in rest or '"' in rest:
        return f"{setting}: a bracket or quote is not closed"
    if opened < 0:
        return f"{setting}: a closing bracket has no opening bracket"
    if not re.fullmatch(r"[\w$/@-]+(\.[\w$/@-]+)*", key):
        return f"{setting}: {key} is not the name of a setting; settings are written key=value (--help lists them)"
    listed = re.fullmatch(r"\[(.*)\]", value or "", re.S)
    items = [quote(unquote(item)) for item in split_values(listed[1])] if listed else []
    word = f"{key}=[{','.join(items)}]" if listed else f"{key}={quote(value or '')}"
    advice = typed.advice("a value with such characters needs quotes inside quotes: ", word)
    return f"{setting}: {advice or f'not a value that {key} takes'}"


def explain_sweep(override: str, typed: Typed) -> str:
    """Explain several values without -m."""
    key, _, value = override.partition("=")
    typed = replace(typed, argv=[override])
    choices = choices_of(key, *typed.confs) if "." not in key else []
    listed = "" if choices or "(" in value else typed.advice("give a list: ", f"{key}=[{value}]")
    if key not in key_types() and not choices:
        return explain_key(key, typed)
    if unknown := [name for name in swept_choices(value) if choices and key != "backbone" and name not in choices]:
        return explain_choice(key, unknown[0], typed, choices)
    swept = choices or "(" in value or typed.accepts(f"{key}={split_values(value)[0]}")
    advice = ", or ".join(filter(None, ("add -m" if swept else "", listed)))
    return f"{typed.shown(key)} is a sweep{f': {advice}' if advice else f', and {key} takes no such values'}"


def explain_choice(group: str, name: str, typed: Typed, options: list[str]) -> str:
    """Explain a choice that does not exist."""
    if group != "experiment" and re.match(r"\[", typed.values.get(group) or ""):
        return f"{typed.shown(group)}: only one choice per run; for a sweep, add -m and remove the brackets"
    return f"{group}={name}: no such choice; {nearest(name, options)}".rstrip("; ")


def explain_unset(key: str, typed: Typed) -> str:
    """Explain a group or a setting that has no value."""
    if "." not in key and (choices := choices_of(key, *typed.confs)):
        return f"{key} is required; give {key}={'|'.join(choices)}"
    return f"{key} is not set; give {key}={root_form(typed.values.get('data')) if key == 'data.root' else 'VALUE'}"


def explain_deletion(key: str, typed: Typed) -> str:
    """Explain a `~` in front of anything but a phase."""
    phases = typed.phases
    if key.startswith("checklist."):
        return f"~{key}: no such phase; {nearest(key.removeprefix('checklist.'), phases)}"
    if key in typed.settings:
        return f"~{key}: only phases can be removed" + typed.advice("; ", f"{key}=null", " unsets it")
    close = get_close_matches(key, phases, 1) or phases[-1:]
    return f"~{key}: only phases can be removed, such as '~checklist.{close[0]}'"


def explain_key(key: str, typed: Typed) -> str:
    """Explain a key that does not exist."""
    setting = typed.shown(key)
    if key.startswith("checklist."):
        phase = key.split(".")[1]
        new = typed.advice("a new one is ", f"checklist.{phase}={{do: fit, epochs: 2}}")
        return "; ".join(filter(None, (f"{setting}: no such phase", nearest(phase, typed.phases).rstrip("?"), new)))
    if key.startswith("hydra"):
        return f"{setting}: no such setting of Hydra; --cfg hydra lists them"
    close = [name for name in close_keys(key, [*key_types(), "experiment"]) if name != key]
    same = len(close) == 1 and (value := typed.values.get(key)) and key not in OTHER_VALUES
    whole = typed.advice("did you mean ", f"{close[0]}={value}", "?") if same else ""
    meant = whole or (f"did you mean {' or '.join(close)}?" if close else "--help lists them")
    return f"{setting}: no such key; {meant}"


def explain_type(key: str, text: str, typed: Typed) -> str:
    """Explain a value of the wrong type; of a sweep's values, name the wrong one."""
    key, item, _ = key.partition("[")
    hint, setting = key_types().get(key), typed.shown(key)
    wrong, swept = re.search(r"Value '(.*?)'", text), swept_choices(typed.values.get(key) or "")
    if wrong and len(swept) > 1 and wrong[1] in swept:
        setting = f"{key}={wrong[1]}"
    if hint is None or hint is Any:
        return f"{setting}: {text.splitlines()[0]}"
    if is_dataclass(hint):
        inside = ", ".join(f"{key}.{field.name}" for field in fields(hint)[:3])
        return f"{setting}: {key} is a group of settings, such as {inside}"
    plain = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    if item:
        inner = next(get_args(part)[0] for part in alternatives(hint) if get_origin(part) is list)
        return f"{setting}: each item must be {plain.get(inner, 'a value')}"
    a_list = "a list" + typed.advice(" such as ", f"{key}=[{typed.values.get(key)}]")
    names = [plain.get(part, a_list if get_origin(part) is list else "a dictionary") for part in alternatives(hint)]
    return f"{setting}: must be {' or '.join(names)}"
