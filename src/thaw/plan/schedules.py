"""Learning-rate schedules as pure functions: a shape over cycle ends, no object, no state.

A *shape* maps (position in the cycle in [0, 1), cycle index, step) to a multiplier of the peak rate. *Cycle ends* are
integers, the running sum of the steps of each planned epoch at the end of each cycle, so that a restart falls exactly
on its step however many cycles came before it.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from math import ceil, cos, log10, pi, sqrt

Shape = Callable[[float, int, int], float]

RESTARTING = ("sgdr", "triangular", "triangular2", "exp_range")


def cosine(position: float, cycle: int, step: int) -> float:
    """Half a cosine from 1 to 0: (1 + cos(pi p)) / 2 (SGDR, arXiv:1608.03983, equation 5)."""
    return (1 + cos(pi * position)) / 2


def constant(position: float, cycle: int, step: int) -> float:
    """1 throughout."""
    return 1.0


def half_cosine(start: float, end: float, position: float) -> float:
    """Half a cosine from `start` to `end` as the position goes from 0 to 1."""
    return end + (start - end) * (1 + cos(pi * position)) / 2


def one_cycle(pct: float, start: float, end: float) -> Shape:
    """Up from `start` to 1 over the first `pct` of the cycle, then down to `end`, both half cosines (arXiv:1708.07120).

    As fastai's `combined_cos`: with peak rate lr, start = 1/div and end = 1/final_div. The momentum of the one-cycle
    policy is the same curve upside down, see `momentum`.
    """

    def shape(position: float, cycle: int, step: int) -> float:
        if position < pct:
            return half_cosine(start, 1.0, position / pct)
        return half_cosine(1.0, end, (position - pct) / (1 - pct))

    return shape


def momentum(pct: float, high: float, low: float) -> Shape:
    """The momentum that goes with `one_cycle`: from `high` to `low` while the rate rises, and back (a value, not a
    multiplier)."""

    def shape(position: float, cycle: int, step: int) -> float:
        if position < pct:
            return half_cosine(high, low, position / pct)
        return half_cosine(low, high, (position - pct) / (1 - pct))

    return shape


def flat_cos(pct: float) -> Shape:
    """1 for the first `pct` of the cycle, then half a cosine to 0."""

    def shape(position: float, cycle: int, step: int) -> float:
        return 1.0 if position < pct else half_cosine(1.0, 0.0, (position - pct) / (1 - pct))

    return shape


def piecewise_linear(*points: tuple[float, float]) -> Shape:
    """Straight lines through (position, value) points, the first at position 0, the last at 1."""

    def shape(position: float, cycle: int, step: int) -> float:
        (a, start), (b, end) = next(pair for pair in pairwise(points) if position < pair[1][0])
        return start + (end - start) * (position - a) / (b - a)

    return shape


def triangular(div: float, pct: float = 0.5, decay: float = 1.0, gamma: float = 1.0) -> Shape:
    """Up and down in a straight line between 1/div and 1 once a cycle, up for the first `pct` of it (arXiv:1506.01186).

    The height shrinks by `decay` each cycle (triangular2: 1/2) and by `gamma` each step (exp_range). With pct = 1/8 it
    is fast.ai 0.7's use_clr=(div, 8), with 1/10 and div = 32 ULMFiT's slanted triangle (arXiv:1801.06146).
    """
    tent = piecewise_linear((0, 0), (pct, 1), (1, 0))

    def shape(position: float, cycle: int, step: int) -> float:
        height = tent(position, cycle, step) * decay**cycle * gamma**step
        return 1 / div + (1 - 1 / div) * height

    return shape


def exponential(start: float) -> Shape:
    """From `start` towards 1 in equal ratios: start^(1 - p). The rate finder's sweep."""
    return lambda position, cycle, step: start ** (1 - position)


def ladder(low: float, high: float, a_decade: int) -> list[float]:
    """Rates from `low` to `high` in equal ratios, so many a decade; `high` where no whole number of decades fits too.

    Every rate of one a decade is also one of three a decade, bit for bit.
    """
    n = ceil(log10(high / low) - 1e-9)
    return [low * (high / low) ** (k / (n * 3)) for k in range(0, 3 * n + 1, 3 // a_decade)]


def warm_up(shape: Shape, warmup: float, most: float) -> Shape:
    """`shape` under a straight ramp from a hundredth: over so many steps, or, below 1, that share of the first cycle.

    A ramp in steps goes on over restarts, and is over after `most` cycles at the latest: few pictures have few steps.
    """
    if not warmup:
        return shape

    def warmed(position: float, cycle: int, step: int) -> float:
        gone = cycle + position
        risen = gone / warmup if warmup < 1 else max(step / warmup, gone / most)
        return min(1.0, 0.01 + 0.99 * risen) * shape(position, cycle, step)

    return warmed


def longest_warmup(cycles: int) -> float:
    """The cycles over which the rate rises at most, of so many planned: two, or a fifth of a plan of one or two."""
    return 2.0 if cycles > 2 else cycles / 5


def shapes(scheduler, cycles: int) -> tuple[Shape, Shape | None]:
    """The shape of the rate and, where the schedule has one, of the momentum, for one `schema.Scheduler`.

    `cycles` are those planned, not those that may come beyond.
    """
    s, most = scheduler, longest_warmup(cycles)
    match s.shape:
        case "sgdr" | "cosine":
            return warm_up(cosine, s.warmup, most), None
        case "one_cycle":
            return one_cycle(s.pct, 1 / s.div, 1 / s.final_div), momentum(s.pct, s.momentum_high, s.momentum_low)
        case "flat_cos":
            return warm_up(flat_cos(s.pct), s.warmup, most), None
        case "one_cycle_linear":  # fast.ai 0.7's use_clr_beta: up, down as long, then a tail to almost 0
            rate = piecewise_linear((0, 1 / s.div), (s.pct, 1), (2 * s.pct, 1 / s.div), (1, 1 / s.final_div))
            high, low = s.momentum_high, s.momentum_low
            return rate, piecewise_linear((0, high), (s.pct, low), (2 * s.pct, high), (1, high))
        case "triangular":
            return triangular(s.div, s.pct), None
        case "triangular2":
            return triangular(s.div, s.pct, decay=0.5), None
        case "exp_range":
            return triangular(s.div, s.pct, gamma=s.gamma), None
        case "constant":
            return warm_up(constant, s.warmup, most), None
    raise ValueError(f"no shape is called {s.shape!r}")


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

    The rate follows a batch that grew because its pictures are small, so that the noise of a step stays what it was
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
