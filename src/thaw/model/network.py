"""Build timm networks with a new head, check them, and open saved ones. The only importer of timm's models."""

import copy
import math
from pathlib import Path

import timm
import torch
from timm.data import resolve_input_data_config
from timm.models import get_pretrained_cfg
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from thaw.config.schema import Backbone, Head
from thaw.config.timm_names import ELSEWHERE, LOCAL, check_backbone
from thaw.model import heads, hub, layer_groups
from thaw.model.device import Device
from thaw.model.saved import CONFIG, SavedNetwork, read_saved
from thaw.model.weights import load_backbone_file, load_weights, misfit, read_weights, shapes_in
from thaw.runtime.errors import UserError, first_line, nearest
from thaw.runtime.seeds import seed_for


class Network(nn.Module):
    """A timm model used as backbone and head, with the normalisation of its images.

    The head never runs under autocast: float32 costs nothing there, and a bfloat16 logit has only three digits.
    """

    def __init__(self, model: nn.Module, device: Device, pooling: str | None = None):
        super().__init__()
        self.pooling = pooling  # None: the model's own
        self.model = model.to(device.device, memory_format=torch.channels_last)
        self.device = device
        mean, std = (torch.tensor(model.pretrained_cfg[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
        self.register_buffer("scale", (1 / (255 * std)).to(device.device), persistent=False)
        self.register_buffer("shift", (-mean / std).to(device.device), persistent=False)

    @property
    def head(self) -> nn.Module:
        return self.model.get_classifier()

    def features(self, images: Tensor) -> Tensor:
        """Return pooled activations [n, d] of uint8 images [n, h, w, 3], in the backbone's output dtype."""
        with self.device.autocast(images.shape[1]):
            return self.body(self.normalised(images))

    def normalised(self, images: Tensor) -> Tensor:
        """Return the normalised images that timm's model takes, float32 [n, 3, h, w]."""
        # The permuted tensor is channels_last already, without a copy.
        return images.permute(0, 3, 1, 2).float().mul_(self.scale).add_(self.shift)

    def body(self, x: Tensor) -> Tensor:
        """Return pooled activations [n, d] of normalised images."""
        return self.model.forward_head(self.model.forward_features(x), pre_logits=True)

    def classify(self, features: Tensor) -> Tensor:
        """Return float32 logits [n, classes] of pooled activations."""
        if isinstance(self.head, nn.Conv2d):  # some families have one instead of a linear layer
            return self.head(features.float()[..., None, None]).flatten(1)
        return self.head(features.float())

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of images (uint8 [n, h, w, 3]) or of stored activations (floating point [n, d])."""
        return self.classify(self.features(x) if x.dtype == torch.uint8 else x)


def create_network(backbone: Backbone, classes: int, seed: int, device: Device, head: Head = heads.LINEAR) -> Network:
    """Return the backbone with its weights and a new head of `classes` outputs.

    Random weights (of head=fastai, of a backbone without weights) are drawn from (seed, "head"). Raise UserError:
    exit 2 if the name is unknown or the file missing, exit 5 if weights cannot be fetched, exit 6 if they do not fit.
    """
    torch.manual_seed(seed_for(seed, "head"))
    check_name(backbone.name)
    args = {"num_classes": classes}
    if pooling := heads.POOLINGS[head.kind]:
        args["global_pool"] = pooling
    for key, value in (("drop_rate", backbone.drop), ("drop_path_rate", backbone.drop_path)):
        if value:
            args[key] = value
    try:
        model = build_model(backbone.name, backbone.weights == "pretrained", args)
    except AssertionError as error:  # timm's networks refuse a pooling this way
        raise UserError(
            2, f"head={head.kind}: backbone={backbone.name} cannot have it ({first_line(error)}); use head=linear"
        ) from None
    except (RuntimeError, TypeError) as error:
        raise UserError(2, f"backbone={backbone.name}: {first_line(error)}") from None
    torch.manual_seed(seed_for(seed, "head"))
    heads.replace_head(model, head, classes)
    if backbone.weights not in ("pretrained", "none"):
        load_backbone_file(model, backbone)
    return Network(model, device, heads.POOLINGS[head.kind])


def check_name(name: str) -> None:
    """Raise UserError (exit 2), with the nearest names, if timm does not know the network or its weights."""
    check_backbone(name)
    if name.startswith(ELSEWHERE):
        return
    base, _, tag = name.partition(".")
    tags = [entry.partition(".")[2] for entry in timm.list_pretrained(f"{base}.*")]
    if tag and tag not in tags:
        raise UserError(2, f"backbone={name}: no such weights; {nearest(tag, tags)}")


def build_model(name: str, pretrained: bool, args: dict) -> nn.Module:
    """Return the timm model, able to take other image sizes than its own if its family can.

    Such a transformer keeps its position parameter and resamples it in the forward pass; timm's `set_input_size` would
    replace it by a new parameter, which an existing optimizer does not know. timm opens no weights file: it is given
    what `read_weights` read. Raise UserError: exit 6 if the weights are damaged or a pickle, else as `hub.fetch`.
    """
    source = f"backbone={name}"
    if name.startswith(LOCAL):
        saved = read_saved(Path(name.removeprefix(LOCAL)).expanduser(), source)
        check_saved(saved, pretrained)
        model = build_saved(saved, args)
        if pretrained:
            load_weights(model, read_weights(saved.weights, source), source, head=False)
        return model
    cfg, options = get_pretrained_cfg(name, allow_unregistered=True), [{}]
    repository = cfg.hf_hub_id if cfg else None
    if name.startswith(ELSEWHERE):
        repository = name.partition(":")[2]
        saved = read_saved(hub.fetch_config(repository, source), source)
        name, args = saved.architecture, {"pretrained_cfg": saved.shown} | saved.args | args
    elif cfg and cfg.fixed_input_size:
        options = [{"dynamic_img_size": True}, {"strict_img_size": False}, {}]
    if pretrained:
        args = args | {"pretrained_cfg_overlay": hub.given_weights(repository, source)}
    for option in options:
        try:
            model = timm.create_model(name, pretrained=pretrained, **args, **option)
            model.pretrained_cfg.pop("state_dict", None)
            return model
        except TypeError as error:
            if not option or next(iter(option)) not in str(error):
                raise
    raise AssertionError("unreachable: the last option is empty")


def build_saved(saved: SavedNetwork, args: dict) -> nn.Module:
    """Return the network that a config.json describes, without its weights; `args` override its own."""
    return timm.create_model(saved.architecture, pretrained_cfg=saved.shown, **saved.args | args)


def check_saved(saved: SavedNetwork, weights: bool) -> None:
    """Raise UserError (exit 6) if a config.json describes no network, or not the one of the weights beside it.

    The network is built on the meta device, where it takes no memory however large it is.
    """
    try:
        with torch.device("meta"):
            trial = build_saved(saved, {})
            if saved.head:
                heads.replace_head(trial, saved.head, saved.shown["num_classes"])
    except Exception as error:  # networks raise anything when their arguments are wrong
        raise UserError(6, f"{saved.source}: {CONFIG} describes no network ({first_line(error)})") from None
    if weights and (why := misfit(trial.state_dict(), shapes_in(saved.weights, saved.source))):
        raise UserError(6, f"{saved.source}: {saved.weights.name} does not fit the network in {CONFIG}: {why}")


def check_saveable(model: nn.Module, size: int) -> None:
    """Raise ValueError if timm cannot save the model for images of that size, because the model's size is fixed."""
    resolve_input_data_config(model, args={"input_size": (3, size, size)})


@torch.no_grad()
def check_body_and_head(trial: Network, size: int) -> None:
    """Raise UserError (exit 2) if the model's own forward pass is more than backbone and head.

    The saved model would then compute something else than what was trained. The head of `trial` is overwritten.
    """
    trial.eval()
    draw = torch.Generator(trial.device.device).manual_seed(0)
    for parameter in trial.head.parameters():  # zeros would hide a difference
        nn.init.normal_(parameter, std=0.02, generator=draw)
    x = trial.normalised(torch.full((1, size, size, 3), 128, dtype=torch.uint8, device=trial.device.device))
    own, ours = trial.model(x).float(), trial.classify(trial.body(x))
    if not torch.allclose(own, ours, rtol=0, atol=1e-3 * float(ours.abs().max()), equal_nan=True):
        name = trial.model.pretrained_cfg.get("architecture")
        raise UserError(
            2, f"backbone={name}: its forward pass is more than backbone and head, so it would not be saved as trained"
        )


def open_classifier(folder: Path) -> nn.Module:
    """Return the classifier in a run's folder, with its own head, in eval mode.

    Raise UserError (exit 6) if config.json or model.safetensors is missing or damaged.
    """
    return open_saved(read_saved(folder, str(folder)))


def open_saved(saved: SavedNetwork) -> nn.Module:
    """Return a saved classifier in eval mode.

    Raise UserError (exit 6) as `check_saved`, and if weights are not finite or the network cannot take its images.
    """
    check_saved(saved, weights=True)
    model = build_saved(saved, {})
    if saved.head:
        heads.replace_head(model, saved.head, saved.shown["num_classes"])
    load_weights(model, read_weights(saved.weights, saved.source), saved.source, head=True)
    model.eval()
    try:
        with torch.inference_mode():
            fits = model(torch.zeros(1, *saved.shown["input_size"])).shape == (1, saved.shown["num_classes"])
        why = "its outputs are not one per class"
    except Exception as error:  # as in `check_saved`
        fits, why = False, first_line(error)
    if not fits:
        raise UserError(6, f"{saved.source}: its network cannot classify images of {saved.size} px ({why})")
    return model


def multiply_adds(model: nn.Module, size: int) -> float:
    """Return the multiply-adds of a timm model for one image; inf if they cannot be counted.

    They are counted on a copy without values, which takes neither memory nor time.
    """
    empty = {id(t): nn.Parameter(torch.empty_like(t, device="meta"), False) for t in model.parameters()}
    empty |= {id(t): torch.empty_like(t, device="meta") for t in model.buffers()}
    trial = copy.deepcopy(model, empty).eval()
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            trial(torch.empty(1, 3, size, size, device="meta"))
    except Exception:  # it reads values, or cannot take the size, which the probe reports
        return math.inf
    return counter.get_total_flops() / 2


def model_facts(model: nn.Module) -> dict[str, int]:
    """Return what a plan needs of a timm model: its size, the number that sizes are multiples of, its layer ids."""
    size = model.pretrained_cfg["input_size"][1]
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", 1)
    multiple = max(patch) if isinstance(patch, (tuple, list)) else int(patch)
    return {"native_size": size, "multiple": multiple, "layers": len(layer_groups.layer_names(model))}
