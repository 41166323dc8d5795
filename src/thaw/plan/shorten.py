"""Shorten a phase to the epochs that fit into a time, at a measured speed."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

from thaw.config.schema import Settings
from thaw.plan.durations import epochs_of
from thaw.plan.facts import Facts
from thaw.plan.phases import Epoch, Phase, Plan


@dataclass(frozen=True)
class Speed:
    """The measured speed of a phase on images."""

    pixels: float  # of training images per second; at another image size a step takes time in proportion to the area
    evaluation: float  # seconds per image at the final size

    def seconds(self, epochs: Sequence[Epoch], train: str, facts: Facts) -> float:
        """Return the seconds of some epochs with their validation, which takes no time if only the head is trained."""
        training = sum(facts.train * epoch.size**2 for epoch in epochs) / self.pixels
        return training + (len(epochs) * facts.valid * self.evaluation if train == "all" else 0.0)


def fill(cycles: Sequence[int], done: int, epochs: int) -> tuple[int, ...]:
    """Return the epochs of each cycle with at most `epochs` after the first `done` cycles; the last takes the rest.

    As in `schedules.fill_budget`: ([1, 2, 4, 8], 0, 9) gives (1, 2, 6), as epochs=9 does.
    """
    lengths, left = list(cycles[:done]), epochs
    if left >= sum(cycles[done:]):
        return tuple(cycles)
    for length, following in zip(cycles[done:], [*cycles[done + 1 :], 0], strict=True):
        if left:
            length = left if left < length + following else length
            lengths.append(length)
            left -= length
    return tuple(lengths)


def shorten(phase: Phase, done: int, epochs: int, settings: Settings, plan: Plan) -> Phase:
    """Return the phase with at most `epochs` epochs after its first `done` cycles."""
    lengths = fill(phase.cycles, done, epochs)
    if lengths == phase.cycles:
        return phase
    made = epochs_of(lengths, phase.schedule.restarts, phase.train, settings, plan.facts, plan.size) if lengths else ()
    return replace(phase, cycles=lengths, budget=min(phase.budget, len(lengths)), epochs=made)


def shorten_to_time(phase: Phase, done: int, seconds: float, speed: Speed, settings: Settings, plan: Plan) -> Phase:
    """Return the phase with the most epochs after its first `done` cycles that fit into `seconds`, perhaps none."""
    first = sum(phase.cycles[:done])

    def cost(epochs: int) -> float:
        return speed.seconds(shorten(phase, done, epochs, settings, plan).epochs[first:], phase.train, plan.facts)

    most = sum(phase.cycles) - first
    return shorten(phase, done, bisect_right(range(1, most + 1), seconds, key=cost), settings, plan)
