"""The learning rate finder: short trials at several rates, or a range test. `lr_suggest` reads their curves.

All trials start from the same network and use the same batches and random draws, so that only the rate differs.
A range test raises the rate during training, like fast.ai's lr_find.
"""

import copy
import json
import math
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from thaw.config.optimizers import Optimizer
from thaw.config.schema import Find, Settings
from thaw.data.batches import Batch
from thaw.model.freezing import set_trainable
from thaw.model.layer_groups import LayerGroup
from thaw.model.network import Network
from thaw.plan import finder_steps
from thaw.plan.phases import Phase
from thaw.plan.schedules import curve, exponential, ladder
from thaw.report.tracker import Tracker
from thaw.runtime import console
from thaw.runtime.files import json_text, read_json
from thaw.store import keys
from thaw.store.kinds import is_numbers
from thaw.train import lr_suggest
from thaw.train.context import RunContext
from thaw.train.fit import BestSoFar
from thaw.train.inputs import PhaseInputs
from thaw.train.loop import StepOptions, make_optimizer, train
from thaw.train.lr_suggest import first_minimum, mean
from thaw.train.phase_fit import phase_groups, step_options

MIN_LOSSES = 10  # losses before divergence is tested
TWICE = 2.0

Batches = Generator[Batch, None, None]
Point = tuple[float, float]  # a rate and its loss


@dataclass(frozen=True)
class Trial:
    """The training setup of a finder: that of the fits that use its rate."""

    train: str  # head | all
    bn: str
    groups: Sequence[LayerGroup]
    kind: Optimizer
    options: StepOptions

    def prepare(self, network: Network) -> None:
        """Make the trained part of the network trainable, and freeze the rest."""
        set_trainable(network, self.train, self.bn)

    def optimizer(self, network: Network) -> torch.optim.Optimizer:
        return make_optimizer(network, self.groups, self.kind)


def range_test(network: Network, batches: Batches, trial: Trial, find: Find, steps: int) -> Iterator[Point]:
    """Train up to `steps` steps while the rate rises from min_lr to max_lr; yield each rate and loss.

    The rate is that of the last group; the others keep their ratios to it. Train a copy of the network with a new
    optimizer, and restore torch's generators, so that the network stays bit for bit the same, even after an exception.
    End early if a loss is not finite, or if the smoothed loss exceeds both `diverge` times its minimum and twice the
    mean of the first ten losses.
    """
    copied = copy.deepcopy(network)
    trial.prepare(copied)
    rate = curve(exponential(find.min_lr / find.max_lr), [steps])
    losses, average, weight, lowest = [], 0.0, 0.0, math.inf
    with closing(batches), restored_generators(copied):  # closing ends the loader's processes
        for step in train(copied, batches, trial.optimizer(copied), replace(trial.options, lr=find.max_lr, rate=rate)):
            loss = float(step.loss)
            if int(step.first_bad) >= 0:
                break
            losses.append(loss)
            yield find.max_lr * rate(step.step), loss
            # Bias-corrected exponential moving average of the losses so far, as in fast.ai.
            average = find.smooth * average + (1 - find.smooth) * loss
            weight = find.smooth * weight + (1 - find.smooth)
            seen = average / weight
            lowest = min(lowest, seen)
            # If the loss is low from the start, one hard batch may exceed `diverge` times the minimum.
            exploded = seen > find.diverge * lowest and seen > TWICE * math.fsum(losses[:MIN_LOSSES]) / MIN_LOSSES
            if (len(losses) > MIN_LOSSES and exploded) or step.step + 1 == steps:
                break


def rate_trials(
    network: Network, orders: Sequence[Sequence[Batch]], trial: Trial, find: Find
) -> Iterator[tuple[float, list[list[float]]]]:
    """Yield each rate tried (that of the last group) and its training losses: a list per data order, a loss per batch.

    First try one rate per decade, lowest first, until a trial is cut short: at a loss that is not finite, or as soon as
    its mean is certain to exceed `diverge` times the lowest mean. Then try two more rates on each side of the best.
    Every trial starts from the same weights with a new optimizer. As in `range_test`, the network stays unchanged.
    """
    start, copied = network.state_dict(), copy.deepcopy(network)
    costs, most = {}, math.inf
    for a_decade in (1, 3):
        for rate in rates_to_try(find, a_decade, costs):
            losses = [[] for _ in orders]
            for batches, own in zip(orders, losses, strict=True):
                copied.load_state_dict(start)
                trial.prepare(copied)
                with restored_generators(copied):
                    for step in train(copied, batches, trial.optimizer(copied), replace(trial.options, lr=rate)):
                        loss = float(step.loss)
                        if int(step.first_bad) >= 0 or math.fsum([*own, loss]) > most * len(batches):
                            break
                        own.append(loss)
            yield rate, losses
            whole = all(len(own) == len(batches) for own, batches in zip(losses, orders, strict=True))
            costs[rate] = mean([mean(own) for own in losses]) if whole else most
            if not whole:
                break
            most = min(most, find.diverge * costs[rate])


def rates_to_try(find: Find, a_decade: int, costs: dict[float, float]) -> list[float]:
    """Return `a_decade` rates per decade; if some were tried before, only new ones next to the best of them."""
    rates = ladder(find.min_lr, find.max_lr, a_decade)
    if not costs:
        return rates
    tried = sorted(costs)
    best = first_minimum([costs[rate] for rate in tried])
    low, high = tried[max(best - 1, 0)], tried[min(best + 1, len(tried) - 1)]
    return [rate for rate in rates if low < rate < high and rate not in costs]


def restored_generators(network: Network):
    """Return a context that restores the state of torch's random generators at its end."""
    devices = [network.device.device] if network.device.device.type == "cuda" else []
    return torch.random.fork_rng(devices=devices)


@dataclass(frozen=True)
class FindOutcome:
    """The rate found, the entries of the phase in result.json, and the seconds the store saved."""

    found: lr_suggest.FoundRate
    report: dict
    saved: float


def find_rate(context: RunContext, inputs: PhaseInputs, best: BestSoFar | None, tracker: Tracker) -> FindOutcome:
    """Find the learning rate for the fits that use it, write the curve, and report the choice with its reason.

    A finder that is stopped starts again from its beginning next time.
    """
    settings, phase, network = context.settings, inputs.phase, context.network
    steps, orders = finder_steps.finder_length(settings, phase)
    parts = keys.find_parts(settings, phase, steps, orders, context.basis(best.end if best else None))
    fault = partial(curve_fault, orders=orders if settings.find.rule == "trials" else None)
    with context.store.entry("finds", parts, fault=fault) as entry:
        if entry.missing:
            if best is not None:
                context.held.hold(best.end.key, best.end.weights)
            began, points = time.perf_counter(), []
            with (
                console.PhaseBar(phase.name, max_points(settings, steps)) as bar,
                closing(measured(settings, network, inputs, steps, orders)) as measuring,
            ):
                for point in measuring:
                    points.append(point)
                    bar.step()
            rates, losses = ([point[i] for point in sorted(points)] for i in (0, 1))
            recorded = {"rates": rates, "losses": losses, "seconds": time.perf_counter() - began}
            (entry.folder / "curve.json").write_text(json.dumps(recorded))
    made, recorded = entry.missing, json.loads((entry.path / "curve.json").read_text())
    context.costs.note(phase.name, 0, entry.path, recorded["seconds"], recorded["seconds"] if made else None)
    read = lr_suggest.read_trials if settings.find.rule == "trials" else lr_suggest.read_range
    found = read(recorded["rates"], recorded["losses"], settings.find)
    for row in found.rows():
        tracker.log({f"{phase.name}/{column}": value for column, value in row.items()})
    (context.folder / f"find_{phase.name.removeprefix('find_')}.json").write_text(
        json_text({"phase": phase.name, **found.as_json()}, indent=1)
    )
    mark = "warning: " if found.doubtful and not settings.smoke else ""
    used = f"lr {found.taken:.3g} chosen"
    if settings.lr_factor != 1:
        used += f", × lr_factor {settings.lr_factor:g} = {found.taken * settings.lr_factor:.3g}"
    console.say(f"{phase.name}: {mark}{used}; {found.reason}{'' if made else ' (curve from the store)'}")
    report = {"lr": found.taken, "seconds": recorded["seconds"], "reused": not made}
    return FindOutcome(found, report, 0.0 if made else recorded["seconds"])


def curve_fault(folder: Path, orders: int | None) -> str | None:
    """Return why a curve is unusable, or None. Each rate needs losses for `orders` data orders (None: one loss)."""
    recorded = read_json(folder / "curve.json")
    rates, losses = recorded.get("rates"), recorded.get("losses")
    if not is_numbers(rates) or rates != sorted(set(rates)) or not all(0 < rate < math.inf for rate in rates):
        return "curve.json has no valid rates"
    trials = [[[loss]] for loss in losses] if orders is None and isinstance(losses, list) else losses
    good = isinstance(trials, list) and all(isinstance(one, list) and len(one) == (orders or 1) for one in trials)
    good = good and all(is_numbers(own) and all(0 <= loss < math.inf for loss in own) for one in trials for own in one)
    if not good or len(trials) != len(rates) or not all(own for one in trials[:1] for own in one):
        return "curve.json has no valid losses for its rates"
    return None if is_numbers([recorded.get("seconds")]) else "curve.json has no valid seconds"


def measured(settings: Settings, network: Network, inputs: PhaseInputs, steps: int, orders: int) -> Iterator:
    """Return a generator of the finder's points: trials of `steps` steps in `orders` data orders, or a range test."""
    phase, find = inputs.phase, finder_steps.finder_range(settings)
    groups = phase_groups(network, phase, settings.rates.decay)
    trial = Trial(phase.train, settings.bn, groups, settings.optimizer, step_options(settings, network, inputs, "find"))
    cut = [inputs.batches(trial_epochs(phase, steps, order), phase.name, steps) for order in range(orders)]
    if settings.find.rule == "trials":
        return rate_trials(network, [list(batches) for batches in cut], trial, find)
    return range_test(network, cut[0], trial, find, steps)


def max_points(settings: Settings, steps: int) -> int:
    """Return the maximum number of points of a finder."""
    return finder_steps.most_trials(settings) if settings.find.rule == "trials" else steps


def trial_epochs(phase: Phase, steps: int, order: int) -> range:
    """Return the epochs that supply `steps` steps; each order of the data has its own."""
    n = -(-steps // phase.epochs[0].steps)
    return range(order * n, (order + 1) * n)
