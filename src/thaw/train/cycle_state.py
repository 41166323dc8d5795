"""The state of an unfinished cycle: its record, weights and optimizer state, and snapshots of them."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from thaw.model.heads import head_parameters
from thaw.model.weights import fault_in, load_weights
from thaw.store import snapshot
from thaw.store.kinds import is_numbers
from thaw.train.predictions import Predictions

STATE = "optimizer."  # prefix of the names of optimizer tensors
STATE_KEYS = {  # the state an optimizer keeps for each parameter it has updated
    torch.optim.AdamW: {"exp_avg", "exp_avg_sq", "step"},
    torch.optim.SGD: {"momentum_buffer"},
}
NO_SUMS = {"images": 0, "seconds": 0.0, "wait": 0.0, "sum": 0.0}  # running sums at the start of an epoch

FIGURES = {"train_loss", "loss", "accuracy", "f1_macro", "images", "seconds", "wait", "validation"}


@dataclass
class CycleRecord:
    """The record of a cycle: losses per step, figures per finished epoch, and running sums of the unfinished one."""

    losses: list[float] = field(default_factory=list)
    epochs: list[dict] = field(default_factory=list)
    figures: dict = field(default_factory=lambda: dict(NO_SUMS))
    resumed: float = 0.0  # the seconds that an earlier process spent on it
    validation: Predictions | None = None  # at the end of the last epoch, if this process trained it

    @property
    def kept(self) -> dict:
        """Return what a snapshot keeps, as JSON values."""
        return {"losses": self.losses, "epochs": self.epochs, "figures": self.figures}

    @property
    def seconds(self) -> float:
        """The seconds its steps and validations have taken so far."""
        return seconds_of(self.epochs) + self.figures["seconds"]

    def add(self, loss: float, images: int, wait: float) -> None:
        """Record a step: its mean loss, its number of images, and the seconds it waited for them."""
        self.losses.append(loss)
        self.figures["wait"] += wait
        self.figures["sum"] += loss * images
        self.figures["images"] += images

    def end_epoch(self, validation: Predictions, seconds: float) -> dict:
        """Finish the epoch with its validation, which took `seconds`, and return its figures."""
        figures = self.figures
        self.epochs.append(
            {
                "train_loss": figures["sum"] / figures["images"],
                "loss": validation.loss,
                "accuracy": validation.accuracy,
                "f1_macro": validation.f1_macro,
                **{key: figures[key] for key in ("images", "seconds", "wait")},
                "validation": seconds,
            }
        )
        figures.update(NO_SUMS)
        self.validation = validation
        return self.epochs[-1]


def record_fault(record: Mapping, steps: Sequence[int], whole: bool) -> str | None:
    """Return why a record does not fit a cycle with these `steps` per epoch, or None; `whole`: it must be complete."""
    losses, epochs, figures = (record.get(name) for name in ("losses", "epochs", "figures"))
    if not is_numbers(losses) or not isinstance(epochs, list) or len(epochs) > len(steps):
        return "it lacks valid losses and epochs"
    if not all(isinstance(one, dict) and one.keys() == FIGURES and is_numbers([*one.values()]) for one in epochs):
        return "it lacks valid figures for its epochs"
    if whole:
        return None if (len(losses), len(epochs)) == (sum(steps), len(steps)) else "it does not cover all steps"
    if not isinstance(figures, dict) or figures.keys() != NO_SUMS.keys() or not is_numbers([*figures.values()]):
        return "it lacks valid figures for the unfinished epoch"
    under_way = len(losses) - sum(steps[: len(epochs)])
    most = steps[len(epochs)] if len(epochs) < len(steps) else 0
    started = (figures["images"] > 0) == (under_way > 0)
    return None if 0 <= under_way <= most and started else "its losses do not match its epochs"


def tensors_fault(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], whole: bool = True
) -> str | None:
    """Return why these tensors cannot be loaded as weights (without `whole`, the head's) and optimizer state, or None.

    Other tensors do not matter.
    """
    if why := fault_in(model.state_dict() if whole else head_weights(model), tensors):
        return why
    parameters, kept = dict(model.named_parameters()), {}
    for name in filter(lambda name: name.startswith(STATE), tensors):
        key, _, parameter = name.removeprefix(STATE).partition(".")
        like = parameters.get(parameter)
        if like is None or tensors[name].shape != (() if key == "step" else like.shape):
            return f"{name} matches no parameter"
        kept.setdefault(parameter, set()).add(key)
    fits = all(keys == STATE_KEYS[type(optimizer)] for keys in kept.values())
    return None if fits else "its optimizer state is that of another optimizer"


def seconds_of(epochs: list[dict]) -> float:
    """Return the seconds of the steps and validations of these epochs."""
    return sum(epoch["seconds"] + epoch["validation"] for epoch in epochs)


@dataclass
class LoadedWeights:
    """The key of the weights now in the network, so that the same weights are not loaded twice.

    Cycle ends before the backbone is trained hold the head alone: their backbone is that of the initial network, of
    which a copy is kept on the CPU once it is replaced.
    """

    model: nn.Module
    key: str  # of the cycle that ended with them, or of the initial network; '' during training
    initial: dict[str, Tensor] | None = None  # the backbone of the initial network, once it was replaced

    def hold(self, key: str, weights: Callable[[], dict[str, Tensor]]) -> None:
        """Load the weights of a cycle end unless the network already holds them."""
        if self.key != key:
            self.load(weights())
            self.key = key

    def load(self, weights: dict[str, Tensor]) -> None:
        """Load the weights of a cycle end, all or the head's."""
        if self.model.state_dict().keys() <= weights.keys():
            self.keep_initial()
        else:
            weights = self.model.state_dict() | (self.initial or {}) | weights
        load_weights(self.model, weights, "the store", head=True)

    def begin_training(self, part: str) -> None:
        """Note that `part` (head, all) of the network is in training: its weights have no key until the cycle ends."""
        self.key = ""
        if part == "all":
            self.keep_initial()

    def keep_initial(self) -> None:
        """Keep the backbone of the initial network, which is about to be replaced, unless that was done before."""
        if self.initial is None:
            head = head_parameters(self.model)
            self.initial = {name: value for name, value in weights_of(self.model).items() if name not in head}


class Snapshots:
    """Snapshots of an unfinished cycle: record, weights and optimizer state, every `interval` seconds.

    The interval grows so that snapshots take at most 1/50 of the time. An interval of 0 means one after every step.
    """

    def __init__(self, folder: Path, interval: float, record: CycleRecord, model: nn.Module, optimizer):
        self.folder, self.asked, self.interval = folder, interval, interval
        self.record, self.model, self.optimizer = record, model, optimizer
        self.saved = time.monotonic()

    @property
    def due(self) -> bool:
        return time.monotonic() - self.saved >= self.interval

    def write(self) -> None:
        """Write a snapshot now."""
        began = time.perf_counter()
        tensors = weights_of(self.model) | momentum_of(self.model, self.optimizer)
        snapshot.write(self.folder, self.record.kept, tensors)
        self.saved = time.monotonic()
        self.interval = self.asked and max(self.asked, 50 * (time.perf_counter() - began))


def weights_of(model: nn.Module, whole: bool = True) -> dict[str, Tensor]:
    """Return a copy on the CPU of every parameter and buffer, or without `whole` of the head's, by timm's names."""
    kept = model.state_dict() if whole else head_weights(model)
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in kept.items()}


def head_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers of the head, by timm's names."""
    own = head_parameters(model)
    return {name: value for name, value in model.state_dict().items() if name in own}


def momentum_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return a copy on the CPU of the optimizer's state, by parameter name."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{STATE}{key}.{names[parameter]}": value.detach().to("cpu", copy=True).contiguous()
        for parameter, kept in optimizer.state.items()
        for key, value in kept.items()
        if isinstance(value, Tensor)
    }


def restore(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Load the weights and the optimizer state of a snapshot."""
    weights = {name: value for name, value in tensors.items() if not name.startswith(STATE)}
    load_weights(model, weights, "the store", head=True)
    restore_momentum(model, optimizer, tensors)


def restore_momentum(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Load the optimizer's state, as `momentum_of` returns it."""
    parameters = dict(model.named_parameters())
    optimizer.state.clear()
    for name, value in tensors.items():
        if name.startswith(STATE):
            key, _, parameter = name.removeprefix(STATE).partition(".")
            like = parameters[parameter]
            kept = torch.empty_like(like).copy_(value) if value.shape == like.shape else value.to(like.device)
            optimizer.state[like][key] = kept
