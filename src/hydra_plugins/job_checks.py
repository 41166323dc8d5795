"""The jobs of a sweep, composed and checked before the first of them starts."""

from collections.abc import Iterable, Sequence
from copy import deepcopy

from omegaconf import DictConfig, open_dict, read_write

from thaw.config.compose import to_settings
from thaw.config.schema import Settings
from thaw.runtime.console import say
from thaw.runtime.errors import UserError
from thaw.train.preflight import check_ahead

MANY = 100  # jobs, which take ten seconds


class JobChecks:
    """Check the jobs of a sweep as Hydra composes them; keep the settings of each, or why it is refused.

    Hydra composes every job before it launches one, a tenth of a second each: nothing is composed a second time.
    here: the jobs run on this machine.
    """

    def __init__(self, hydra_context, config: DictConfig, here: bool = True):
        self.config, self.here, self.found = config, here, {}
        self.loader = hydra_context.config_loader
        self.compose, self.loader.load_sweep_config = self.loader.load_sweep_config, self.composed

    def composed(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Compose a job, and keep what it comes to."""
        config = self.compose(master_config, sweep_overrides)
        self.found[tuple(sweep_overrides)] = self.checked(config, sweep_overrides)
        if len(self.found) % MANY == 0:
            say(f"{len(self.found):,} jobs composed and checked so far")
        return config

    def checked(self, config: DictConfig, overrides: list[str]) -> Settings | UserError:
        """Return the settings of a composed job, or why it is refused."""
        job = deepcopy(config)
        with read_write(job), open_dict(job):
            del job["hydra"]  # as Hydra does for a job
        try:
            settings = to_settings(job, overrides)
            check_ahead(settings, lambda name: {}, self.here)
        except UserError as error:
            return error
        return settings

    def of(self, overrides: Sequence[str]) -> Settings | UserError:
        """Return the settings of a job, or why it is refused."""
        if tuple(overrides) not in self.found:
            self.loader.load_sweep_config(self.config, list(overrides))
        return self.found[tuple(overrides)]

    def refuse(self, jobs: Iterable[Sequence[str]], first: int = 0) -> None:
        """Errors: jobs, numbered from `first`, that would be refused later, as the first of them."""
        outcomes = [(number, self.of(job)) for number, job in enumerate(jobs, first)]
        refused = [(number, error) for number, error in outcomes if isinstance(error, UserError)]
        if refused:
            number, error = refused[0]
            more = len(refused) - 1
            others = f" ({more} more {'are' if more > 1 else 'is'} refused)" if more else ""
            raise UserError(error.code, f"job {number}: {error.line}{others}")
