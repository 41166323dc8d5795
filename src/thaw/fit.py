"""A fit phase, cycle by cycle: what lies in the store is used, what is missing is trained."""

import math
import time
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate

import torch

from thaw import cycles, keys, progress, stop
from thaw import groups as groups_
from thaw.cycles import Ended
from thaw.groups import Group
from thaw.job import Job, layer_groups
from thaw.plan import Phase


@dataclass(frozen=True)
class Kept:
    """The best cycle end so far, and where it was."""

    end: Ended
    phase: str
    epoch: int  # of the run
    ends: tuple[Ended, ...]  # it and the cycle ends before it in its phase


def fit(job: Job, phase: Phase, index: int, lr: float, kept: Kept | None) -> tuple[Kept, dict, float]:
    """Fit a phase cycle by cycle: the best cycle end of all phases so far, what the phase bought, the seconds saved.

    The next cycle starts from the last weights; what is handed on is the cycle end of most worth.
    """
    groups = layer_groups(job, phase)
    for line in groups_.table(groups, lr) if phase.train == "all" else []:
        progress.say(f"  {line}")
    nothing = stop.CycleEnd(math.inf, [math.inf] * len(job.valid_rows), 0.0, True)
    before = recorded(kept.end, math.inf, True) if kept else nothing
    ended, records, reused, saved = [], [], 0, 0.0
    with progress.Phase(phase.name, phase.steps_budget, job.settings.verbose) as line:
        rows = Rows(job, phase, index, groups, lr, line)
        under_way = cycles.begin(job, phase, groups, lr, rows.step, rows.epoch)
        rows.rate = under_way.rate
        for cycle in range(len(phase.cycles)):
            if cycle >= phase.budget:
                line.extend(phase.ends[cycle] - phase.ends[cycle - 1])
            link = ended[-1].key if ended else kept.end.key if kept else job.made
            parts = keys.cycle_parts(
                job.settings, phase, cycle, lr, job.plan.size, link, job.data_key, job.device.computed
            )
            began = time.perf_counter() - job.store.waited
            end, was_there = cycles.run_cycle(under_way, cycle, parts, kept and kept.end, ended[-1] if ended else None)
            took = None if was_there else time.perf_counter() - job.store.waited - began
            job.note(phase, cycle, end.path, end.cost if was_there else took + end.resumed, took)
            ended.append(end)
            reused += was_there
            saved += end.cost if was_there else end.resumed
            at_final = phase.epochs[sum(phase.cycles[: cycle + 1]) - 1].size == job.plan.size
            records.append(recorded(end, end.train_loss, at_final))
            if phase.until == "overfit":
                verdict = stop.judge(before, records, phase.budget, len(phase.cycles))
                because, go_on = verdict.because, verdict.go_on
            else:
                because, go_on = "all planned cycles trained", cycle + 1 < len(phase.cycles)
            if go_on and cycle + 1 == job.settings.stop_after and index + 1 == len(job.plan.phases):
                because, go_on = f"stop_after={cycle + 1}", False
            if not go_on:
                break
    best = stop.best(records)
    own = Kept(ended[best], phase.name, job.counters.epoch + sum(phase.cycles[: best + 1]), tuple(ended[: best + 1]))
    rows.close(len(ended))
    better = kept is None or records[best].worth > before.worth
    report = {
        "accuracy": own.end.validation.accuracy,
        "loss": own.end.validation.loss,
        "lr": lr,
        "epochs": sum(phase.cycles[: len(ended)]),
        "stopped_because": because,
        "seconds": sum(end.seconds for end in ended),
        "reused": reused,
    }
    handed = "" if better else f"; {kept.phase} was better and is handed on"
    stored = f" ({reused} of {len(ended)} cycles from the store)" if reused else ""
    trained = f"best cycle end: epoch {sum(phase.cycles[: best + 1])} of {report['epochs']}, lr {lr:.3g}"
    progress.say(
        f"{phase.name}: accuracy {report['accuracy']:.2%}, validation loss {report['loss']:.4f} ({trained}); "
        f"{because}{handed}{stored}"
    )
    return own if better else kept, report, saved


def recorded(end: Ended, train_loss: float, final_size: bool) -> stop.CycleEnd:
    """What the stop rule reads of a cycle end."""
    return stop.CycleEnd(train_loss, end.validation.losses, end.validation.accuracy, final_size)


class Rows:
    """The rows that a phase logs, from its steps and epochs in order, and its moving line."""

    def __init__(self, job: Job, phase: Phase, index: int, groups: list[Group], lr: float, line: progress.Phase):
        self.job, self.phase, self.groups, self.lr, self.line = job, phase, groups, lr, line
        self.rate = None
        self.edges = list(accumulate(epoch.steps for epoch in phase.epochs))
        self.cycle_ends = list(accumulate(phase.cycles))
        everything = sum(p.numel() for p in job.network.parameters())
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
            "step": self.job.counters.step + step + 1,
            "epoch": self.job.counters.epoch + number + (step + 1 - start) / epoch.steps,
            **self.fixed,
            "image_size": epoch.size,
            "batch_size": epoch.batch,
            **group_rates(self.groups, self.lr * self.rate(step)),
        }

    def step(self, step: int, loss: float, speed: float | None) -> None:
        """One optimizer step; every `log_every`th is a row, and ten of every epoch, so that its rates can be seen."""
        text, steps = None, self.phase.epochs[bisect_right(self.edges, step)].steps
        every = max(1, min(self.job.settings.log_every, steps // 10))
        if (self.job.counters.step + step + 1) % every == 0:
            row = self.at(step) | {"train/batch_loss": loss}
            self.job.log(row)
            text = f" loss {loss:.3f}, lr {row['lr/head']:.2g}" + (f", {speed:,.0f} img/s" if speed else "")
        self.line.step(text)

    def epoch(self, epoch: int, figures: dict, now: bool) -> None:
        """One epoch and its validation, trained now or replayed."""
        counters = self.job.counters
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
        if now and self.job.device.device.type == "cuda":
            row["speed/gpu_gb"] = torch.cuda.max_memory_allocated(self.job.device.device) / 1e9
        self.job.log(row)
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
        self.job.counters.step += self.phase.ends[cycles_trained - 1]
        self.job.counters.epoch += sum(self.phase.cycles[:cycles_trained])


def group_rates(groups: list[Group], lr: float) -> dict[str, float]:
    """The rate of the first and last group by name, and of every group by number."""
    rates = {f"lr/group_{i}": lr * group.ratio for i, group in enumerate(groups)}
    return {"lr/head": lr * groups[-1].ratio, "lr/first": lr * groups[0].ratio, **rates}
