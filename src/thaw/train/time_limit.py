"""The time limit of a run, `minutes`: phases on images are cut to the epochs that fit, by their measured speed.

The limit is for what a run takes if nothing is stored, so that a resumed run and the jobs of a sweep, which share
stored results, train what an uninterrupted run does.
"""

import copy
import time
from contextlib import closing
from dataclasses import replace

from thaw.config.schema import Settings
from thaw.data.file_state import named_files
from thaw.plan.finder_steps import finder_steps
from thaw.plan.phases import Phase
from thaw.plan.shorten import Speed, shorten, shorten_to_time
from thaw.runtime import console
from thaw.runtime.files import format_duration
from thaw.store.estimates import planned_artifacts
from thaw.store.store import key_of
from thaw.train import loop
from thaw.train.context import RunContext
from thaw.train.cycle import CycleResult
from thaw.train.inputs import PhaseInputs
from thaw.train.lr_finder import restored_generators, trial_of
from thaw.train.predictions import predict

WARM_STEPS, TIMED_STEPS = 2, 4
MOST_MEASURING = 0.05  # share of the limit after which a measurement ends early
PLANNED, OVERDUE = 0.95, 1.05  # shares of the limit: that is planned, and at which a cycle is given up
HEAD_SHARE = 1 / 3  # of the time left, that a phase of the head may take before a phase of the full network
END_S = 5.0  # to export the network and to draw the report


class TimeIsUp(Exception):
    """Ends a cycle that would exceed the time limit."""


def cut_phase(context: RunContext, inputs: PhaseInputs, must: bool) -> PhaseInputs | None:
    """Return the inputs of a phase cut to the epochs that fit into the time left, or None if none fits.

    `must`: nothing is trained yet, so at least one epoch is kept. A finder is left out if no epoch fits of the phase
    that it serves. Phases on stored activations take little time and are never cut.
    """
    phase, settings, phases = inputs.phase, context.settings, context.plan.phases
    if phase not in phases:  # left out with its finder
        return None
    if settings.minutes is None or settings.smoke or phase.features == "precomputed":
        return inputs
    find = phase.do == "find"
    fit = next(p for p in phases if p.do == "fit" and p.rate_from == phase.name) if find else phase
    if fit.name not in context.speeds:
        context.speeds[fit.name] = measured_speed(context, inputs)
    speed = context.speeds[fit.name]
    left, finding = seconds_left(context, speed, PLANNED), finder_seconds(settings, phase, speed) if find else 0.0
    share = HEAD_SHARE if fit.train == "head" and any(p.train == "all" for p in phases) else 1.0
    after = fit_into(context, fit, 0, share * left - finding, phase.name)
    if must and not after.cycles:
        after = shorten(fit, 0, 1, settings, context.plan)
    if not find or not after.cycles:
        say_cut(context, fit, after, left)
        replan(context, fit, after)
    return (inputs if find else replace(inputs, phase=after)) if after.cycles else None


def finder_seconds(settings: Settings, phase: Phase, speed: Speed) -> float:
    """Return the longest time of a finder."""
    epoch = phase.epochs[0]
    return finder_steps(settings, phase) * epoch.batch * epoch.size**2 / speed.pixels


def cut_rest(context: RunContext, phase: Phase, results: list[CycleResult]) -> Phase:
    """Return a phase cut after the cycles that it has trained, at their speed."""
    if context.settings.minutes is None or phase.name not in context.speeds:
        return phase
    done, last = len(results), results[-1].epochs
    pixels = sum(one["images"] * epoch.size**2 for one, epoch in zip(last, phase.epochs_of(done - 1), strict=True))
    evaluation = context.speeds[phase.name].evaluation
    if phase.train == "all":
        evaluation = sum(one["validation"] for one in last) / len(last) / context.plan.facts.valid
    speed = Speed(pixels / sum(one["seconds"] for one in last), evaluation)
    context.speeds[phase.name] = speed
    left = seconds_left(context, speed, PLANNED)
    after = fit_into(context, phase, done, left, phase.name)
    say_cut(context, phase, after, left)
    replan(context, phase, after)
    return after


def fit_into(context: RunContext, phase: Phase, done: int, seconds: float, name: str) -> Phase:
    """Cut a phase after its first `done` cycles to the time left, as this run did if it was stopped after that."""
    fact = f"minutes_{key_of([context.identity, name, done])}"
    first = sum(phase.cycles[:done])
    known = {} if context.settings.fresh else context.store.recall(fact, epochs=int)
    if known:
        return shorten(phase, done, max(0, known["epochs"]), context.settings, context.plan)
    after = shorten_to_time(phase, done, seconds, context.speeds[phase.name], context.settings, context.plan)
    context.store.remember(fact, {"epochs": sum(after.cycles) - first})
    return after


def say_cut(context: RunContext, before: Phase, after: Phase, left: float) -> None:
    """Say how the time limit changed a phase."""
    if after.cycles == before.cycles:
        return
    minutes = f"of minutes={context.settings.minutes:g}, {format_duration(max(left, 0.0))} are left"
    one = format_duration(context.speeds[before.name].seconds(before.epochs[-1:], before.train, context.plan.facts))
    what = f"{sum(after.cycles)} of {sum(before.cycles)} epochs ({'+'.join(map(str, after.cycles))})"
    console.say(f"{before.name}: {what if after.cycles else 'left out'}; {minutes}, an epoch takes {one}")


def replan(context: RunContext, before: Phase, after: Phase) -> None:
    """Replace a phase of the plan; leave it out, with its finder, if it has no cycles."""
    if after == before:
        return
    phases = [after if phase == before else phase for phase in context.plan.phases]
    if not after.cycles:
        phases.remove(after)
        used = {phase.rate_from for phase in phases}
        phases = [phase for phase in phases if phase.do == "fit" or phase.name in used]
    context.plan = replace(context.plan, phases=tuple(phases))
    context.costs.artifacts = planned_artifacts(context.settings, context.plan, named_files(context.settings))


def leave_out(context: RunContext, phase: Phase) -> None:
    """Leave a phase out of the plan."""
    replan(context, phase, replace(phase, cycles=()))


def seconds_left(context: RunContext, speed: Speed, share: float) -> float:
    """Return the seconds left for training until a share of the time limit, if nothing had been stored."""
    spent = time.perf_counter() - context.began - context.store.waited + context.saved
    facts, views = context.plan.facts, context.settings.evaluate.tta
    evaluations = (facts.test or 0) * (1 + views) + facts.valid * views
    return share * 60 * context.settings.minutes - spent - END_S - evaluations * speed.evaluation


def raise_if_time_is_up(context: RunContext, phase: Phase) -> None:
    """Raise TimeIsUp if a run exceeds its time limit, although its phases were cut: the machine became slower."""
    speed = context.speeds.get(phase.name)
    if context.settings.minutes is not None and speed and seconds_left(context, speed, OVERDUE) < 0:
        raise TimeIsUp


def measured_speed(context: RunContext, inputs: PhaseInputs) -> Speed:
    """Time a few training steps of a phase, on a copy of the network, and the evaluation of a batch."""
    copied, phase, run = copy.deepcopy(context.network), inputs.phase, inputs.run
    trial = trial_of(context.settings, context.network, inputs)
    trial.prepare(copied)
    steps, size, most = WARM_STEPS + TIMED_STEPS, phase.epochs[0].size, MOST_MEASURING * 60 * context.settings.minutes
    batches = inputs.batches(range(-(-steps // phase.epochs[0].steps)), "speed", steps)
    options, images, began = replace(trial.options, lr=0.0), 0, time.perf_counter()
    with closing(batches), restored_generators(copied):
        for step in loop.train(copied, batches, trial.optimizer(copied), options):
            float(step.loss)  # waits for the device
            images, seconds = images + step.images, time.perf_counter() - began
            if seconds > most:
                break
            if step.step + 1 == WARM_STEPS:
                images, began = 0, time.perf_counter()
    speed, rows = images * size**2 / seconds, run.valid_rows[: run.batch]
    began = time.perf_counter()
    predict(run, rows)
    return Speed(speed, (time.perf_counter() - began) / len(rows))
