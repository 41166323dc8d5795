"""The unit of work: one cycle of a fit, from the store or trained, gone on with where a killed process left it."""

import json
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from thaw.data.batches import Batch
from thaw.model.freezing import set_trainable
from thaw.model.layer_groups import LayerGroup
from thaw.model.weights import load_weights
from thaw.plan import schedules
from thaw.plan.phases import Phase
from thaw.runtime import console, signals
from thaw.store import snapshot
from thaw.store.prune import UNDER_WAY
from thaw.train import loop
from thaw.train.context import RunContext, train_batches
from thaw.train.cycle_state import CycleRecord, Snapshots, momentum_of, restore, weights_of
from thaw.train.predictions import Predictions, validate


@dataclass(frozen=True)
class CycleResult:
    """What a cycle left in the store: the losses of its steps, what validation found after its epochs, the network."""

    key: str
    path: Path
    losses: list[float]
    epochs: list[dict]  # of each: loss, accuracy, f1_macro, images, seconds, wait, validation (seconds)
    validation: Predictions  # at the end of the cycle
    resumed: float = 0.0  # seconds that attempts before this one spent on it

    @property
    def train_loss(self) -> float:
        """The mean over the cycle's last epoch."""
        return self.epochs[-1]["train_loss"]

    @property
    def seconds(self) -> float:
        """What its steps took when they were made."""
        return sum(epoch["seconds"] for epoch in self.epochs)

    @property
    def cost(self) -> float:
        """What its steps and validations took."""
        return seconds_of(self.epochs)

    def weights(self) -> dict[str, Tensor]:
        """Every parameter and buffer, in timm's names."""
        return load_file(self.path / "weights.safetensors")


def seconds_of(epochs: list[dict]) -> float:
    """Seconds of their steps and validations."""
    return sum(epoch["seconds"] + epoch["validation"] for epoch in epochs)


@dataclass(frozen=True)
class PhaseFit:
    """One phase being fitted: the network's optimizer over its groups, and the curves of its rate and momentum."""

    context: RunContext
    phase: Phase
    lr: float
    optimizer: torch.optim.Optimizer
    rate: Callable[[int], float]
    momentum: Callable[[int], float] | None
    on_step: Callable  # (step of the phase, loss, pictures a second or None)
    on_epoch: Callable  # (epoch of the phase, its figures, whether it was trained now)


def begin_phase(
    context: RunContext, phase: Phase, groups: list[LayerGroup], lr: float, on_step: Callable, on_epoch: Callable
) -> PhaseFit:
    """A phase with a fresh optimizer. `on_step` and `on_epoch` see everything in order, trained now or replayed."""
    shapes = schedules.shapes(phase.schedule, phase.budget)
    rate, momentum = (shape and schedules.curve(shape, phase.ends) for shape in shapes)
    steps, sizes = [epoch.steps for epoch in phase.epochs], [epoch.batch for epoch in phase.epochs]
    rate = schedules.scaled_with_batch(rate, steps, sizes, phase.rate_batch)
    optimizer = loop.make_optimizer(context.network, groups, context.settings.optimizer)
    return PhaseFit(context, phase, lr, optimizer, rate, momentum, on_step, on_epoch)


def run_cycle(
    fit: PhaseFit, cycle: int, parts: dict, start: CycleResult | None, before: CycleResult | None
) -> tuple[CycleResult, bool]:
    """The end of a cycle, and whether it was there already.

    `start` is what the phase starts from (None: the network as it was made), `before` the end of the phase's cycle
    before this one (None: it is the first).
    """
    context, model = fit.context, fit.context.network.model
    underway = context.store.root / UNDER_WAY / context.store.key("cycles", parts)
    with context.store.entry("cycles", parts) as entry:
        if entry.missing:
            if context.store.stale("cycles", underway):
                snapshot.remove(underway)
            start_cycle(fit, start, before)
            record, validation, resumed = train_cycle(fit, cycle, underway)
            (entry.folder / "weights.safetensors").write_bytes(save(weights_of(model)))
            (entry.folder / "momentum.safetensors").write_bytes(save(momentum_of(model, fit.optimizer)))
            (entry.folder / "logits.safetensors").write_bytes(save({"logits": validation.logits.contiguous()}))
            (entry.folder / "record.json").write_text(json.dumps({"losses": record.losses, "epochs": record.epochs}))
    path = entry.path
    snapshot.remove(underway)
    if entry.missing:
        context.holds = path.name
        return CycleResult(path.name, path, record.losses, record.epochs, validation, resumed), False
    record = json.loads((path / "record.json").read_text())
    labels = torch.from_numpy(context.dataset.table.labels[context.valid_rows])
    validation = Predictions(load_file(path / "logits.safetensors")["logits"], labels)
    ended = CycleResult(path.name, path, record["losses"], record["epochs"], validation)
    replay(fit, cycle, ended.losses, ended.epochs)
    console.say(f"  {fit.phase.name}: cycle {cycle + 1} from the store, validation loss {validation.loss:.4f}")
    return ended, True


def start_cycle(fit: PhaseFit, start: CycleResult | None, before: CycleResult | None) -> None:
    """Have the network hold what the cycle starts from."""
    context, model = fit.context, fit.context.network.model
    if before is not None and context.holds != before.key:
        restore(model, fit.optimizer, before.weights() | load_file(before.path / "momentum.safetensors"))
    elif before is None and start is not None and context.holds != start.key:
        load_weights(model, start.weights(), "the store", head=True)
    context.holds = ""  # until the cycle ends it holds what has no name


def train_cycle(fit: PhaseFit, cycle: int, underway: Path) -> tuple[CycleRecord, Predictions, float]:
    """Train a cycle from where its snapshot is, or from its start.

    Return its record, the last validation, and the seconds that went into the snapshot.
    Errors: a signal that asks to stop, after a snapshot; steps that are not finite, exit 4.
    """
    context, phase = fit.context, fit.phase
    record, resumed = resumed_from(fit, cycle, underway)
    first = sum(phase.cycles[:cycle])
    before_cycle = sum(epoch.steps for epoch in phase.epochs[:first])
    left = range(first + len(record.epochs), first + phase.cycles[cycle])
    done = len(record.losses) - sum(epoch.steps for epoch in phase.epochs[first : left.start])
    interval, model = context.settings.store.snapshot_s, context.network.model
    snapshots, validation = Snapshots(underway, interval, record, model, fit.optimizer), None
    # One loader for all of them: its processes start once, and read ahead while the network validates.
    with closing(train_batches(context, phase, left, phase.name, skip=done)) as batches:
        for epoch in left:
            of_epoch = islice(batches, phase.epochs[epoch].steps - (done if epoch == left.start else 0))
            train_epoch(fit, of_epoch, before_cycle + len(record.losses), record, snapshots)
            validated = time.perf_counter()
            validation = validate(context, phase)
            fit.on_epoch(epoch, record.end_epoch(validation, time.perf_counter() - validated), True)
    return record, validation, resumed


def resumed_from(fit: PhaseFit, cycle: int, underway: Path) -> tuple[CycleRecord, float]:
    """Restore what a snapshot holds and show it; return its record, or an empty one, and the seconds spent on it."""
    if not (found := snapshot.read(underway)):
        return CycleRecord(), 0.0
    state, tensors = found
    restore(fit.context.network.model, fit.optimizer, tensors)
    record = CycleRecord(**state)
    replay(fit, cycle, record.losses, record.epochs)
    step = len(record.losses)
    console.say(f"  {fit.phase.name}: cycle {cycle + 1} goes on after its step {step}, from a snapshot")
    return record, seconds_of(record.epochs) + record.figures["seconds"]


def train_epoch(fit: PhaseFit, batches: Iterable[Batch], at: int, record: CycleRecord, snapshots: Snapshots) -> None:
    """Train an epoch, or what is left of it, from step `at` of the phase; write snapshots when they are due.

    Errors: a signal that asks to stop, after a snapshot.
    """
    figures, log_every = record.figures, fit.context.settings.log_every
    began, fresh, shown = time.perf_counter(), [], time.monotonic()
    for step in optimizer_steps(fit, batches, at):
        fresh.append((step.loss, step.step, step.images))
        figures["wait"] += step.wait
        stop = signals.pending()
        due = stop or snapshots.due
        if due or (step.step + 1) % log_every == 0 or time.monotonic() - shown > 0.5:
            fetch_losses(fit, fresh, record, figures["seconds"] + time.perf_counter() - began)
            shown = time.monotonic()
        if due and int(step.first_bad) < 0:
            figures["seconds"] += time.perf_counter() - began
            began = time.perf_counter()
            snapshots.write()
            if stop:
                signals.leave(stop, f"in {fit.phase.name} after {step.step + 1} steps")
    fetch_losses(fit, fresh, record, figures["seconds"] + time.perf_counter() - began)
    figures["seconds"] += time.perf_counter() - began


def fetch_losses(fit: PhaseFit, fresh: list, record: CycleRecord, seconds: float) -> None:
    """Bring the losses of the last steps from the device, in one synchronisation, record and show them."""
    values = torch.stack([loss for loss, _, _ in fresh]).tolist() if fresh else []
    for loss, (_, step, images) in zip(values, fresh, strict=True):
        record.add(loss, images)
        fit.on_step(step, loss, record.figures["images"] / seconds)
    fresh.clear()


def optimizer_steps(fit: PhaseFit, batches: Iterable[Batch], at: int):
    """The optimizer steps of these batches, the first of them step `at` of the phase."""
    context, phase = fit.context, fit.phase
    set_trainable(context.network, phase.train, context.settings.bn)
    return loop.train(
        context.network,
        batches,
        fit.optimizer,
        lr=fit.lr,
        rate=fit.rate,
        momentum=fit.momentum,
        loss=context.loss,
        mixup=context.settings.augment.mixup if phase.features == "live" else 0.0,
        cutmix=context.settings.augment.cutmix if phase.features == "live" else 0.0,
        clip=context.settings.optimizer.clip,
        seed=(context.settings.seed, phase.name, "fit"),
        start=at,
        check_every=context.settings.log_every,
    )


def replay(fit: PhaseFit, cycle: int, losses: list[float], epochs: list[dict]) -> None:
    """Show what was done before as if it were done now."""
    phase, left = fit.phase, list(losses)
    first = sum(phase.cycles[:cycle])
    step = sum(epoch.steps for epoch in phase.epochs[:first])
    for number in range(phase.cycles[cycle]):
        steps = phase.epochs[first + number].steps
        of_epoch, left = left[:steps], left[steps:]
        for loss in of_epoch:
            fit.on_step(step, loss, None)
            step += 1
        if number < len(epochs):
            fit.on_epoch(first + number, epochs[number], False)
