"""The learning rate finder: short trainings at several rates, or a range test. `lr_suggest` reads their curves.

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
from thaw.config.schedulers import linear
from thaw.config.schema import Find, Settings
from thaw.data.batches import Batch
from thaw.model.freezing import set_trainable
from thaw.model.layer_groups import LayerGroup
from thaw.model.network import Network
from thaw.plan import finder_steps
from thaw.plan.schedules import curve, exponential
from thaw.report.tracker import Tracker
from thaw.runtime import console
from thaw.runtime.files import json_text, read_json
from thaw.store import keys
from thaw.store.kinds import is_numbers
from thaw.train import loop, lr_suggest
from thaw.train.context import RunContext
from thaw.train.cycle import BestSoFar
from thaw.train.inputs import PhaseInputs
from thaw.train.loop import StepOptions, make_optimizer, train
from thaw.train.phase_fit import phase_groups, step_options
from thaw.train.predictions import Predictions

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
    scale: float = 1.0  # factor on the rates for the size of the batches

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
    options = replace(trial.options, lr=find.max_lr * trial.scale, rate=rate)
    losses, average, weight, lowest = [], 0.0, 0.0, math.inf
    with closing(batches), restored_generators(copied):  # closing ends the loader's processes
        for step in train(copied, batches, trial.optimizer(copied), options):
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
    network: Network,
    batches: Sequence[Batch],
    trial: Trial,
    find: Find,
    most: int,
    held_out: Batch | None = None,
    fitted: bool = False,
) -> Iterator[Point]:
    """Yield the rate and the loss of up to `most` short trainings; `next_rung` says which rate follows.

    The loss is that on held-out images after the trial, or without them the mean training loss of its steps. With
    `fitted`, the first trial has rate 0. The rate is that of the last group and falls to 0 in a straight line, as at
    the end of a cycle. Every trial starts from the same weights with a new optimizer. A trial whose loss or gradient is
    not finite has an infinite loss. As in `range_test`, the network stays unchanged.
    """
    start, copied = network.state_dict(), copy.deepcopy(network)
    falling, rungs = curve(linear, [len(batches)]), lr_suggest.ladder(find, trial.kind.name)
    rung, before, tried = 0, None, {}
    rate = 0.0 if fitted else rungs[rung]
    for _ in range(most):
        copied.load_state_dict(start)
        trial.prepare(copied)
        options = replace(trial.options, lr=rate * trial.scale, rate=falling)
        with restored_generators(copied):
            losses = []
            for step in train(copied, batches, trial.optimizer(copied), options):
                losses.append(float(step.loss) if int(step.first_bad) < 0 else math.inf)
                if not math.isfinite(losses[-1]):
                    break
            loss = lr_suggest.mean(losses)
            if held_out is not None and math.isfinite(loss):
                loss = Predictions(*loop.evaluate(copied, [held_out])).loss
        loss = loss if math.isfinite(loss) else math.inf
        yield rate, loss
        if rate:
            tried[rung] = loss
        else:
            before = loss
        rung = lr_suggest.next_rung(tried, min(rungs), max(rungs), before)
        if rung is None:
            break
        rate = rungs[rung]


def restored_generators(network: Network):
    """Return a context that restores the state of torch's random generators at its end."""
    devices = [network.device.device] if network.device.device.type == "cuda" else []
    return torch.random.fork_rng(devices=devices)


@dataclass(frozen=True)
class FindOutcome:
    """The rate found, and the entries of the phase in result.json."""

    found: lr_suggest.FoundRate
    report: dict


def find_rate(context: RunContext, inputs: PhaseInputs, best: BestSoFar | None, tracker: Tracker) -> FindOutcome:
    """Find the learning rate for the fits that use it, write the curve, and report the choice with its reason.

    A finder that is stopped starts again from its beginning next time.
    """
    settings, phase, network = context.settings, inputs.phase, context.network
    steps, trials = finder_steps.finder_length(settings, phase)
    parts = keys.find_parts(settings, phase, steps, trials, context.basis(best.end if best else None))
    fault = partial(curve_fault, of_trials=settings.find.rule == "trials")
    with context.store.entry("finds", parts, fault=fault) as entry:
        if entry.missing:
            if best is not None:
                context.held.hold(best.end.key, best.end.weights)
            began, points = time.perf_counter(), []
            with (
                console.PhaseBar(phase.name, trials if settings.find.rule == "trials" else steps) as bar,
                closing(measured(settings, network, inputs, steps, trials, best is not None)) as measuring,
            ):
                for point in measuring:
                    points.append(point)
                    bar.step()
            rates, losses = ([point[i] for point in sorted(points)] for i in (0, 1))
            losses = [loss if math.isfinite(loss) else None for loss in losses]  # JSON has no infinity
            recorded = {"rates": rates, "losses": losses, "seconds": time.perf_counter() - began}
            (entry.folder / "curve.json").write_text(json.dumps(recorded))
    made, recorded = entry.missing, json.loads((entry.path / "curve.json").read_text())
    context.costs.note(phase.name, 0, entry.path, recorded["seconds"], recorded["seconds"] if made else None)
    rates, losses = recorded["rates"], [math.inf if loss is None else loss for loss in recorded["losses"]]
    if settings.find.rule == "trials":
        measure = "validation loss" if phase.train == "head" else "training loss"
        start = None
        if rates[0] == 0:
            (_, *rates), (start, *losses) = rates, losses
        found = lr_suggest.read_trials(rates, losses, measure, start)
    else:
        found = lr_suggest.read_range(rates, losses, settings.find)
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
    return FindOutcome(found, report)


def curve_fault(folder: Path, of_trials: bool) -> str | None:
    """Return why a curve is unusable, or None. Each rate needs a loss, null if it is not finite in a trial."""
    recorded = read_json(folder / "curve.json")
    rates, losses = recorded.get("rates"), recorded.get("losses")
    if not is_numbers(rates) or rates != sorted(set(rates)) or not all(0 <= rate < math.inf for rate in rates):
        return "curve.json has no valid rates"
    known = [loss for loss in losses if loss is not None or not of_trials] if isinstance(losses, list) else None
    if not is_numbers(known) or not all(0 <= loss < math.inf for loss in known) or len(losses) != len(rates):
        return "curve.json has no valid losses for its rates"
    return None if is_numbers([recorded.get("seconds")]) else "curve.json has no valid seconds"


def trial_of(settings: Settings, network: Network, inputs: PhaseInputs) -> Trial:
    """Return the training setup of the first epoch of a phase."""
    phase, groups = inputs.phase, phase_groups(network, inputs.phase, settings.rates.decay)
    scale = math.sqrt(phase.epochs[0].batch / phase.rate_batch)  # as `schedules.scaled_with_batch`
    options = step_options(settings, network, inputs, "find")
    return Trial(phase.train, settings.bn, groups, settings.optimizer, options, scale)


def measured(
    settings: Settings, network: Network, inputs: PhaseInputs, steps: int, trials: int, fitted: bool
) -> Iterator[Point]:
    """Return a generator of the finder's points: up to `trials` trials of `steps` steps, or a range test.

    `fitted`: whether a phase before has trained the network.
    """
    phase, find, trial = inputs.phase, settings.find, trial_of(settings, network, inputs)
    batches = inputs.batches(range(-(-steps // phase.epochs[0].steps)), phase.name, steps)
    if settings.find.rule != "trials":
        return range_test(network, batches, trial, find, steps)
    if phase.train == "head":
        return rate_trials(network, list(batches), trial, find, trials, inputs.valid)
    # A few steps do not show how a full network does on other images in the end, only what it bears.
    return rate_trials(network, list(batches), trial, find, trials, fitted=fitted)
