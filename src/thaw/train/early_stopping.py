"""The stopping rule of phases trained until over-fitting: a pure function of the validations at cycle ends."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

CLEARLY = 2.0  # standard errors
ALL_TRAINED = "all planned cycles trained"


@dataclass(frozen=True)
class CycleEnd:
    """The validation at the end of a cycle, with one loss per image, always in the same order."""

    train_loss: float  # mean over the cycle's last epoch; infinite before any training
    valid_losses: Sequence[float]
    accuracy: float
    final_size: bool  # whether the cycle was trained at the image size of validation

    @property
    def valid_loss(self) -> float:
        """The mean loss, or infinity if it is not finite."""
        mean = math.fsum(self.valid_losses) / len(self.valid_losses)
        return mean if math.isfinite(mean) else math.inf

    @property
    def worth(self) -> tuple[bool, float, float]:
        """A sort key: the best cycle end has the highest accuracy and, among equals, the lowest loss.

        The loss alone would mislead: it grows with the confidence of wrong predictions even while accuracy rises.
        """
        return math.isfinite(self.valid_loss), self.accuracy, -self.valid_loss


@dataclass(frozen=True)
class Verdict:
    """The decision whether a phase trains another cycle, and its reason."""

    go_on: bool
    because: str  # one line


def best_cycle(cycles: Sequence[CycleEnd]) -> int:
    """Return the index of the best cycle end, the earliest among equals."""
    return max(range(len(cycles)), key=lambda i: (cycles[i].worth, -i))


def paired_difference(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the standard error of the per-image differences a - b."""
    differences = [x - y for x, y in zip(a, b, strict=True)]
    n = len(differences)
    mean = math.fsum(differences) / n
    if n < 2 or not math.isfinite(mean):
        return mean, math.inf if math.isfinite(mean) else 0.0
    variance = math.fsum((d - mean) ** 2 for d in differences) / (n - 1)
    return mean, math.sqrt(variance / n)


def judge(before: CycleEnd, cycles: Sequence[CycleEnd], budget: int, most: int) -> Verdict:
    """Decide whether to train another cycle after `cycles`; `before` is the validation at the start of the phase.

    Within the first `budget` cycles, stop only if two cycle ends in a row over-fit: a single one is often a setback
    that more training repairs. After that, up to `most` cycles, continue only while the last cycle has a lower
    validation loss than all before, or a higher accuracy than the one with the lowest loss, because each further cycle
    costs `cycle_mult` times the previous one. Stop if the validation loss is not finite.
    """
    last, n = cycles[-1], len(cycles)
    count = f"{n} cycle{'s' * (n > 1)}"
    if math.isinf(last.valid_loss):
        return Verdict(False, "the validation loss is not finite")
    lowest, mean, error = compare_to_lowest(before, cycles)
    change = loss_change(last, mean, error)
    if overfits(before, cycles) and (n >= budget or overfits(before, cycles[:-1])):
        return Verdict(False, f"over-fitting: {change}, training loss still falling")
    if n >= most:
        done = f"maximum of {count} reached" if n > budget else ALL_TRAINED
        return Verdict(False, f"{done}: {change}")
    if n >= budget and mean >= 0 and last.accuracy <= lowest.accuracy:
        return Verdict(False, f"no improvement in the last cycle ({count} trained, {budget} planned): {change}")
    return Verdict(True, f"going on: {change}")


def loss_change(last: CycleEnd, mean: float, error: float) -> str:
    """Describe how the validation loss of the last cycle differs from the lowest one before it.

    A difference of at most two standard errors is called not significant.
    """
    if math.isinf(mean):  # the first validation has nothing to be compared with
        return f"validation loss {last.valid_loss:.4f}"
    if mean == 0:
        return f"validation loss equal to the previous lowest (± {error:.4f})"
    size = f"{abs(mean):.4f} ± {error:.4f}" if abs(mean) >= 0.00005 else f"less than 0.0001 (± {error:.4f})"
    doubt = "" if abs(mean) > CLEARLY * error else " (not significant)"
    return f"validation loss {size} {'above' if mean > 0 else 'below'} the previous lowest{doubt}"


def overfits(before: CycleEnd, cycles: Sequence[CycleEnd]) -> bool:
    """Return whether the last cycle only memorised its training images.

    That is: its validation loss exceeds the lowest one before by more than two standard errors of the paired per-image
    difference, its accuracy is no higher than at that lowest loss, and its training loss fell. Always False for the
    first cycle, and until a cycle was trained at the final image size.
    """
    if len(cycles) < 2 or not any(cycle.final_size for cycle in cycles):
        return False
    lowest, mean, error = compare_to_lowest(before, cycles)
    fell = cycles[-1].train_loss < cycles[-2].train_loss
    return mean > CLEARLY * error and cycles[-1].accuracy <= lowest.accuracy and fell


def compare_to_lowest(before: CycleEnd, cycles: Sequence[CycleEnd]) -> tuple[CycleEnd, float, float]:
    """Return the lowest-loss cycle end before the last, and the mean and error of the last one's loss above it."""
    lowest = min((before, *cycles[:-1]), key=lambda cycle: cycle.valid_loss)
    return lowest, *paired_difference(cycles[-1].valid_losses, lowest.valid_losses)
