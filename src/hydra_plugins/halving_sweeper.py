"""hydra/sweeper=halving: at every warm restart the worse half of the settings stops (arXiv:1502.07943).

All settings train their first cycle; then the better share `keep` of them trains the next, and so on to the end of the
budget. A cycle that was trained is taken from the store, so that a setting which goes on pays for its new cycle alone.
The seeds (and folds) of a setting are judged together, by the mean of `monitor`.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from thaw.errors import UserError
from thaw.progress import say
from thaw.schedules import RESTARTING, fill
from thaw.sweep.jobs import SEEDS


class HalvingSweeper(BasicSweeper):
    def __init__(self, keep: float, params: Mapping[str, str] | None = None):
        super().__init__(max_batch_size=None, params=dict(params or {}))
        self.keep = keep

    def sweep(self, arguments: list[str]) -> list:
        """Launch rung after rung; the jobs of all of them are numbered on. Errors: no share to keep, exit 2."""
        if not 0 < self.keep < 1:  # here, where Hydra passes it on as it is
            raise UserError(2, f"hydra.sweeper.keep={self.keep}: must be > 0 and < 1")
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        jobs = self.split_arguments(parser.parse_overrides([*self._parse_config(), *arguments]), None)[0]
        self.validate_batch_is_legal(jobs)
        configs = [self.hydra_context.config_loader.load_sweep_config(self.config, job) for job in jobs]
        rungs = max(cycles_of(config) for config in configs)
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        first, returned = 0, []
        for rung in range(1, rungs + 1):
            settings = len({setting_of(job) for job in jobs})
            last = rung == rungs or settings == 1
            count = f"{settings} setting{'s' * (settings != 1)}, {len(jobs)} job{'s' * (len(jobs) != 1)}"
            where = "last rung" if last else f"rung {rung} of {rungs}"
            say(f"{where}: {count}, to the end of {'their plan' if last else f'cycle {rung}'}")
            batch = jobs if last else [[*job, f"stop_after={rung}"] for job in jobs]
            returned.append(self.launcher.launch(batch, initial_job_idx=first))
            if last:
                break
            results = [result_of(folder / str(first + number)) for number in range(len(jobs))]
            first += len(jobs)
            better = ranked(jobs, results, str(configs[0].monitor))
            if not better:
                break  # every job failed, and says why
            chosen = better[: math.ceil(self.keep * settings)]
            jobs = [job for job in jobs if setting_of(job) in chosen]
        return returned


def cycles_of(config) -> int:
    """The cycles of a job's budget. Errors: a schedule without restarts, exit 2."""
    scheduler = config.scheduler
    if scheduler.shape not in RESTARTING:
        raise UserError(
            2,
            f"scheduler={scheduler.shape}: hydra/sweeper=halving stops settings at warm restarts, which it has not; "
            f"possible: {', '.join(RESTARTING)}",
        )
    if config.epochs:
        return len(fill(config.epochs, scheduler.cycle_len, scheduler.cycle_mult))
    return scheduler.cycles


def setting_of(job: Sequence[str]) -> tuple[str, ...]:
    """What a job chose, without seed and fold."""
    return tuple(override for override in job if not override.startswith(SEEDS))


def result_of(folder: Path) -> dict:
    """What a job left, or nothing."""
    try:
        return json.loads((folder / "result.json").read_text())
    except (OSError, ValueError):
        return {}


def ranked(jobs: Sequence[Sequence[str]], results: Sequence[Mapping], monitor: str) -> list[tuple[str, ...]]:
    """The settings that have a result, the best first: by the mean of `monitor` over their jobs, a nan being worst."""
    key, sign = "best/" + monitor.removeprefix("valid/"), 1 if monitor.endswith("loss") else -1
    values: dict[tuple, list[float]] = {}
    for job, result in zip(jobs, results, strict=True):
        if key in result:
            values.setdefault(setting_of(job), []).append(sign * result[key])
    means = {setting: fmean(found) for setting, found in values.items()}
    return sorted(means, key=lambda setting: math.inf if math.isnan(means[setting]) else means[setting])
