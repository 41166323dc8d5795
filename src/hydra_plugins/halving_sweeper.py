"""hydra/sweeper=halving: successive halving; Hydra's own sweepers cannot stop the worse jobs early.

All settings train their first cycle. At each warm restart the best share `keep` of them goes on, until the last cycle
of the plan or until one setting is left. A setting that goes on pays for its new cycle only: the earlier ones are in
the store. The seeds (and folds) of a setting are ranked together, by the mean of `monitor`. Reference: successive
halving, arXiv:1502.07943.
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
    """Launches the jobs rung by rung. `keep`: share of the settings that goes on after each rung."""

    def __init__(self, keep: float, params: Mapping[str, str] | None = None):
        super().__init__(max_batch_size=None, params=dict(params or {}))
        self.keep = keep

    def sweep(self, arguments: list[str]) -> list:
        """Launch rung after rung and number their jobs consecutively.

        Raise UserError (exit 2) if `keep` is not a share, or a job is refused or has no warm restarts.
        """
        check_share(self.keep)  # not in __init__, whose errors Hydra wraps
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        jobs = self.split_arguments(parser.parse_overrides([*self._parse_config(), *arguments]), None)[0]
        first_batch = jobs if self.config.plan_only else [[*job, "stop_after=1"] for job in jobs]
        self.validate_batch_is_legal(first_batch)
        monitor = str(self.config.monitor)
        rungs = self.rungs(first_batch)
        if self.config.plan_only:
            rungs = 1
            say(
                f"note: this plan trains all settings to their end; only the best {self.keep:.0%} go on at each restart"
            )
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        first, returned = 0, []
        for rung in range(1, rungs + 1):
            settings = len({without_seeds(job) for job in jobs})
            last = rung == rungs or settings == 1
            if not self.config.plan_only:
                say(round_line(rung, rungs, settings, len(jobs), last))
            batch = jobs if last else [[*job, f"stop_after={rung}"] for job in jobs]
            first = first_number(existing_jobs(folder), batch, first)
            returned.append(self.launcher.launch(batch, initial_job_idx=first))
            if last:
                break
            results = [read_job(folder / str(first + i)).result for i in range(len(jobs))]
            first += len(jobs)
            better = ranked(jobs, results, monitor)
            if not better:
                break  # every job failed and has reported its error
            chosen = better[: math.ceil(self.keep * settings)]
            for setting in dict.fromkeys(map(without_seeds, jobs)):
                if setting not in chosen:
                    why = "" if setting in better else " (no result; run the same command again to retry it)"
                    say(f"stopped after round {rung}: {short_name(list(setting)) or 'default'}{why}")
            jobs = [job for job in jobs if without_seeds(job) in chosen]
        return returned

    def rungs(self, jobs: Sequence[Sequence[str]]) -> int:
        """Return the largest number of cycles that any job may train.

        Raise UserError (exit 2) if a job is refused or has no warm restarts.
        """
        if not self.config.plan_only:  # the preview lists the refused jobs itself
            self.launcher.checks.refuse(jobs)
        settings = [found for job in jobs if isinstance(found := self.launcher.checks.outcome(job), Settings)]
        return max((cycles_of(make_plan(one, Facts()).phases[-1]) for one in settings), default=1)


def check_share(keep: Any) -> None:
    """Raise UserError (exit 2) if `keep` is not a number between 0 and 1."""
    if not isinstance(keep, (int, float)) or isinstance(keep, bool) or not 0 < keep < 1:
        raise UserError(2, f"hydra.sweeper.keep={keep}: must be > 0 and < 1")


def round_line(rung: int, rungs: int, settings: int, jobs: int, last: bool) -> str:
    """Return the line that announces a rung; users know it as a round."""
    count = f"{settings} setting{'s' * (settings != 1)}, {jobs} job{'s' * (jobs != 1)}"
    name, end = ("last round", "the plan") if last else (f"round {rung} of {rungs}", f"cycle {rung}")
    return f"{name}: {count}, trained to the end of {end}"


def existing_jobs(folder: Path) -> dict[int, list[str]]:
    """Map the numbers of the jobs in a sweep's folder to their overrides."""
    jobs = [file.parent for file in folder.glob("*/status.json") if file.parent.name.isdigit()]
    return {int(job.name): sorted(read_status(job).get("overrides", [])) for job in jobs}


def first_number(existing: Mapping[int, list[str]], batch: Sequence[Sequence[str]], first: int) -> int:
    """Return the number of a rung's first job: the first one from `first` on whose folders are free or its own.

    A rung may differ from that of an earlier attempt, in which a job failed: it must not take the folder of another
    job. If nothing fits, its jobs are numbered after all existing ones.
    """
    wanted = [sorted(word for word in job if not word.startswith("hydra")) for job in batch]
    for start in (first, *sorted(number for number in existing if number > first)):
        if all(existing.get(start + i, own) == own for i, own in enumerate(wanted)):
            return start
    return max(existing, default=first - 1) + 1


def cycles_of(last: Phase) -> int:
    """Return the number of cycles of a plan's last phase, including those that are trained only while they help.

    Raise UserError (exit 2) if its schedule has no warm restarts.
    """
    if not last.schedule.restarts:
        restarting = [shape for shape, choice in SCHEDULES.items() if choice.restarts]
        raise UserError(
            2,
            f"hydra/sweeper=halving: needs warm restarts, but the last phase, {last.name}, has the schedule "
            f"{last.schedule.shape}; use scheduler={' or '.join(restarting)}",
        )
    return len(last.cycles)


def without_seeds(job: Sequence[str]) -> tuple[str, ...]:
    """Return the overrides of a job without seed and fold."""
    return tuple(override for override in job if not override.startswith(SEEDS))


def ranked(jobs: Sequence[Sequence[str]], results: Sequence[Mapping], monitor: str) -> list[tuple[str, ...]]:
    """Return the settings that have a result, best first: by the mean of `monitor` over their jobs, nan last.

    Ties, which are common with few images, are broken by the lower loss. A setting that lacks a job comes after the
    complete ones: without its hardest seed its mean would be too good.
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
