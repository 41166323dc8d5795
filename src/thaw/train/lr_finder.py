"""The rate finder: short trials at every rate of a ladder, or a range test. `lr_suggest` reads their curves.

Trials start from the same network and see the same batches with the same draws, so that what differs is the rate alone.
A range test raises the rate while it trains, as fast.ai's lr_find.
"""

import copy
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing

import torch

from thaw.config.schema import Find, Optimizer
from thaw.data.batches import Batch
from thaw.model import weights
from thaw.model.freezing import set_trainable
from thaw.model.layer_groups import LayerGroup
from thaw.model.network import Network
from thaw.plan import finder_steps
from thaw.plan.phases import Phase
from thaw.plan.schedules import curve, exponential, ladder
from thaw.runtime import console, signals
from thaw.store import keys
from thaw.train import lr_suggest
from thaw.train.context import RunContext, phase_groups, train_batches
from thaw.train.fit import BestSoFar
from thaw.train.loop import make_optimizer, train
from thaw.train.lr_suggest import first_minimum, mean

FEWEST = 10  # losses before divergence is looked for
TWICE = 2.0


def range_test(
    network: Network,
    batches: Iterable[Batch],
    groups: Sequence[LayerGroup],
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


def rate_trials(
    network: Network,
    orders: Sequence[Sequence[Batch]],
    groups: Sequence[LayerGroup],
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
            best = first_minimum([costs[rate] for rate in tried])
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


def find_rate(context: RunContext, phase: Phase, kept: BestSoFar | None) -> tuple[lr_suggest.FoundRate, dict, float]:
    """Find the rate for the fits that use it, write its curve, say what was taken and why.

    Also the report of the phase, and the seconds that the store saved.
    """
    settings = context.settings
    steps, orders = finder_steps.finder_length(settings, phase)
    before, computed = kept.end.key if kept else context.made, context.device.computed
    parts = keys.find_parts(settings, phase, steps, orders, before, context.data_key, computed)
    with context.store.entry("finds", parts) as entry:
        made = entry.missing
        if made:
            curve = record_curve(context, phase, kept, steps, orders)
            (entry.folder / "curve.json").write_text(json.dumps(curve))
    if not made:
        curve = json.loads((entry.path / "curve.json").read_text())
    context.note(phase, 0, entry.path, curve["seconds"], curve["seconds"] if made else None)
    read = lr_suggest.read_trials if settings.find.rule == "trials" else lr_suggest.read_range
    found = read(curve["rates"], curve["losses"], settings.find)
    for row in found.rows():
        context.log({f"{phase.name}/{column}": value for column, value in row.items()})
    (context.folder / f"find_{phase.name.removeprefix('find_')}.json").write_text(
        json.dumps({"phase": phase.name, **found.as_json()}, indent=1)
    )
    mark = "warning: " if found.doubtful and not settings.smoke else ""
    used = f"lr {found.taken:.3g} taken"
    if settings.lr_factor != 1:
        used += f", × lr_factor {settings.lr_factor:g} = {found.taken * settings.lr_factor:.3g}"
    console.say(f"{phase.name}: {mark}{used}; {found.reason}{'' if made else ' (from the store)'}")
    report = {"lr": found.taken, "seconds": curve["seconds"], "reused": not made}
    return found, report, 0.0 if made else curve["seconds"]


def record_curve(context: RunContext, phase: Phase, kept: BestSoFar | None, steps: int, orders: int) -> dict:
    """Return rates, losses and seconds of the finder, which starts from the best so far."""
    began = time.perf_counter()
    if kept is not None and context.holds != kept.end.key:
        weights.load_weights(context.network.model, kept.end.weights(), "the store", head=True)
        context.holds = kept.end.key
    record = run_trials if context.settings.find.rule == "trials" else run_range_test
    rates, losses = record(context, phase, steps, orders)
    return {"rates": rates, "losses": losses, "seconds": time.perf_counter() - began}


def run_trials(
    context: RunContext, phase: Phase, steps: int, orders: int
) -> tuple[list[float], list[list[list[float]]]]:
    """Trials of so many steps in so many orders of the data: rates, rising, and of each the losses in every order."""
    find_ = finder_steps.finder_range(context.settings)
    cut = [
        list(train_batches(context, phase, trial_epochs(phase, steps, order), phase.name, steps))
        for order in range(orders)
    ]
    with console.PhaseBar(phase.name, finder_steps.most_trials(context.settings)) as line:
        ran = rate_trials(context.network, cut, find=find_, **fit_options(context, phase))
        rates, losses = zip(*sorted(until_signal(ran, line, phase.name)), strict=True)
    return list(rates), list(losses)


def run_range_test(context: RunContext, phase: Phase, steps: int, orders: int) -> tuple[list[float], list[float]]:
    """A range test of so many steps: rates and losses."""
    cut = train_batches(context, phase, trial_epochs(phase, steps, 0), phase.name, steps)
    with console.PhaseBar(phase.name, steps) as line, closing(cut):
        batches = until_signal(cut, line, phase.name)
        return range_test(
            context.network,
            batches,
            find=finder_steps.finder_range(context.settings),
            steps=steps,
            **fit_options(context, phase),
        )


def trial_epochs(phase: Phase, steps: int, order: int) -> range:
    """The epochs from which a find takes so many steps; every order takes others."""
    n = -(-steps // phase.epochs[0].steps)
    return range(order * n, (order + 1) * n)


def fit_options(context: RunContext, phase: Phase) -> dict:
    """What a find trains with: as the fit that it serves."""
    settings, live = context.settings, phase.features == "live"
    return {
        "groups": phase_groups(context, phase),
        "optimizer": settings.optimizer,
        "prepare": lambda network: set_trainable(network, phase.train, settings.bn),
        "loss": context.loss,
        "mixup": settings.augment.mixup if live else 0.0,
        "cutmix": settings.augment.cutmix if live else 0.0,
        "clip": settings.optimizer.clip,
        "seed": (settings.seed, phase.name, "find"),
    }


def until_signal(items, line: console.PhaseBar, name: str):
    """The items, the line moving with them. Errors: a signal that asks to stop; the test is done again next time."""
    for item in items:
        if number := signals.pending():
            signals.leave(number, f"in {name}")
        yield item
        line.step()
