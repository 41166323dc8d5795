"""A fit phase, cycle by cycle: stored cycles are read, missing ones are trained."""

import math
import time
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from thaw.model.layer_groups import group_table
from thaw.plan.phases import Phase
from thaw.report.tracker import Tracker
from thaw.runtime import console, signals
from thaw.store import keys, snapshot
from thaw.store.prune import IN_PROGRESS
from thaw.store.store import Entry, Store
from thaw.train import early_stopping
from thaw.train.context import RunContext
from thaw.train.cycle import (
    BestSoFar,
    CycleResult,
    begin_cycle,
    cycle_fault,
    read_cycle,
    steps_before,
    train_cycle,
    write_cycle,
)
from thaw.train.cycle_state import CycleRecord, Snapshots
from thaw.train.early_stopping import CycleEnd, Verdict
from thaw.train.inputs import PhaseInputs
from thaw.train.phase_fit import PhaseFit, begin_phase, with_phase
from thaw.train.progress import PhaseLog, end_phase
from thaw.train.time_limit import TimeIsUp, TimeLimit


@dataclass(frozen=True)
class PhaseOutcome:
    """The best cycle end of all phases so far, and this phase's entries in result.json."""

    best: BestSoFar
    report: dict


@dataclass
class FittedCycles:
    """The cycles of a phase so far, trained now or read from the store, and the verdict after the last."""

    before: CycleEnd  # the validation at the start of the phase
    results: list[CycleResult] = field(default_factory=list)
    ends: list[CycleEnd] = field(default_factory=list)
    reused: int = 0
    verdict: Verdict = field(default_factory=lambda: Verdict(True, "no cycle yet"))  # after the last cycle

    @property
    def last(self) -> CycleResult | None:
        return self.results[-1] if self.results else None

    def add(self, result: CycleResult, final_size: bool, reused: bool) -> None:
        """Add a cycle. `reused`: it was in the store."""
        self.results.append(result)
        self.ends.append(as_cycle_end(result, result.train_loss, final_size))
        self.reused += reused


def fit_phase(
    context: RunContext, inputs: PhaseInputs, lr: float, best: BestSoFar | None, tracker: Tracker, limit: TimeLimit
) -> PhaseOutcome | None:
    """Fit a phase cycle by cycle, up to its budget, until over-fitting, or until the time limit.

    Each cycle starts from the weights of the previous one; the next phase starts from the best cycle end. Return None
    if the time was up in the first cycle.
    """
    phase, store, start = inputs.phase, context.store, best.end if best else None
    interval = context.settings.store.snapshot_s
    fit = begin_phase(context.settings, context.network, inputs, lr, start is not None and start.whole)
    for line in group_table(fit.groups, lr) if phase.train == "all" else []:
        console.say(f"  {line}")
    fitted = FittedCycles(validation_before(best, len(inputs.run.valid_rows)))
    with console.PhaseBar(phase.name, phase.steps_budget, context.settings.verbose) as bar:
        while fitted.verdict.go_on:
            cycle, before, record = len(fitted.results), fitted.last, CycleRecord()
            bar.total(fit.phase.ends[max(cycle + 1, fit.phase.budget) - 1])
            log = PhaseLog(fit, context.plan.phases.index(fit.phase), context.counters, tracker, bar)
            parts = cycle_parts(context, fit, cycle, before or start)
            underway, fault = snapshot_folder(store, parts), partial(cycle_fault, fit=fit, cycle=cycle)
            # Time spent waiting for another process is not this one's cost, so the clock leaves it out.
            began, after = time.perf_counter() - store.waited, f"in phase {phase.name} after cycle {cycle + 1}"
            try:
                with signals.stopping(at_once=False, where=after), store.entry("cycles", parts, fault=fault) as entry:
                    if entry.missing:
                        record = begin_cycle(fit, cycle, context.held, start, before, underway)
                        show_snapshot(log, cycle, record)
                        snapshots = Snapshots(underway, interval, record, fit.network.model, fit.optimizer)
                        with closing(train_cycle(fit, cycle, record, snapshots, entry.folder)) as events:
                            for event in events:
                                log.show(event)
                                limit.check(fit.phase, cycle, event, record.resumed, spare=bool(before or start))
            except TimeIsUp as up:
                fit, entry = end_early(context, fit, cycle, parts, record, up, limit)
            snapshot.remove(underway)
            if entry is None:
                fitted.verdict = Verdict(False, f"no time is left, and cycle {cycle + 1} is given up ({limit.label})")
                break
            add_cycle(context, fit, log, fitted, entry, began, record.resumed)
            fit = decide_next(context, fit, fitted, limit)
    return conclude(context, fit, fitted, best, limit)


def cycle_parts(context: RunContext, fit: PhaseFit, cycle: int, before: CycleResult | None) -> dict:
    """Return the parts of the store key of a cycle; `before` is the cycle end it starts from."""
    basis = context.basis(before)
    return keys.cycle_parts(context.settings, fit.phase, cycle, fit.options.lr, context.plan.size, basis)


def add_cycle(
    context: RunContext, fit: PhaseFit, log: PhaseLog, fitted: FittedCycles, entry: Entry, began: float, resumed: float
) -> None:
    """Add a cycle that is in the store now, and note its cost."""
    phase, cycle, end = fit.phase, len(fitted.results), read_cycle(entry.path, fit.inputs.valid_labels)
    if entry.missing:
        context.held.key = end.key
    else:
        show_stored(log, cycle, end)
    paid = time.perf_counter() - context.store.waited - began if entry.missing else None
    context.costs.note(phase.name, cycle, end.path, end.seconds if paid is None else paid + resumed, paid)
    fitted.add(end, phase.epochs_of(cycle)[-1].size == context.plan.size, reused=not entry.missing)


def end_early(
    context: RunContext, fit: PhaseFit, cycle: int, parts: dict, record: CycleRecord, up: TimeIsUp, limit: TimeLimit
) -> tuple[PhaseFit, Entry | None]:
    """Store a cycle as it is after the epochs that it has finished, or give it up if there is none (None).

    Return the fit, whose phase ends there. The learning rate has not fallen to 0, so the cycle has a key of its own.
    """
    if not up.epochs:
        return fit, None
    phase, first = fit.phase, fit.phase.epoch_numbers(cycle).start
    cycles, epochs = (*phase.cycles[:cycle], up.epochs), phase.epochs[: first + up.epochs]
    shorter = replace(phase, cycles=cycles, budget=min(phase.budget, cycle + 1), epochs=epochs)
    what = f"cycle {cycle + 1} ends after {up.epochs} of {phase.cycles[cycle]} epochs"
    console.say(f"  {phase.name}: {what} ({limit.label})")
    limit.change({phase.name: shorter})
    with context.store.entry("cycles", parts | {"ended_after": up.epochs}) as entry:
        if entry.missing:
            write_cycle(entry.folder, fit, record)
    return with_phase(fit, shorter), entry


def decide_next(context: RunContext, fit: PhaseFit, fitted: FittedCycles, limit: TimeLimit) -> PhaseFit:
    """Set the verdict whether the phase goes on; return the fit with its further cycles cut to the time left."""
    done = len(fitted.results)
    fitted.verdict = whether_to_go_on(context, limit.uncut(fit.phase, done), fitted)
    if fitted.verdict.go_on:
        fit = with_phase(fit, limit.cut_rest(fit.inputs, fitted.results))
        if len(fit.phase.cycles) == done:
            fitted.verdict = Verdict(False, f"no time is left for another cycle ({limit.label})")
    elif limit.has_cut(fit.phase):
        all_that_fits = f"all that fits into {limit.label} trained"
        fitted.verdict = Verdict(False, fitted.verdict.because.replace(early_stopping.ALL_TRAINED, all_that_fits))
    return fit


def snapshot_folder(store: Store, parts: dict) -> Path:
    """Return the folder of a cycle's snapshots, after removing those that fresh=true makes obsolete."""
    folder = store.root / IN_PROGRESS / store.key("cycles", parts)
    if store.stale("cycles", folder):
        snapshot.remove(folder)
    return folder


def show_snapshot(log: PhaseLog, cycle: int, record: CycleRecord) -> None:
    """Report the steps of a cycle that a snapshot already has."""
    if not record.losses:
        return
    log.replay(cycle, record.losses, record.epochs)
    step = steps_before(log.phase, log.phase.epoch_numbers(cycle).start) + len(record.losses)
    console.say(f"  {log.phase.name}: cycle {cycle + 1} resumes from a snapshot after step {step:,}")


def show_stored(log: PhaseLog, cycle: int, end: CycleResult) -> None:
    """Report a cycle that was read from the store."""
    log.replay(cycle, end.losses, end.epochs)
    loss = end.validation.loss
    console.say(f"  {log.phase.name}: cycle {cycle + 1} read from the store, validation loss {loss:.4f}")


def conclude(
    context: RunContext, fit: PhaseFit, fitted: FittedCycles, best: BestSoFar | None, limit: TimeLimit
) -> PhaseOutcome | None:
    """Report the result of a phase, and return the better of its best cycle end and the best one before it.

    Leave a phase out of the plan, and return None, if it has no cycle end.
    """
    if not fitted.results:
        console.say(f"{fit.phase.name}: left out: {fitted.verdict.because}")
        end_phase(context.counters, fit.phase, 1)  # its steps were logged
        limit.change({fit.phase.name: None})
        return None
    phase, i = fit.phase, early_stopping.best_cycle(fitted.ends)
    epoch = sum(phase.cycles[: i + 1])
    own = BestSoFar(fitted.results[i], phase.name, context.counters.epoch + epoch, tuple(fitted.results[: i + 1]))
    end_phase(context.counters, phase, len(fitted.results))
    better = best is None or fitted.ends[i].worth > fitted.before.worth
    report = phase_report(phase, fit.options.lr, own.end, fitted)
    at = f"best: epoch {epoch} of {report['epochs']}, epoch {own.epoch} of the run"
    other = "" if better else f"; no better than {best.phase}, whose weights are kept"
    stored = f" ({fitted.reused} of {len(fitted.results)} cycles from the store)" if fitted.reused else ""
    console.say(
        f"{phase.name}: accuracy {report['accuracy']:.2%}, validation loss {report['loss']:.4f} ({at}; "
        f"lr {fit.options.lr:.3g}); {fitted.verdict.because}{other}{stored}"
    )
    return PhaseOutcome(own if better else best, report)


def whether_to_go_on(context: RunContext, phase: Phase, fitted: FittedCycles) -> Verdict:
    """Decide whether a phase trains another cycle after those fitted."""
    done = len(fitted.ends)
    if phase.until == "overfit":
        verdict = early_stopping.judge(fitted.before, fitted.ends, phase.budget, len(phase.cycles))
    else:
        verdict = Verdict(done < len(phase.cycles), early_stopping.ALL_TRAINED)
    if verdict.go_on and done == context.settings.stop_after and phase.name == context.plan.phases[-1].name:
        return Verdict(False, f"stop_after={done}")
    return verdict


def phase_report(phase: Phase, lr: float, best: CycleResult, fitted: FittedCycles) -> dict:
    """Return the entries of a phase in result.json."""
    return {
        "accuracy": best.validation.accuracy,
        "loss": best.validation.loss,
        "lr": lr,
        "epochs": sum(phase.cycles[: len(fitted.results)]),
        "stopped_because": fitted.verdict.because,
        "seconds": sum(result.training_seconds for result in fitted.results),
        "reused": fitted.reused,
    }


def as_cycle_end(end: CycleResult, train_loss: float, final_size: bool) -> CycleEnd:
    """Return a cycle end in the form the stopping rule reads."""
    return CycleEnd(train_loss, end.validation.losses, end.validation.accuracy, final_size)


def validation_before(best: BestSoFar | None, n: int) -> CycleEnd:
    """Return the validation at the start of a phase: that of the best so far, or an infinite loss for n images."""
    return as_cycle_end(best.end, math.inf, True) if best else CycleEnd(math.inf, [math.inf] * n, 0.0, True)
