"""One job as it was asked for."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from thaw.config.conf_files import group_names
from thaw.config.overrides import split_override
from thaw.config.paths import CONF, from_root, git_commit
from thaw.config.run_names import typed_command
from thaw.config.schema import Wandb

GROUPS = tuple(group for group in group_names(CONF) if group not in ("wandb", "experiment", "without"))  # W&B's columns


@dataclass(frozen=True)
class JobRequest:
    """One job as it was asked for."""

    folder: Path
    overrides: list[str]  # a --config-dir that it takes among them
    choices: dict[str, str]  # of the config groups
    config: dict  # all of it, as plain values
    composed: dict  # the same before interpolations such as ${oc.env:TOKEN} are resolved
    number: int | None = None  # of a job of a sweep

    @property
    def sweep(self) -> str | None:
        """The name of the sweep it is a job of."""
        return None if self.number is None else self.folder.parent.name

    @cached_property
    def about(self) -> dict:
        """Return what was asked for, as every file of the job says it."""
        return {"overrides": self.overrides, "command": self.command_of(self.overrides), "commit": git_commit()}

    def command_of(self, overrides: list[str]) -> str:
        """Return the command line to type for these overrides as one job."""
        recipe = self.sweep and any(split_override(override)[1] == "experiment" for override in overrides)
        return typed_command(overrides + ["hydra.mode=RUN"] * bool(recipe))  # else the recipe's own sweep may start

    @property
    def wandb(self) -> Wandb:
        """Return where to track it: nowhere if its settings cannot be read; the job is then refused."""
        try:
            wandb = Wandb(**self.config["wandb"])
            return replace(wandb, dir=from_root(wandb.dir))
        except TypeError:
            return Wandb("disabled", None, None, "")
