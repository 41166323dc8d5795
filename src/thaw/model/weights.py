"""Load weights by name into a model."""

from pathlib import Path

import torch
from safetensors.torch import load_file as read_safetensors
from torch import Tensor, nn

from thaw.config.paths import ROOT
from thaw.config.schema import Backbone
from thaw.model import heads
from thaw.runtime.errors import UserError, first_line


def load_backbone_file(model: nn.Module, backbone: Backbone) -> None:
    """Load every weight but the classifier's from a safetensors file.

    Errors: no such file or another format, exit 2 and 6; a weight that is missing or of another shape, exit 6.
    """
    path = Path(backbone.weights).expanduser()
    if not path.is_absolute() and not path.exists():
        path = ROOT / path
    if not path.is_file():
        raise UserError(2, f"backbone.weights={backbone.weights}: no such file (or pretrained, packaged, or none)")
    if path.suffix != ".safetensors":
        raise UserError(
            6, f"backbone.weights={backbone.weights}: not a .safetensors file; convert it, pickles are never opened"
        )
    try:
        weights = read_safetensors(path)
    except Exception as error:
        raise UserError(6, f"backbone.weights={backbone.weights}: {first_line(error)}") from None
    load_weights(model, weights, f"backbone.weights={backbone.weights}", head=False)


def load_weights(model: nn.Module, weights: dict[str, Tensor], source: str, head: bool) -> None:
    """Load weights by name; without `head` the classifier keeps its own. Errors: not the same network, exit 6."""
    own = model.state_dict()
    skip = set() if head else heads.head_parameters(model)
    for name, value in own.items():
        if name in skip:
            continue
        if name not in weights:
            raise UserError(6, f"{source}: it has no {name}; is it of another backbone?")
        if weights[name].shape != value.shape:
            raise UserError(
                6, f"{source}: {name} is {list(weights[name].shape)}, this backbone has {list(value.shape)}"
            )
        if not torch.isfinite(weights[name]).all():
            raise UserError(6, f"{source}: {name} holds values that are not finite")
    model.load_state_dict(
        {name: weights.get(name, value) if name not in skip else value for name, value in own.items()}
    )
