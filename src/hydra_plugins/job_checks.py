"""Checks of all jobs of a sweep before the first one starts."""

import pickle
from collections.abc import Iterable, Sequence
from copy import deepcopy

from omegaconf import DictConfig, open_dict, read_write

from thaw.config.compose import to_settings
from thaw.config.schema import Settings
from thaw.runtime.console import say
from thaw.runtime.errors import UserError
from thaw.train.preflight import check_ahead

MANY = 100  # jobs between two progress lines: about ten seconds


class JobChecks:
    """The settings of each job of a sweep, or why it is refused, checked while Hydra composes the jobs.

    Hydra composes every job before it launches the first, a tenth of a second each. Hooking into its loader avoids
    composing them a second time, here and in the jobs. `here`: whether the jobs run on this machine.
    """

    def __init__(self, hydra_context, config: DictConfig, here: bool = True):
        self.config, self.here, self.found = config, here, {}
        self.kept: dict[tuple[str, ...], bytes] = {}  # composed configurations, pickled: 23 kB each, not 500
        self.loader = hydra_context.config_loader
        self.compose, self.loader.load_sweep_config = self.loader.load_sweep_config, self.composed

    def composed(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Compose a job as Hydra's loader does, and keep its settings or its error."""
        config = self.compose(master_config, sweep_overrides)
        if self.here:  # Slurm's jobs compose their own: they would be sent all of these
            self.kept[tuple(sweep_overrides)] = pickle.dumps(config)
        self.found[tuple(sweep_overrides)] = self.checked(config, sweep_overrides)
        if len(self.found) % MANY == 0:
            say(f"{len(self.found):,} jobs composed and checked so far")
        return config

    def checked(self, config: DictConfig, overrides: list[str]) -> Settings | UserError:
        """Return the settings of a composed job, or why it is refused."""
        job = deepcopy(config)
        with read_write(job), open_dict(job):
            del job["hydra"]  # as Hydra does before it runs a job
        try:
            settings = to_settings(job, overrides)
            check_ahead(settings, lambda name: {}, self.here)
        except UserError as error:
            return error
        return settings

    def config_of(self, overrides: Sequence[str]) -> DictConfig:
        """Return the composed configuration of a job."""
        kept = self.kept.get(tuple(overrides))
        return pickle.loads(kept) if kept else self.compose(self.config, list(overrides))

    def outcome(self, overrides: Sequence[str]) -> Settings | UserError:
        """Return the settings of a job, or why it is refused."""
        if tuple(overrides) not in self.found:
            self.loader.load_sweep_config(self.config, list(overrides))
        return self.found[tuple(overrides)]

    def refuse(self, jobs: Iterable[Sequence[str]], first: int = 0) -> None:
        """Raise the UserError of the first refused job, if any. `first`: number of the first of `jobs`."""
        outcomes = [(number, self.outcome(job)) for number, job in enumerate(jobs, first)]
        refused = [(number, error) for number, error in outcomes if isinstance(error, UserError)]
        if refused:
            number, error = refused[0]
            more = len(refused) - 1
            others = f" ({more} more {'jobs are' if more > 1 else 'job is'} refused)" if more else ""
            raise UserError(error.code, f"job {number}: {error.line}{others}")
