"""Where the weights of a backbone come from, as `backbone.weights` says."""

from pathlib import Path

from thaw.config.paths import ROOT
from thaw.config.schema import Backbone
from thaw.runtime.errors import UserError

PACKAGED = "packaged"  # as backbone.weights: those of the one network whose weights come as a package
PACKAGED_NETWORK = "tf_efficientnet_lite0"


def weights_file(backbone: Backbone) -> Path | None:
    """Return the file of the weights, None where they come from elsewhere.

    Errors: no such file, weights that this network has not, exit 2; another format, exit 6.
    """
    given = f"backbone.weights={backbone.weights}"
    if backbone.weights == PACKAGED:
        if backbone.name != PACKAGED_NETWORK:
            raise UserError(2, f"{given}: only backbone=lite0 ({PACKAGED_NETWORK}) has such, not {backbone.name}")
        return None
    if backbone.weights in ("pretrained", "none"):
        return None
    path = Path(backbone.weights).expanduser()
    if not path.is_absolute() and not path.exists():
        path = ROOT / path
    if not path.is_file():
        raise UserError(2, f"{given}: no such file (or pretrained, packaged, or none)")
    if path.suffix != ".safetensors":
        raise UserError(6, f"{given}: not a .safetensors file; convert it, pickles are never opened")
    return path
