"""Checked settings from a configuration that Hydra composed; all code after this step sees plain dataclasses."""

import re
from pathlib import Path

from thaw.config import command_line
from thaw.config.composed import Composed, pick
from thaw.config.flags import config_dirs
from thaw.config.hydra_errors import explain
from thaw.config.job_request import GROUPS, JobRequest
from thaw.config.overrides import quote
from thaw.config.paths import CONF, from_root
from thaw.config.schema import Settings
from thaw.config.validate import check_settings
from thaw.runtime.entry import TRACES
from thaw.runtime.errors import UserError


def register(backbones: tuple[str, ...] = ()) -> None:
    """Register with Hydra the schema, the launcher `basic` and a choice for every backbone without a yaml."""
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins

    Plugins.instance()  # loads the plugins, whose configurations are replaced below
    store = ConfigStore.instance().store
    store("basic", {"_target_": "hydra_plugins.local_launcher.LocalLauncher", "n_jobs": 1}, group="hydra/launcher")
    for group, name in (("launcher", "joblib"), ("sweeper", "optuna")):
        ConfigStore.instance().repo["hydra"][group].pop(f"{name}.yaml", None)
    store("schema", Composed)
    store("local", {})  # used if conf/local.yaml does not exist
    for name in backbones:
        path, _, last = name.rpartition("/")
        node = {"name": name, "weights": "pretrained", "drop": 0.0, "drop_path": 0.0, "facts": {}}
        store(last, node, group="/".join(filter(None, ("backbone", path))), package="backbone")


def compose_settings(words: list[str]) -> Settings:
    """Return the checked settings of a command line without running anything.

    Raise UserError (exit 2) if train.py would refuse it or if it is a sweep.
    """
    typed = command_line.normalise(words, CONF)
    if typed.multirun:
        raise UserError(2, "this command does not take a sweep (-m, seeds=N); give one value for each setting")
    try:
        return settings_of(typed)
    except UserError:
        raise
    except Exception as error:
        if TRACES:
            raise
        raise explain(error, typed.argv, CONF, is_accepted) from None


def settings_of(typed: command_line.CommandLine) -> Settings:
    """Return the settings of a single run. Errors of Hydra are not caught."""
    from hydra import compose, initialize_config_dir

    register(typed.backbones)
    folders = ",".join(quote(f"file://{folder}") for folder in config_dirs(typed.argv))
    overrides = [word for word in typed.argv if not re.match("hydra[./]|-", word)]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return to_settings(compose("config", overrides=[*overrides, f"hydra.searchpath=[{folders}]"]), overrides)


def is_accepted(word: str) -> bool:
    """Return whether a setting, typed alone, composes and passes the checks."""
    try:
        settings_of(command_line.normalise([word], CONF))
    except Exception:
        return False
    return True


def job_request(cfg) -> JobRequest:
    """Return the job that Hydra starts with a composed configuration."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    asked, composed = HydraConfig.get(), OmegaConf.to_container(cfg)
    try:
        config = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException:  # the job itself reports it
        config = composed
    folders = [source.path for source in asked.runtime.config_sources if source.provider == "command-line"]
    overrides = [f"--config-dir={folder}" for folder in folders]
    overrides += OmegaConf.to_container(asked.overrides)["task"]  # unresolved: variables may hold secrets
    choices = {group: choice for group, choice in asked.runtime.choices.items() if group in GROUPS}
    number = asked.job.num if asked.mode.name == "MULTIRUN" else None
    return JobRequest(Path(asked.runtime.output_dir), overrides, choices, config, composed, number)


def to_settings(cfg, overrides: list[str]) -> Settings:
    """Return the checked settings of a composed configuration. Raise UserError (exit 2) for an impossible value."""
    from omegaconf.errors import OmegaConfBaseException

    try:
        composed = to_dataclasses(cfg)
    except OmegaConfBaseException as error:  # data.root=???
        raise explain(error, overrides, CONF, lambda word: False) from None  # no advice, which would recurse into here
    check_settings(composed)
    return with_absolute_paths(pick(composed))


def to_dataclasses(cfg) -> Composed:
    """Return the composed configuration as plain dataclasses, with unchecked values.

    A null transform is left out, because an experiment has no ~ to remove it. Raise UserError (exit 2) if the schema
    was replaced.
    """
    from omegaconf import OmegaConf

    if OmegaConf.get_type(cfg) is not Composed:
        raise UserError(2, "the settings have no schema; rename schema.yaml in the folder of --config-dir")
    composed = OmegaConf.to_object(cfg)
    transforms = composed.augment.transforms.items()
    composed.augment.transforms = {name: args for name, args in transforms if args is not None}
    return composed


def with_absolute_paths(settings: Settings) -> Settings:
    """Make the paths of the store and of W&B's files absolute, relative to the repository."""
    settings.store.dir, settings.wandb.dir = from_root(settings.store.dir), from_root(settings.wandb.dir)
    return settings
