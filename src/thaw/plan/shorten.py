"""Shorten a phase to the epochs that fit into a time, at a measured speed."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

from thaw.plan.facts import Facts
from thaw.plan.phases import Epoch, Phase


@dataclass(frozen=True)
class Speed:
    """The measured speed of a phase on images."""

    pixels: float  # of training images per second; at another image size a step takes time in proportion to the area
    evaluation: float  # seconds per image at the final size

    def seconds(self, epochs: Sequence[Epoch], train: str, facts: Facts) -> float:
        """Return the seconds of some epochs with their validation, which takes no time if only the head is trained."""
        training = sum(facts.train * epoch.size**2 for epoch in epochs) / self.pixels
        return training + (len(epochs) * facts.valid * self.evaluation if train == "all" else 0.0)


def fill(cycles: Sequence[int], budget: int, done: int, epochs: int) -> tuple[int, ...]:
    """Return the epochs of each cycle with at most `epochs` after the first `done` cycles.

    The last of the `budget` planned cycles that fits takes the rest, as in `schedules.fill_budget`: of [1, 2, 4], five
    epochs leave (1, 4). Cycles beyond the budget may be cut to half their length.
    """
    lengths, left = list(cycles[:done]), epochs
    for number, length in enumerate(cycles[done:], done):
        rest_is_too_short = number + 1 < budget and left < length + cycles[number + 1]
        length = left if rest_is_too_short else min(left, length)
        if not length or (number >= budget and 2 * length < cycles[number]):
            break
        lengths.append(length)
        left -= length
    return tuple(lengths)


def shorten(phase: Phase, done: int, epochs: int) -> Phase:
    """Return the phase with at most `epochs` epochs after its first `done` cycles; it still ends at its last size."""
    lengths = fill(phase.cycles, phase.budget, done, epochs)
    if lengths == phase.cycles:
        return phase
    if phase.schedule.restarts:  # all epochs of a cycle are alike
        firsts = [phase.epochs_of(cycle)[0] for cycle in range(len(lengths))]
        if len(lengths) > done:
            firsts[-1] = phase.epochs[-1]
        kept = [epoch for epoch, length in zip(firsts, lengths, strict=True) for _ in range(length)]
    else:  # sizes share the epochs evenly
        n, of = sum(lengths), len(phase.epochs)
        kept = [phase.epochs[-(-(epoch + 1) * of // n) - 1] for epoch in range(n)]
    return replace(phase, cycles=lengths, budget=min(phase.budget, len(lengths)), epochs=tuple(kept))


def epochs_in(phase: Phase, done: int, seconds: float, speed: Speed, facts: Facts) -> int:
    """Return how many epochs of the phase fit into `seconds` after its first `done` cycles."""
    first = sum(phase.cycles[:done])

    def cost(epochs: int) -> float:
        return speed.seconds(shorten(phase, done, epochs).epochs[first:], phase.train, facts)

    return bisect_right(range(1, len(phase.epochs) - first + 1), seconds, key=cost)
