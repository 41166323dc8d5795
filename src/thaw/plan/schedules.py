"""Spread a phase over its cycles, as pure functions: the length of each, and the curve drawn in each.

*Cycle ends* are integers, the running sum of the steps of each planned epoch at the end of each cycle, so that a
restart falls exactly on its step however many cycles came before it. Standard library only.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from math import ceil, log10, sqrt

from thaw.config.schedule import Shape


def exponential(start: float) -> Shape:
    """From `start` towards 1 in equal ratios: start^(1 - p). The rate finder's sweep."""
    return lambda position, cycle, step: start ** (1 - position)


def ladder(low: float, high: float, a_decade: int) -> list[float]:
    """Rates from `low` to `high` in equal ratios, so many a decade; `high` where no whole number of decades fits too.

    Every rate of one a decade is also one of three a decade, bit for bit.
    """
    n = ceil(log10(high / low) - 1e-9)
    return [low * (high / low) ** (k / (n * 3)) for k in range(0, 3 * n + 1, 3 // a_decade)]


def cycle_epochs(cycles: int, cycle_len: int, cycle_mult: int) -> list[int]:
    """Epochs of each cycle: cycle_len * cycle_mult^i. (3, 1, 2) is [1, 2, 4]."""
    return [cycle_len * cycle_mult**i for i in range(cycles)]


def fill_budget(budget: int, cycle_len: int, cycle_mult: int) -> list[int]:
    """Epochs of each cycle for a budget in epochs: as many whole cycles as fit, the last one takes the rest.

    (7, 1, 2) is [1, 2, 4]; (9, 1, 2) is [1, 2, 6]; (2, 3, 1) is [2]. Two budgets agree on all cycles but the last.
    """
    lengths, left = [], budget
    while left > 0:
        length = cycle_len * cycle_mult ** len(lengths)
        following = length * cycle_mult
        if left < length + following:
            length = left
        lengths.append(length)
        left -= length
    return lengths


def cycle_ends(epoch_steps: Sequence[int], epochs_of_cycle: Sequence[int]) -> list[int]:
    """The step at which each cycle ends, from the steps of every epoch and the epochs of every cycle."""
    running = [0, *accumulate(epoch_steps)]
    return [running[epoch] for epoch in accumulate(epochs_of_cycle)]


def scaled_with_batch(at: Callable[[int], float], steps: Sequence[int], batches: Sequence[int], own: int):
    """The curve `at` times the square root of the batch in batches of `own`, for epochs of `steps` and `batches`.

    The rate follows a batch that grew because its images are small, so that the noise of a step stays what it was
    (arXiv:1404.5997, section 5). Not linearly: scripts/bench/resize.py.
    """
    ends = list(accumulate(steps))
    return lambda step: at(step) * sqrt(batches[bisect_right(ends, step)] / own)


def curve(shape: Shape, ends: Sequence[int]) -> Callable[[int], float]:
    """The multiplier at each step, 0 <= step < ends[-1], of `shape` drawn once in every cycle."""

    def at(step: int) -> float:
        cycle = bisect_right(ends, step)
        start = ends[cycle - 1] if cycle else 0
        return shape((step - start) / (ends[cycle] - start), cycle, step)

    return at
