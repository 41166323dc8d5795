"""Try each image size of a plan before the first phase, and find a batch size that fits into memory.

What follows from the structure of the network alone is tried once; the store remembers it.
"""

import copy
from dataclasses import replace

import torch

from thaw.config.schema import Settings
from thaw.model import network as network_
from thaw.model.freezing import set_trainable
from thaw.model.network import Network
from thaw.plan import plan
from thaw.plan.phases import Plan
from thaw.runtime import console, errors
from thaw.runtime.errors import UserError
from thaw.runtime.failures import is_accelerator_error, is_out_of_memory
from thaw.runtime.machine import library_versions
from thaw.store.store import Store, key_of
from thaw.train.features import images_per_pass
from thaw.train.fingerprint import code_digest


class OutOfMemory(UserError):
    """A batch of a size that does not fit into memory."""

    def __init__(self, what: str, batch: int):
        super().__init__(5, f"{what}; try batch_size={max(1, batch // 2)}")
        self.what = what


def structure_key(network: Network, **asked) -> str:
    """Return the name of facts that depend on the structure of a network and on what is asked, not on its weights."""
    about = [network.model.pretrained_cfg.get(key) for key in ("architecture", "input_size")]  # not in its text
    parts = {"network": [str(network.model), about], "versions": library_versions(), "code": code_digest(), **asked}
    return f"network_{key_of(parts)[:16]}"


def work_per_image(network: Network, size: int, store: Store) -> float:
    """Return the multiply-adds of the network for one image, from the store if they were counted before."""
    name = structure_key(network, size=size)
    if known := store.recall(name, multiply_adds=float | int):
        return known["multiply_adds"]
    work = network_.multiply_adds(network.model, size)
    store.remember(name, {"multiply_adds": work})
    return work


def within_memory(settings: Settings, planned: Plan, network: Network, store: Store) -> Plan:
    """Return the plan after trying its sizes; batch_size=auto is halved until its steps fit into memory.

    On a CPU, steps that were once accepted are not tried again; the free memory of a GPU changes. Raise UserError as
    `probe_sizes`.
    """
    while True:
        about = {"bn": settings.bn, "device": [str(network.device), settings.deterministic]}
        name = structure_key(network, steps=steps_to_try(planned), **about)
        try:
            if network.device.device.type != "cpu" or not store.recall(name, accepted=bool):
                probe_sizes(settings, planned, network)
                store.remember(name, {"accepted": True})
            return planned
        except OutOfMemory as error:
            if settings.batch_size != "auto" or planned.batch_size == 1:
                raise
            smaller = planned.batch_size // 2
            console.say(f"note: {error.what}; batch_size=auto becomes {smaller}")
            planned = plan.make_plan(settings, replace(planned.facts, most_batch=smaller))


def inference_batch(planned: Plan) -> int:
    """Return the number of images per forward pass: inference can hold what training can."""
    return max(planned.batch_size, images_per_pass(planned.size))


def tried_images(batch: int, device: torch.device) -> int:
    """Return how many images of a batch are tried: all on a GPU, where memory is scarce, and otherwise two."""
    return batch if device.type == "cuda" else min(batch, 2)


def steps_to_try(planned: Plan) -> list[tuple[str, int, int]]:
    """Return the trained part, image size and batch size of each kind of step in a plan."""
    tried = {(p.train, e.size, e.batch) for p in planned.phases if p.features == "live" for e in p.epochs}
    return sorted(tried | {("head", planned.size, planned.batch_size)})


def probe_sizes(settings: Settings, planned: Plan, network: Network) -> None:
    """Try one step of each image size and trained part on a copy, so that failures come before the first phase.

    Raise UserError if the network does not accept a size (exit 2), OutOfMemory if a batch does not fit (exit 5).
    """
    device, kept = network.device.device, settings.optimizer.moments
    trial = copy.deepcopy(network)
    for train, size, batch in steps_to_try(planned):
        n = tried_images(batch, device)
        set_trainable(trial, train, settings.bn)
        try:
            if size == planned.size:
                network_.check_saveable(network.model, size)
            if (train, size) == ("head", planned.size):
                network_.check_body_and_head(copy.deepcopy(trial), size)
            moments = [torch.empty_like(p) for p in trial.parameters() if p.requires_grad for _ in range(kept)]
            images = torch.zeros(n, size, size, 3, dtype=torch.uint8, device=device)
            trial(images).sum().backward()
            trial.zero_grad(set_to_none=True)
            moments.clear()
        except (RuntimeError, AssertionError, ValueError) as error:
            raise explain_failure(error, settings, planned, network, size, batch) from None
    if device.type == "cuda":
        n, size = inference_batch(planned), planned.size
        try:
            with torch.inference_mode():
                trial(torch.zeros(n, size, size, 3, dtype=torch.uint8, device=device))
        except torch.OutOfMemoryError:
            what = f"a validation batch of {n} images does not fit into the memory of {network.device}"
            raise UserError(5, f"size={size}: {what}; try a smaller size") from None
        del trial
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)  # so that the run reports its own


def explain_failure(
    error: Exception, settings: Settings, planned: Plan, network: Network, size: int, batch: int
) -> Exception:
    """Return the error to raise for a failed step: a UserError, or `error` itself if no setting explains it."""
    if is_out_of_memory(error):
        what = f"batch_size={batch} at {size} px does not fit into the memory of {network.device}"
        return OutOfMemory(what, batch)
    if is_accelerator_error(error):
        return error  # not caused by the image size
    why = errors.first_line(error)
    if "use_deterministic_algorithms" in str(error):
        which = f"head={settings.head.kind} on {settings.backbone.name}"
        return UserError(2, f"deterministic=true: {which} uses an operation that has no deterministic form ({why})")
    asked = f"size={size}" if size == planned.size else f"resize.sizes={settings.resize.sizes}, {size} px"
    own = f"its native size is {planned.facts.native_size}"
    return UserError(2, f"{asked}: {settings.backbone.name} does not accept this size ({why}); {own}")
