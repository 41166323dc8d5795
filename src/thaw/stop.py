"""'Until over-fitting': a pure rule over what the ends of the cycles recorded. Standard library only."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

CLEARLY = 2.0  # standard errors


@dataclass(frozen=True)
class CycleEnd:
    """What validation found at the end of a cycle: a loss for every picture, always in the same order."""

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
    best: int  # index of the cycle end of most worth, the earliest of equals
    because: str  # one line


def best(cycles: Sequence[CycleEnd]) -> int:
    """Index of the cycle end of most worth, the earliest of equals."""
    return max(range(len(cycles)), key=lambda i: (cycles[i].worth, -i))


def paired(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error of a - b, picture by picture."""
    differences = [x - y for x, y in zip(a, b, strict=True)]
    n = len(differences)
    mean = math.fsum(differences) / n
    if n < 2 or not math.isfinite(mean):
        return mean, math.inf if math.isfinite(mean) else 0.0
    variance = math.fsum((d - mean) ** 2 for d in differences) / (n - 1)
    return mean, math.sqrt(variance / n)


def judge(before: CycleEnd, cycles: Sequence[CycleEnd], budget: int, most: int) -> Verdict:
    """Whether to train another cycle, after those recorded; `before` is the validation the phase began with.

    The last cycle is compared with the one of the lowest validation loss (or with `before`). Over-fitting is: the mean
    of the paired per-picture difference in loss exceeds two standard errors, accuracy is no higher, and the training
    loss fell. It is judged from the second cycle on, and not before one was trained at the final size. Without it
    `budget` cycles are trained, and more, up to `most`, while the last one has a lower loss or a higher accuracy: each
    costs `cycle_mult` times the one before. None follows a loss that is not finite.
    """
    kept, last, n = best(cycles), cycles[-1], len(cycles)
    if math.isinf(last.valid_loss):
        return Verdict(False, kept, "the validation loss is not finite")
    lowest = min((before, *cycles[:-1]), key=lambda cycle: cycle.valid_loss)
    mean, error = paired(last.valid_losses, lowest.valid_losses)
    change = f"validation loss {mean:+.4f} ± {error:.4f} against the lowest before"
    gained = last.accuracy > lowest.accuracy
    fell = n > 1 and last.train_loss < cycles[-2].train_loss
    if mean > CLEARLY * error and fell and not gained and any(cycle.final_size for cycle in cycles):
        return Verdict(False, kept, f"over-fitting: {change}, while the training loss fell")
    if n >= most:
        return Verdict(False, kept, f"all of the plan trained ({n} cycle{'s' * (n > 1)}): {change}")
    if n >= budget and mean >= 0 and not gained:
        return Verdict(False, kept, f"{n} cycles trained, {budget} planned; the last one brought nothing: {change}")
    return Verdict(True, kept, f"no over-fitting: {change}")
