"""Name runs, sweeps and settings by what was typed, in words and as folders. Standard library only."""

import re
import shlex
import unicodedata
from collections.abc import Sequence
from dataclasses import is_dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from thaw.config.conf_files import key_types
from thaw.config.overrides import join_override, split_override, split_overrides, swept_choices
from thaw.config.paths import ROOT
from thaw.config.typed_paths import PATH_KEYS
from thaw.runtime.files import short_path

SEEDS = ("seed=", "data.fold=")  # what a setting is judged over
UNNAMED_KEYS = (
    "name",
    "notes",
    "tags",
    "wandb",
    "hydra/launcher",
    "hydra.launcher",
    "hydra.sweep",
    "hydra.sweeper.n_trials",  # a search goes on to more of them
    "plan_only",
    "monitor",
    "log_every",
    "verbose",
)  # say nothing of what is trained


def is_within(key: str, names: tuple[str, ...]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)


def short_name(overrides: list[str]) -> str:
    """The settings that were typed as a short readable name, in their order."""
    silent = (*UNNAMED_KEYS, "store", "hydra", "fresh", "stop_after")
    typed = [parts for parts in split_overrides(overrides) if not is_within(parts[1], silent)]
    rooted = any(key == "data.root" for _, key, _ in typed)  # the folder's name says more than data=folder
    return " · ".join(short_word(*parts) for parts in typed if not (rooted and parts[1] == "data"))


def typed_command(overrides: list[str]) -> str:
    """Return the command line to type for these overrides where one stands."""
    return shlex.join(["python", short_path(ROOT / "src/train.py"), *overrides])


def short_word(sign: str, key: str, value: str | None) -> str:
    name = ".".join(key.split(".")[1:]).replace(".", " ") if key.startswith("checklist.") else key.split(".")[-1]
    if sign == "~":
        return f"no {name}"
    value = ",".join(swept_choices(value.replace("[", "").replace("]", "")))
    value = re.sub(r"\d+\.\d{6,}", lambda found: f"{float(found[0]):.4g}", value)  # what a search chose
    if key in PATH_KEYS:
        return ",".join(Path(part).name or part for part in value.split(","))
    if value.lower() in ("true", "false"):
        return name if value.lower() == "true" else f"no {name}"
    if key in ("experiment", "hydra/sweeper") or is_group(key):
        return value
    return {"lr_factor": f"lr×{value}", "seed": f"s{value}"}.get(key, f"{name} {value}")


def is_group(key: str) -> bool:
    hint = key_types().get(key)
    return is_dataclass(hint) or key == "checklist"


def folder_name(argv: list[str], when: datetime, multirun: bool) -> str:
    """The folder of a run, `<date>_<time>_<name>`; that of a sweep ends in a hash that the same sweep always has."""
    typed = split_overrides(argv)
    given = [value for _, key, value in typed if key == "name" and value not in (None, "", "null")]
    text = swept_choices(given[-1])[0] if given else short_name(argv)
    text = re.sub(r"[^\w.+-]+", "-", unicodedata.normalize("NFC", text.replace("×", "x")))
    if len(text) > 60:  # not in the middle of a word, unless it is one
        text = text[:60].rsplit("-", 1)[0] or text[:60]
    name = f"{when:%Y-%m-%d_%H-%M-%S}_{text.strip('-.') or 'default'}"
    if not multirun:
        return name
    return f"{name}_{sweep_hash(argv)}"


def sweep_hash(argv: list[str]) -> str:
    """Eight digits that the same sweep has again: of its overrides, whatever their order."""
    same = sorted(join_override(*parts) for parts in split_overrides(argv) if not is_within(parts[1], UNNAMED_KEYS))
    same += [word for word in argv if word.startswith("--config-dir=")]  # whose yaml files may differ
    return sha256("\n".join(same).encode()).hexdigest()[:8]


def short_hash(parts) -> str:
    """Eight letters and digits from any plain values."""
    return sha256(repr(parts).encode()).hexdigest()[:8]


def setting_of(overrides: Sequence[str]) -> tuple[str, ...]:
    """The overrides that say what is trained, without what a setting is judged over."""
    return tuple(o for o in overrides if short_name([o]) and not o.startswith(SEEDS))


def key_and_value(override: str) -> tuple[str, str]:
    """Key and value of an override; that of one which takes something away is 'none'."""
    sign, key, value = split_override(override)
    return key, "none" if sign == "~" else (value or "").strip("'\"")


def setting_names(settings: Sequence[tuple[str, ...]]) -> list[str]:
    """A short name for each setting: what differs between them, in the order typed; all of it where there is one."""
    told = [set(setting) for setting in settings if setting]  # of a job that never started nothing may be known
    shared = set.intersection(*told) if len(told) > 1 else set()
    differing = [[o for o in setting if o not in shared] for setting in settings]
    names = [short_name(one) or "default" for one in differing]
    # Two files of one name in two folders are called alike.
    return [
        name if names.count(name) == 1 else " ".join(one) or name for name, one in zip(names, differing, strict=True)
    ]
