"""The time limit of a run, `minutes`: phases on images are cut to the epochs that fit, at their measured speed.

The limit is for what a run takes if no training is stored, so that a resumed run and the jobs of a sweep, which share
stored results, train what an uninterrupted run does.
"""

import copy
import time
from contextlib import closing
from dataclasses import replace

from thaw.data.batches import PREFETCH
from thaw.plan.finder_steps import finder_steps
from thaw.plan.phases import Phase
from thaw.plan.shorten import Speed, epochs_in, shorten
from thaw.runtime import console
from thaw.runtime.files import format_duration
from thaw.store.store import key_of
from thaw.train import loop, lr_suggest
from thaw.train.context import RunContext
from thaw.train.cycle import CycleResult, EpochEnd, StepEnd
from thaw.train.inputs import PhaseInputs
from thaw.train.lr_finder import restored_generators, trial_of
from thaw.train.predictions import predict

WARM_STEPS, TIMED_STEPS = 2, 4
MOST_MEASURING = 0.05  # share of the limit after which a measurement ends early
PLANNED = 0.95  # share of the limit that is planned, since the speed varies
OVERDUE = 1.05  # share of the limit at which an unfinished epoch is given up
HEAD_SHARE = 1 / 3  # of the time left, that a phase of the head may take before one of the full network
FINDER_SHARE = 1 / 3  # of the time left, that a finder may take
END_S = 5.0  # to export the network and to draw the report


class TimeIsUp(Exception):
    """Ends a cycle before its last epoch. `epochs`: those it has finished, 0 if an unfinished one is given up."""

    def __init__(self, epochs: int):
        super().__init__(epochs)
        self.epochs = epochs


class TimeLimit:
    """The clock of a run, and what it has decided; without `minutes`, nothing is cut."""

    def __init__(self, context: RunContext):
        self.context, settings = context, context.settings
        self.seconds = None if settings.minutes is None or settings.smoke else 60 * settings.minutes
        self.label = f"minutes={settings.minutes or 0:g}"
        self.whole: dict[str, Phase] = {}  # each phase before it was cut
        self.speeds: dict[str, Speed] = {}
        self.ends: dict[str, float] = {}  # what the run may have spent when a phase of the head ends

    def cut_phase(self, inputs: PhaseInputs, must: bool) -> PhaseInputs | None:
        """Return the inputs of a phase cut to the epochs that fit into the time left, or None to leave it out.

        `must`: nothing is trained yet, so at least one epoch is kept. Phases on stored activations take little time and
        are never cut.
        """
        phase = next((one for one in self.context.plan.phases if one.name == inputs.phase.name), None)
        if phase is None:  # left out with its finder
            return None
        inputs = inputs.with_phase(phase)
        served = [one for one in self.context.plan.phases if one.do == "fit" and one.rate_from == phase.name] or [phase]
        if self.seconds is None or any(one.features == "precomputed" for one in (phase, *served)):
            return inputs
        left = self.room(inputs, served[0], 0)
        if phase.do == "find":
            return inputs if self.finder_pays(phase, served, left, must) else None
        self.whole[phase.name] = phase
        after = self.cut(phase, 0, left, must)
        self.change({phase.name: after})
        return inputs.with_phase(after) if after.cycles else None

    def finder_pays(self, phase: Phase, served: list[Phase], left: float, must: bool) -> bool:
        """Return whether there is time for a finder and the first fit that it serves; if not, leave it out.

        If the finder would take too much of the time, the fits use the rate with which it would begin.
        """
        fit, find, epoch = served[0], self.context.settings.find, phase.epochs[0]
        speed = self.speeds[fit.name]
        takes = finder_steps(self.context.settings, phase) * epoch.batch * epoch.size**2 / speed.pixels
        if not must and not epochs_in(fit, 0, left, speed, self.context.plan.facts):
            self.say_cut(fit, shorten(fit, 0, 0), left)
            self.change({one.name: None for one in (phase, *served)})
            return False
        if takes <= FINDER_SHARE * left:
            return True
        rate = lr_suggest.first_rate(find, self.context.settings.optimizer.name, fitted=not must)
        console.say(
            f"{phase.name}: left out, because it takes up to {format_duration(takes)} and "
            f"{format_duration(max(left, 0.0))} are left; the learning rate is {rate:.3g} ({self.label})"
        )
        typed = {one.name: replace(one, lr=rate * one.lr_factor, rate_from=None) for one in served}
        self.change({phase.name: None, **typed})
        return False

    def cut_rest(self, inputs: PhaseInputs, results: list[CycleResult]) -> Phase:
        """Return a phase cut anew after the cycles that it has trained, at their speed."""
        phase = inputs.phase
        if phase.name not in self.speeds:
            return phase
        self.speeds[phase.name] = self.speed_of_last(phase, results)
        after = self.cut(phase, len(results), self.room(inputs, phase, len(results)))
        self.change({phase.name: after})
        return after

    def speed_of_last(self, phase: Phase, results: list[CycleResult]) -> Speed:
        """Return the speed of the last cycle of a phase."""
        epochs, evaluation = results[-1].epochs, self.speeds[phase.name].evaluation
        pixels = sum(one["images"] for one in epochs) * phase.epochs_of(len(results) - 1)[0].size ** 2
        if phase.train == "all":  # a head is validated on stored activations
            evaluation = sum(one["validation"] for one in epochs) / len(epochs) / self.context.plan.facts.valid
        return Speed(pixels / sum(one["seconds"] for one in epochs), evaluation)

    def cut(self, phase: Phase, done: int, left: float, must: bool = False) -> Phase:
        """Return a phase as it was planned, cut after its first `done` cycles to the seconds left."""
        whole = self.whole[phase.name]
        epochs = epochs_in(whole, done, left, self.speeds[phase.name], self.context.plan.facts)
        after = shorten(whole, done, max(epochs, int(must)))
        if after != phase and (len(after.cycles) > done or not done):
            self.say_cut(phase, after, left)
        return after

    def room(self, inputs: PhaseInputs, fit: Phase, done: int) -> float:
        """Return the seconds left for a fit after its first `done` cycles, and keep its speed.

        `inputs` are those of the fit or of its finder. What a run was told is recalled if it is started again, so that
        it trains the same epochs.
        """
        store, phases, number = self.context.store, self.context.plan.phases, int | float
        shared = fit.train == "head" and any(one.train == "all" for one in phases[phases.index(fit) :])
        name = f"minutes_{key_of([self.context.identity, inputs.phase.name, done])}"
        known = store.recall(name, pixels=number, evaluation=number, left=number, at=number)
        if not known or known["pixels"] <= 0 or known["at"] < store.since:
            # If the time is over, one step tells the speed.
            most = max(0.0, min(MOST_MEASURING * self.seconds, PLANNED * self.seconds - self.spent))
            speed = self.speeds.get(fit.name) or measured_speed(inputs, self.context, most)
            left = self.seconds_left(speed, PLANNED)
            if shared:
                left = self.ends[fit.name] - self.spent if done else HEAD_SHARE * left
            known = {"pixels": speed.pixels, "evaluation": speed.evaluation, "left": left}
            store.remember(name, known | {"at": time.time()})
        if shared and not done:
            self.ends[fit.name] = self.spent + known["left"]
        self.speeds[fit.name] = Speed(known["pixels"], known["evaluation"])
        return known["left"]

    def uncut(self, phase: Phase, done: int) -> Phase:
        """Return a phase before it was cut, if that had the same first `done` cycles, else the phase."""
        whole = self.whole.get(phase.name, phase)
        return whole if whole.cycles[:done] == phase.cycles[:done] else phase

    def has_cut(self, phase: Phase) -> bool:
        """Return whether a phase of the plan was cut."""
        return self.whole.get(phase.name, phase) != phase

    def say_cut(self, whole: Phase, after: Phase, left: float) -> None:
        """Say how the time limit changed a phase."""
        one = self.speeds[whole.name].seconds(whole.epochs[-1:], whole.train, self.context.plan.facts)
        takes, room = f"an epoch takes {format_duration(one)}", format_duration(max(left, 0.0))
        if after.cycles:
            n, cycles = sum(after.cycles), "+".join(map(str, after.cycles))
            what = f"{n} epoch{'s' * (n > 1)} ({cycles}), because {room} are left for training and {takes}"
        else:
            what = f"left out, because {room} are left for training and {takes}"
        console.say(f"{whole.name}: {what} ({self.label})")

    def change(self, phases: dict[str, Phase | None]) -> None:
        """Replace phases of the plan by name; None, or a phase without cycles, leaves one out."""
        kept = [phases.get(phase.name, phase) for phase in self.context.plan.phases]
        kept = tuple(phase for phase in kept if phase is not None and phase.cycles)
        if kept == self.context.plan.phases:
            return
        self.context.plan = replace(self.context.plan, phases=kept)
        self.context.costs.replan(self.context.settings, self.context.plan)

    @property
    def spent(self) -> float:
        """The seconds that this run would have taken so far if no training had been stored."""
        return time.perf_counter() - self.context.began - self.context.store.waited + self.context.saved

    def seconds_left(self, speed: Speed, share: float) -> float:
        """Return the seconds left for training until a share of the time limit."""
        facts, evaluate = self.context.plan.facts, self.context.settings.evaluate
        more = evaluate.tta + evaluate.ensemble  # passes over the validation and the test images
        evaluations = facts.valid * more + (facts.test or 0) * (1 + more)
        return share * self.seconds - self.spent - END_S - evaluations * speed.evaluation

    def check(self, phase: Phase, cycle: int, event: StepEnd | EpochEnd, resumed: float, spare: bool) -> None:
        """Raise TimeIsUp after an epoch of a cycle if the next one does not fit, or in an epoch that is overdue.

        `resumed`: seconds of this cycle that an earlier process spent. `spare`: there are other weights to keep.
        """
        if (speed := self.speeds.get(phase.name)) is None:
            return
        numbers = phase.epoch_numbers(cycle)
        if isinstance(event, StepEnd):
            if spare and self.seconds_left(speed, OVERDUE) < resumed:
                raise TimeIsUp(0)
        elif event.epoch + 1 < numbers.stop:
            one = speed.seconds([phase.epochs[event.epoch + 1]], phase.train, self.context.plan.facts)
            if self.seconds_left(speed, 1.0) - resumed < one:
                raise TimeIsUp(event.epoch + 1 - numbers.start)


def measured_speed(inputs: PhaseInputs, context: RunContext, most: float) -> Speed:
    """Time some training steps of a phase, on a copy of the network, and an evaluation; end it after `most` seconds."""
    copied, phase, run = copy.deepcopy(context.network), inputs.phase, inputs.run
    trial = trial_of(context.settings, context.network, inputs)
    trial.prepare(copied)
    ahead = run.workers * PREFETCH  # batches that are loaded before the first step
    n, size = WARM_STEPS + TIMED_STEPS + 2 * ahead, phase.epochs[0].size
    batches = inputs.batches(range(-(-n // phase.epochs[0].steps)), "speed", n)
    options, images, first = replace(trial.options, lr=0.0), 0, time.perf_counter()
    began = first
    with closing(batches), restored_generators(copied):
        for step in loop.train(copied, batches, trial.optimizer(copied), options):
            float(step.loss)  # waits for the device
            images, now = images + step.images, time.perf_counter()
            if now - first > most:
                break
            if step.step + 1 == WARM_STEPS:
                images, began = 0, now
    speed, rows = images * size**2 / (now - began), run.valid_rows[: run.batch * max(1, 2 * run.workers)]
    began = time.perf_counter()
    predict(run, rows)
    return Speed(speed, (time.perf_counter() - began) / len(rows))
