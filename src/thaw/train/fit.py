"""A fit phase, cycle by cycle: what lies in the store is used, what is missing is trained."""

import math
import time
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate

import torch

from thaw.model import layer_groups
from thaw.model.layer_groups import LayerGroup
from thaw.plan.phases import Phase
from thaw.runtime import console
from thaw.store import keys
from thaw.train import early_stopping
from thaw.train.context import RunContext, phase_groups
from thaw.train.cycle import CycleResult, PhaseFit, begin_phase, run_cycle


@dataclass(frozen=True)
class BestSoFar:
    """The best cycle end so far, and where it was."""

    end: CycleResult
    phase: str
    epoch: int  # of the run
    ends: tuple[CycleResult, ...]  # it and the cycle ends before it in its phase


@dataclass
class FittedCycles:
    """The cycles of a phase, trained now or from the store, and why none follows."""

    ends: list[CycleResult] = field(default_factory=list)
    records: list[early_stopping.CycleEnd] = field(default_factory=list)
    reused: int = 0
    saved: float = 0.0  # seconds, by the store
    because: str = ""


def fit_phase(
    context: RunContext, phase: Phase, index: int, lr: float, kept: BestSoFar | None
) -> tuple[BestSoFar, dict, float]:
    """Fit a phase cycle by cycle: the best cycle end of all phases so far, what the phase bought, the seconds saved.

    The next cycle starts from the last weights; what is handed on is the cycle end of most worth.
    """
    groups = phase_groups(context, phase)
    for line in layer_groups.group_table(groups, lr) if phase.train == "all" else []:
        console.say(f"  {line}")
    nothing = early_stopping.CycleEnd(math.inf, [math.inf] * len(context.valid_rows), 0.0, True)
    before = as_cycle_end(kept.end, math.inf, True) if kept else nothing
    with console.PhaseBar(phase.name, phase.steps_budget, context.settings.verbose) as bar:
        log = PhaseLog(context, phase, index, groups, lr, bar)
        under_way = begin_phase(context, phase, groups, lr, log.step, log.epoch)
        log.rate = under_way.rate
        fitted = fit_cycles(under_way, index, kept and kept.end, before, bar)
    best = early_stopping.best_cycle(fitted.records)
    epoch = sum(phase.cycles[: best + 1])
    own = BestSoFar(fitted.ends[best], phase.name, context.counters.epoch + epoch, tuple(fitted.ends[: best + 1]))
    log.close(len(fitted.ends))
    better = kept is None or fitted.records[best].worth > before.worth
    report = phase_report(phase, lr, own.end, fitted)
    trained = f"best cycle end: epoch {epoch} of {report['epochs']}, lr {lr:.3g}"
    stored = f" ({fitted.reused} of {len(fitted.ends)} cycles from the store)" if fitted.reused else ""
    console.say(
        f"{phase.name}: accuracy {report['accuracy']:.2%}, validation loss {report['loss']:.4f} ({trained}); "
        f"{fitted.because}{'' if better else f'; {kept.phase} was better and is handed on'}{stored}"
    )
    return own if better else kept, report, fitted.saved


def fit_cycles(
    fit: PhaseFit,
    index: int,
    start: CycleResult | None,
    before: early_stopping.CycleEnd,
    bar: console.PhaseBar,
) -> FittedCycles:
    """Train the cycles of a phase, or take them from the store, until none is to follow."""
    context, phase, out = fit.context, fit.phase, FittedCycles()
    for cycle in range(len(phase.cycles)):
        if cycle >= phase.budget:
            bar.extend(phase.ends[cycle] - phase.ends[cycle - 1])
        last = out.ends[-1] if out.ends else None
        before_key = last.key if last else start.key if start else context.made
        parts = keys.cycle_parts(
            context.settings,
            phase,
            cycle,
            fit.lr,
            context.plan.size,
            before_key,
            context.data_key,
            context.device.computed,
        )
        began = time.perf_counter() - context.store.waited
        end, was_there = run_cycle(fit, cycle, parts, start, last)
        took = None if was_there else time.perf_counter() - context.store.waited - began
        context.note(phase, cycle, end.path, end.cost if was_there else took + end.resumed, took)
        out.ends.append(end)
        out.reused += was_there
        out.saved += end.cost if was_there else end.resumed
        at_final = phase.epochs[sum(phase.cycles[: cycle + 1]) - 1].size == context.plan.size
        out.records.append(as_cycle_end(end, end.train_loss, at_final))
        verdict = whether_to_go_on(context, phase, index, before, out.records)
        out.because = verdict.because
        if not verdict.go_on:
            break
    return out


def whether_to_go_on(
    context: RunContext,
    phase: Phase,
    index: int,
    before: early_stopping.CycleEnd,
    records: list[early_stopping.CycleEnd],
) -> early_stopping.Verdict:
    """Return whether a phase goes on after the cycles recorded, and why."""
    done = len(records)
    if phase.until == "overfit":
        verdict = early_stopping.judge(before, records, phase.budget, len(phase.cycles))
    else:
        verdict = early_stopping.Verdict(done < len(phase.cycles), "all planned cycles trained")
    if verdict.go_on and done == context.settings.stop_after and index + 1 == len(context.plan.phases):
        return early_stopping.Verdict(False, f"stop_after={done}")
    return verdict


def phase_report(phase: Phase, lr: float, best: CycleResult, fitted: FittedCycles) -> dict:
    """Return what result.json says of a phase."""
    return {
        "accuracy": best.validation.accuracy,
        "loss": best.validation.loss,
        "lr": lr,
        "epochs": sum(phase.cycles[: len(fitted.ends)]),
        "stopped_because": fitted.because,
        "seconds": sum(end.seconds for end in fitted.ends),
        "reused": fitted.reused,
    }


def as_cycle_end(end: CycleResult, train_loss: float, final_size: bool) -> early_stopping.CycleEnd:
    """What the stop rule reads of a cycle end."""
    return early_stopping.CycleEnd(train_loss, end.validation.losses, end.validation.accuracy, final_size)


class PhaseLog:
    """The rows that a phase logs, from its steps and epochs in order, and its moving line."""

    def __init__(
        self, context: RunContext, phase: Phase, index: int, groups: list[LayerGroup], lr: float, line: console.PhaseBar
    ):
        self.context, self.phase, self.groups, self.lr, self.line = context, phase, groups, lr, line
        self.rate = None
        self.edges = list(accumulate(epoch.steps for epoch in phase.epochs))
        self.cycle_ends = list(accumulate(phase.cycles))
        everything = sum(p.numel() for p in context.network.parameters())
        self.fixed = {
            "phase": phase.name,
            "phase_index": index,
            "trainable_fraction": sum(group.parameters for group in groups) / everything,
        }

    def at(self, step: int) -> dict:
        """What every row has after a step of the phase."""
        number = bisect_right(self.edges, step)
        epoch = self.phase.epochs[number]
        start = self.edges[number - 1] if number else 0
        return {
            "step": self.context.counters.step + step + 1,
            "epoch": self.context.counters.epoch + number + (step + 1 - start) / epoch.steps,
            **self.fixed,
            "image_size": epoch.size,
            "batch_size": epoch.batch,
            **rates_by_group(self.groups, self.lr * self.rate(step)),
        }

    def step(self, step: int, loss: float, speed: float | None) -> None:
        """One optimizer step; every `log_every`th is a row, and ten of every epoch, so that its rates can be seen."""
        text, steps = None, self.phase.epochs[bisect_right(self.edges, step)].steps
        every = max(1, min(self.context.settings.log_every, steps // 10))
        if (self.context.counters.step + step + 1) % every == 0:
            row = self.at(step) | {"train/batch_loss": loss}
            self.context.log(row)
            text = f" loss {loss:.3f}, lr {row['lr/head']:.2g}" + (f", {speed:,.0f} img/s" if speed else "")
        self.line.step(text)

    def epoch(self, epoch: int, figures: dict, now: bool) -> None:
        """One epoch and its validation, trained now or replayed."""
        counters = self.context.counters
        counters.images += figures["images"]
        counters.train_seconds += figures["seconds"]
        speed = figures["images"] / figures["seconds"]
        row = self.at(self.edges[epoch] - 1) | {
            "epoch": counters.epoch + epoch + 1,
            "train/loss": figures["train_loss"],
            "valid/loss": figures["loss"],
            "valid/accuracy": figures["accuracy"],
            "valid/f1_macro": figures["f1_macro"],
            "images_seen": counters.images,
            "train_seconds": counters.train_seconds,
            "speed/images_per_second": speed,
            "speed/data_wait": figures["wait"] / figures["seconds"],
        }
        if now and self.context.device.device.type == "cuda":
            row["speed/gpu_gb"] = torch.cuda.max_memory_allocated(self.context.device.device) / 1e9
        self.context.log(row)
        if not now:
            return
        cycle = bisect_right(self.cycle_ends, epoch)
        ends_cycle = epoch + 1 == self.cycle_ends[cycle]
        self.line.epoch(
            f"cycle {cycle + 1}, epoch {epoch + 1}, train loss {figures['train_loss']:.4f}, "
            f"validation loss {figures['loss']:.4f}, accuracy {figures['accuracy']:.2%}, {speed:,.0f} img/s",
            worth_a_line=ends_cycle and len(self.cycle_ends) > 1,  # of a single cycle the phase's own line tells
        )

    def close(self, cycles_trained: int) -> None:
        """The phase is over: the next one counts on from here."""
        self.context.counters.step += self.phase.ends[cycles_trained - 1]
        self.context.counters.epoch += sum(self.phase.cycles[:cycles_trained])


def rates_by_group(groups: list[LayerGroup], lr: float) -> dict[str, float]:
    """The rate of the first and last group by name, and of every group by number."""
    rates = {f"lr/group_{i}": lr * group.ratio for i, group in enumerate(groups)}
    return {"lr/head": lr * groups[-1].ratio, "lr/first": lr * groups[0].ratio, **rates}
