"""The state of a cycle under way: what it has recorded, its weights and momentum, and the snapshots of both."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from thaw.model.weights import fault_in, load_weights
from thaw.store import snapshot
from thaw.store.kinds import is_numbers
from thaw.train.predictions import Predictions

STATE = "optimizer."  # before the names of an optimizer's tensors
KEPT = {  # by an optimizer, of each parameter that it has moved
    torch.optim.AdamW: {"exp_avg", "exp_avg_sq", "step"},
    torch.optim.SGD: {"momentum_buffer"},
}
NOTHING = {"images": 0, "seconds": 0.0, "wait": 0.0, "sum": 0.0}  # figures of an epoch at its start

FIGURES = {"train_loss", "loss", "accuracy", "f1_macro", "images", "seconds", "wait", "validation"}


@dataclass
class CycleRecord:
    """What a cycle has recorded: the losses of its steps, the figures of its epochs, the sums of the one under way."""

    losses: list[float] = field(default_factory=list)
    epochs: list[dict] = field(default_factory=list)
    figures: dict = field(default_factory=lambda: dict(NOTHING))

    @property
    def seconds(self) -> float:
        """What its steps and validations took so far."""
        return seconds_of(self.epochs) + self.figures["seconds"]

    def add(self, loss: float, images: int, wait: float) -> None:
        """Record a step: the mean loss of so many images, and the seconds waited for them."""
        self.losses.append(loss)
        self.figures["wait"] += wait
        self.figures["sum"] += loss * images
        self.figures["images"] += images

    def end_epoch(self, validation: Predictions, seconds: float) -> dict:
        """Close the epoch under way with its validation, which took so many seconds; return its figures."""
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
        figures.update(NOTHING)
        return self.epochs[-1]


def record_fault(record: Mapping, steps: Sequence[int], whole: bool) -> str | None:
    """Say why what was recorded is not of a cycle whose epochs have so many steps; of all of them, if it is `whole`."""
    losses, epochs, figures = (record.get(name) for name in ("losses", "epochs", "figures"))
    if not is_numbers(losses) or not isinstance(epochs, list) or len(epochs) > len(steps):
        return "it has no losses and epochs"
    if not all(isinstance(one, dict) and one.keys() == FIGURES and is_numbers([*one.values()]) for one in epochs):
        return "it has no figures of its epochs"
    if whole:
        return None if (len(losses), len(epochs)) == (sum(steps), len(steps)) else "it is not of all steps"
    if not isinstance(figures, dict) or figures.keys() != NOTHING.keys() or not is_numbers([*figures.values()]):
        return "it has no figures of the epoch under way"
    under_way = len(losses) - sum(steps[: len(epochs)])
    most = steps[len(epochs)] if len(epochs) < len(steps) else 0
    started = (figures["images"] > 0) == (under_way > 0)
    return None if 0 <= under_way <= most and started else "its losses are not those of its epochs"


def tensors_fault(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> str | None:
    """Say why tensors are not the weights and the momentum that `restore` takes."""
    if why := fault_in(model.state_dict(), tensors):
        return why
    parameters, kept = dict(model.named_parameters()), {}
    for name in filter(lambda name: name.startswith(STATE), tensors):
        key, _, parameter = name.removeprefix(STATE).partition(".")
        like = parameters.get(parameter)
        if like is None or tensors[name].shape != (() if key == "step" else like.shape):
            return f"{name} is of no parameter"
        kept.setdefault(parameter, set()).add(key)
    return None if all(keys == KEPT[type(optimizer)] for keys in kept.values()) else "its momentum is of another kind"


def seconds_of(epochs: list[dict]) -> float:
    """Seconds of their steps and validations."""
    return sum(epoch["seconds"] + epoch["validation"] for epoch in epochs)


@dataclass
class HeldWeights:
    """Which weights the network holds, by the key of the cycle that ended with them, so that none are loaded twice."""

    model: nn.Module
    key: str  # at first that of the network as it was made; '' while it trains

    def hold(self, key: str, weights: Callable[[], dict[str, Tensor]]) -> None:
        """Have the network hold the weights of a cycle end."""
        if self.key != key:
            load_weights(self.model, weights(), "the store", head=True)
            self.key = key


class Snapshots:
    """The snapshots of a cycle under way, in a folder: the record, weights and momentum, every `interval` seconds.

    At most a fiftieth of the time goes into them; an interval of 0 asks for one after every step.
    """

    def __init__(self, folder: Path, interval: float, record: CycleRecord, model: nn.Module, optimizer):
        self.folder, self.asked, self.interval = folder, interval, interval
        self.record, self.model, self.optimizer = record, model, optimizer
        self.saved = time.monotonic()

    @property
    def due(self) -> bool:
        return time.monotonic() - self.saved >= self.interval

    def write(self) -> None:
        """Write one now."""
        began = time.perf_counter()
        tensors = weights_of(self.model) | momentum_of(self.model, self.optimizer)
        snapshot.write(self.folder, vars(self.record), tensors)
        self.saved = time.monotonic()
        self.interval = self.asked and max(self.asked, 50 * (time.perf_counter() - began))


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy on the CPU of every parameter and buffer, in timm's names."""
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in model.state_dict().items()}


def momentum_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return a copy on the CPU of what the optimizer keeps, by parameter name."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{STATE}{key}.{names[parameter]}": value.detach().to("cpu", copy=True).contiguous()
        for parameter, kept in optimizer.state.items()
        for key, value in kept.items()
        if isinstance(value, Tensor)
    }


def restore(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put weights and momentum into the network and the optimizer."""
    weights = {name: value for name, value in tensors.items() if not name.startswith(STATE)}
    load_weights(model, weights, "the store", head=True)
    parameters = dict(model.named_parameters())
    optimizer.state.clear()
    for name, value in tensors.items():
        if name.startswith(STATE):
            key, _, parameter = name.removeprefix(STATE).partition(".")
            like = parameters[parameter]
            kept = torch.empty_like(like).copy_(value) if value.shape == like.shape else value.to(like.device)
            optimizer.state[like][key] = kept
