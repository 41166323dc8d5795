"""The log of a phase while it runs: rows for the tracker and the text of the progress bar."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import torch

from thaw.model.layer_groups import LayerGroup
from thaw.plan.phases import Phase
from thaw.report.tracker import Tracker
from thaw.runtime.console import PhaseBar
from thaw.train.cycle import EpochEnd, StepEnd, steps_before
from thaw.train.loop import StepOptions
from thaw.train.phase_fit import PhaseFit


@dataclass
class Counters:
    """Totals of the run: steps and epochs of finished phases, images and training seconds so far."""

    step: int = 0
    epoch: int = 0
    images: int = 0
    train_seconds: float = 0.0


class PhaseLog:
    """Log the steps and epochs of a phase, in order, to the tracker and on the progress bar."""

    def __init__(self, fit: PhaseFit, index: int, counters: Counters, tracker: Tracker, bar: PhaseBar):
        self.phase, self.options, self.device = fit.phase, fit.options, fit.network.device.device
        self.log_every, self.groups = fit.log_every, fit.groups
        self.counters, self.tracker, self.bar = counters, tracker, bar
        self.edges = list(accumulate(epoch.steps for epoch in self.phase.epochs))
        self.cycle_ends = list(accumulate(self.phase.cycles))
        everything = sum(p.numel() for p in fit.network.parameters())
        self.fixed = {
            "phase": self.phase.name,
            "phase_index": index,
            "trainable_fraction": sum(group.parameters for group in fit.groups) / everything,
        }

    def show(self, event: StepEnd | EpochEnd) -> None:
        """Log a step or an epoch, trained now or replayed."""
        if isinstance(event, StepEnd):
            self.show_step(event)
        else:
            self.show_epoch(event)

    def replay(self, cycle: int, losses: list[float], epochs: list[dict]) -> None:
        """Log the record of a cycle that was trained before."""
        for event in replay_events(self.phase, cycle, losses, epochs):
            self.show(event)

    def show_step(self, event: StepEnd) -> None:
        """Log every `log_every`th step, but at least ten per epoch so that the schedule is visible."""
        text, steps = None, self.phase.epochs[bisect_right(self.edges, event.step)].steps
        if (self.counters.step + event.step + 1) % max(1, min(self.log_every, steps // 10)) == 0:
            row = self.row(event.step) | {"train/batch_loss": event.loss}
            self.tracker.log(row)
            speed = f", {event.speed:,.0f} img/s" if event.speed else ""
            text = f" loss {event.loss:.3f}, lr {row['lr/head']:.2g}{speed}"
        self.bar.step(text)

    def show_epoch(self, event: EpochEnd) -> None:
        """Log an epoch with its validation; print it only if it was trained now."""
        figures, counters = event.figures, self.counters
        counters.images += figures["images"]
        counters.train_seconds += figures["seconds"]
        speed = figures["images"] / figures["seconds"]
        row = self.row(self.edges[event.epoch] - 1) | {
            "epoch": counters.epoch + event.epoch + 1,
            "train/loss": figures["train_loss"],
            "valid/loss": figures["loss"],
            "valid/accuracy": figures["accuracy"],
            "valid/f1_macro": figures["f1_macro"],
            "images_seen": counters.images,
            "train_seconds": counters.train_seconds,
            "speed/images_per_second": speed,
            "speed/data_wait": figures["wait"] / figures["seconds"],
        }
        if event.trained_now and self.device.type == "cuda":
            row["speed/gpu_gb"] = torch.cuda.max_memory_allocated(self.device) / 1e9
        self.tracker.log(row)
        if not event.trained_now:
            return
        cycle = bisect_right(self.cycle_ends, event.epoch)
        ends_cycle = event.epoch + 1 == self.cycle_ends[cycle]
        self.bar.epoch(
            f"cycle {cycle + 1}, epoch {event.epoch + 1}, training loss {figures['train_loss']:.4f}, "
            f"validation loss {figures['loss']:.4f}, accuracy {figures['accuracy']:.2%}, {speed:,.0f} img/s",
            worth_a_line=ends_cycle and len(self.cycle_ends) > 1,  # a single cycle is covered by the phase's line
        )

    def row(self, step: int) -> dict:
        """Return the columns that every row has, after a step of the phase."""
        number = bisect_right(self.edges, step)
        epoch = self.phase.epochs[number]
        start = self.edges[number - 1] if number else 0
        return {
            "step": self.counters.step + step + 1,
            "epoch": self.counters.epoch + number + (step + 1 - start) / epoch.steps,
            **self.fixed,
            "image_size": epoch.size,
            "batch_size": epoch.batch,
            **rates_by_group(self.groups, self.options, step),
        }


def end_phase(counters: Counters, phase: Phase, cycles: int) -> None:
    """Add the steps and epochs of a phase that ended after `cycles` cycles."""
    counters.step += phase.ends[cycles - 1]
    counters.epoch += sum(phase.cycles[:cycles])


def rates_by_group(groups: list[LayerGroup], options: StepOptions, step: int) -> dict[str, float]:
    """Return the rates at a step: of the first and last group by name, and of every group by number."""
    lr = options.lr * options.rate(step)
    rates = {f"lr/group_{i}": lr * group.ratio for i, group in enumerate(groups)}
    return {"lr/head": lr * groups[-1].ratio, "lr/first": lr * groups[0].ratio, **rates}


def replay_events(phase: Phase, cycle: int, losses: list[float], epochs: list[dict]) -> Iterator[StepEnd | EpochEnd]:
    """Yield the events of a recorded cycle, or of the recorded part of one, as training would."""
    numbers, left = phase.epoch_numbers(cycle), list(losses)
    step = steps_before(phase, numbers.start)
    for i, number in enumerate(numbers):
        of_epoch, left = left[: phase.epochs[number].steps], left[phase.epochs[number].steps :]
        yield from (StepEnd(at, loss, None) for at, loss in enumerate(of_epoch, step))
        step += len(of_epoch)
        if i < len(epochs):
            yield EpochEnd(number, epochs[i], trained_now=False)
