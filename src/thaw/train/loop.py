"""The training loop: a generator that takes optimizer steps and yields each one; its consumer logs and stops."""

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
from thaw.data.batches import Batch, mix_batch
from thaw.model.layer_groups import LayerGroup
from thaw.model.network import Network
from thaw.runtime.errors import UserError
from thaw.runtime.seeds import seed_for


class Step(NamedTuple):
    """One optimizer step."""

    step: int  # its number in the phase
    loss: Tensor  # mean over the batch, on the device
    images: int
    wait: float  # seconds spent waiting for the batch
    first_bad: Tensor  # on the device: number of the first step whose loss or gradient was not finite, -1 if none


@dataclass(frozen=True)
class StepOptions:
    """The options of the steps of a phase."""

    lr: float = 1.0  # peak learning rate of the last layer group
    rate: Callable[[int], float] = lambda step: 1.0  # step of the phase to its factor on lr
    momentum: Callable[[int], float] | None = None  # step of the phase to the momentum; None: the optimizer's own
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy
    mixup: float = 0.0
    cutmix: float = 0.0
    clip: float | None = None
    seed: tuple = (0,)


def make_optimizer(network: Network, groups: Sequence[LayerGroup], optimizer: Optimizer) -> torch.optim.Optimizer:
    """Return SGD or AdamW over the layer groups; `lr_scale` of a parameter group is the ratio of its layer group.

    Norms and biases (all parameters of fewer than two dimensions) get no weight decay. The optimizers are fused because
    fused kernels can skip a step on the device, which `train` needs.
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


def make_loss(
    balance: str, smoothing: float, labels: np.ndarray, classes: int, device: torch.device
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the training loss: label-smoothed cross-entropy, with inverse-frequency class weights if asked."""
    weight = None
    if balance == "weights":
        counts = np.bincount(labels, minlength=classes)
        weight = torch.tensor(counts.sum() / (classes * np.maximum(counts, 1)), dtype=torch.float32).to(device)
    return partial(cross_entropy, weight=weight, label_smoothing=smoothing)


def set_momentum(group: dict, value: float) -> None:
    """Set the momentum of SGD, or beta1 of AdamW, in a parameter group."""
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
    """Take one optimizer step per batch, counting from step `start` of the phase, and yield each.

    The learning rate of a group is `lr * lr_scale * rate(step)`. If the norm of the gradient over all groups exceeds
    `clip`, the gradient is scaled down to it (arXiv:1211.5063). All random draws of a step (dropout, mixing) are seeded
    by (seed, step). A step whose loss or gradient is not finite is not applied: the kernel skips it on the device,
    without a synchronisation, and the consumer must check `first_bad` from time to time.
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
        optimizer.found_inf = bad.float()  # as torch.amp.GradScaler does: fused kernels skip the step if it is 1
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield Step(step, loss.detach(), len(y), wait, first_bad)
        waited = time.perf_counter()


def raise_if_not_finite(step: Step, options: StepOptions, phase: str) -> None:
    """Raise UserError (exit 4) if the loss or gradient of this step, or of one before it, is not finite."""
    if (bad := int(step.first_bad)) >= 0:
        lr = options.lr * options.rate(bad)
        raise UserError(
            4,
            f"loss or gradient is not finite in phase {phase} at step {bad} (lr {lr:.3g}); the step was not "
            f"applied; try lr={options.lr / 10:.2g}, or lr_factor=0.1 if a finder chose the learning rate",
        )


@torch.inference_mode()
def evaluate(network: Network, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """Return logits [n, classes] (float32) and labels [n] (int64) of all batches on the CPU, in eval mode."""
    network.eval()
    logits, labels = [], []
    for x, y in batches:
        logits.append(network(network.device.put(x)))
        labels.append(y)
    return torch.cat(logits).cpu(), torch.cat(labels).cpu()
