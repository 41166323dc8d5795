"""The loop. One generator trains: it takes steps and yields what happened; whoever consumes it logs, plots, stops."""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from thaw.config.schema import Optimizer
from thaw.data import batches as batches_
from thaw.data.batches import Batch
from thaw.model.layer_groups import LayerGroup
from thaw.model.network import Network
from thaw.runtime.errors import UserError
from thaw.runtime.seeds import seed_for


class Step(NamedTuple):
    """One optimizer step: its number in the phase, the mean loss of its batch (on the device), pictures, seconds spent
    waiting for the batch, and (on the device) the first step so far that was not finite, -1 where none was."""

    step: int
    loss: Tensor
    images: int
    wait: float
    first_bad: Tensor


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
    if optimizer.name == "sgd":
        nesterov = bool(optimizer.nesterov)
        return torch.optim.SGD(param_groups, lr=1.0, momentum=optimizer.momentum, nesterov=nesterov, fused=True)
    return torch.optim.AdamW(param_groups, lr=1.0, betas=tuple(optimizer.betas), fused=True)


def set_momentum(group: dict, value: float) -> None:
    if "betas" in group:
        group["betas"] = (value, group["betas"][1])
    else:
        group["momentum"] = value


def train(
    network: nn.Module,
    batches: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    *,
    lr: float,
    rate: Callable[[int], float],
    momentum: Callable[[int], float] | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    clip: float | None = None,
    seed: tuple = (0,),
    start: int = 0,
    check_every: int = 10,
) -> Iterator[Step]:
    """Take one optimizer step for every batch, from step `start` of a phase on, and yield it.

    The rate of a group is `lr * lr_scale * rate(step)`. A gradient whose norm over all groups is above `clip` is scaled
    down to it (arXiv:1211.5063). Every draw inside a step (dropout, mixing) comes from
    (seed, step). A step whose loss or gradient is not finite is not applied: the kernel skips it on the device, without
    a synchronisation. Errors: such a step, exit 4, at the latest `check_every` steps later.
    """
    first_bad = torch.full((), -1, device=network.device.device)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    waited = time.perf_counter()
    step = start
    for step, (x, y) in enumerate(batches, start):
        x, y = network.device.put(x), network.device.put(y)
        wait = time.perf_counter() - waited
        network.device.seed(seed_for("step", *seed, step))
        for group in optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"] * rate(step)
            if momentum is not None:
                set_momentum(group, momentum(step))
        value = (
            mixed_loss(network, x, y, loss, mixup, cutmix, random.Random(seed_for("mixup", *seed, step)))
            if mixup or cutmix
            else loss(network(x), y)
        )
        value.backward()
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if clip:
            nn.utils.clip_grads_with_norm_(parameters, clip, norm)
        bad = ~torch.isfinite(value.detach() + norm)
        first_bad = torch.where((first_bad < 0) & bad, step, first_bad)
        optimizer.found_inf = bad.float()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield Step(step, value.detach(), len(y), wait, first_bad)
        if (step + 1) % check_every == 0:
            raise_if_not_finite(first_bad, seed, lr, rate)
        waited = time.perf_counter()
    raise_if_not_finite(first_bad, seed, lr, rate)


def mixed_loss(
    network: nn.Module, x: Tensor, y: Tensor, loss, mixup: float, cutmix: float, rng: random.Random
) -> Tensor:
    """The loss of a batch of pictures [n, h, w, 3] mixed with itself in another order, see `batches.mix_batch`."""
    other = torch.randperm(len(y), device=y.device)
    x, share = batches_.mix_batch(x, other, mixup, cutmix, rng)
    logits = network(x)
    return share * loss(logits, y) + (1 - share) * loss(logits, y[other])


def raise_if_not_finite(first_bad: Tensor, seed: tuple, lr: float, rate: Callable[[int], float]) -> None:
    if (step := int(first_bad)) >= 0:
        at = lr * rate(step)
        raise UserError(
            4,
            f"loss or gradient is not finite in phase {seed[-2]} at step {step} (lr {at:.3g}); the step was not "
            f"applied; try lr={lr / 10:.2g}, or lr_factor=0.1 where the rate is found",
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
