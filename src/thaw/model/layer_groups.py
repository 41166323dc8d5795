"""Layer groups: each parameter is in exactly one, earliest layers first, and each has its share of the rate."""

import re
from dataclasses import dataclass
from itertools import pairwise

from timm.models import group_parameters
from torch import nn

from thaw.model import heads
from thaw.runtime.errors import UserError


@dataclass(frozen=True)
class LayerGroup:
    """A layer group: parameter names in order, its rate as a share of the last group's, its number of weights."""

    names: tuple[str, ...]
    ratio: float
    parameters: int


def layer_names(model: nn.Module, coarse: bool = False) -> list[list[str]]:
    """Return parameter names by layer id, earliest first, in the order of timm's `group_matcher`.

    With `coarse`, return them by stage (the stem, layer1 to layer4 of a resnet) if the family has stages. The
    classifier is always in the last layer, although timm puts mobilenetv3's conv_head and vgg's pre_logits after it.
    Raise UserError (exit 2) if timm does not order the model's layers.
    """
    if not hasattr(model, "group_matcher"):
        name = model.pretrained_cfg.get("architecture")
        raise UserError(2, f"backbone={name}: timm does not say how its layers are ordered; use another backbone")
    try:
        ids = group_parameters(model, model.group_matcher(coarse=coarse))
    except AssertionError:  # some families refuse `coarse` this way
        name = model.pretrained_cfg.get("architecture")
        raise UserError(2, f"backbone={name}: timm does not know its stages; use rates.split=equal") from None
    out = [list(ids[i]) for i in sorted(ids)]
    head = heads.head_parameters(model)
    for names in out[:-1]:
        moved = [name for name in names if name in head]
        names[:] = [name for name in names if name not in moved]
        out[-1].extend(moved)
    return [names for names in out if names]


def equal_parts(items: list, n: int) -> list[list]:
    """Split items into n consecutive parts of equal length; the first parts take what is left over, one item each."""
    size, extra = divmod(len(items), n)
    edges = [i * size + min(i, extra) for i in range(n + 1)]
    return [items[a:b] for a, b in pairwise(edges)]


def split_into_groups(
    model: nn.Module, how: str, ratios: tuple[float, ...] | None, decay: float | None = None
) -> list[LayerGroup]:
    """Split the network into layer groups: each parameter in exactly one, none empty, earliest layers first.

    equal: equally many layer ids in each group. head: the classifier alone, the rest split equally. fastai: the first
    half of the backbone's stages, the second half, the head; an odd stage goes to the first half (a resnet is cut after
    layer2, as in fast.ai 0.7). layer_decay: a group per layer id, with ratios decay^(number of layers after it). Raise
    UserError (exit 2), naming the most that are possible, if there are more groups than layer ids.
    """
    ids = layer_names(model)
    if how == "layer_decay":
        parts = [[names] for names in ids]
        ratios = tuple(decay ** (len(parts) - 1 - i) for i in range(len(parts)))
    elif how == "equal":
        check_count(len(ratios), len(ids))
        parts = equal_parts(ids, len(ratios))
    elif how == "fastai":
        if len(ratios) != 3:
            raise UserError(2, f"rates.split=fastai: needs three rates.ratios, not {len(ratios)}")
        body, head = backbone_and_head(model, layer_names(model, coarse=True))
        check_count(3, len(body) + 1)
        parts = [*equal_parts(body, 2), [head]]
    else:
        body, head = backbone_and_head(model, ids)
        check_count(len(ratios), len(body) + 1)
        parts = [*equal_parts(body, len(ratios) - 1), [head]] if len(ratios) > 1 else [[*body, head]]
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    out = []
    for part, ratio in zip(parts, ratios, strict=True):
        names = tuple(name for layer in part for name in layer)
        out.append(LayerGroup(names, ratio, sum(sizes[name] for name in names)))
    covered = [name for group in out for name in group.names]
    if sorted(covered) != sorted(sizes):
        raise AssertionError(f"layer groups cover {len(covered)} of {len(sizes)} parameters")
    return out


def backbone_and_head(model: nn.Module, ids: list[list[str]]) -> tuple[list[list[str]], list[str]]:
    """Return the layers without the classifier's parameters, and the classifier's parameters."""
    of_head = heads.head_parameters(model)
    body = [[name for name in names if name not in of_head] for names in ids]
    head = [name for name, _ in model.named_parameters() if name in of_head]
    return [names for names in body if names], head


def check_count(wanted: int, layers: int) -> None:
    """Raise UserError (exit 2) if there are more groups than layers."""
    if wanted > layers:
        raise UserError(
            2, f"rates.ratios has {wanted} items, the backbone has {layers} layers: at most {layers} groups"
        )


def head_group(model: nn.Module) -> list[LayerGroup]:
    """Return the classifier as the only group."""
    names = heads.head_parameters(model)
    head = {name: p.numel() for name, p in model.named_parameters() if name in names}
    return [LayerGroup(tuple(head), 1.0, sum(head.values()))]


def group_table(groups: list[LayerGroup], lr: float | None) -> list[str]:
    """Return a line per group: its first and last layer, number of parameters and rate."""
    out = []
    for i, group in enumerate(groups):
        rate = f"{group.ratio:.3g} × found" if lr is None else f"{lr * group.ratio:.3g}"
        first, last = (re.sub(r"\.(weight|bias)$", "", name) for name in (group.names[0], group.names[-1]))
        out.append(f"group {i}: {first} … {last}, {group.parameters:,} parameters, rate {rate}")
    return out
