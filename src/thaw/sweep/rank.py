"""The ranking of settings with its uncertainty: pure functions of finished jobs."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from thaw.config.run_names import key_and_value, setting_names
from thaw.runtime.files import as_number, read_shares
from thaw.sweep.jobs import JobRecord, monitored_value, rung_of

COMBINATION = "combination"  # of the other keys, see `effects`
CLEARLY = 2.0  # a difference of more standard errors than this is no tie
SMALLEST_PROBABILITY = 1e-6  # valid_predictions.csv has six digits: a smaller probability would be rounded to 0


@dataclass(frozen=True)
class Setting:
    """A combination of typed settings, ranked as one: the jobs that differ only in seed and fold."""

    name: str
    choices: tuple[str, ...]
    jobs: tuple[JobRecord, ...]  # the finished jobs
    asked: int  # number of jobs, finished or not
    values: tuple[float, ...]  # the monitored value of each finished job

    @property
    def mean(self) -> float:
        """The mean over jobs; nan if any job's value is nan, so that no failed seed is ignored."""
        return fmean(self.values)

    @property
    def deviation(self) -> float:
        """The standard deviation over jobs; nan if there is only one."""
        return stdev(self.values) if len(self.values) > 1 and not math.isnan(self.mean) else math.nan

    def average(self, key: str) -> float:
        """Return the mean of a number in result.json over the jobs that have it."""
        values = [value for job in self.jobs if not math.isnan(value := as_number(job.result.get(key)))]
        return fmean(values) if values else math.nan

    @property
    def seconds(self) -> float:
        """The mean seconds per job, as if nothing had been reused."""
        return self.average("cost/seconds")


@dataclass(frozen=True)
class Difference:
    """The paired difference between a setting and the best one, on the same images and seeds."""

    mean: float  # setting minus best: accuracy as a share, loss as it is; nan if nothing could be paired
    error: float  # standard error
    images: int
    seeds: int
    why: str = ""  # why nothing could be paired

    @property
    def tie(self) -> bool:
        return abs(self.mean) <= CLEARLY * self.error


@dataclass(frozen=True)
class Effect:
    """The main effect of one value of a swept key, averaged over the other keys."""

    key: str
    value: str
    mean: float
    error: float  # standard error; nan if it cannot be estimated
    n: int  # number of blocks, of seeds if there is one block only, or of settings if not balanced
    balanced: bool
    unit: str = "setting"  # what `n` counts


def higher_is_better(monitor: str) -> bool:
    return not monitor.endswith("loss")


def rank(jobs: Sequence[JobRecord], monitor: str, swept: Collection[str] = ()) -> list[Setting]:
    """Return the settings with a finished job, best first.

    They are ordered by these keys: those that hydra/sweeper=halving trained longest; a mean of `monitor` that is not
    nan; all jobs finished, since without its hardest seed a setting's mean would be too good; the best mean; then
    `tie_breakers`. A job that a search asked for twice counts once. `swept`: as for `setting_names`.
    """
    grouped: dict[tuple, list[JobRecord]] = {}
    for job in {tuple(sorted(job.overrides)) or job.name: job for job in jobs}.values():
        grouped.setdefault(job.choices, []).append(job)
    settings = []
    for name, (choices, group) in zip(setting_names(list(grouped), swept), grouped.items(), strict=True):
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
            *tie_breakers(setting.average, monitor),
        )

    return sorted(settings, key=order)


def tie_breakers(number: Callable[[str], float], monitor: str) -> tuple[float, float]:
    """Return the sort keys for equal values of `monitor`: lower validation loss first, then fewer seconds.

    If `monitor` is a loss, higher accuracy takes its place. `number`: returns a result's number by its key, or nan.
    """
    second = number("best/loss") if higher_is_better(monitor) else -number("best/accuracy")
    return number_or_inf(second), number_or_inf(number("cost/seconds"))


def number_or_inf(value: float) -> float:
    return math.inf if math.isnan(value) else value


# paired predictions ---------------------------------------------------------------------------------------------------


def scores(folder: Path, monitor: str) -> dict[str, tuple[str, float]]:
    """Map each image's path to its class and its score: 1 or 0 (correct or not), or its loss."""
    table = read_shares(folder / f"{monitor.partition('/')[0]}_predictions.csv")
    columns = {name: 3 + i for i, name in enumerate(next(table, [])[3:])}
    out = {}
    for row in table:
        path, truth, prediction, *_ = row
        if higher_is_better(monitor):
            out[path] = truth, float(truth == prediction)
        else:
            probability = as_number(row[columns[truth]]) if truth in columns else math.nan
            out[path] = truth, -math.log(max(probability, SMALLEST_PROBABILITY))
    return out


def compare_to_best(setting: Setting, best: Setting, read: Callable[[Path], Mapping]) -> Difference:
    """Return the paired difference between a setting and the best one, over the images and seeds that both have.

    `read`: returns the `scores` of a folder. The difference of an image is averaged over seeds (with folds, each image
    is in one of them). The standard error is the larger of the one over images and the one over seeds: the first
    ignores a seed's effect on all images at once, the second is unreliable with few seeds.
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
            return Difference(math.nan, math.nan, 0, 0, "no predictions")
        if {path: truth for path, (truth, _) in mine.items()} != {path: truth for path, (truth, _) in theirs.items()}:
            return Difference(math.nan, math.nan, 0, 0, "different images")
        differences = {path: mine[path][1] - theirs[path][1] for path in mine}
        by_seed.append(fmean(differences.values()))
        for path, difference in differences.items():
            by_image.setdefault(path, []).append(difference)
    image_means = [fmean(values) for values in by_image.values()]
    error = max(standard_error(image_means), standard_error(by_seed))
    return Difference(fmean(image_means), error, len(image_means), len(both))


def standard_error(values: Sequence[float]) -> float:
    """Return the standard error of the mean; 0 for a single value, so that it is never the larger of two errors."""
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


# main effects and the Pareto front ------------------------------------------------------------------------------------


def effects(settings: Sequence[Setting], key: str, keys: Sequence[str]) -> list[Effect]:
    """Return the mean of the monitored value for each value of a key, averaged over the other swept keys.

    A block is a combination of the other keys. Only blocks that have every value of the key count, so that a failed job
    biases nothing. The standard error is that of a value's deviation from its block's mean, computed over blocks and
    over seeds; the larger one counts, since each ignores what the other varies. Without a complete block the effects
    are plain means over settings (`balanced` is false).
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
    n, unit = (len(blocks), COMBINATION) if len(blocks) > 1 else (len(by_seed), "seed")
    grand, out = fmean(map(fmean, by_block)), []
    for i, value in enumerate(values):
        of_blocks, of_seeds = ([row[i] - fmean(row) for row in rows] for rows in (by_block, by_seed))
        error = max(standard_error(of_blocks), standard_error(of_seeds)) if n > 1 else math.nan
        out.append(Effect(key, value, grand + fmean(of_blocks), error, n, True, unit))
    return out


def mean_row(rows: Iterable[Sequence[float]]) -> list[float]:
    """Return the mean of every column."""
    return [fmean(column) for column in zip(*rows, strict=True)]


def pareto(settings: Sequence[Setting], monitor: str) -> list[int]:
    """Return the indices of the settings that no other one beats in both `monitor` and seconds, fastest first.

    Settings that lack a job, or that hydra/sweeper=halving stopped early, are left out: fewer cycles are not speed.
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
