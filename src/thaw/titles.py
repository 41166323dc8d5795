"""What runs and sweeps are called: a short name of what was typed, a folder. Standard library only."""

import re
import shlex
import unicodedata
from dataclasses import is_dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from thaw.help import choices, overrides_of, schema
from thaw.shell import PATHS, join

UNNAMED = (
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


def within(key: str, names: tuple[str, ...]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)


def words(overrides: list[str]) -> str:
    """The settings that were typed as a short readable name, in their order."""
    silent = (*UNNAMED, "store", "hydra", "fresh", "stop_after")
    typed = [parts for parts in overrides_of(overrides) if not within(parts[1], silent)]
    rooted = any(key == "data.root" for _, key, _ in typed)  # the folder's name says more than data=folder
    return " · ".join(word(*parts) for parts in typed if not (rooted and parts[1] == "data"))


def command(overrides: list[str]) -> str:
    """What to type for them."""
    return shlex.join(["python", "src/train.py", *overrides])


def word(sign: str, key: str, value: str | None) -> str:
    name = ".".join(key.split(".")[1:]).replace(".", " ") if key.startswith("checklist.") else key.split(".")[-1]
    if sign == "~":
        return f"no {name}"
    value = ",".join(choices(value.replace("[", "").replace("]", "")))
    value = re.sub(r"\d+\.\d{6,}", lambda found: f"{float(found[0]):.4g}", value)  # what a search chose
    if key in PATHS:
        return ",".join(Path(part).name or part for part in value.split(","))
    if value.lower() in ("true", "false"):
        return name if value.lower() == "true" else f"no {name}"
    if key in ("experiment", "hydra/sweeper") or is_group(key):
        return value
    return {"lr_factor": f"lr×{value}", "seed": f"s{value}"}.get(key, f"{name} {value}")


def is_group(key: str) -> bool:
    hint = schema().get(key)
    return is_dataclass(hint) or key == "checklist"


def folder_name(argv: list[str], when: datetime, multirun: bool) -> str:
    """The folder of a run, `<date>_<time>_<name>`; that of a sweep ends in a hash that the same sweep always has."""
    typed = overrides_of(argv)
    given = [value for _, key, value in typed if key == "name" and value not in (None, "", "null")]
    text = choices(given[-1])[0] if given else words(argv)
    text = re.sub(r"[^\w.+-]+", "-", unicodedata.normalize("NFC", text.replace("×", "x")))
    if len(text) > 60:  # not in the middle of a word, unless it is one
        text = text[:60].rsplit("-", 1)[0] or text[:60]
    name = f"{when:%Y-%m-%d_%H-%M-%S}_{text.strip('-.') or 'default'}"
    if not multirun:
        return name
    return f"{name}_{sweep_hash(argv)}"


def sweep_hash(argv: list[str]) -> str:
    """Eight digits that the same sweep has again: of its overrides, whatever their order."""
    same = sorted(join(*parts) for parts in overrides_of(argv) if not within(parts[1], UNNAMED))
    return sha256("\n".join(same).encode()).hexdigest()[:8]
