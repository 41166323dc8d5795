"""The base class of every choice of `scheduler`, and the warm-up that all of them can have.

A *shape* maps (position in the cycle in [0, 1), cycle index, step) to a share of the peak rate, from 0 to 1. A plan
checks that range.
"""

from collections.abc import Callable
from typing import ClassVar

Shape = Callable[[float, int, int], float]


def warm_up(shape: Shape, warmup: float, most: float) -> Shape:
    """Multiply a shape by a linear ramp from 0.01 to 1.

    `warmup`: length of the ramp in steps, or if below 1 as a share of the first cycle. A ramp in steps continues over
    restarts and ends after `most` cycles at the latest, because small datasets have few steps.
    """
    if not warmup:
        return shape

    def warmed(position: float, cycle: int, step: int) -> float:
        gone = cycle + position
        risen = gone / warmup if warmup < 1 else max(step / warmup, gone / most)
        return min(1.0, 0.01 + 0.99 * risen) * shape(position, cycle, step)

    return warmed


def longest_warmup(cycles: int) -> float:
    """Return the longest warm-up in cycles for a number of planned cycles: two, or a fifth of them for at most two."""
    return 2.0 if cycles > 2 else cycles / 5


class Schedule:
    """A choice of `scheduler`, with its options as fields. A field `warmup` adds a warm-up to any curve."""

    shape: ClassVar[str]  # its name
    restarts: ClassVar[bool] = False  # whether each cycle restarts; if not, all cycles run as one
    warmup: ClassVar[float] = 0.0

    def curve(self) -> Shape:
        """Return the shape of the learning rate without the warm-up.

        It must not depend on the number of planned cycles, so that a cycle's store key need not hold it.
        """
        raise NotImplementedError

    def momentum(self) -> Shape | None:
        """Return the momentum (values, not factors) as a shape, or None to keep that of the optimizer."""
        return None

    def check(self) -> None:
        """Raise UserError (exit 2) if options contradict each other."""

    def rate(self, cycles: int) -> Shape:
        """Return the shape of the learning rate. `cycles`: those planned, without extra ones until over-fitting."""
        return warm_up(self.curve(), self.warmup, longest_warmup(cycles))
