"""Which rate the curve of a finder suggests, and why: pure rules. Standard library only."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise

from thaw.config.schema import Find
from thaw.runtime.errors import UserError

LEFT_TO_FALL = 0.05  # edge: the share of the whole fall that still lies ahead
HEAD_START = 0.1  # the share of the curve whose mean is the loss at the start
CLEAR = 0.002  # the share of the loss at the start that a fall must exceed; all trials see the same batches
TOWARDS = 2 / 3  # the share of the way from the cheapest rate to the breaking one, over log rate
BREAKS = 2.0  # a trial breaks where its loss is so many times the lowest of any trial at that step
TINY = 1e-12
LEAST = 0.1  # of the loss at the start: nothing lower is a measure of breaking


@dataclass(frozen=True)
class FoundRate:
    """The curve, what each rule makes of it, and the rate taken with its reason."""

    rule: str
    taken: float
    reason: str
    doubtful: bool  # the curve did not fall: the reason is worth a warning
    suggestions: dict[str, float | None]
    rates: list[float] = field(repr=False)
    losses: list[float] = field(repr=False)
    smoothed: list[float] = field(repr=False)
    low: list[float] = field(repr=False, default_factory=list)  # the band: of the orders of trials the lowest loss
    high: list[float] = field(repr=False, default_factory=list)  # and the highest

    def rows(self) -> list[dict[str, float]]:
        """The curve as rows for metrics.jsonl."""
        columns = ("rate", "loss", "smoothed")
        return [dict(zip(columns, at, strict=True)) for at in zip(self.rates, self.losses, self.smoothed, strict=True)]

    def as_json(self) -> dict:
        return asdict(self)


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def smooth(losses: Sequence[float], beta: float) -> list[float]:
    """Exponential average to both sides, without lag: s_k = sum_i beta^|i-k| l_i / sum_i beta^|i-k|."""

    def one_sided(values):
        total, weight, out = 0.0, 0.0, []
        for value in values:
            total, weight = value + beta * total, 1 + beta * weight
            out.append((total, weight))
        return out

    forward, backward = one_sided(losses), one_sided(losses[::-1])[::-1]
    return [(f + b - loss) / (fw + bw - 1) for (f, fw), (b, bw), loss in zip(forward, backward, losses, strict=True)]


def noise(losses: Sequence[float], beta: float) -> float:
    """Standard error of the smoothed loss: from the median step between neighbours, narrowed by the smoothing."""
    steps = sorted(abs(b - a) for a, b in pairwise(losses))
    sigma = steps[len(steps) // 2] / (0.6745 * math.sqrt(2)) if steps else 0.0
    return sigma * math.sqrt((1 + beta**2) / (1 - beta**2)) * (1 - beta) / (1 + beta)


def edge(rates: Sequence[float], smoothed: Sequence[float], start: float) -> float:
    """The highest rate where the loss is still clearly improving.

    With `start` the loss at the start and `lowest` the lowest smoothed loss: the last rate before the smoothed loss
    first falls to lowest + (start - lowest) / 20, that is, the highest rate on the way down at which at least a
    twentieth of the whole fall still lies ahead.
    """
    lowest = min(smoothed)
    within = lowest + LEFT_TO_FALL * (start - lowest)
    return rates[max(0, next(k for k, loss in enumerate(smoothed) if loss <= within) - 1)]


def valley(rates: Sequence[float], smoothed: Sequence[float]) -> float:
    """fastai's default: half way into the longest valley (fastai.callback.schedule.valley).

    With n the length of the longest strictly decreasing subsequence of the smoothed losses and e its last index, taken
    as if it were contiguous, b = e - n: the rate at b + int(n / 3) + int(n / 6), or the first one.
    """
    length = [1] * len(smoothed)
    for i in range(len(smoothed)):
        for j in range(i):
            if smoothed[i] < smoothed[j]:
                length[i] = max(length[i], length[j] + 1)
    end = max(range(len(smoothed)), key=lambda i: length[i])
    section = length[end] / 3
    return rates[max(0, end - length[end] + int(section) + int(section / 2))]


def first_minimum(losses: Sequence[float]) -> int:
    """Where the loss is lowest; of several valleys in the first.

    What comes after a rise by more than a quarter of the fall is not looked at: there the network has forgotten what
    it knew.
    """
    k = 0
    for i, loss in enumerate(losses):
        if loss < losses[k]:
            k = i
        elif loss - losses[k] > 0.25 * (losses[0] - losses[k]) > 0:
            break
    return k


def cheapest_rate(rates: Sequence[float], losses: Sequence[float]) -> float:
    """The rate at the vertex of the parabola, over log rate, through the lowest loss and its neighbours.

    Rates in equal ratios there. At the ends the rate itself.
    """
    k = first_minimum(losses)
    if not 0 < k < len(rates) - 1:
        return rates[k]
    before, after = losses[k - 1] - losses[k], losses[k + 1] - losses[k]
    shift = 0.5 * (before - after) / (before + after) if before + after else 0.0
    return rates[k] * (rates[k + 1] / rates[k]) ** shift


def breaking_rate(rates: Sequence[float], peaks: Sequence[float]) -> float:
    """The rate at which the peak of a trial, its loss over the lowest of any at that step, reaches `BREAKS`.

    Between two rates on a straight line in both logarithms; the highest rate where none does.
    """
    k = next((k for k, peak in enumerate(peaks) if peak > BREAKS), None)
    if not k:
        return rates[-1] if k is None else rates[0]
    share = math.log(BREAKS / peaks[k - 1]) / math.log(peaks[k] / peaks[k - 1])
    return rates[k - 1] * (rates[k] / rates[k - 1]) ** share


def lowest_losses(trials: Sequence[Sequence[float]]) -> list[float]:
    """Of every step the lowest loss of any trial, but no less than `LEAST` of the mean of the first, the lowest rate's.

    Not the loss at the start: a head that was fitted to a still body may do worse than guessing once the body's batch
    norms move, and all but the lowest rates improve on that.
    """
    least = LEAST * mean(trials[0]) or TINY  # a loss of exactly 0 is one too
    return [max(min(trial[step] for trial in trials if len(trial) > step), least) for step in range(len(trials[0]))]


def read_trials(rates: Sequence[float], losses: Sequence[Sequence[Sequence[float]]], find: Find) -> FoundRate:
    """The rate to take from trials, and why. Always ends in a rate.

    `losses` has for every rate those of every order's steps; the first rate stands for the network as it is. Falls: two
    thirds of the way (over log rate) from the rate whose steps cost least on average to the one at which trials break:
    few steps favour low rates, warm-up and annealing forgive high ones (scripts/bench/finder.py). Never falls: a third
    of the breaking rate. Never stops falling: the highest rate tried. Errors: no two rates, exit 4.
    """
    if len(rates) < 2:
        raise not_finite(find)
    n, lowest_of = len(losses[0][0]), [lowest_losses(trials) for trials in zip(*losses, strict=True)]
    whole = [[mean(order) for order in orders if len(order) == n] for orders in losses]
    most = find.diverge * min(mean(means) for means in whole if means)
    costs = [[mean(order) if len(order) == n else most for order in orders] for orders in losses]
    means = [mean(cost) for cost in costs]

    def peak(order: Sequence[float], lowest_: Sequence[float]) -> float:
        above = [loss / low for loss, low in zip(order, lowest_, strict=False)]
        return max(TINY, *above, find.diverge if len(order) < n else TINY)

    peaks = [mean(list(map(peak, orders, lowest_of))) for orders in losses]
    k, doubtful = first_minimum(means), False
    cheapest = cheapest_rate(rates, means)
    breaks = max(
        cheapest, breaking_rate(rates[k:], peaks[k:])
    )  # lower rates are as far from the lowest loss, being slow
    cost = f"{means[k]:.3g} a step where it was {means[0]:.3g}"
    if means[0] - means[k] <= CLEAR * means[0]:
        taken, doubtful = breaks / 3, True
        reason = f"the loss never clearly falls: a third of {breaks:.2g}, where trials break"
    elif k == len(rates) - 1:
        taken, reason = rates[k], f"the loss never stops falling: the highest rate tried, find.max_lr={find.max_lr:g}"
    else:
        taken = cheapest * (breaks / cheapest) ** TOWARDS
        reason = f"trials: between {cheapest:.2g}, the cheapest ({cost}), and {breaks:.2g}, where they break"
        if breaks == cheapest:
            reason = f"trials: {cheapest:.2g}, the cheapest ({cost}), where a step breaks already"
    suggestions = {"cheapest": cheapest, "breaking": breaks}
    low, high = ([limit(cost) for cost in costs] for limit in (min, max))
    return FoundRate("trials", taken, reason, doubtful, suggestions, list(rates), means, means, low, high)


def not_finite(find: Find) -> UserError:
    return UserError(4, f"the rate finder's loss is not finite at lr {find.min_lr:.1g}: are weights and images right?")


def read_range(rates: Sequence[float], losses: Sequence[float], find: Find) -> FoundRate:
    """What each rule suggests, the rate taken, and why. Always ends in a rate.

    Falls (by more than four standard errors and 2 %): the rule. Never falls: a tenth of the lowest rate from which on
    the loss is as clearly above its start. Never stops falling (a twentieth of the fall or more comes in the last tenth
    of the sweep): the highest rate tried. Errors: fewer than two finite losses, exit 4.
    """
    if len(losses) < 2:
        raise not_finite(find)
    smoothed = smooth(losses, find.smooth)
    head = max(1, round(HEAD_START * len(losses)))
    start = math.fsum(losses[:head]) / head
    seen = losses[: max(smoothed.index(min(smoothed)) + 1, head, 3)]
    error = math.hypot(noise(seen, find.smooth), noise(seen, 0.0) / math.sqrt(head))
    clear = max(4 * error, 0.02 * abs(start))
    # Smoothed to both sides, the explosion at the end would be seen before it comes: cut its height.
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
                "edge": f"edge: a twentieth of the fall {way} (at {rates[lowest]:.2g}) still lies ahead",
                "valley": f"valley: half way into the longest fall, {way}",
            }[find.rule]
    else:
        below = [k for k, loss in enumerate(smoothed) if loss <= start + clear]
        risen = min(max([head, *(k + 1 for k in below)]), len(smoothed) - 1)
        taken, doubtful = rates[risen] / 10, True
        reason = f"the loss never clearly falls: a tenth of {rates[risen]:.2g}, from where on it is above {start:.3g}"
    return FoundRate(find.rule, taken, reason, doubtful, suggestions, list(rates), list(losses), smoothed)
