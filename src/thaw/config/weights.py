"""The source of a backbone's weights, as set by `backbone.weights`."""

from pathlib import Path

from thaw.config.paths import ROOT
from thaw.config.schema import Backbone
from thaw.runtime.errors import UserError

PACKAGED = "packaged"  # value of backbone.weights; only this network's weights are a package
PACKAGED_NETWORK = "tf_efficientnet_lite0"


def weights_file(backbone: Backbone) -> Path | None:
    """Return the file of the weights, or None if they do not come from a file.

    Raise UserError (exit 2) if the file does not exist or packaged weights are for another network, (exit 6) if the
    file has another format.
    """
    given = f"backbone.weights={backbone.weights}"
    if backbone.weights == PACKAGED:
        if backbone.name != PACKAGED_NETWORK:
            raise UserError(2, f"{given}: only backbone=lite0 ({PACKAGED_NETWORK}) has these, not {backbone.name}")
        return None
    if backbone.weights in ("pretrained", "none"):
        return None
    path = Path(backbone.weights).expanduser()
    if not path.is_absolute() and not path.exists():
        path = ROOT / path
    if not path.is_file():
        raise UserError(2, f"{given}: no such file; give a .safetensors file, pretrained, packaged or none")
    if path.suffix != ".safetensors":
        raise UserError(6, f"{given}: not a .safetensors file; convert it (pickles are never opened)")
    return path
