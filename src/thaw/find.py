"""The rate finder: short trials at every rate of a ladder, or a range test. `suggest` reads their curves.

Trials start from the same network and see the same batches with the same draws, so that what differs is the rate alone.
A range test raises the rate while it trains, as fast.ai's lr_find.
"""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch

from thaw.data.batches import Batch
from thaw.groups import Group
from thaw.loop import make_optimizer, train
from thaw.model import Network
from thaw.schedules import curve, exponential, ladder
from thaw.settings import Find, Optimizer
from thaw.suggest import bottom, mean

FEWEST = 10  # losses before divergence is looked for
TWICE = 2.0


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
    ratios of the groups are kept. Ends early at a loss that is not finite or, smoothed, `diverge` times the lowest and
    twice that of the first ten steps.
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
            seen = average / weight
            lowest = min(lowest, seen)
            # Where the loss is low from the start, four times the lowest may be no more than a hard batch.
            exploded = seen > find.diverge * lowest and seen > TWICE * math.fsum(losses[:FEWEST]) / FEWEST
            if (len(losses) > FEWEST and exploded) or step.step + 1 == steps:
                break
    return rates, losses


def trials(
    network: Network,
    orders: Sequence[Sequence[Batch]],
    groups: Sequence[Group],
    optimizer: Optimizer,
    find: Find,
    prepare: Callable[[Network], None],
    **options,
) -> Iterator[tuple[float, list[list[float]]]]:
    """Rates (of the last group), and of each, for every order of the data, the training losses of a step a batch.

    One rate a decade, rising, until a trial is cut short: at a loss that is not finite, or where its mean is sure to be
    above `diverge` times the lowest. Then two more to either side of the best. Every trial starts anew from the
    network, with a new optimizer; no trace is left, as by `range_test`.
    """
    start, trial = network.state_dict(), copy.deepcopy(network)
    devices = [trial.device.device] if trial.device.device.type == "cuda" else []

    def of(batches: Sequence[Batch], rate: float, most: float) -> list[float]:
        trial.load_state_dict(start)
        prepare(trial)
        fresh, losses = make_optimizer(trial, groups, optimizer), []
        with torch.random.fork_rng(devices=devices):
            for step in train(
                trial, batches, fresh, lr=rate, rate=lambda step: 1.0, check_every=len(batches) + 1, **options
            ):
                loss = float(step.loss)
                if not math.fsum([*losses, loss]) <= most * len(batches) or not math.isfinite(loss):
                    break
                losses.append(loss)
                if len(losses) == len(batches):
                    break
        return losses

    costs, most = {}, math.inf
    for a_decade in (1, 3):
        rates = ladder(find.min_lr, find.max_lr, a_decade)
        if costs:
            tried = sorted(costs)
            best = bottom([costs[rate] for rate in tried])
            low, high = tried[max(best - 1, 0)], tried[min(best + 1, len(tried) - 1)]
            rates = [rate for rate in rates if low < rate < high and rate not in costs]
        for rate in rates:
            losses = [of(batches, rate, most) for batches in orders]
            yield rate, losses
            whole = all(len(of_order) == len(batches) for of_order, batches in zip(losses, orders, strict=True))
            costs[rate] = mean([mean(of_order) for of_order in losses]) if whole else most
            if not whole:
                break
            most = min(most, find.diverge * costs[rate])
