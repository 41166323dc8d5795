"""hydra/sweeper=optuna: Hydra's own sweeper for Optuna, told by `monitor` what is good.

No storage: with a seed, the same search asks for the same trials again, and those that are done are done.
"""

from collections.abc import Mapping
from pathlib import Path

from hydra.plugins.sweeper import Sweeper
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from thaw.runtime.errors import UserError


class SearchSweeper(Sweeper):
    def __init__(self, n_trials: int, n_jobs: int, sampler: Mapping, params: Mapping[str, str]):
        self.n_trials, self.n_jobs, self.sampler, self.params = n_trials, n_jobs, sampler, params

    def setup(self, *, hydra_context, task_function, config: DictConfig) -> None:
        """Errors: numbers below 1, Optuna is not installed, exit 2."""
        for name, value in (("n_trials", self.n_trials), ("n_jobs", self.n_jobs)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(2, f"hydra.sweeper.{name}={value}: must be a whole number >= 1")
        try:
            import optuna
            from hydra_plugins.hydra_optuna_sweeper.optuna_sweeper import OptunaSweeper
        except ImportError as error:
            raise UserError(2, f"hydra/sweeper=optuna: {error}; pip install -e '.[sweep]'") from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.sweeper = OptunaSweeper(
            sampler=instantiate(self.sampler),
            direction="minimize" if str(config.monitor).endswith("loss") else "maximize",
            storage=None,
            study_name=None,
            n_trials=self.n_trials,
            n_jobs=self.n_jobs,
            max_failure_rate=1.0,
            search_space=None,
            custom_search_space=None,
            params=OmegaConf.create(dict(self.params)),
        )
        self.sweeper.setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.config = config

    def sweep(self, arguments: list[str]) -> None:
        """Trial after trial through the launcher; what was searched is left in the sweep's folder."""
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        self.sweeper.sweep(arguments)
