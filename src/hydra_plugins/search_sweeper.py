"""hydra/sweeper=optuna: wraps Hydra's own Optuna sweeper, which ignores `monitor` and checks no job in advance.

The search uses no storage: with a seed the same command asks for the same trials again, and finished ones are reused.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from thaw.runtime.errors import UserError, first_line


def ends_of(space: Any) -> list:
    """Return the values of one of Optuna's distributions; for numbers, only the lowest and the highest."""
    values = list(getattr(space, "choices", None) or (space.low, space.high))
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    return sorted({min(values), max(values)}) if numbers else values


def corners(values: Mapping[str, Sequence], fixed: Mapping[str, Any]) -> list[list[str]]:
    """Return jobs that together contain every value, each combined with the first values of all other names."""
    first = {name: own[0] for name, own in values.items()}
    jobs = [first, *({**first, name: value} for name, own in values.items() for value in own[1:])]
    return [[f"{name}={value}" for name, value in {**job, **fixed}.items()] for job in jobs]


class SearchSweeper(Sweeper):
    """A search by Optuna, in the direction that `monitor` implies."""

    def __init__(self, n_trials: int, n_jobs: int, sampler: Mapping, params: Mapping[str, str]):
        self.n_trials, self.n_jobs, self.sampler, self.params = n_trials, n_jobs, sampler, params

    def setup(self, *, hydra_context, task_function, config: DictConfig) -> None:
        """Set up Hydra's sweeper. Raise UserError (exit 2) for numbers below 1 or if Optuna is not installed."""
        for name, value in (("n_trials", self.n_trials), ("n_jobs", self.n_jobs)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(2, f"hydra.sweeper.{name}={value}: must be a whole number >= 1")
        try:
            import optuna
            from hydra_plugins.hydra_optuna_sweeper.optuna_sweeper import OptunaSweeper
        except ImportError:
            needed = "optuna and hydra-optuna-sweeper"
            raise UserError(2, f"hydra/sweeper=optuna needs {needed}: pip install -e '.[sweep]'") from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            sampler = instantiate(self.sampler)
        except Exception as error:  # Optuna's samplers raise many kinds of errors for wrong arguments
            raise UserError(2, f"hydra.sweeper.sampler: {first_line(error.__cause__ or error)}") from None
        self.sweeper = OptunaSweeper(
            sampler=sampler,
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
        """Run the trials through the launcher, and write multirun.yaml into the sweep's folder.

        Raise the UserError of the first value or range end that is refused, combined with the others' first values.
        """
        from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides

        spaces, fixed = create_params_from_overrides([*(f"{k}={v}" for k, v in self.params.items()), *arguments])
        for job in corners({name: ends_of(space) for name, space in spaces.items()}, fixed):
            if isinstance(refused := self.sweeper.sweeper.launcher.checks.outcome(job), UserError):
                raise refused
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        self.sweeper.sweep(arguments)
