"""Imported by scripts/bench/finder.py: the rules of other learning rate finders, from their sources.

A rule maps the rates and raw losses [n] of a range test to a rate. It smooths, stops and skips as its library does, and
raises ValueError if the library has no suggestion.
"""

import sys
from collections.abc import Callable, Sequence

import numpy as np

from thaw.config.paths import require_checkout
from thaw.runtime.entry import refuse_to_run, run

require_checkout(__file__)

Rule = Callable[[Sequence[float], Sequence[float]], float]


def averaged(losses: Sequence[float], beta: float, ahead: int = 0) -> np.ndarray:
    """Return the debiased exponential average; Lightning debiases with `ahead` = 1 step too many."""
    average, out = 0.0, []
    for k, loss in enumerate(losses, 1):
        average = beta * average + (1 - beta) * loss
        out.append(average / (1 - beta ** (k + ahead)))
    return np.array(out)


def stopped(losses: np.ndarray, times: float) -> np.ndarray:
    """Cut the losses after the first that exceeds `times` the lowest so far."""
    over = np.flatnonzero(losses > times * np.minimum.accumulate(losses))
    return losses[: over[0] + 1] if len(over) else losses


def fastai(rule: Rule) -> Rule:
    """Wrap a rule as fastai 2.8 does (callback/schedule.py).

    Average with 0.98, stop at 4 times the best, skip the first tenth and the last five.
    """

    def read(rates, losses):
        seen = stopped(averaged(losses, 0.98), 4)
        skip = len(rates) // 10
        rates, seen = np.array(rates[: len(seen)])[skip:-5], seen[skip:-5]
        if len(seen) < 2:
            raise ValueError("too few losses")
        return float(rule(rates, seen))

    return read


def valley(rates, losses):
    """Return the rate half way into the longest decreasing subsequence, treated as contiguous."""
    n, length, start, end = len(losses), [1] * len(losses), 0, 0
    for i in range(1, n):
        for j in range(i):
            if losses[i] < losses[j] and length[i] < length[j] + 1:
                length[i] = length[j] + 1
            if length[end] < length[i]:
                end = i
                start = end - length[end]
    third = (end - start) / 3
    return rates[start + int(third) + int(third / 2)]


def steep(rates, losses):
    """Return the rate at which the loss falls fastest over the log rate."""
    return rates[np.argmin(np.diff(losses) / np.diff(np.log(rates)))]


def minimum(rates, losses):
    """Return a tenth of the rate with the lowest loss."""
    return rates[np.argmin(losses)] / 10


def slide(rates, losses, across=15, threshold=0.005):
    """Slide a window of `across` steps down from the end while the slopes at its two sides differ."""
    slopes = np.gradient(losses)
    right, left = -1, -1 - across
    if len(losses) <= across:
        raise ValueError("too few losses")
    taken = rates[left]
    while left >= -len(losses) and abs(slopes[right] - slopes[left]) > threshold:
        taken, right, left = rates[left], right - 1, left - 1
    return taken


def lightning(rates, losses):
    """Return the suggestion of Lightning 2.6 (tuner/lr_finder.py).

    Average with 0.98, stop at 4 times the best, skip the first 10 and the last; steepest fall over the rate itself.
    """
    seen = stopped(averaged(losses, 0.98, ahead=1), 4)
    rates, seen = np.array(rates[: len(seen)])[10:-1], seen[10:-1]
    if len(seen) < 2:
        raise ValueError("too few losses")
    return float(rates[np.argmin(np.gradient(seen, rates))])


def torch_lr_finder(rates, losses):
    """Return the suggestion of torch-lr-finder 0.2.2.

    Average with 0.95, starting at the first loss; stop at 5 times the best, skip the first 10 and the last 5; steepest
    fall per step.
    """
    seen = [losses[0]]
    for loss in losses[1:]:
        seen.append(0.05 * loss + 0.95 * seen[-1])
    seen = stopped(np.array(seen), 5)
    rates, seen = np.array(rates[: len(seen)])[10:-5], seen[10:-5]
    if len(seen) < 2:
        raise ValueError("too few losses")
    return float(rates[np.argmin(np.gradient(seen))])


RULES = {
    "fastai valley": fastai(valley),
    "fastai slide": fastai(slide),
    "fastai minimum": fastai(minimum),
    "fastai steep": fastai(steep),
    "Lightning": lightning,
    "torch-lr-finder": torch_lr_finder,
}


def main() -> None:
    refuse_to_run(__doc__, "scripts/bench/finder.py")


if __name__ == "__main__":
    sys.exit(run(main))
