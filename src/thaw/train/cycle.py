"""One cycle of a fit: trained, resumed from a snapshot, or read from the store."""

import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor

from thaw.model.freezing import set_trainable
from thaw.model.weights import read_weights
from thaw.plan.phases import Phase
from thaw.runtime import console, signals
from thaw.runtime.errors import UserError
from thaw.runtime.files import read_json
from thaw.store import snapshot
from thaw.train import loop
from thaw.train.cycle_state import (
    CycleRecord,
    LoadedWeights,
    Snapshots,
    momentum_of,
    record_fault,
    restore,
    restore_momentum,
    seconds_of,
    tensors_fault,
    weights_of,
)
from thaw.train.loop import Step
from thaw.train.phase_fit import PhaseFit
from thaw.train.predictions import Predictions, validate

WEIGHTS, MOMENTUM, LOGITS, RECORD = "weights.safetensors", "momentum.safetensors", "logits.safetensors", "record.json"


class StepEnd(NamedTuple):
    """The end of a step of a phase."""

    step: int
    loss: float
    speed: float | None  # images per second; None if the step is only replayed


class EpochEnd(NamedTuple):
    """The end of an epoch of a phase, after validation."""

    epoch: int
    figures: dict  # train_loss, loss, accuracy, f1_macro, images, seconds, wait, validation (seconds)
    trained_now: bool  # False: only replayed


@dataclass(frozen=True)
class CycleResult:
    """A finished cycle in the store: losses per step, figures per epoch, validation predictions and weights."""

    key: str
    path: Path
    losses: list[float]
    epochs: list[dict]  # figures of each epoch
    validation: Predictions  # at the end of the cycle
    whole: bool  # whether it holds all weights; else those of the head, because no phase has trained the rest

    @property
    def train_loss(self) -> float:
        """The mean training loss of the last epoch."""
        return self.epochs[-1]["train_loss"]

    @property
    def training_seconds(self) -> float:
        """The seconds its steps took when they were trained."""
        return sum(epoch["seconds"] for epoch in self.epochs)

    @property
    def seconds(self) -> float:
        """The seconds its steps and validations took when they were trained."""
        return seconds_of(self.epochs)

    def weights(self) -> dict[str, Tensor]:
        """Read every parameter and buffer, or those of the head, by timm's names."""
        return read_weights(self.path / WEIGHTS, "the store")

    def momentum(self) -> dict[str, Tensor]:
        """Read the optimizer's state of each parameter."""
        return read_weights(self.path / MOMENTUM, "the store")


@dataclass(frozen=True)
class BestSoFar:
    """The best cycle end so far, and its phase and epoch."""

    end: CycleResult
    phase: str
    epoch: int  # counted over all phases of the run
    ends: tuple[CycleResult, ...]  # the cycle ends of its phase, up to and including it


def begin_cycle(
    fit: PhaseFit,
    cycle: int,
    held: LoadedWeights,
    start: CycleResult | None,
    before: CycleResult | None,
    underway: Path,
) -> CycleRecord:
    """Load the weights the cycle continues from (its snapshot, or else its start) and return its record so far.

    `start` is the cycle end the phase starts from (None: the initial network), `before` the end of the phase's
    previous cycle (None: this is the first).
    """
    model = fit.network.model
    if before is not None and held.key != before.key:
        held.hold(before.key, before.weights)
        restore_momentum(model, fit.optimizer, before.momentum())
    elif before is None and start is not None:
        held.hold(start.key, start.weights)
    held.begin_training(fit.phase.train)
    if not (found := snapshot.read(underway)):
        return CycleRecord()
    state, tensors = found
    if why := record_fault(state, steps_of(fit.phase, cycle), False) or tensors_fault(model, fit.optimizer, tensors):
        console.say(f"warning: store: a snapshot is damaged ({why}); its cycle starts again from its first step")
        return CycleRecord()
    restore(model, fit.optimizer, tensors)
    record = CycleRecord(**{name: state[name] for name in ("losses", "epochs", "figures")})
    record.resumed = record.seconds
    return record


def train_cycle(
    fit: PhaseFit, cycle: int, record: CycleRecord, snapshots: Snapshots, folder: Path
) -> Iterator[StepEnd | EpochEnd]:
    """Train the steps of a cycle that `record` lacks, validate after each epoch, and write snapshots when due.

    At the end, write the cycle to `folder`, where `read_cycle` reads it. Raise Stopped on a signal to stop, after
    writing a snapshot, and UserError (exit 4) if a loss or gradient is not finite.
    """
    phase, pending, shown = fit.phase, [], time.monotonic()
    numbers = phase.epoch_numbers(cycle)
    epochs_left = numbers[len(record.epochs) :]
    first_step = steps_before(phase, numbers.start) + len(record.losses)
    steps_done = first_step - steps_before(phase, epochs_left.start)  # steps of the unfinished epoch
    # One loader for all epochs: its processes start once and read ahead during validation.
    with closing(fit.inputs.batches(epochs_left, phase.name, skip=steps_done)) as batches:
        steps = loop.train(fit.network, batches, fit.optimizer, fit.options, first_step)
        for epoch in epochs_left:
            began = time.perf_counter()
            set_trainable(fit.network, phase.train, fit.bn)
            for step in islice(steps, phase.epochs[epoch].steps - steps_done):
                pending.append(step)
                stop = signals.pending()
                due = stop or snapshots.due
                if due or (step.step + 1) % fit.log_every == 0 or time.monotonic() - shown > 0.5:
                    yield from record_losses(fit, pending, record, time.perf_counter() - began)
                    shown = time.monotonic()
                if due:
                    record.figures["seconds"] += time.perf_counter() - began
                    began = time.perf_counter()
                    snapshots.write()
                if stop:
                    signals.raise_stopped(stop, f"in phase {phase.name} after step {step.step + 1:,}")
            yield from record_losses(fit, pending, record, time.perf_counter() - began)
            record.figures["seconds"] += time.perf_counter() - began
            began, steps_done = time.perf_counter(), 0
            with snapshot_if_stopped(snapshots, phase.name):
                validation = validate(fit.inputs)
            yield EpochEnd(epoch, record.end_epoch(validation, time.perf_counter() - began), trained_now=True)
    write_cycle(folder, fit, record)


@contextmanager
def snapshot_if_stopped(snapshots: Snapshots, name: str) -> Iterator[None]:
    """Write a snapshot, then raise Stopped, if a signal stops the block. The block must not train."""
    try:
        with signals.stopping(at_once=True):
            yield
    except signals.Stopped as stopped:
        snapshots.write()
        raise signals.Stopped(stopped.number, f"in phase {name} during validation") from None


def record_losses(fit: PhaseFit, steps: list[Step], record: CycleRecord, seconds: float) -> Iterator[StepEnd]:
    """Copy the losses of the last steps from the device, in one synchronisation, and record them.

    Raise UserError (exit 4) if one is not finite.
    """
    values = torch.stack([step.loss for step in steps]).tolist() if steps else []
    for loss, step in zip(values, steps, strict=True):
        record.add(loss, step.images, step.wait)
        yield StepEnd(step.step, loss, record.figures["images"] / (record.figures["seconds"] + seconds))
    if steps:
        loop.raise_if_not_finite(steps[-1], fit.options, fit.phase.name)
    steps.clear()


def steps_of(phase: Phase, cycle: int) -> list[int]:
    """Return the number of steps of each epoch of a cycle."""
    return [epoch.steps for epoch in phase.epochs_of(cycle)]


def steps_before(phase: Phase, epoch: int) -> int:
    """Return the number of steps in the epochs of the phase before `epoch`."""
    return sum(one.steps for one in phase.epochs[:epoch])


def write_cycle(folder: Path, fit: PhaseFit, record: CycleRecord) -> None:
    """Write the files of a cycle, as it is after its last validation, to its folder in the store."""
    model = fit.network.model
    (folder / WEIGHTS).write_bytes(save(weights_of(model, fit.whole)))
    (folder / MOMENTUM).write_bytes(save(momentum_of(model, fit.optimizer)))
    (folder / LOGITS).write_bytes(save({"logits": record.validation.logits.contiguous()}))
    (folder / RECORD).write_text(json.dumps({"losses": record.losses, "epochs": record.epochs, "whole": fit.whole}))


def cycle_fault(path: Path, fit: PhaseFit, cycle: int) -> str | None:
    """Return why a stored cycle does not match this fit, or None if `read_cycle` can read it."""
    record = read_json(path / RECORD)
    if why := record_fault(record, steps_of(fit.phase, cycle), True):
        return f"{RECORD}: {why}"
    if fit.whole and not record.get("whole", True):
        return "it holds the head alone"
    try:
        weights, momentum, logits = (read_weights(path / name, "it") for name in (WEIGHTS, MOMENTUM, LOGITS))
    except UserError as error:
        return error.line
    seen, shape = logits.get("logits"), (len(fit.inputs.valid_labels), len(fit.inputs.run.table.classes))
    if seen is None or seen.shape != shape or seen.dtype != torch.float32:
        return f"{LOGITS} has no logits {list(shape)}"
    return tensors_fault(fit.network.model, fit.optimizer, momentum | weights, fit.whole)


def read_cycle(path: Path, labels: Tensor) -> CycleResult:
    """Read a cycle from the store; `labels` are the labels of the validation images."""
    record = json.loads((path / RECORD).read_text())
    validation = Predictions(read_weights(path / LOGITS, "the store")["logits"], labels)
    return CycleResult(path.name, path, record["losses"], record["epochs"], validation, record.get("whole", True))
