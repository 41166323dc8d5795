"""The layer groups, the optimizer and the step options with which a phase is fitted."""

from dataclasses import dataclass, replace

import torch

from thaw.config.schema import Settings
from thaw.model.layer_groups import LayerGroup, head_group, split_into_groups
from thaw.model.network import Network
from thaw.plan import schedules
from thaw.plan.phases import Phase
from thaw.train.inputs import PhaseInputs
from thaw.train.loop import StepOptions, make_loss, make_optimizer


@dataclass(frozen=True)
class PhaseFit:
    """A phase with everything needed to train it."""

    phase: Phase
    inputs: PhaseInputs
    network: Network
    groups: list[LayerGroup]
    optimizer: torch.optim.Optimizer
    options: StepOptions
    bn: str
    whole: bool  # whether cycle ends hold all weights: the backbone is or was trained
    log_every: int  # maximum number of steps between two reads of the losses


def begin_phase(settings: Settings, network: Network, inputs: PhaseInputs, lr: float, whole: bool) -> PhaseFit:
    """Return the fit of a phase, with a fresh optimizer; `whole`: whether it starts from a trained backbone."""
    phase, groups = inputs.phase, phase_groups(network, inputs.phase, settings.rates.decay)
    options = with_schedule(replace(step_options(settings, network, inputs, "fit"), lr=lr), phase)
    optimizer = make_optimizer(network, groups, settings.optimizer)
    whole |= phase.train == "all"
    return PhaseFit(phase, inputs, network, groups, optimizer, options, settings.bn, whole, settings.log_every)


def with_phase(fit: PhaseFit, phase: Phase) -> PhaseFit:
    """Return the fit with other cycles after those already trained."""
    inputs = fit.inputs.with_phase(phase)
    return replace(fit, phase=phase, inputs=inputs, options=with_schedule(fit.options, phase))


def with_schedule(options: StepOptions, phase: Phase) -> StepOptions:
    """Return the options with the rate and momentum of every step of a phase."""
    shapes = phase.schedule.rate(phase.budget), phase.schedule.momentum()
    rate, momentum = (shape and schedules.curve(shape, phase.ends) for shape in shapes)
    steps, sizes = [epoch.steps for epoch in phase.epochs], [epoch.batch for epoch in phase.epochs]
    return replace(options, rate=schedules.scaled_with_batch(rate, steps, sizes, phase.rate_batch), momentum=momentum)


def phase_groups(network: Network, phase: Phase, decay: float | None) -> list[LayerGroup]:
    """Return the layer groups a phase trains, with their ratios."""
    if phase.train == "head":
        return head_group(network.model)
    return split_into_groups(network.model, phase.split, phase.ratios, decay)


def step_options(settings: Settings, network: Network, inputs: PhaseInputs, purpose: str) -> StepOptions:
    """Return the options of a phase's steps except the learning rate; `purpose` (fit, find) is part of their seed."""
    table, mixed = inputs.run.table, inputs.phase.features == "live"
    labels = table.labels[inputs.run.train_rows]
    return StepOptions(
        loss=make_loss(
            settings.loss.balance, inputs.phase.smoothing, labels, len(table.classes), network.device.device
        ),
        mixup=settings.augment.mixup if mixed else 0.0,
        cutmix=settings.augment.cutmix if mixed else 0.0,
        clip=settings.optimizer.clip,
        seed=(settings.seed, inputs.phase.name, purpose),
    )
