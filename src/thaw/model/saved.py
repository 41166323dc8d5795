"""Read the config.json that timm saves with a network, as a file that anybody may have written.

Run folders and repositories of the hub have one. Nothing in it can name a file or a server to take weights from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thaw.config.schema import Head
from thaw.config.timm_names import timm_names
from thaw.runtime.errors import UserError
from thaw.runtime.files import read_json

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MOST_BYTES = 1 << 26  # of a config.json
DEEPEST = 1_000  # layers
LARGEST = 100_000  # number in a network's arguments: classes, layers, channels, pixels
# Arguments of timm's factory, not of a network: they choose where weights come from, or change the network.
FACTORY_ARGUMENTS = (
    "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_model_args", "checkpoint_path", "cache_dir",
    "scriptable", "exportable", "no_jit", "features_only", "pruned", "device", "dtype",
)  # fmt: skip
SHOWN = {  # entries of timm's pretrained_cfg that are kept: about input images, layer names and authorship
    "fixed_input_size": bool, "interpolation": str, "crop_mode": str, "first_conv": str, "classifier": str,
    "license": str, "description": str, "origin_url": str, "paper_name": str, "tag": str,
}  # fmt: skip


@dataclass(frozen=True)
class SavedNetwork:
    """A network's config.json, checked."""

    folder: Path
    source: str  # its name in messages
    architecture: str
    args: dict[str, Any]  # arguments of the network, for timm
    shown: dict[str, Any]  # the checked part of timm's pretrained_cfg
    names: tuple[str, ...]  # the class of each row of the head; empty if not stated
    head: Head | None  # if it is one that timm does not know
    grey_bits: int | None  # bits used by the 16-bit grey training images, if fewer than 16

    @property
    def weights(self) -> Path:
        return self.folder / WEIGHTS

    @property
    def size(self) -> int:
        """The size in pixels of the images it was trained on."""
        return self.shown["input_size"][1]


def read_saved(folder: Path, source: str) -> SavedNetwork:
    """Return what a folder's config.json says. Raise UserError (exit 6) if it is missing, damaged or impossible."""
    file = folder / CONFIG
    try:
        large = file.stat().st_size > MOST_BYTES
    except OSError as error:
        raise UserError(6, f"{source}: {CONFIG} cannot be read ({error.strerror})") from None
    if large or not (config := read_json(file)):
        raise UserError(6, f"{source}: {CONFIG} is damaged: it does not describe a network")

    def checked(good: bool, what: str) -> None:
        if not good:
            raise UserError(6, f"{source}: {CONFIG} is damaged: {what}")

    about, args = config.get("pretrained_cfg", config), config.get("model_args", {})  # timm's old form is flat
    architecture, head = config.get("architecture"), config.get("head")
    checked(isinstance(architecture, str) and architecture in timm_names(), "its architecture is not a name of timm's")
    checked(isinstance(about, dict) and isinstance(args, dict), "pretrained_cfg or model_args is not a mapping")
    for name in FACTORY_ARGUMENTS:
        checked(name not in args, f"model_args.{name} is not an argument of a network")
    depths = [value for name, value in args.items() if "depth" in name or "layers" in name]
    checked(all(is_small(value, DEEPEST) for value in depths), f"model_args has more than {DEEPEST:,} layers")
    small = all(map(is_small, args.values()))
    checked(small, f"a value of model_args is neither a name nor a number up to {LARGEST:,}")
    classes = config.get("num_classes", about.get("num_classes"))
    checked(is_whole(classes, LARGEST), f"num_classes is not a whole number from 1 to {LARGEST:,}")
    checked(args.get("num_classes", classes) == classes, "num_classes differs from model_args.num_classes")
    checked(args.get("in_chans", 3) == 3, "model_args.in_chans is not 3")
    names = config.get("label_names", ())
    names = () if isinstance(names, dict) else names  # timm writes a mapping if class numbers have gaps
    listed = isinstance(names, (list, tuple)) and all(isinstance(n, str) for n in names)
    checked(listed, "label_names is not a list of names")
    checked(not names or len(names) == classes, f"{len(names):,} label_names for {classes:,} classes")
    checked(head is None or is_head(head), "head is not one of thaw's")
    bits = config.get("grey_bits")
    checked(bits is None or is_whole(bits, 16), "grey_bits is not a whole number from 1 to 16")
    shown = shown_of(about, checked) | {"architecture": architecture, "num_classes": classes}
    if args.get("dynamic_img_size") or args.get("strict_img_size") is False:
        shown["fixed_input_size"] = False  # older timm exported this value of the initial weights
    return SavedNetwork(folder, source, architecture, args, shown, tuple(names), head and Head(**head), bits)


def shown_of(about: Mapping, checked) -> dict[str, Any]:
    """Return the part of timm's pretrained_cfg that is kept; `checked(good, what)` refuses impossible values."""
    shown = {name: about[name] for name, kind in SHOWN.items() if isinstance(about.get(name), kind)}
    size, crop_pct = about.get("input_size", (3, 224, 224)), about.get("crop_pct", 0.875)
    mean, std = about.get("mean", (0.485, 0.456, 0.406)), about.get("std", (0.229, 0.224, 0.225))
    three = all(isinstance(values, (list, tuple)) and len(values) == 3 for values in (size, mean, std))
    checked(three, "input_size, mean or std does not have three values")
    checked(size[0] == 3 and all(is_whole(side, 4096) for side in size), "input_size is not [3, height, width]")
    checked(all(is_number(v) for v in (*mean, *std)) and min(std) >= 1e-3, "mean or std is out of range")
    checked(is_number(crop_pct) and 0.1 <= crop_pct <= 1, "crop_pct is not a number from 0.1 to 1")
    return shown | {"input_size": tuple(size), "crop_pct": crop_pct, "mean": tuple(mean), "std": tuple(std)}


def is_whole(value: Any, most: int) -> bool:
    return type(value) is int and 1 <= value <= most


def is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e6  # False for NaN too


def is_small(value: Any, most: int = LARGEST) -> bool:
    """Return whether a network's argument is a name, a number within reason, or a short list of these."""
    if isinstance(value, (list, tuple)):
        return len(value) <= 256 and all(not isinstance(one, (dict, list)) and is_small(one, most) for one in value)
    return value is None or isinstance(value, (bool, str)) or (is_number(value) and abs(value) <= most)


def is_head(value: Any) -> bool:
    """Return whether a value is an entry of config.json for fast.ai's head."""
    if not isinstance(value, dict) or value.keys() != {"kind", "hidden", "drop"} or value["kind"] != "fastai":
        return False
    drop = value["drop"]
    drops = isinstance(drop, list) and len(drop) == 2 and all(is_number(p) and 0 <= p < 1 for p in drop)
    return drops and is_whole(value["hidden"], LARGEST)
