"""A timm backbone with a fresh head: layer groups, freezing, what it takes. The only importer of timm's models."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import timm
import torch
from huggingface_hub import constants as hub
from safetensors.torch import load_file as read_safetensors
from timm.data import resolve_input_data_config
from timm.models import get_pretrained_cfg, group_parameters
from torch import Tensor, nn

from thaw.device import Device, mix
from thaw.errors import UserError, nearest
from thaw.network import answers
from thaw.settings import Backbone

ROOT = Path(__file__).resolve().parents[2]
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Network(nn.Module):
    """A timm model taken as a body and a head, with the normalisation of its pictures.

    The head computes in float32 whatever the body does: it costs nothing, and a bfloat16 logit has three digits.
    """

    def __init__(self, model: nn.Module, device: Device):
        super().__init__()
        self.model = model.to(device.device, memory_format=torch.channels_last)
        self.device = device
        mean, std = (torch.tensor(model.pretrained_cfg[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
        self.register_buffer("scale", (1 / (255 * std)).to(device.device), persistent=False)
        self.register_buffer("shift", (-mean / std).to(device.device), persistent=False)

    @property
    def head(self) -> nn.Module:
        return self.model.get_classifier()

    def features(self, pictures: Tensor) -> Tensor:
        """Pooled activations [n, d] of uint8 pictures [n, h, w, 3], in the dtype the body gives."""
        # A [n, h, w, 3] tensor seen as [n, 3, h, w] is channels_last already: no copy.
        x = pictures.permute(0, 3, 1, 2).float().mul_(self.scale).add_(self.shift)
        with self.device.autocast(pictures.shape[1]):
            return self.model.forward_head(self.model.forward_features(x), pre_logits=True)

    def classify(self, features: Tensor) -> Tensor:
        """Logits [n, classes], float32, of pooled activations."""
        return self.head(features.float())

    def forward(self, x: Tensor) -> Tensor:
        """Logits of pictures (uint8 [n, h, w, 3]) or of stored activations (floating [n, d])."""
        return self.classify(self.features(x) if x.dtype == torch.uint8 else x)


def create(backbone: Backbone, classes: int, seed: int, device: Device) -> Network:
    """The backbone with its weights and a new head of `classes` outputs, drawn from (seed, "head").

    Errors: an unknown name or no such file, exit 2; weights that cannot be fetched, exit 5; that do not fit, exit 6.
    """
    torch.manual_seed(mix(seed, "head"))
    known_name(backbone.name)
    args = {"num_classes": classes}
    for key, value in (("drop_rate", backbone.drop), ("drop_path_rate", backbone.drop_path)):
        if value:
            args[key] = value
    if backbone.weights == "pretrained" and not answers(hub.ENDPOINT):
        hub.HF_HUB_OFFLINE = True  # what is cached is used, what is not fails at once instead of in a minute
    try:
        model = build(backbone.name, backbone.weights == "pretrained", args)
    except FileNotFoundError:  # huggingface_hub's LocalEntryNotFoundError is one
        raise UserError(
            5,
            f"cannot get the weights of {backbone.name} (no network?): give backbone.weights=FILE.safetensors, set "
            "HF_HOME to a cache that has them, or train from scratch with checklist=from_scratch",
        ) from None
    except (RuntimeError, TypeError) as error:
        raise UserError(2, f"backbone={backbone.name}: {first_line(error)}") from None
    if backbone.weights not in ("pretrained", "none"):
        load_file(model, backbone)
    if not isinstance(model.get_classifier(), nn.Module) or isinstance(model.get_classifier(), nn.Identity):
        raise UserError(2, f"backbone={backbone.name}: it has no single classifier layer to replace")
    return Network(model, device)


def known_name(name: str) -> None:
    """Errors: a name timm does not know, exit 2, with the nearest three."""
    if name.startswith(("hf-hub:", "local-dir:")):
        return
    base, _, tag = name.partition(".")
    if not timm.is_model(base):
        raise UserError(2, f"backbone={name}: timm has no such model; {nearest(base, timm.list_models())}")
    tags = [entry.partition(".")[2] for entry in timm.list_pretrained(f"{base}.*")]
    if tag and tag not in tags:
        raise UserError(2, f"backbone={name}: no such weights; {nearest(tag, tags)}")


def build(name: str, pretrained: bool, args: dict) -> nn.Module:
    """The timm model, able to take other sizes than its own where its family can.

    A transformer so made keeps its position parameter and resamples it in the forward pass; timm's `set_input_size`
    would put a new parameter in its place, which an existing optimizer does not know.
    """
    options = [{}]
    if (cfg := get_pretrained_cfg(name, allow_unregistered=True)) and cfg.fixed_input_size:
        options = [{"dynamic_img_size": True}, {"strict_img_size": False}, {}]
    for option in options:
        try:
            return timm.create_model(name, pretrained=pretrained, **args, **option)
        except TypeError as error:
            if not option or next(iter(option)) not in str(error):
                raise
    raise AssertionError("unreachable: the last option is empty")


def load_file(model: nn.Module, backbone: Backbone) -> None:
    """Load every weight but the classifier's from a safetensors file.

    Errors: no such file or another format, exit 2 and 6; a weight that is missing or of another shape, exit 6.
    """
    path = Path(backbone.weights).expanduser()
    if not path.is_absolute() and not path.exists():
        path = ROOT / path
    if not path.is_file():
        raise UserError(2, f"backbone.weights={backbone.weights}: no such file (or pretrained, or none)")
    if path.suffix != ".safetensors":
        raise UserError(
            6, f"backbone.weights={backbone.weights}: not a .safetensors file; convert it, pickles are never opened"
        )
    try:
        weights = read_safetensors(path)
    except Exception as error:
        raise UserError(6, f"backbone.weights={backbone.weights}: {first_line(error)}") from None
    load(model, weights, f"backbone.weights={backbone.weights}", head=False)


def load(model: nn.Module, weights: dict[str, Tensor], source: str, head: bool) -> None:
    """Load weights by name; without `head` the classifier keeps its own. Errors: not the same network, exit 6."""
    own = model.state_dict()
    skip = set() if head else head_names(model)
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


def head_names(model: nn.Module) -> set[str]:
    """The names of the classifier's parameters and buffers."""
    head = model.get_classifier()
    prefix = next(name for name, module in model.named_modules() if module is head)
    return {f"{prefix}.{name}" for name in head.state_dict()}


def can_be_saved(model: nn.Module, size: int) -> None:
    """Errors: timm will not save it for pictures of that size (it calls the model's size fixed), ValueError."""
    resolve_input_data_config(model, args={"input_size": (3, size, size)})


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


# ----------------------------------------------------------------------------------------------------------------------
# layer groups


@dataclass(frozen=True)
class Group:
    """A layer group: parameter names in order, and its rate as a share of the last group's."""

    names: tuple[str, ...]
    ratio: float
    parameters: int


def layers(model: nn.Module) -> list[list[str]]:
    """Parameter names by layer id, earliest first, as timm's own `group_matcher` orders any model.

    The classifier is always in the last layer (timm puts mobilenetv3's conv_head or vgg's pre_logits behind it).
    Errors: a model that timm does not order, exit 2.
    """
    if not hasattr(model, "group_matcher"):
        name = model.pretrained_cfg.get("architecture")
        raise UserError(2, f"backbone={name}: timm does not say how its layers are ordered; take another")
    ids = group_parameters(model, model.group_matcher(coarse=False))
    out = [list(ids[i]) for i in sorted(ids)]
    head = head_names(model)
    for names in out[:-1]:
        moved = [name for name in names if name in head]
        names[:] = [name for name in names if name not in moved]
        out[-1].extend(moved)
    return [names for names in out if names]


def equal_parts(items: list, n: int) -> list[list]:
    """n consecutive parts of equal number, plus or minus one, the extra ones first."""
    size, extra = divmod(len(items), n)
    edges = [i * size + min(i, extra) for i in range(n + 1)]
    return [items[a:b] for a, b in pairwise(edges)]


def groups(model: nn.Module, split: str, ratios: tuple[float, ...] | None, decay: float | None = None) -> list[Group]:
    """Cut the network into layer groups, every parameter in exactly one, none empty, earliest layers first.

    equal: the layer ids in parts of equal number. head: the classifier alone, the rest in equal parts. fastai: early
    body, late body, head, the body cut in the middle of its layer ids. layer_decay: a group a layer id, ratios
    decay^(layers after it). Errors: more groups than layer ids, exit 2, naming the number.
    """
    ids = layers(model)
    if split == "layer_decay":
        parts = [[names] for names in ids]
        ratios = tuple(decay ** (len(parts) - 1 - i) for i in range(len(parts)))
    elif split == "equal":
        enough(len(ratios), len(ids))
        parts = equal_parts(ids, len(ratios))
    else:
        of_head = head_names(model)
        body = [[name for name in names if name not in of_head] for names in ids]
        body = [names for names in body if names]
        head = [name for name, _ in model.named_parameters() if name in of_head]
        if split == "fastai" and len(ratios) != 3:
            raise UserError(2, f"rates.split=fastai: needs three rates.ratios, not {len(ratios)}")
        if len(ratios) == 1:
            parts = [[*body, head]]
        else:
            enough(len(ratios), len(body) + 1)
            parts = [*equal_parts(body, len(ratios) - 1), [head]]
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    out = []
    for part, ratio in zip(parts, ratios, strict=True):
        names = tuple(name for layer in part for name in layer)
        out.append(Group(names, ratio, sum(sizes[name] for name in names)))
    covered = [name for group in out for name in group.names]
    if sorted(covered) != sorted(sizes):
        raise AssertionError(f"layer groups cover {len(covered)} of {len(sizes)} parameters")
    return out


def enough(wanted: int, layers: int) -> None:
    if wanted > layers:
        raise UserError(
            2, f"rates.ratios has {wanted} items, the backbone has {layers} layers: at most {layers} groups"
        )


def head_group(model: nn.Module) -> list[Group]:
    """The classifier as the one group."""
    names = head_names(model)
    head = {name: p.numel() for name, p in model.named_parameters() if name in names}
    return [Group(tuple(head), 1.0, sum(head.values()))]


def group_table(groups: list[Group], lr: float | None) -> list[str]:
    """First and last layer, parameters and rate of every group, a line each."""
    out = []
    for i, group in enumerate(groups):
        rate = f"{group.ratio:.3g} × found" if lr is None else f"{lr * group.ratio:.3g}"
        first, last = (re.sub(r"\.(weight|bias)$", "", name) for name in (group.names[0], group.names[-1]))
        out.append(f"group {i}: {first} … {last}, {group.parameters:,} parameters, rate {rate}")
    return out


# ----------------------------------------------------------------------------------------------------------------------
# freezing


def thaw(network: Network, train: str, bn: str) -> None:
    """Make the head or all of the network trainable, and freeze the rest: no gradients *and* eval mode.

    Eval mode keeps batch-norm statistics, dropout and drop-path of frozen layers still, as fast.ai 0.7 did and v2 does
    not. It is what makes stored activations equal to live ones. `bn=eval` keeps batch-norm statistics of trainable
    layers still as well.
    """
    everything = train == "all"
    network.requires_grad_(everything)
    network.train(everything)
    network.head.requires_grad_(True).train()
    if bn == "eval":
        for module in network.modules():
            if isinstance(module, NORMS):
                module.eval()


def frozen_weights(network: Network) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and buffer but the head's, by name."""
    head = head_names(network.model)
    for name, value in sorted(network.model.state_dict().items()):
        if name not in head:
            yield name, value


def looked_at(model: nn.Module) -> dict[str, int]:
    """The facts a plan needs of a timm model: its own size, the multiple a size must be of, the number of layer ids."""
    size = model.pretrained_cfg["input_size"][1]
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", 1)
    multiple = max(patch) if isinstance(patch, (tuple, list)) else int(patch)
    return {"native_size": size, "multiple": multiple, "layers": len(layers(model))}
