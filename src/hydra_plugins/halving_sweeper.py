"""hydra/sweeper=halving: at every warm restart the worse half of the settings stops (arXiv:1502.07943).

All settings train their first cycle; then the better share `keep` of them trains the next, and so on to the last cycle
that their plan allows, or until one is left. A cycle that was trained is taken from the store, so that a setting which
goes on pays for its new cycle alone. The seeds (and folds) of a setting are judged together, by the mean of `monitor`.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from thaw.config.run_names import SEEDS, short_name
from thaw.config.schedulers import SCHEDULES
from thaw.config.schema import Settings
from thaw.plan.facts import Facts
from thaw.plan.phases import Phase
from thaw.plan.plan import make_plan
from thaw.runtime.console import say
from thaw.runtime.errors import UserError
from thaw.runtime.files import as_number
from thaw.runtime.job_status import read_status
from thaw.sweep.jobs import read_job


class HalvingSweeper(BasicSweeper):
    def __init__(self, keep: float, params: Mapping[str, str] | None = None):
        super().__init__(max_batch_size=None, params=dict(params or {}))
        self.keep = keep

    def sweep(self, arguments: list[str]) -> list:
        """Launch rung after rung; the jobs of all of them are numbered on. Errors: no share to keep, exit 2."""
        check_share(self.keep)  # here, where Hydra passes it on as it is
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        jobs = self.split_arguments(parser.parse_overrides([*self._parse_config(), *arguments]), None)[0]
        first_batch = jobs if self.config.plan_only else [[*job, "stop_after=1"] for job in jobs]
        self.validate_batch_is_legal(first_batch)
        monitor = str(self.config.monitor)
        rungs = self.rungs(first_batch)
        if self.config.plan_only:
            rungs = 1
            say(f"note: at each restart the best {self.keep:.0%} of the settings go on: this is the most it can take")
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        first, returned = 0, []
        for rung in range(1, rungs + 1):
            settings = len({without_seeds(job) for job in jobs})
            last = rung == rungs or settings == 1
            count = f"{settings} setting{'s' * (settings != 1)}, {len(jobs)} job{'s' * (len(jobs) != 1)}"
            where = "last rung" if last else f"rung {rung} of {rungs}"
            say(f"{where}: {count}, to the end of {'their plan' if last else f'cycle {rung}'}")
            batch = jobs if last else [[*job, f"stop_after={rung}"] for job in jobs]
            first = place(lying_in(folder), batch, first)
            returned.append(self.launcher.launch(batch, initial_job_idx=first))
            if last:
                break
            results = [read_job(folder / str(first + i)).result for i in range(len(jobs))]
            first += len(jobs)
            better = ranked(jobs, results, monitor)
            if not better:
                break  # every job failed, and says why
            chosen = better[: math.ceil(self.keep * settings)]
            for setting in dict.fromkeys(map(without_seeds, jobs)):
                if setting not in chosen:
                    why = (
                        "not among the better"
                        if setting in better
                        else "it has no result; the same command tries again"
                    )
                    say(f"given up after rung {rung}: {short_name(list(setting)) or 'default'} ({why})")
            jobs = [job for job in jobs if without_seeds(job) in chosen]
        return returned

    def rungs(self, jobs: Sequence[Sequence[str]]) -> int:
        """Return the most cycles that any job may train. Errors: one is refused or has no restarts, exit 2."""
        if not self.config.plan_only:  # else they are listed
            self.launcher.checks.refuse(jobs)
        settings = [found for job in jobs if isinstance(found := self.launcher.checks.of(job), Settings)]
        return max((cycles_of(make_plan(one, Facts()).phases[-1]) for one in settings), default=1)


def check_share(keep: Any) -> None:
    """Errors: no share that can go on, exit 2."""
    if not isinstance(keep, (int, float)) or isinstance(keep, bool) or not 0 < keep < 1:
        raise UserError(2, f"hydra.sweeper.keep={keep}: must be > 0 and < 1")


def lying_in(folder: Path) -> dict[int, list[str]]:
    """What the jobs that lie in a sweep's folder were told, by number."""
    jobs = [file.parent for file in folder.glob("*/status.json") if file.parent.name.isdigit()]
    return {int(job.name): sorted(read_status(job).get("overrides", [])) for job in jobs}


def place(lying: Mapping[int, list[str]], batch: Sequence[Sequence[str]], first: int) -> int:
    """The number of a rung's first job: `first`, or where the same jobs lie, or after all.

    A rung that is decided otherwise than an attempt before it decided, as a job had failed, takes no other's folder.
    """
    told = [sorted(word for word in job if not word.startswith("hydra")) for job in batch]
    for start in (first, *sorted(job for job in lying if job > first)):
        if all(lying.get(start + i, own) == own for i, own in enumerate(told)):
            return start
    return max(lying, default=first - 1) + 1


def cycles_of(last: Phase) -> int:
    """The cycles of a plan's last phase, those included that come only while they help.

    Errors: a schedule without restarts, exit 2.
    """
    if not last.schedule.restarts:
        restarting = [shape for shape, choice in SCHEDULES.items() if choice.restarts]
        raise UserError(
            2,
            f"hydra/sweeper=halving: it stops settings at warm restarts, and {last.name}, the last phase, is "
            f"{last.schedule.shape}; scheduler={' or '.join(restarting)} has them",
        )
    return len(last.cycles)


def without_seeds(job: Sequence[str]) -> tuple[str, ...]:
    """What a job chose, without seed and fold."""
    return tuple(override for override in job if not override.startswith(SEEDS))


def ranked(jobs: Sequence[Sequence[str]], results: Sequence[Mapping], monitor: str) -> list[tuple[str, ...]]:
    """The settings that have a result, the best first: by the mean of `monitor` over their jobs, a nan being worst.

    Of equals, which a share of few images often is, the one with the lower loss. A setting that lacks a seed comes
    after all that have theirs: without its hardest it would be flattered.
    """
    key, sign = "best/" + monitor.removeprefix("valid/"), 1 if monitor.endswith("loss") else -1
    values: dict[tuple, list[tuple[float, float]]] = {}
    for job, result in zip(jobs, results, strict=True):
        if result:
            values.setdefault(without_seeds(job), []).append(
                (sign * as_number(result.get(key)), as_number(result.get("best/loss")))
            )

    asked = Counter(map(without_seeds, jobs))

    def order(setting: tuple[str, ...]) -> list[float]:
        means = [fmean(column) for column in zip(*values[setting], strict=True)]
        lacking = asked[setting] - len(values[setting])
        return [lacking, *(math.inf if math.isnan(mean) else mean for mean in means)]

    return sorted(values, key=order)
