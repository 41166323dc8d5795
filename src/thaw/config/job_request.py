"""The request for one job: its folder, overrides and configuration."""

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
    """One job as it was requested."""

    folder: Path
    overrides: list[str]  # as typed, with a --config-dir
    choices: dict[str, str]  # by config group
    config: dict  # the whole configuration, as plain values
    composed: dict  # the same with interpolations such as ${oc.env:TOKEN} unresolved
    number: int | None = None  # in its sweep; None: a single run

    @property
    def sweep(self) -> str | None:
        """The name of its sweep, or None for a single run."""
        return None if self.number is None else self.folder.parent.name

    @cached_property
    def about(self) -> dict:
        """The request as recorded in every file of the job."""
        return {"overrides": self.overrides, "command": self.command_of(self.overrides), "commit": git_commit()}

    def command_of(self, overrides: list[str]) -> str:
        """Return the command line to type for these overrides as one job."""
        recipe = self.sweep and any(split_override(override)[1] == "experiment" for override in overrides)
        return typed_command(overrides + ["hydra.mode=RUN"] * bool(recipe))  # or it may start its own sweep

    @property
    def wandb(self) -> Wandb:
        """The settings of W&B; disabled if they cannot be read, and the job is then refused."""
        try:
            wandb = Wandb(**self.config["wandb"])
            return replace(wandb, dir=from_root(wandb.dir))
        except TypeError:
            return Wandb("disabled", None, None, "")
