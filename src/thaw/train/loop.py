"""The loop. One generator trains: it takes steps and yields what happened; whoever consumes it logs, plots, stops."""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from thaw.config.optimizers import SGD, AdamW, Optimizer
from thaw.config.schema import Loss
from thaw.data.batches import Batch, mix_batch
from thaw.model.layer_groups import LayerGroup
from thaw.model.network import Network
from thaw.runtime.errors import UserError
from thaw.runtime.seeds import seed_for


class Step(NamedTuple):
    """One optimizer step: its number in the phase, the mean loss of its batch (on the device), images, seconds spent
    waiting for the batch, and (on the device) the first step so far that was not finite, -1 where none was."""

    step: int
    loss: Tensor
    images: int
    wait: float
    first_bad: Tensor


@dataclass(frozen=True)
class StepOptions:
    """What the steps of a phase read."""

    lr: float = 1.0  # the peak learning rate of the last layer group
    rate: Callable[[int], float] = lambda step: 1.0  # the share of it at each step
    momentum: Callable[[int], float] | None = None  # at each step; None: the optimizer's own
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy
    mixup: float = 0.0
    cutmix: float = 0.0
    clip: float | None = None
    seed: tuple = (0,)


def make_optimizer(network: Network, groups: Sequence[LayerGroup], optimizer: Optimizer) -> torch.optim.Optimizer:
    """SGD or AdamW over the layer groups; each torch group has `lr_scale`, the ratio of its layer group.

    Norms and biases (every parameter of fewer than two dimensions) have no weight decay. The fused kernels can skip a
    step on the device, see `train`.
    """
    parameters = dict(network.model.named_parameters())
    param_groups = []
    for group in groups:
        for decayed in (True, False):
            chosen = [parameters[name] for name in group.names if (parameters[name].ndim > 1) == decayed]
            if chosen:
                decay = optimizer.weight_decay if decayed else 0.0
                param_groups.append({"params": chosen, "lr_scale": group.ratio, "weight_decay": decay})
    match optimizer:
        case SGD(momentum=momentum, nesterov=nesterov):
            return torch.optim.SGD(param_groups, lr=1.0, momentum=momentum, nesterov=nesterov, fused=True)
        case AdamW(betas=betas):
            return torch.optim.AdamW(param_groups, lr=1.0, betas=tuple(betas), fused=True)


def make_loss(loss: Loss, labels: np.ndarray, classes: int, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the training loss: cross-entropy, smoothed, its classes weighted by how rare their labels are if asked."""
    weight = None
    if loss.balance == "weights":
        counts = np.bincount(labels, minlength=classes)
        weight = torch.tensor(counts.sum() / (classes * np.maximum(counts, 1)), dtype=torch.float32).to(device)
    return partial(cross_entropy, weight=weight, label_smoothing=loss.smoothing)


def set_momentum(group: dict, value: float) -> None:
    if "betas" in group:
        group["betas"] = (value, group["betas"][1])
    else:
        group["momentum"] = value


def train(
    network: nn.Module,
    batches: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    options: StepOptions,
    start: int = 0,
) -> Iterator[Step]:
    """Take one optimizer step for every batch, from step `start` of a phase on, and yield it.

    The rate of a group is `lr * lr_scale * rate(step)`. A gradient whose norm over all groups is above `clip` is scaled
    down to it (arXiv:1211.5063). Every draw inside a step (dropout, mixing) comes from (seed, step). A step whose loss
    or gradient is not finite is not applied: the kernel skips it on the device, without a synchronisation; whoever
    consumes the steps looks at `first_bad` now and then.
    """
    first_bad = torch.full((), -1, device=network.device.device)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    waited = time.perf_counter()
    for step, (x, y) in enumerate(batches, start):
        x, y = network.device.put(x), network.device.put(y)
        wait = time.perf_counter() - waited
        network.device.seed(seed_for("step", *options.seed, step))
        for group in optimizer.param_groups:
            group["lr"] = options.lr * group["lr_scale"] * options.rate(step)
            if options.momentum is not None:
                set_momentum(group, options.momentum(step))
        if options.mixup or options.cutmix:
            other = torch.randperm(len(y), device=y.device)
            rng = random.Random(seed_for("mixup", *options.seed, step))
            x, share = mix_batch(x, other, options.mixup, options.cutmix, rng)
            logits = network(x)
            loss = share * options.loss(logits, y) + (1 - share) * options.loss(logits, y[other])
        else:
            loss = options.loss(network(x), y)
        loss.backward()
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if options.clip:
            nn.utils.clip_grads_with_norm_(parameters, options.clip, norm)
        bad = ~torch.isfinite(loss.detach() + norm)
        first_bad = torch.where((first_bad < 0) & bad, step, first_bad)
        optimizer.found_inf = bad.float()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield Step(step, loss.detach(), len(y), wait, first_bad)
        waited = time.perf_counter()


def raise_if_not_finite(step: Step, options: StepOptions, phase: str) -> None:
    """Errors: this step of a phase, or one before it, had a loss or a gradient that is not finite, exit 4."""
    if (bad := int(step.first_bad)) >= 0:
        lr = options.lr * options.rate(bad)
        raise UserError(
            4,
            f"loss or gradient is not finite in phase {phase} at step {bad} (lr {lr:.3g}); the step was not "
            f"applied; try lr={options.lr / 10:.2g}, or lr_factor=0.1 where the rate is found",
        )


@torch.inference_mode()
def evaluate(network: Network, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """Logits [n, classes] and labels [n] of all batches, float32 and int64 on the CPU, the network in eval mode."""
    network.eval()
    logits, labels = [], []
    for x, y in batches:
        logits.append(network(network.device.put(x)))
        labels.append(y)
    return torch.cat(logits).cpu(), torch.cat(labels).cpu()
