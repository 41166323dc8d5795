"""The base class of every choice of `scheduler`, and the warm-up that all of them may have.

A *shape* maps (position in the cycle in [0, 1), cycle index, step) to a share of the peak rate, from 0 to 1, which a
plan tries. Standard library only.
"""

from collections.abc import Callable
from typing import ClassVar

Shape = Callable[[float, int, int], float]


def warm_up(shape: Shape, warmup: float, most: float) -> Shape:
    """`shape` under a straight ramp from a hundredth: over so many steps, or, below 1, that share of the first cycle.

    A ramp in steps goes on over restarts, and is over after `most` cycles at the latest: few images have few steps.
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


class Schedule:
    """A choice of `scheduler`; its fields are its options. One that has a `warmup` rises by it, whatever its curve."""

    shape: ClassVar[str]  # what it is called
    restarts: ClassVar[bool] = False  # whether every cycle starts anew; else all are run as one
    warmup: ClassVar[float] = 0.0

    def curve(self) -> Shape:
        """The shape of the rate, without the warm-up.

        It knows nothing of how many cycles are planned, so that the key of a cycle need not hold them.
        """
        raise NotImplementedError

    def momentum(self) -> Shape | None:
        """The shape of the momentum (a value, no multiplier), or None where the optimizer's own stays."""
        return None

    def check(self) -> None:
        """Errors: options that contradict each other, exit 2."""

    def rate(self, cycles: int) -> Shape:
        """The shape of the rate. `cycles` are those planned, not those that may come beyond."""
        return warm_up(self.curve(), self.warmup, longest_warmup(cycles))
