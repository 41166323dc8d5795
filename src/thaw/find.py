"""The rate finder: an exponential range test, and the pure rules that read its curve."""

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field

import torch

from thaw.data.batches import Batch
from thaw.errors import UserError
from thaw.loop import make_optimizer, train
from thaw.model import Group, Network
from thaw.schedules import curve, exponential
from thaw.settings import Find, Optimizer

LEFT_TO_FALL = 0.1  # edge: the share of the whole fall that still lies ahead
HEAD_START = 0.1  # the share of the curve whose mean is the loss at the start
FEWEST = 10  # points before divergence is looked for


@dataclass(frozen=True)
class Found:
    """The curve, what each rule makes of it, and the rate taken with its reason."""

    rule: str
    taken: float
    reason: str
    doubtful: bool  # the curve did not fall: the reason is worth a warning
    suggestions: dict[str, float | None]
    rates: list[float] = field(repr=False)
    losses: list[float] = field(repr=False)
    smoothed: list[float] = field(repr=False)

    def as_json(self) -> dict:
        return asdict(self)


def range_test(
    network: Network,
    batches: Iterable[Batch],
    groups: Sequence[Group],
    optimizer: Optimizer,
    find: Find,
    prepare: Callable[[Network], None],
    steps: int,
    **options,
) -> tuple[list[float], list[float]]:
    """Rates (of the last group) and training losses of `steps` steps whose rate rises from min_lr towards max_lr.

    Works on a copy of the network with a new optimizer, every draw keyed by its step, torch's generators put back: the
    network is bit for bit what it was, also after an exception. `prepare` freezes the copy as the fit will be; the
    ratios of the groups are kept. Ends early at a loss that is not finite or, smoothed, `diverge` times the lowest.
    """
    trial = copy.deepcopy(network)
    prepare(trial)
    rate = curve(exponential(find.min_lr / find.max_lr), [steps])
    rates, losses, average, weight, lowest = [], [], 0.0, 0.0, math.inf
    devices = [trial.device.device] if trial.device.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        trained = train(
            trial,
            batches,
            make_optimizer(trial, groups, optimizer),
            lr=find.max_lr,
            rate=rate,
            check_every=steps + 1,
            **options,
        )
        for step in trained:
            loss = float(step.loss)
            if not math.isfinite(loss):
                break
            rates.append(find.max_lr * rate(step.step))
            losses.append(loss)
            # Debiased exponential average of what has been seen so far, as fast.ai smooths it.
            average = find.smooth * average + (1 - find.smooth) * loss
            weight = find.smooth * weight + (1 - find.smooth)
            lowest = min(lowest, average / weight)
            if len(losses) > FEWEST and average / weight > find.diverge * lowest or step.step + 1 == steps:
                break
    return rates, losses


def smooth(losses: Sequence[float], beta: float) -> list[float]:
    """Exponential average to both sides, without lag: s_k = sum_i beta^|i-k| l_i / sum_i beta^|i-k|."""

    def one_sided(values):
        total, weight, out = 0.0, 0.0, []
        for value in values:
            total, weight = value + beta * total, 1 + beta * weight
            out.append((total, weight))
        return out

    forward, backward = one_sided(losses), one_sided(losses[::-1])[::-1]
    return [(f + b - loss) / (fw + bw - 1) for (f, fw), (b, bw), loss in zip(forward, backward, losses, strict=True)]


def noise(losses: Sequence[float], beta: float) -> float:
    """Standard error of the smoothed loss: from the median step between neighbours, narrowed by the smoothing."""
    steps = sorted(abs(b - a) for a, b in zip(losses, losses[1:], strict=False))
    sigma = steps[len(steps) // 2] / (0.6745 * math.sqrt(2)) if steps else 0.0
    return sigma * math.sqrt((1 + beta**2) / (1 - beta**2)) * (1 - beta) / (1 + beta)


def edge(rates: Sequence[float], smoothed: Sequence[float], start: float, error: float) -> float:
    """The highest rate where the loss is still clearly improving.

    With `start` the loss at the start, `lowest` the lowest smoothed loss, and the bottom of the curve the last rate
    whose smoothed loss is within two standard errors (`error`) of the lowest: the highest rate up to the bottom at
    which at least a tenth of the whole fall, start - lowest, still lies ahead.
    """
    lowest = min(smoothed)
    bottom = max(k for k, loss in enumerate(smoothed) if loss <= lowest + 2 * error)
    above = lowest + LEFT_TO_FALL * (start - lowest)
    return rates[max((k for k in range(bottom + 1) if smoothed[k] >= above), default=0)]


def valley(rates: Sequence[float], smoothed: Sequence[float]) -> float:
    """fastai's default: half way along the longest strictly decreasing subsequence of the smoothed losses.

    With its first and last point at b and e: the rate at b + int((e - b) / 3) + int((e - b) / 6)
    (fastai.callback.schedule.valley).
    """
    n = len(smoothed)
    length, previous = [1] * n, [-1] * n
    for i in range(n):
        for j in range(i):
            if smoothed[i] < smoothed[j] and length[i] < length[j] + 1:
                length[i], previous[i] = length[j] + 1, j
    end = max(range(n), key=lambda i: length[i])
    begin = end
    while previous[begin] >= 0:
        begin = previous[begin]
    section = (end - begin) / 3
    return rates[begin + int(section) + int(section / 2)]


def read(rates: Sequence[float], losses: Sequence[float], find: Find) -> Found:
    """What each rule suggests, the rate taken, and why. Always ends in a rate.

    Falls (by more than four standard errors and 2 %): the rule. Never falls: a tenth of the lowest rate at which the
    loss has clearly risen above its start. Never stops falling: the highest rate tried. Errors: fewer than three finite
    losses, exit 4.
    """
    if len(losses) < 3:
        raise UserError(
            4,
            f"the rate finder's loss is not finite after {len(losses)} steps at lr {find.min_lr:.1g}: are the weights and pictures right?",
        )
    smoothed = smooth(losses, find.smooth)
    head = max(1, round(HEAD_START * len(losses)))
    start = math.fsum(losses[:head]) / head
    lowest = min(range(len(smoothed)), key=lambda k: smoothed[k])
    error = noise(losses[: max(lowest + 1, head, 3)], find.smooth)
    fall = start - smoothed[lowest]
    clear = max(4 * error, 0.02 * abs(start))
    whole = len(losses) >= 3 and rates[-1] >= find.max_lr * (find.min_lr / find.max_lr) ** (1.5 / find.steps)
    suggestions = {"edge": None, "valley": None}
    if fall > clear:
        suggestions = {"edge": edge(rates, smoothed, start, error), "valley": valley(rates, smoothed)}
        if lowest >= len(losses) - 2 and whole:
            taken, doubtful = rates[-1], False
            reason = f"the loss never stops falling: the highest rate tried, find.max_lr={find.max_lr:g}"
        else:
            taken, doubtful = suggestions[find.rule], False
            reason = {
                "edge": f"edge: a tenth of the fall from {start:.3g} to {smoothed[lowest]:.3g} (at {rates[lowest]:.2g}) still lies ahead",
                "valley": f"valley: within the longest fall, from {start:.3g} to {smoothed[lowest]:.3g}",
            }[find.rule]
    else:
        risen = next((k for k in range(head, len(smoothed)) if smoothed[k] > start + clear), len(smoothed) - 1)
        taken, doubtful = rates[risen] / 10, True
        reason = f"the loss never clearly falls: a tenth of {rates[risen]:.2g}, where it has risen above its start of {start:.3g}"
    return Found(find.rule, taken, reason, doubtful, suggestions, list(rates), list(losses), smoothed)
