"""Settings composed from conf/ as in train.py, without this machine's local.yaml."""

import shutil
from copy import deepcopy
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from thaw.config import command_line
from thaw.config.compose import register, to_dataclasses, to_settings
from thaw.config.composed import Composed
from thaw.config.paths import ROOT
from thaw.config.schema import Settings
from thaw.plan import phases, plan
from thaw.plan.facts import known_facts


@cache
def conf() -> TemporaryDirectory:
    """Return a copy of conf/ without local.yaml."""
    folder = TemporaryDirectory()
    shutil.copytree(ROOT / "conf", folder.name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("local.yaml"))
    return folder


@cache
def composition(*overrides: str):
    """Return the configuration as train.py composes it."""
    register(command_line.normalise(list(overrides), Path(conf().name)).backbones)
    with initialize_config_dir(conf().name, version_base="1.3"):
        return compose("config", overrides=list(overrides))


def composed_of(*overrides: str) -> Composed:
    """Return the composed values, unchecked, under the names users type; the result may be modified."""
    return to_dataclasses(composition(*overrides))


@cache
def plain(*overrides: str) -> Settings:
    """Return the checked settings, shared between calls: do not modify them."""
    return to_settings(composition(*overrides), list(overrides))


def settings_of(*overrides: str) -> Settings:
    """Return the checked settings; the result may be modified."""
    return deepcopy(plain(*overrides))


def planned(settings: Settings) -> phases.Plan:
    """Return the plan of settings without stored facts."""
    return plan.make_plan(settings, known_facts(settings, lambda name: {}))


def leaves(node, prefix="") -> dict[str, Any]:
    """Return every value by its dotted key; a list is one value."""
    if not isinstance(node, dict):
        return {prefix.removesuffix("."): node}
    return {key: value for name, inner in node.items() for key, value in leaves(inner, f"{prefix}{name}.").items()}


def leaves_of(*overrides: str) -> dict[str, Any]:
    return leaves(OmegaConf.to_container(composition(*overrides), resolve=False))
