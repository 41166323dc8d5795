"""'Until over-fitting': a pure rule over what the ends of the cycles recorded. Standard library only."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

CLEARLY = 2.0  # standard errors


@dataclass(frozen=True)
class CycleEnd:
    """What validation found at the end of a cycle: a loss for every image, always in the same order."""

    train_loss: float  # mean over the cycle's last epoch; infinite where nothing was trained yet
    valid_losses: Sequence[float]
    accuracy: float
    final_size: bool  # whether the cycle was trained at the size validation uses

    @property
    def valid_loss(self) -> float:
        """The mean; a loss that is not finite is the worst there is."""
        mean = math.fsum(self.valid_losses) / len(self.valid_losses)
        return mean if math.isfinite(mean) else math.inf

    @property
    def worth(self) -> tuple[bool, float, float]:
        """What is kept is the cycle end of most worth: the highest accuracy, of equals the lowest loss.

        Not the lowest loss: it rises with the confidence in wrong answers, while accuracy still rises too.
        """
        return math.isfinite(self.valid_loss), self.accuracy, -self.valid_loss


@dataclass(frozen=True)
class Verdict:
    go_on: bool
    because: str  # one line


def best_cycle(cycles: Sequence[CycleEnd]) -> int:
    """Index of the cycle end of most worth, the earliest of equals."""
    return max(range(len(cycles)), key=lambda i: (cycles[i].worth, -i))


def paired_difference(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error of a - b, image by image."""
    differences = [x - y for x, y in zip(a, b, strict=True)]
    n = len(differences)
    mean = math.fsum(differences) / n
    if n < 2 or not math.isfinite(mean):
        return mean, math.inf if math.isfinite(mean) else 0.0
    variance = math.fsum((d - mean) ** 2 for d in differences) / (n - 1)
    return mean, math.sqrt(variance / n)


def judge(before: CycleEnd, cycles: Sequence[CycleEnd], budget: int, most: int) -> Verdict:
    """Whether to train another cycle, after those recorded; `before` is the validation the phase began with.

    Within `budget` cycles over-fitting has to be seen at two cycle ends running: one alone is often a setback that more
    training makes good. Then, up to `most`, a cycle follows while the last one has a lower loss than any before, or a
    higher accuracy than that of the lowest loss: each costs `cycle_mult` times the one before. None follows a loss that
    is not finite.
    """
    last, n = cycles[-1], len(cycles)
    if math.isinf(last.valid_loss):
        return Verdict(False, "the validation loss is not finite")
    lowest, mean, error = compare_to_lowest(before, cycles)
    side = "above" if mean > 0 else "below"
    change = f"validation loss {abs(mean):.4f} ± {error:.4f} {side} the lowest at an end before"
    if math.isinf(mean):  # nothing was trained before
        change = f"validation loss {last.valid_loss:.4f}"
    if overfits(before, cycles) and (n >= budget or overfits(before, cycles[:-1])):
        return Verdict(False, f"over-fitting: {change}, while the training loss fell")
    if n >= most:
        return Verdict(False, f"all of the plan trained ({n} cycle{'s' * (n > 1)}): {change}")
    if n >= budget and mean >= 0 and last.accuracy <= lowest.accuracy:
        return Verdict(False, f"{n} cycles trained, {budget} planned; the last one brought nothing: {change}")
    return Verdict(True, f"going on: {change}")


def overfits(before: CycleEnd, cycles: Sequence[CycleEnd]) -> bool:
    """Whether the last cycle only learned its training images by heart.

    Its validation loss is above the lowest before by more than two standard errors of the paired per-image
    difference, its accuracy is no higher than there, and its training loss fell. Never the first cycle, and none before
    one was trained at the final size.
    """
    if len(cycles) < 2 or not any(cycle.final_size for cycle in cycles):
        return False
    lowest, mean, error = compare_to_lowest(before, cycles)
    fell = cycles[-1].train_loss < cycles[-2].train_loss
    return mean > CLEARLY * error and cycles[-1].accuracy <= lowest.accuracy and fell


def compare_to_lowest(before: CycleEnd, cycles: Sequence[CycleEnd]) -> tuple[CycleEnd, float, float]:
    """The cycle end of the lowest validation loss before the last, and how far the last is above it, with its error."""
    lowest = min((before, *cycles[:-1]), key=lambda cycle: cycle.valid_loss)
    return lowest, *paired_difference(cycles[-1].valid_losses, lowest.valid_losses)
