"""Names of runs, sweeps and settings, made from what was typed."""

import re
import shlex
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import is_dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from thaw.config.conf_files import key_types
from thaw.config.overrides import join_override, split_override, split_overrides, swept_choices
from thaw.config.paths import ROOT
from thaw.config.sources import LISTED, SOURCES
from thaw.config.typed_paths import PATH_KEYS
from thaw.runtime.files import short_path

SEEDS = ("seed=", "data.fold=")  # repetitions of a setting: a setting is judged by its mean over them
UNNAMED_KEYS = (
    "name",
    "notes",
    "tags",
    "wandb",
    "hydra/launcher",
    "hydra.launcher",
    "hydra.sweep",
    "hydra.sweeper.n_trials",  # a search continues with more trials
    "plan_only",
    "monitor",
    "log_every",
    "verbose",
)  # have no influence on what is trained

MACHINE_KEYS = ("device", "threads", "data.workers", "data.pixels_budget")  # left out of folder names unless swept
DATE = r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_"  # at the start of a run's folder, for example in init=RUN


def is_within(key: str, names: tuple[str, ...]) -> bool:
    """Return whether a dotted key is one of the names or below one."""
    return any(key == name or key.startswith(f"{name}.") for name in names)


def short_name(overrides: list[str]) -> str:
    """Return the typed settings as a short readable name, in their order."""
    silent = (*UNNAMED_KEYS, "store", "hydra", "fresh", "stop_after")
    typed = [parts for parts in split_overrides(overrides) if not is_within(parts[1], silent)]
    if any(key == "data" and value in SOURCES and value not in LISTED for _, key, value in typed):
        typed = [parts for parts in typed if parts[1] != "data.root"]  # these sources do not read it
    rooted = any(key == "data.root" for _, key, _ in typed)  # the folder's name replaces data=folder
    return " · ".join(short_word(*parts) for parts in typed if not (rooted and parts[1] == "data"))


def typed_command(overrides: list[str]) -> str:
    """Return the command line to type for these overrides in the current folder."""
    return shlex.join(["python", short_path(ROOT / "src/train.py"), *overrides])


def short_word(sign: str, key: str, value: str | None) -> str:
    """Return one override as a short readable word, such as `lr×2` or `no find_full`."""
    name = ".".join(key.split(".")[1:]).replace(".", " ") if key.startswith("checklist.") else key.split(".")[-1]
    if sign == "~":
        return f"no {name}"
    value = ",".join(swept_choices(value.replace("[", "").replace("]", "")))
    value = re.sub(r"\d+\.\d{6,}", lambda found: f"{float(found[0]):.4g}", value)  # drawn by a search
    if key in PATH_KEYS:
        return ",".join(Path(part).name or part for part in value.split(","))
    if value.lower() in ("true", "false"):
        return name if value.lower() == "true" else f"no {name}"
    if key in ("experiment", "hydra/sweeper") or is_group(key):
        return value
    return {"lr_factor": f"lr×{value}", "seed": f"s{value}"}.get(key, f"{name} {value}")


def is_group(key: str) -> bool:
    """Return whether a key is a config group, whose choice needs no name in front."""
    hint = key_types().get(key)
    return is_dataclass(hint) or key == "checklist"


def folder_name(argv: list[str], when: datetime, multirun: bool) -> str:
    """Return the folder name of a run, `<date>_<time>_<name>`, or of a sweep, which ends in `_<sweep_hash>`.

    Without name=TEXT, the name is made from the typed settings, without dates in paths and settings of the machine.
    """
    typed = split_overrides(argv)
    given = [value for _, key, value in typed if key == "name" and value not in (None, "", "null")]
    text = swept_choices(given[-1])[0] if given else re.sub(DATE, "", short_name(without_machine(argv)))
    text = re.sub(r"[^\w.+-]+", "-", unicodedata.normalize("NFC", text.replace("×", "x")))
    if len(text) > 60:  # cut at a word if possible
        text = text[:60].rsplit("-", 1)[0] or text[:60]
    name = f"{when:%Y-%m-%d_%H-%M-%S}_{text.strip('-.') or 'default'}"
    if not multirun:
        return name
    return f"{name}_{sweep_hash(argv)}"


def without_machine(argv: list[str]) -> list[str]:
    """Return the arguments without settings of the machine, except those that a sweep compares."""
    return [word for word in argv if "," in word or not is_within(split_override(word)[1], MACHINE_KEYS)]


def sweep_hash(argv: list[str]) -> str:
    """Return eight hex digits that identify a sweep by its overrides, independent of their order."""
    same = sorted(join_override(*parts) for parts in split_overrides(argv) if not is_within(parts[1], UNNAMED_KEYS))
    same += [word for word in argv if word.startswith("--config-dir=")]  # its yaml files may differ
    return sha256("\n".join(same).encode()).hexdigest()[:8]


def short_hash(parts) -> str:
    """Return eight hex digits as a hash of plain values."""
    return sha256(repr(parts).encode()).hexdigest()[:8]


def setting_of(overrides: Sequence[str]) -> tuple[str, ...]:
    """Return the overrides that define what is trained, without seeds and folds."""
    return tuple(o for o in overrides if short_name([o]) and not o.startswith(SEEDS))


def key_and_value(override: str) -> tuple[str, str]:
    """Return the key and the value of an override; the value is 'none' if it removes something."""
    sign, key, value = split_override(override)
    return key, "none" if sign == "~" else (value or "").strip("'\"")


def setting_names(settings: Sequence[tuple[str, ...]], swept: Collection[str] = ()) -> list[str]:
    """Return a short name for each setting: its overrides that not all share, or all of them for a single setting.

    `swept`: keys that are always named, because settings still to come differ in them.
    """
    told = [set(setting) for setting in settings if setting]  # the overrides of a job that never started may be unknown
    shared = set.intersection(*told) if len(told) > 1 else set()
    shared = {o for o in shared if key_and_value(o)[0] not in swept}
    differing = [[o for o in setting if o not in shared] for setting in settings]
    names = [short_name(one) or "default" for one in differing]
    # Short names may be equal, such as those of two files of one name in two folders.
    return [
        name if names.count(name) == 1 else " ".join(one) or name for name, one in zip(names, differing, strict=True)
    ]
