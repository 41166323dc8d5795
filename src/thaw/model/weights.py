"""Read weights from safetensors files, never from a pickle, and load them by name into a model."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from thaw.config.schema import Backbone
from thaw.config.weights import weights_file
from thaw.model import heads
from thaw.runtime.errors import UserError, first_line

SUFFIX = ".safetensors"


def read_weights(path: Path, source: str) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file by name. Raise UserError (exit 6) if it cannot be read."""
    with readable(path, source):
        return load_file(path)


def shapes_in(path: Path, source: str) -> dict[str, list[int]]:
    """Return the shapes of a safetensors file's tensors, from its header alone. Raise UserError as `read_weights`."""
    with readable(path, source), safe_open(path, "pt") as file:
        return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118  (not a mapping)


@contextmanager
def readable(path: Path, source: str) -> Iterator[None]:
    """Turn every error in reading a weights file into a UserError (exit 6)."""
    if path.suffix != SUFFIX:
        raise UserError(6, f"{source}: not a {SUFFIX} file; pickles are never opened: convert it")
    if not path.is_file():  # opening a pipe would block
        raise UserError(6, f"{source}: it has no file {path.name}; pickles are never opened")
    try:
        yield
    except (OSError, SafetensorError, ValueError, TypeError, KeyError, MemoryError) as error:
        why = getattr(error, "strerror", None) or first_line(error)
        what = f"{path.name} cannot be read as safetensors ({why})"
        raise UserError(6, f"{source}: {what}; pickles are never opened") from None


def load_backbone_file(model: nn.Module, backbone: Backbone) -> None:
    """Load every weight except the classifier's from a safetensors file.

    Raise UserError: as `weights_file`, or exit 6 if a weight is missing or has another shape.
    """
    path = weights_file(backbone)
    source = f"backbone.weights={backbone.weights}"
    load_weights(model, read_weights(path, source), source, head=False)


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str, head: bool) -> None:
    """Load weights by name; without `head`, all but the classifier's. Raise UserError (exit 6) if they do not fit."""
    own = model.state_dict()
    skip = set() if head else heads.head_parameters(model)
    wanted = {name: value for name, value in own.items() if name not in skip}
    if why := fault_in(wanted, weights):
        raise UserError(6, f"{source}: {why}")
    model.load_state_dict(own | {name: weights[name] for name in wanted})


def fault_in(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str | None:
    """Return why a network cannot load these weights, or None if it can."""
    if why := misfit(own, {name: list(value.shape) for name, value in weights.items()}):
        return why
    for name, value in own.items():
        if weights[name].is_floating_point() != value.is_floating_point():
            return f"{name} holds {weights[name].dtype}, this backbone has {value.dtype}"
        if not torch.isfinite(weights[name].to(value.dtype)).all():
            return f"{name} holds values that are not finite"
    return None


def misfit(own: Mapping[str, Tensor], shapes: Mapping[str, Sequence[int]]) -> str | None:
    """Return why weights of these shapes do not fit a network, or None if they do; additional ones do not matter."""
    for name, value in own.items():
        if name not in shapes:
            return f"it has no {name}; is it from another backbone?"
        if list(shapes[name]) != list(value.shape):
            return f"{name} is {list(shapes[name])}, this backbone has {list(value.shape)}"
    return None
