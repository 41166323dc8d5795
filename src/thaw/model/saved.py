"""What lies in a folder of a network as timm saves it: config.json, read as what anybody may have written.

A run leaves such a folder, the hub has them. Nothing in it can name a file or a server to take weights from.
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
# What timm's factory takes beside a network's own arguments: where weights come from, and other networks than asked.
FACTORYS = (
    "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_model_args", "checkpoint_path", "cache_dir",
    "scriptable", "exportable", "no_jit", "features_only", "pruned", "device", "dtype",
)  # fmt: skip
SHOWN = {  # of timm's pretrained_cfg what says how images are looked at, what the layers are called, whose it is
    "fixed_input_size": bool, "interpolation": str, "crop_mode": str, "first_conv": str, "classifier": str,
    "license": str, "description": str, "origin_url": str, "paper_name": str, "tag": str,
}  # fmt: skip


@dataclass(frozen=True)
class SavedNetwork:
    """What config.json says of the network beside it."""

    folder: Path
    source: str  # how messages name it
    architecture: str
    args: dict[str, Any]  # of the network, for timm
    shown: dict[str, Any]  # timm's pretrained_cfg
    names: tuple[str, ...]  # the class of each row of the head; empty where nothing says them
    head: Head | None  # one that timm does not know
    grey_bits: int | None  # by which 16-bit grey images are scaled, where those trained on used fewer than 16

    @property
    def weights(self) -> Path:
        return self.folder / WEIGHTS

    @property
    def size(self) -> int:
        """Pixels of the images that it was trained on."""
        return self.shown["input_size"][1]


def read_saved(folder: Path, source: str) -> SavedNetwork:
    """Return what config.json says. Errors: it is missing, damaged, or says what no network can have, exit 6."""
    file = folder / CONFIG
    try:
        large = file.stat().st_size > MOST_BYTES
    except OSError as error:
        raise UserError(6, f"{source}: {CONFIG} cannot be read ({error.strerror})") from None
    if large or not (config := read_json(file)):
        raise UserError(6, f"{source}: {CONFIG} is damaged, no description of a network")

    def checked(good: bool, what: str) -> None:
        if not good:
            raise UserError(6, f"{source}: {CONFIG} is damaged: {what}")

    about, args = config.get("pretrained_cfg", config), config.get("model_args", {})  # timm's old form is flat
    architecture, head = config.get("architecture"), config.get("head")
    checked(isinstance(architecture, str) and architecture in timm_names(), "its architecture is no name of timm's")
    checked(isinstance(about, dict) and isinstance(args, dict), "pretrained_cfg or model_args is no mapping")
    for name in FACTORYS:
        checked(name not in args, f"model_args.{name} is no argument of a network")
    deep = [value for name, value in args.items() if "depth" in name or "layers" in name]
    checked(all(is_small(value, DEEPEST) for value in deep), f"model_args has more than {DEEPEST:,} layers")
    checked(all(map(is_small, args.values())), f"model_args holds what is no number up to {LARGEST:,}, no name")
    classes = config.get("num_classes", about.get("num_classes"))
    checked(is_whole(classes, LARGEST), f"num_classes is not 1 to {LARGEST:,}")
    checked(args.get("num_classes", classes) == classes, "num_classes differs from model_args.num_classes")
    checked(args.get("in_chans", 3) == 3, "model_args.in_chans is not 3")
    names = config.get("label_names", ())
    names = () if isinstance(names, dict) else names  # timm's form for gaps among the classes
    checked(isinstance(names, (list, tuple)) and all(isinstance(n, str) for n in names), "label_names are no names")
    checked(not names or len(names) == classes, f"{len(names):,} label_names for {classes:,} classes")
    checked(head is None or is_head(head), "head is none of thaw's")
    bits = config.get("grey_bits")
    checked(bits is None or is_whole(bits, 16), "grey_bits is not 1 to 16")
    shown = shown_of(about, checked) | {"architecture": architecture, "num_classes": classes}
    if args.get("dynamic_img_size") or args.get("strict_img_size") is False:
        shown["fixed_input_size"] = False  # which exports of older timm said of the weights that they began with
    return SavedNetwork(folder, source, architecture, args, shown, tuple(names), head and Head(**head), bits)


def shown_of(about: Mapping, checked) -> dict[str, Any]:
    """Return how images are looked at, in ranges that can be; `checked(good, what)` refuses."""
    shown = {name: about[name] for name, kind in SHOWN.items() if isinstance(about.get(name), kind)}
    size, crop_pct = about.get("input_size", (3, 224, 224)), about.get("crop_pct", 0.875)
    mean, std = about.get("mean", (0.485, 0.456, 0.406)), about.get("std", (0.229, 0.224, 0.225))
    three = all(isinstance(values, (list, tuple)) and len(values) == 3 for values in (size, mean, std))
    checked(three, "input_size, mean or std is not of three numbers")
    checked(size[0] == 3 and all(is_whole(side, 4096) for side in size), "input_size is not 3 and 1 to 4096 pixels")
    checked(all(is_number(v) for v in (*mean, *std)) and min(std) >= 1e-3, "mean or std is not of finite numbers")
    checked(is_number(crop_pct) and 0.1 <= crop_pct <= 1, "crop_pct is not 0.1 to 1")
    return shown | {"input_size": tuple(size), "crop_pct": crop_pct, "mean": tuple(mean), "std": tuple(std)}


def is_whole(value: Any, most: int) -> bool:
    return type(value) is int and 1 <= value <= most


def is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e6  # of NaN neither


def is_small(value: Any, most: int = LARGEST) -> bool:
    """Whether an argument of a network is a name, a number within reason, or a short list of such."""
    if isinstance(value, (list, tuple)):
        return len(value) <= 256 and all(not isinstance(one, (dict, list)) and is_small(one, most) for one in value)
    return value is None or isinstance(value, (bool, str)) or (is_number(value) and abs(value) <= most)


def is_head(value: Any) -> bool:
    """Whether a value is what config.json says of fast.ai's head."""
    if not isinstance(value, dict) or value.keys() != {"kind", "hidden", "drop"} or value["kind"] != "fastai":
        return False
    drop = value["drop"]
    drops = isinstance(drop, list) and len(drop) == 2 and all(is_number(p) and 0 <= p < 1 for p in drop)
    return drops and is_whole(value["hidden"], LARGEST)
