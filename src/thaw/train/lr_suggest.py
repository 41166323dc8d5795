"""Pure rules that choose a learning rate from a finder's curve, and give the reason."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise

from thaw.config.schema import Find
from thaw.runtime.errors import UserError

LEFT_TO_FALL = 0.05  # edge: share of the whole fall that must still be ahead
STARTS = {"adamw": 1e-3, "sgd": 1e-2}  # where the search for a rate starts: usual for pretrained networks
RISE = math.log(1.5)  # of the mean loss, as the probability of the right class falls by a third
HUGE = 1e9  # stands for an infinite loss
HEAD_START = 0.1  # share of the curve whose mean counts as the loss at the start


@dataclass(frozen=True)
class FoundRate:
    """A finder's curve, the rate each rule suggests, and the rate chosen with its reason."""

    rule: str
    taken: float
    reason: str
    doubtful: bool  # a range test did not clearly fall, or what is looked for is at an end, which deserves a warning
    suggestions: dict[str, float | None]
    rates: list[float] = field(repr=False)
    losses: list[float] = field(repr=False)
    smoothed: list[float] = field(repr=False)
    measure: str = "training loss"
    levels: dict[str, float] = field(default_factory=dict)  # losses to show beside the curve

    def rows(self) -> list[dict[str, float]]:
        """Return the curve as rows for metrics.jsonl."""
        columns = ("rate", "loss", "smoothed")
        return [dict(zip(columns, at, strict=True)) for at in zip(self.rates, self.losses, self.smoothed, strict=True)]

    def as_json(self) -> dict:
        return asdict(self)


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def smooth(losses: Sequence[float], beta: float) -> list[float]:
    """Return the two-sided exponential average, which has no lag: s_k = sum_i beta^|i-k| l_i / sum_i beta^|i-k|."""

    def one_sided(values):
        total, weight, out = 0.0, 0.0, []
        for value in values:
            total, weight = value + beta * total, 1 + beta * weight
            out.append((total, weight))
        return out

    forward, backward = one_sided(losses), one_sided(losses[::-1])[::-1]
    return [(f + b - loss) / (fw + bw - 1) for (f, fw), (b, bw), loss in zip(forward, backward, losses, strict=True)]


def noise(losses: Sequence[float], beta: float) -> float:
    """Return the standard error of the smoothed loss, estimated from the median difference of neighbouring losses."""
    steps = sorted(abs(b - a) for a, b in pairwise(losses))
    sigma = steps[len(steps) // 2] / (0.6745 * math.sqrt(2)) if steps else 0.0
    return sigma * math.sqrt((1 + beta**2) / (1 - beta**2)) * (1 - beta) / (1 + beta)


def edge(rates: Sequence[float], smoothed: Sequence[float], start: float) -> float:
    """Return the highest rate at which the loss is still clearly improving.

    With `start` the loss at the start and `lowest` the lowest smoothed loss, this is the last rate before the smoothed
    loss first reaches lowest + (start - lowest) / 20. In other words: the highest rate on the way down with at least
    1/20 of the whole fall still ahead.
    """
    lowest = min(smoothed)
    within = lowest + LEFT_TO_FALL * (start - lowest)
    return rates[max(0, next(k for k, loss in enumerate(smoothed) if loss <= within) - 1)]


def valley(rates: Sequence[float], smoothed: Sequence[float]) -> float:
    """Return fastai's default, the middle of the longest valley (fastai.callback.schedule.valley).

    Let n be the length of the longest strictly decreasing subsequence of the smoothed losses, e its last index and
    b = e - n its start if it were contiguous. The result is the rate at b + int(n / 3) + int(n / 6), or the first.
    """
    length = [1] * len(smoothed)
    for i in range(len(smoothed)):
        for j in range(i):
            if smoothed[i] < smoothed[j]:
                length[i] = max(length[i], length[j] + 1)
    end = max(range(len(smoothed)), key=lambda i: length[i])
    section = length[end] / 3
    return rates[max(0, end - length[end] + int(section) + int(section / 2))]


def ladder(find: Find, optimizer: str) -> dict[int, float]:
    """Return the rate of each rung: two per decade from min_lr to max_lr; rung 0 is the usual rate."""
    start = min(max(STARTS[optimizer], find.min_lr), find.max_lr)
    down, up = (math.floor(2 * math.log10(ratio) + 1e-9) for ratio in (start / find.min_lr, find.max_lr / start))
    return {rung: start * 10 ** (rung / 2) for rung in range(-down, up + 1)}


def next_rung(losses: Mapping[int, float], lowest: int, highest: int, start: float | None) -> int | None:
    """Return the rung to try next, from the losses of those tried and that of a trial with rate 0 (`start`).

    Without `start` it is the neighbour of the best one, first the one above. With it, it is the next one towards the
    highest rate that the network bears, and the search begins a rung lower: a fitted network bears less than a new one
    can use. None: both neighbours of what is looked for are tried, or it is at an end of the ladder.
    """
    if not losses:
        return 0 if start is None else max(-1, lowest)
    if start is None:
        best = min(losses, key=lambda rung: (losses[rung], rung))
        following = (best + 1, best - 1)
    else:
        borne = [rung for rung in losses if bears(losses[rung], start)]
        following = (max(borne) + 1,) if borne else (min(losses) - 1,)
    return next((rung for rung in following if rung not in losses and lowest <= rung <= highest), None)


def first_rate(find: Find, optimizer: str, fitted: bool) -> float:
    """Return the rate of the first trial; `fitted`: a phase before has trained the network."""
    rungs = ladder(find, optimizer)
    return rungs[next_rung({}, min(rungs), max(rungs), 0.0 if fitted else None)]


def bears(loss: float, start: float) -> bool:
    """Return whether a network keeps at least two thirds of the probability of the right class in a trial."""
    return loss <= start + RISE


def vertex(rates: Sequence[float], losses: Sequence[float], k: int) -> float:
    """Return the rate at the vertex of the parabola, in log rate, through a lowest loss and its two neighbours.

    The three rates must have equal ratios. If `k` is at an end, return its rate.
    """
    if not 0 < k < len(rates) - 1:
        return rates[k]
    before, after = (min(losses[j], HUGE) - losses[k] for j in (k - 1, k + 1))
    shift = 0.5 * (before - after) / (before + after) if before + after else 0.0
    return rates[k] * (rates[k + 1] / rates[k]) ** shift


def crossing(rates: Sequence[float], losses: Sequence[float], k: int, limit: float) -> float:
    """Return the rate at which the loss reaches `limit`, on a line in log rate from k - 1 to `k`, the first above it.

    If `k` is at an end (0 or the number of rates), return the rate there.
    """
    if not 0 < k < len(rates):
        return rates[0] if k == 0 else rates[-1]
    low, high = losses[k - 1], min(losses[k], HUGE)
    return rates[k - 1] * (rates[k] / rates[k - 1]) ** ((limit - low) / (high - low))


def read_trials(rates: Sequence[float], losses: Sequence[float], measure: str, start: float | None = None) -> FoundRate:
    """Choose a rate from trials, with the reason; `measure` names the loss, `start` is that of a trial with rate 0.

    * Without `start` (the loss is that of held-out images, or nothing was fitted before): the rate of the lowest loss.
    * With it, for a fitted network: the highest rate that it bears, where the probability of the right class falls by a
      third. A longer training makes up for that, and is best near this rate (scripts/bench/real.py); the loss of a few
      steps is lowest at a far lower one.

    Raise UserError (exit 4) if no loss is finite.
    """
    if not any(map(math.isfinite, losses)):
        raise not_finite("at any rate that was tried")
    return read_lowest(rates, losses, measure) if start is None else read_borne(rates, losses, measure, start)


def read_lowest(rates: Sequence[float], losses: Sequence[float], measure: str) -> FoundRate:
    """Choose the rate with the lowest loss, between those tried."""
    k = min(range(len(losses)), key=lambda i: (losses[i], i))
    between = 0 < k < len(rates) - 1
    end = f"the {'lowest' if k == 0 else 'highest'} rate tried"
    sides = " and ".join(f"{losses[j]:.3g} at {rates[j]:.2g}" for j in (k - 1, k + 1)) if between else end
    reason = f"trials: the lowest {measure}, {losses[k]:.3g}, at {rates[k]:.2g}; {sides}"
    curve = list(rates), list(losses), list(losses)
    return FoundRate("trials", vertex(rates, losses, k), reason, not between, {"lowest": rates[k]}, *curve, measure)


def read_borne(rates: Sequence[float], losses: Sequence[float], measure: str, start: float) -> FoundRate:
    """Choose the highest rate that the network bears, between those tried."""
    limit = start + RISE
    k = next((i for i, loss in enumerate(losses) if not bears(loss, start)), len(losses))
    taken, between = crossing(rates, losses, k, limit), 0 < k < len(losses)
    end = "" if between else f"; the {'highest' if k else 'lowest'} rate tried"
    reason = f"trials: the highest rate that keeps the {measure} below {limit:.3g} (without training {start:.3g}){end}"
    curve = list(rates), list(losses), list(losses)
    levels = {"without training": start, "right class 2/3 as probable": limit}
    return FoundRate("trials", taken, reason, not between, {}, *curve, measure, levels)


def not_finite(where: str) -> UserError:
    """Return the error of a finder without a finite loss."""
    return UserError(4, f"the loss of the learning rate finder is not finite {where}; check weights and images")


def read_range(rates: Sequence[float], losses: Sequence[float], find: Find) -> FoundRate:
    """Choose a rate from a range test, with the reason and the suggestion of each rule.

    * The loss falls (by more than four standard errors and 2 % of its start): what `find.rule` suggests.
    * It never falls: a tenth of the lowest rate from which the loss stays above its start by as much.
    * It never stops falling (more than 1/20 of the fall is in the last tenth of the curve): the highest rate tried.

    Raise UserError (exit 4) if there are fewer than two finite losses.
    """
    if len(losses) < 2:
        raise not_finite(f"at lr {find.min_lr:.1g}")
    smoothed = smooth(losses, find.smooth)
    head = max(1, round(HEAD_START * len(losses)))
    start = math.fsum(losses[:head]) / head
    seen = losses[: max(smoothed.index(min(smoothed)) + 1, head, 3)]
    error = math.hypot(noise(seen, find.smooth), noise(seen, 0.0) / math.sqrt(head))
    clear = max(4 * error, 0.02 * abs(start))
    # Two-sided smoothing would spread the explosion at the end to earlier steps, so cap its height.
    smoothed = smooth([min(loss, start + 3 * clear) for loss in losses], find.smooth)
    lowest = smoothed.index(min(smoothed))
    fall = start - smoothed[lowest]
    whole = rates[-1] >= find.max_lr * (find.min_lr / find.max_lr) ** (1.5 / find.steps)
    suggestions = {"edge": None, "valley": None}
    if fall > clear:
        suggestions = {"edge": edge(rates, smoothed, start), "valley": valley(rates, smoothed)}
        if whole and smoothed[-head] - smoothed[-1] > LEFT_TO_FALL * fall:
            taken, doubtful = rates[-1], False
            reason = f"the loss never stops falling: the highest rate tried, find.max_lr={find.max_lr:g}"
        else:
            taken, doubtful = suggestions[find.rule], False
            way = f"from {start:.3g} to {smoothed[lowest]:.3g}"
            reason = {
                "edge": f"edge: the highest rate with 1/20 of the fall {way} (at {rates[lowest]:.2g}) still ahead",
                "valley": f"valley: the middle of the longest fall of the loss, {way}",
            }[find.rule]
    else:
        below = [k for k, loss in enumerate(smoothed) if loss <= start + clear]
        risen = min(max([head, *(k + 1 for k in below)]), len(smoothed) - 1)
        taken, doubtful = rates[risen] / 10, True
        reason = f"the loss never clearly falls: a tenth of {rates[risen]:.2g}, from where it stays above {start:.3g}"
    return FoundRate(find.rule, taken, reason, doubtful, suggestions, list(rates), list(losses), smoothed)
