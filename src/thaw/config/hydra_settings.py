"""Checks of Hydra's own settings, typed or in an experiment: most of them have no effect in thaw."""

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches

from thaw.config.conf_files import chosen_values, part
from thaw.config.overrides import join_override
from thaw.config.run_names import is_within
from thaw.runtime.errors import UserError

PLUGINS = ("hydra/launcher", "hydra/sweeper")
OF_SWEEPS = (*PLUGINS, "hydra.launcher", "hydra.sweeper")
FOLDERS = {True: "hydra.sweep.dir", False: "hydra.run.dir"}  # by whether it is a sweep
READ = (*OF_SWEEPS, *FOLDERS.values(), "hydra.mode", "hydra.job.env_set")
INSTEAD = {
    "hydra.searchpath": "to add yaml files: --config-dir FOLDER",
    "hydra.verbose": "verbose=true prints a line per epoch",
    "hydra.job.name": "name=TEXT names a run or a sweep",
}


def idle_hydra_settings(typed: Sequence[tuple], recipes: Sequence[dict], multirun: bool) -> list[str]:
    """Return a warning for each setting of Hydra that needs -m. Raise UserError (exit 2) for one that has no effect."""
    warnings = []
    for sign, key, value in typed:
        if not re.match("hydra([./]|$)", key):
            continue
        refuse_idle(join_override(sign, key, value), key, multirun)
        if sign == "~" or key.startswith("hydra.sweeper.params") or (key in OF_SWEEPS and value == "null"):
            raise UserError(2, f"{join_override(sign, key, value)}: cannot be set here; a sweep is -m KEY=VALUE,VALUE")
        if is_within(key, OF_SWEEPS) and not multirun:
            warnings.append(f"warning: {key}={value} has no effect without -m")
    for recipe in recipes:
        if not isinstance(recipe.get("hydra", {}), dict):
            raise UserError(2, f"hydra in an experiment is {recipe['hydra']}; it must contain settings of Hydra")
        for key in keys_below("hydra", part(recipe, "hydra")):
            refuse_idle(f"{key} in an experiment", key, multirun)
            if key in FOLDERS.values():
                raise UserError(2, f"{key} in an experiment: has no effect; type {key}=FOLDER on the command line")
        for key in chosen_values([], [recipe]):
            if key.startswith("hydra/"):
                refuse_idle(f"{key} in an experiment", key, multirun)
    return warnings


def refuse_idle(setting: str, key: str, multirun: bool) -> None:
    """Raise UserError (exit 2) for a setting of Hydra that has no effect, with one that has."""
    if key == FOLDERS[not multirun]:
        kind = "a sweep" if multirun else "a single run"
        raise UserError(2, f"{setting}: has no effect on {kind}; set {FOLDERS[multirun]} instead")
    if not is_within(key, READ):
        close = [f"did you mean {name}?" for name in get_close_matches(key, READ, 1, 0.85)]
        instead = next(iter(close), INSTEAD.get(key, f"settings of Hydra with an effect: {', '.join(READ)}"))
        raise UserError(2, f"{setting}: has no effect; {instead}")


def keys_below(prefix: str, node: dict) -> Iterator[str]:
    """Yield the dotted keys of all values in a nested dictionary."""
    for name, inner in node.items():
        yield from keys_below(f"{prefix}.{name}", inner) if isinstance(inner, dict) and inner else [f"{prefix}.{name}"]


def chosen_plugins(typed: Sequence[tuple], recipes: Sequence[dict]) -> list[tuple[str, str, str]]:
    """Return the launcher and the sweeper that a recipe chooses, as if typed, unless others were typed.

    Otherwise Hydra would use the choices in config.yaml, because it obeys the first override that it finds.
    """
    given, chosen = {key for _, key, _ in typed}, chosen_values([], recipes)
    return [("", plugin, chosen[plugin][-1]) for plugin in PLUGINS if plugin in chosen and plugin not in given]
