"""The flags of Hydra that thaw supports, checked before Hydra starts."""

import os
import re
from pathlib import Path

from thaw.config.conf_files import key_types
from thaw.config.overrides import split_override
from thaw.config.typed_paths import typed_path
from thaw.runtime.errors import UserError, nearest

PLAIN_FLAGS = ("-m", "--multirun", "-r", "--run", "--resolve", "-h", "--help", "--hydra-help", "--version")
COMPLETION = ("-sc", "--shell-completion")
SHELLS = r"(install|uninstall|query)=(bash|zsh|fish)"  # the word that follows -sc
FLAG_VALUES = {  # the first value is the default
    **dict.fromkeys(("-c", "--cfg"), ("job", "hydra", "all")),
    **dict.fromkeys(("-i", "--info"), ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")),
}
PACKAGE, CONFIG_DIR = ("-p", "--package"), ("-cd", "--config-dir")
REPLACING = ("-cp", "--config-path", "-cn", "--config-name", "--experimental-rerun")  # would replace conf/config.yaml
ALONE = ("--hydra-help", "--version")  # every other word is ignored


def flags_and_rest(argv: list[str]) -> tuple[list[str], list[str]]:
    """Split arguments into flags with their values and the rest. Raise UserError (exit 2) for a wrong flag or value."""
    flags, rest, todo = [], [], [arg.strip() for arg in argv if arg.strip() not in ("", "--")]
    while todo:
        arg = todo.pop(0)
        name, equals, value = arg.partition("=")
        if not re.match(r"--?[A-Za-z]", arg):
            rest.append(arg)
        elif name in PLAIN_FLAGS + COMPLETION:
            if equals:
                raise UserError(2, f"{arg}: {name} takes no value")
            flags.append(name)
        elif name in FLAG_VALUES:
            if not equals and todo and re.fullmatch(r"[a-z-]+", todo[0]) and todo[0][0] != "-":
                value = todo.pop(0)
            flags += [name, known_value(name, value or FLAG_VALUES[name][0])]
        elif name in PACKAGE + CONFIG_DIR + REPLACING:
            value = value if equals or not todo else todo.pop(0)
            if not value:
                raise UserError(2, f"{name} needs a value; see --help")
            flags += flag_with_value(name, value)
        else:
            raise UserError(2, f"{arg}: no such flag{instead_of_flag(name, value or next(iter(todo), ''))}")
    if len(folders := dict.fromkeys(config_dirs(flags))) > 1:
        raise UserError(2, f"--config-dir: give one folder, not {' and '.join(map(str, folders))}")
    return without_idle(flags, rest)


def without_idle(flags: list[str], rest: list[str]) -> tuple[list[str], list[str]]:
    """Keep only what is read: beside -sc its word, and beside --hydra-help or --version nothing.

    Raise UserError (exit 2) if -sc has no valid word.
    """
    if {*COMPLETION} & set(flags):
        asked = [word for word in rest if re.fullmatch(SHELLS, word)]
        if len(asked) != 1 or (asked[0].startswith("query") and not {"COMP_LINE", "COMP_POINT"} <= os.environ.keys()):
            raise UserError(2, "-sc takes one word: install=SHELL or uninstall=SHELL, with bash, zsh or fish as SHELL")
        return ["-sc"], asked
    if alone := [flag for flag in flags if flag in ALONE]:
        return alone[:1], []
    return flags, rest


def known_value(name: str, value: str) -> str:
    if value not in FLAG_VALUES[name]:
        raise UserError(2, f"{name} {value}: must be one of {', '.join(FLAG_VALUES[name])}")
    return value


def flag_with_value(name: str, value: str) -> list[str]:
    """Return a flag with its value as Hydra takes it.

    Raise UserError (exit 2) if the flag would replace conf/config.yaml, or if its folder or key does not exist.
    """
    if name in REPLACING:
        run = next((place for place in (Path(value), *Path(value).parents) if (place / "status.json").is_file()), "RUN")
        again = f"to repeat a run: scripts/rerun.py {run}; to add yaml files: --config-dir FOLDER"
        raise UserError(2, f"{name} {value}: settings always start from conf/config.yaml; {again}")
    if name in CONFIG_DIR:
        folder = typed_path("--config-dir", value)
        if not Path(folder).is_dir():
            raise UserError(2, f"--config-dir {value}: no such folder; give one with the layout of conf/")
        return [f"--config-dir={folder}"]
    package = value.split(".")
    if not (value in key_types() or package[0] in ("hydra", "_global_", "checklist") or package[:1] == ["augment"]):
        raise UserError(2, f"{name} {value}: no such part of the settings; {nearest(value, key_types())}".rstrip("; "))
    return [name, value]


def instead_of_flag(name: str, value: str) -> str:
    """Return advice for an unknown flag: the setting of this name, if there is one, else --help."""
    key = name.lstrip("-").replace("-", "_")
    if key not in key_types():
        return "; --help lists flags and settings"
    value = "" if re.match(r"--?[A-Za-z]", value) or "=" in value else value
    return f"; settings are written without dashes: {key}={value or 'VALUE'}"


def unchecked_config_dirs(argv: list[str]) -> list[Path]:
    """Return the folders of --config-dir among arguments that may contain other errors.

    Raise UserError (exit 2) if such a folder does not exist.
    """
    dirs = []
    for arg, following in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = arg.partition("=")
        dirs += flag_with_value(name, value if equals else following) if name in CONFIG_DIR else []
    return config_dirs(dirs)


def config_dirs(words: list[str]) -> list[Path]:
    """Return the folders given by --config-dir=FOLDER."""
    found = [split_override(word) for word in words if word.startswith("--config-dir=")]
    return [Path(value) for _, _, value in found]
