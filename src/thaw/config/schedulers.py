"""The choices of `scheduler`: a dataclass for each, with its options as fields and its curve as a method.

The values of the options come from conf/scheduler/<shape>.yaml. Adding a choice needs only these two files.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from math import cos, pi

from thaw.config.options import number
from thaw.config.schedule import Schedule, Shape


def cosine(position: float, cycle: int, step: int) -> float:
    """Return half a cosine from 1 to 0: (1 + cos(pi p)) / 2 (SGDR, arXiv:1608.03983, equation 5)."""
    return (1 + cos(pi * position)) / 2


@dataclass(frozen=True)
class SGDR(Schedule):
    shape = "sgdr"
    restarts = True
    warmup: float = number(0, 1e9)  # length in steps; below 1: as a share of the first cycle

    def curve(self) -> Shape:
        return cosine


@dataclass(frozen=True)
class Cosine(Schedule):
    shape = "cosine"
    warmup: float = number(0, 1e9)  # as in SGDR

    def curve(self) -> Shape:
        return cosine


def linear(position: float, cycle: int, step: int) -> float:
    """Return a straight line from 1 to 0."""
    return 1 - position


@dataclass(frozen=True)
class Linear(Schedule):
    shape = "linear"
    warmup: float = number(0, 1e9)  # as in SGDR

    def curve(self) -> Shape:
        return linear


def half_cosine(start: float, end: float, position: float) -> float:
    """Return half a cosine from `start` to `end` as the position goes from 0 to 1."""
    return end + (start - end) * (1 + cos(pi * position)) / 2


def one_cycle(pct: float, start: float, middle: float, end: float) -> Shape:
    """Return two half cosines: `start` to `middle` over the first `pct` of the cycle, then to `end`.

    The curve of arXiv:1708.07120, as in fastai's `combined_cos`.
    """

    def shape(position: float, cycle: int, step: int) -> float:
        if position < pct:
            return half_cosine(start, middle, position / pct)
        return half_cosine(middle, end, (position - pct) / (1 - pct))

    return shape


@dataclass(frozen=True)
class OneCycle(Schedule):
    shape = "one_cycle"
    pct: float = number(0, 0.99)  # share of the cycle that rises
    div: float = number(1, math.inf)  # the first rate is peak / div
    final_div: float = number(1, math.inf)  # the last rate is peak / final_div
    momentum_low: float = number(0, 0.9999)
    momentum_high: float = number(0, 0.9999)

    def curve(self) -> Shape:
        return one_cycle(self.pct, 1 / self.div, 1.0, 1 / self.final_div)

    def momentum(self) -> Shape:
        return one_cycle(self.pct, self.momentum_high, self.momentum_low, self.momentum_high)


def flat_cos(pct: float) -> Shape:
    """Return a shape that is 1 for the first `pct` of the cycle, then half a cosine to 0."""

    def shape(position: float, cycle: int, step: int) -> float:
        return 1.0 if position < pct else half_cosine(1.0, 0.0, (position - pct) / (1 - pct))

    return shape


@dataclass(frozen=True)
class FlatCos(Schedule):
    shape = "flat_cos"
    pct: float = number(0, 0.99)  # share of the cycle that is flat
    warmup: float = number(0, 1e9)  # as in SGDR

    def curve(self) -> Shape:
        return flat_cos(self.pct)


def piecewise_linear(*points: tuple[float, float]) -> Shape:
    """Return straight lines through (position, value) points, the first at position 0 and the last at 1."""

    def shape(position: float, cycle: int, step: int) -> float:
        (a, start), (b, end) = next(pair for pair in pairwise(points) if position < pair[1][0])
        return start + (end - start) * (position - a) / (b - a)

    return shape


@dataclass(frozen=True)
class OneCycleLinear(Schedule):
    """fast.ai 0.7's use_clr_beta: up, down over the same share of the cycle, then a tail to almost 0."""

    shape = "one_cycle_linear"
    pct: float = number(0, 0.5)  # share of the cycle that rises
    div: float = number(1, math.inf)
    final_div: float = number(1, math.inf)
    momentum_low: float = number(0, 0.9999)
    momentum_high: float = number(0, 0.9999)

    def curve(self) -> Shape:
        low, pct = 1 / self.div, self.pct
        return piecewise_linear((0, low), (pct, 1), (2 * pct, low), (1, 1 / self.final_div))

    def momentum(self) -> Shape:
        high, pct = self.momentum_high, self.pct
        return piecewise_linear((0, high), (pct, self.momentum_low), (2 * pct, high), (1, high))


def triangular(div: float, pct: float = 0.5, decay: float = 1.0, gamma: float = 1.0) -> Shape:
    """Return a triangle per cycle, up from 1/div to 1 over the first `pct` and down again (arXiv:1506.01186).

    Its height is multiplied by `decay` after each cycle (triangular2: 1/2) and by `gamma` after each step (exp_range).
    pct = 1/8 gives fast.ai 0.7's use_clr=(div, 8); pct = 1/10 and div = 32 give ULMFiT's slanted triangle
    (arXiv:1801.06146).
    """
    tent = piecewise_linear((0, 0), (pct, 1), (1, 0))

    def shape(position: float, cycle: int, step: int) -> float:
        height = tent(position, cycle, step) * decay**cycle * gamma**step
        return 1 / div + (1 - 1 / div) * height

    return shape


@dataclass(frozen=True)
class Triangular(Schedule):
    shape = "triangular"
    restarts = True
    div: float = number(1, math.inf)  # the lowest rate is peak / div
    pct: float = number(0, 0.99)  # share of a cycle that rises

    def curve(self) -> Shape:
        return triangular(self.div, self.pct)


@dataclass(frozen=True)
class Triangular2(Schedule):
    shape = "triangular2"
    restarts = True
    div: float = number(1, math.inf)
    pct: float = number(0, 0.99)

    def curve(self) -> Shape:
        return triangular(self.div, self.pct, decay=0.5)


@dataclass(frozen=True)
class ExpRange(Schedule):
    shape = "exp_range"
    restarts = True
    div: float = number(1, math.inf)
    pct: float = number(0, 0.99)
    gamma: float = number(0, 1, above=True)  # factor per step

    def curve(self) -> Shape:
        return triangular(self.div, self.pct, gamma=self.gamma)


def constant(position: float, cycle: int, step: int) -> float:
    """Return 1."""
    return 1.0


@dataclass(frozen=True)
class Constant(Schedule):
    shape = "constant"
    warmup: float = number(0, 1e9)  # as in SGDR

    def curve(self) -> Shape:
        return constant


# All choices by name. Define a new one above this line.
SCHEDULES = {choice.shape: choice for choice in Schedule.__subclasses__()}
