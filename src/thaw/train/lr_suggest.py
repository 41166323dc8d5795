"""Pure rules that choose a learning rate from a finder's curve, and give the reason."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise

from thaw.config.schema import Find
from thaw.runtime.errors import UserError

LEFT_TO_FALL = 0.05  # edge: share of the whole fall that must still be ahead
HEAD_START = 0.1  # share of the curve whose mean counts as the loss at the start
CLEAR = 0.002  # a clear fall exceeds this share of the loss at the start; small, as trials share their batches
SHARE_TO_BREAKING = 2 / 3  # share of the way (in log rate) from the cheapest rate to the breaking rate
BREAKS = 2.0  # a trial breaks when its loss exceeds this multiple of the lowest loss of any trial at that step
TINY = 1e-12
REFERENCE_SHARE = 0.1  # share of the lowest rate's mean loss; breaking is measured against no lower loss


@dataclass(frozen=True)
class FoundRate:
    """A finder's curve, the rate each rule suggests, and the rate chosen with its reason."""

    rule: str
    taken: float
    reason: str
    doubtful: bool  # the loss did not clearly fall, which deserves a warning
    suggestions: dict[str, float | None]
    rates: list[float] = field(repr=False)
    losses: list[float] = field(repr=False)
    smoothed: list[float] = field(repr=False)
    low: list[float] = field(repr=False, default_factory=list)  # band of the trials: lowest mean loss over the orders
    high: list[float] = field(repr=False, default_factory=list)  # and the highest mean loss

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


def first_minimum(losses: Sequence[float]) -> int:
    """Return the index of the lowest loss in the first valley.

    Ignore everything after a rise by more than a quarter of the fall so far: there the network has lost what it had
    learned.
    """
    k = 0
    for i, loss in enumerate(losses):
        if loss < losses[k]:
            k = i
        elif loss - losses[k] > 0.25 * (losses[0] - losses[k]) > 0:
            break
    return k


def cheapest_rate(rates: Sequence[float], losses: Sequence[float]) -> float:
    """Return the rate at the vertex of the parabola, in log rate, through the lowest loss and its two neighbours.

    These three rates must have equal ratios. If the lowest loss is at an end, return its rate.
    """
    k = first_minimum(losses)
    if not 0 < k < len(rates) - 1:
        return rates[k]
    before, after = losses[k - 1] - losses[k], losses[k + 1] - losses[k]
    shift = 0.5 * (before - after) / (before + after) if before + after else 0.0
    return rates[k] * (rates[k + 1] / rates[k]) ** shift


def breaking_rate(rates: Sequence[float], peaks: Sequence[float]) -> float:
    """Return the rate at which the peak of a trial reaches `BREAKS`, or the highest rate if none does.

    The peak is the largest ratio of the trial's loss to the lowest loss of any trial at that step. Interpolate between
    two rates linearly in both logarithms.
    """
    k = next((k for k, peak in enumerate(peaks) if peak > BREAKS), None)
    if not k:
        return rates[-1] if k is None else rates[0]
    share = math.log(BREAKS / peaks[k - 1]) / math.log(peaks[k] / peaks[k - 1])
    return rates[k - 1] * (rates[k] / rates[k - 1]) ** share


def lowest_losses(trials: Sequence[Sequence[float]]) -> list[float]:
    """Return the lowest loss of any trial at each step: the reference for breaking.

    It is at least `REFERENCE_SHARE` times the mean loss of `trials[0]`, of the lowest rate. The loss at the start
    would be a poor reference: a head fitted to a frozen backbone may be worse than chance once the backbone's batch
    norms change, and all but the lowest rates improve on that.
    """
    least = REFERENCE_SHARE * mean(trials[0]) or TINY  # a mean loss of exactly 0 is possible
    return [max(min(trial[step] for trial in trials if len(trial) > step), least) for step in range(len(trials[0]))]


def read_trials(rates: Sequence[float], losses: Sequence[Sequence[Sequence[float]]], find: Find) -> FoundRate:
    """Choose a rate from trials, with the reason.

    `losses[rate][order][step]` are the losses. The trial at the lowest rate shows the loss at the start.

    * The loss falls: two thirds of the way (in log rate) from the rate with the lowest mean loss ("cheapest") to the
      rate at which trials break. The few steps of a trial favour low rates, while warm-up and annealing tolerate higher
      ones (scripts/bench/finder.py).
    * It never falls: a third of the breaking rate.
    * It never stops falling: the highest rate tried.

    Raise UserError (exit 4) if there are fewer than two rates.
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
    # Rates below the cheapest are left out: they may be as far above the lowest loss, but because they learn slowly.
    breaks = max(cheapest, breaking_rate(rates[k:], peaks[k:]))
    cost = f"mean {means[k]:.3g}, {means[0]:.3g} at the lowest rate"
    if means[0] - means[k] <= CLEAR * means[0]:
        taken, doubtful = breaks / 3, True
        reason = f"the loss never clearly falls: a third of {breaks:.2g}, where training is unstable"
    elif k == len(rates) - 1:
        taken, reason = rates[k], f"the loss never stops falling: the highest rate tried, find.max_lr={find.max_lr:g}"
    else:
        taken = cheapest * (breaks / cheapest) ** SHARE_TO_BREAKING
        lowest = f"{cheapest:.2g}, the lowest loss ({cost})"
        reason = f"trials: between {lowest}, and {breaks:.2g}, where training is unstable"
        if breaks == cheapest:
            reason = f"trials: {lowest}, where training is already unstable"
    suggestions = {"cheapest": cheapest, "breaking": breaks}
    low, high = ([limit(cost) for cost in costs] for limit in (min, max))
    return FoundRate("trials", taken, reason, doubtful, suggestions, list(rates), means, means, low, high)


def not_finite(find: Find) -> UserError:
    """Return the error of a finder whose loss is not finite at the lowest rate."""
    line = f"the loss of the learning rate finder is not finite at lr {find.min_lr:.1g}; check weights and images"
    return UserError(4, line)


def read_range(rates: Sequence[float], losses: Sequence[float], find: Find) -> FoundRate:
    """Choose a rate from a range test, with the reason and the suggestion of each rule.

    * The loss falls (by more than four standard errors and 2 % of its start): what `find.rule` suggests.
    * It never falls: a tenth of the lowest rate from which the loss stays above its start by as much.
    * It never stops falling (more than 1/20 of the fall is in the last tenth of the curve): the highest rate tried.

    Raise UserError (exit 4) if there are fewer than two finite losses.
    """
    if len(losses) < 2:
        raise not_finite(find)
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
