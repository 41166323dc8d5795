"""Pure functions that divide a phase into cycles: the length of each cycle, and the curve drawn in each.

*Cycle ends* are step numbers: the running sum of the steps of the planned epochs, at the end of each cycle. They are
integers, so that a restart falls exactly on its step however many cycles came before it.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from math import sqrt

from thaw.config.schedule import Shape


def exponential(start: float) -> Shape:
    """Return a shape from `start` towards 1 in equal ratios, start^(1 - p): the rate finder's range test."""
    return lambda position, cycle, step: start ** (1 - position)


def cycle_epochs(cycles: int, cycle_len: int, cycle_mult: int) -> list[int]:
    """Return the epochs of each cycle, cycle_len * cycle_mult^i: (3, 1, 2) gives [1, 2, 4]."""
    return [cycle_len * cycle_mult**i for i in range(cycles)]


def fill_budget(budget: int, cycle_len: int, cycle_mult: int) -> list[int]:
    """Return the epochs of each cycle for a budget in epochs: as many cycles as fit, the last one takes the rest.

    (7, 1, 2) gives [1, 2, 4]; (9, 1, 2) gives [1, 2, 6]; (2, 3, 1) gives [2]. A larger budget changes only the last
    cycle and adds cycles after it.
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
    """Return the step at which each cycle ends, from the steps of every epoch and the epochs of every cycle."""
    running = [0, *accumulate(epoch_steps)]
    return [running[epoch] for epoch in accumulate(epochs_of_cycle)]


def scaled_with_batch(at: Callable[[int], float], steps: Sequence[int], batches: Sequence[int], own: int):
    """Return the curve `at` times sqrt(batch size / own); `steps` and `batches` are those of each epoch.

    If small images allow a larger batch, the rate grows with it, so that the noise of a step stays the same
    (arXiv:1404.5997, section 5). Not linearly: see scripts/bench/resize.py.
    """
    ends = list(accumulate(steps))
    return lambda step: at(step) * sqrt(batches[bisect_right(ends, step)] / own)


def curve(shape: Shape, ends: Sequence[int]) -> Callable[[int], float]:
    """Return a function from a step, 0 <= step < ends[-1], to its multiplier: `shape`, drawn once in every cycle."""

    def at(step: int) -> float:
        cycle = bisect_right(ends, step)
        start = ends[cycle - 1] if cycle else 0
        return shape((step - start) / (ends[cycle] - start), cycle, step)

    return at
