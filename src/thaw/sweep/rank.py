"""Which settings are better, and how far that can be told: pure functions over finished jobs."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from thaw.config.run_names import key_and_value, setting_names
from thaw.runtime.files import as_number, read_shares
from thaw.sweep.jobs import JobRecord, monitored_value, rung_of

CLEARLY = 2.0  # standard errors
SURE = 1e-6  # valid_predictions.csv has six digits: a probability is never taken as less


@dataclass(frozen=True)
class Setting:
    """What jobs have in common that differ in nothing but seed and fold."""

    name: str
    choices: tuple[str, ...]
    jobs: tuple[JobRecord, ...]  # the finished ones
    asked: int  # how many there are, finished or not
    values: tuple[float, ...]  # of `monitor`, one a finished job

    @property
    def mean(self) -> float:
        """nan where any job's is: a setting that fails for one seed is not judged by the others."""
        return fmean(self.values)

    @property
    def deviation(self) -> float:
        """The standard deviation over seeds; nan of one."""
        return stdev(self.values) if len(self.values) > 1 and not math.isnan(self.mean) else math.nan

    def average(self, key: str) -> float:
        """The mean of a number in result.json over the jobs that have it."""
        values = [value for job in self.jobs if not math.isnan(value := as_number(job.result.get(key)))]
        return fmean(values) if values else math.nan

    @property
    def seconds(self) -> float:
        """Of one job, as if nothing had been reused."""
        return self.average("cost/seconds")


@dataclass(frozen=True)
class Difference:
    """How a setting differs from the best one, judged on the same images."""

    mean: float  # of (setting - best): accuracy as a share, loss as it is; nan where nothing is paired
    error: float  # standard error
    images: int
    seeds: int
    why: str = ""  # why nothing is paired

    @property
    def tie(self) -> bool:
        return abs(self.mean) <= CLEARLY * self.error


@dataclass(frozen=True)
class Effect:
    """What one value of a swept key does, averaged over the rest."""

    key: str
    value: str
    mean: float
    error: float  # standard error; nan where there is nothing to take it from
    n: int  # blocks, or jobs where not balanced
    balanced: bool


def higher_is_better(monitor: str) -> bool:
    return not monitor.endswith("loss")


def rank(jobs: Sequence[JobRecord], monitor: str) -> list[Setting]:
    """The settings with a finished job, best mean of `monitor` first, nan last; of equals the quicker first.

    One that lacks a job comes after those that have all: without its hardest seed it would be flattered.
    Those that hydra/sweeper=halving gave up come after those that went on: they are judged by fewer cycles. A search
    may ask for the same job twice: it counts once.
    """
    grouped: dict[tuple, list[JobRecord]] = {}
    for job in {tuple(sorted(job.overrides)) or job.name: job for job in jobs}.values():
        grouped.setdefault(job.choices, []).append(job)
    settings = []
    for name, (choices, group) in zip(setting_names(list(grouped)), grouped.items(), strict=True):
        done = tuple(job for job in group if job.result)
        if done:
            settings.append(
                Setting(name, choices, done, len(group), tuple(monitored_value(job, monitor) for job in done))
            )
    sign = -1 if higher_is_better(monitor) else 1

    def order(setting: Setting) -> tuple:
        return (
            -max(map(rung_of, setting.jobs)),
            math.isnan(setting.mean),
            len(setting.jobs) < setting.asked,
            sign * setting.mean,
            number_or_inf(setting.seconds),
        )

    return sorted(settings, key=order)


def number_or_inf(value: float) -> float:
    return math.inf if math.isnan(value) else value


# paired predictions ---------------------------------------------------------------------------------------------------


def scores(folder: Path, monitor: str) -> dict[str, tuple[str, float]]:
    """Of each image of the split by its path: its class, and 1 or 0 for right or wrong; or its loss."""
    table = read_shares(folder / f"{monitor.partition('/')[0]}_predictions.csv")
    places = {name: 3 + i for i, name in enumerate(next(table, [])[3:])}
    out = {}
    for row in table:
        path, truth, prediction, *_ = row
        if higher_is_better(monitor):
            out[path] = truth, float(truth == prediction)
        else:
            share = as_number(row[places[truth]]) if truth in places else math.nan
            out[path] = truth, -math.log(max(share, SURE))
    return out


def compare_to_best(setting: Setting, best: Setting, read: Callable[[Path], Mapping]) -> Difference:
    """The setting against the best, over the images and seeds that both have.

    read: `scores` of a folder. An image's difference is averaged over the seeds (of folds it is in one). The standard
    error is the larger of that over images and that over seeds: the first is blind to what a seed does to all
    images at once, the second is a matter of luck with few seeds.
    """
    if math.isnan(setting.mean):
        return Difference(math.nan, math.nan, 0, 0)
    others = {job.seed: job for job in best.jobs}
    both = [(job, others[job.seed]) for job in setting.jobs if job.seed in others]
    if not both:
        return Difference(math.nan, math.nan, 0, 0, "no seed in common")
    by_image: dict[str, list[float]] = {}
    by_seed = []
    for job, other in both:
        mine, theirs = read(job.folder), read(other.folder)
        if not mine or not theirs:
            return Difference(math.nan, math.nan, 0, 0, "no predictions left")
        if {path: truth for path, (truth, _) in mine.items()} != {path: truth for path, (truth, _) in theirs.items()}:
            return Difference(math.nan, math.nan, 0, 0, "other images")
        differences = {path: mine[path][1] - theirs[path][1] for path in mine}
        by_seed.append(fmean(differences.values()))
        for path, difference in differences.items():
            by_image.setdefault(path, []).append(difference)
    of_images = [fmean(values) for values in by_image.values()]
    error = max(standard_error(of_images), standard_error(by_seed))
    return Difference(fmean(of_images), error, len(of_images), len(both))


def standard_error(values: Sequence[float]) -> float:
    """Of the mean; 0 of one value, which says nothing."""
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


# what a key does ------------------------------------------------------------------------------------------------------


def effects(settings: Sequence[Setting], key: str, keys: Sequence[str]) -> list[Effect]:
    """The mean of the monitored value by value of a key, averaged over the other keys that were swept.

    Balanced where the sweep allows: only combinations of the other keys that have every value count (blocks), so that a
    failed job tilts nothing; the standard error is that of a value's deviation from its block's mean, over blocks or
    over seeds, whichever is larger: each is blind to what the other varies. Without a whole block: plain means over
    settings.
    """
    cells = []
    for setting in settings:
        finite = {job.seed: v for job, v in zip(setting.jobs, setting.values, strict=True) if not math.isnan(v)}
        if finite:
            cells.append((dict(map(key_and_value, setting.choices)), finite))
    values = list(dict.fromkeys(choices.get(key, "default") for choices, _ in cells))
    others = [other for other in keys if other != key]
    grouped: dict[tuple, dict[str, dict]] = {}
    for choices, by_seed in cells:
        block = tuple(choices.get(other) for other in others)
        grouped.setdefault(block, {})[choices.get(key, "default")] = by_seed
    blocks = []
    for found in grouped.values():
        seeds = set.intersection(*map(set, found.values()))
        if len(found) == len(values) and seeds:
            blocks.append({seed: [found[value][seed] for value in values] for seed in sorted(seeds)})
    if not blocks:
        plain = [
            [fmean(seeds.values()) for choices, seeds in cells if choices.get(key, "default") == v] for v in values
        ]
        return [
            Effect(key, v, fmean(ms), standard_error(ms) if len(ms) > 1 else math.nan, len(ms), False)
            for v, ms in zip(values, plain, strict=True)
        ]
    by_block = [mean_row(block.values()) for block in blocks]
    common = sorted(set.intersection(*map(set, blocks)))
    by_seed = [mean_row(block[seed] for block in blocks) for seed in common]
    n = len(blocks) if len(blocks) > 1 else len(by_seed)
    grand, out = fmean(map(fmean, by_block)), []
    for i, value in enumerate(values):
        of_blocks, of_seeds = ([row[i] - fmean(row) for row in rows] for rows in (by_block, by_seed))
        error = max(standard_error(of_blocks), standard_error(of_seeds)) if n > 1 else math.nan
        out.append(Effect(key, value, grand + fmean(of_blocks), error, n, True))
    return out


def mean_row(rows: Iterable[Sequence[float]]) -> list[float]:
    """The mean of every column."""
    return [fmean(column) for column in zip(*rows, strict=True)]


def pareto(settings: Sequence[Setting], monitor: str) -> list[int]:
    """The settings that no other one beats in both `monitor` and seconds, by position, quickest first.

    Not those that lack a job or were given up at a rung: fewer cycles are no speed.
    """
    sign = 1 if higher_is_better(monitor) else -1
    most = max((rung_of(job) for s in settings for job in s.jobs), default=math.inf)
    known = [
        i
        for i, s in enumerate(settings)
        if not math.isnan(s.mean) and not math.isnan(s.seconds) and len(s.jobs) == s.asked
        if max(map(rung_of, s.jobs)) == most
    ]
    front, best = [], -math.inf
    for i in sorted(known, key=lambda i: (settings[i].seconds, -sign * settings[i].mean)):
        if sign * settings[i].mean > best:
            front.append(i)
            best = sign * settings[i].mean
    return front
