"""One job as it was asked for."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from thaw.config.paths import from_root, git_commit
from thaw.config.run_names import typed_command
from thaw.config.schema import Wandb

GROUPS = (  # whose choices W&B has as columns
    "scheduler", "rates", "resize", "backbone", "augment", "checklist", "optimizer", "head", "data", "loss",
)  # fmt: skip


@dataclass(frozen=True)
class JobRequest:
    """One job as it was asked for."""

    folder: Path
    overrides: list[str]
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
        recipe = self.sweep and any(o.startswith("experiment=") for o in self.overrides)
        alone = ["hydra.mode=RUN"] if recipe else []  # else the recipe's own sweep may start
        command = typed_command(self.overrides + alone)
        return {"overrides": self.overrides, "command": command, "commit": git_commit()}

    @property
    def wandb(self) -> Wandb:
        """Return where to track it: nowhere if its settings cannot be read; the job is then refused."""
        try:
            wandb = Wandb(**self.config["wandb"])
            return replace(wandb, dir=from_root(wandb.dir))
        except TypeError:
            return Wandb("disabled", None, None, "")
