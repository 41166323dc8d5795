"""A timm backbone with a fresh head: weights, freezing, what it takes. The only importer of timm's models."""

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
    """A timm model taken as a body and a head, with the normalisation of its images.

    The head is never under autocast: float32 costs nothing there, and a bfloat16 logit has three digits.
    """

    def __init__(self, model: nn.Module, device: Device, pooling: str | None = None):
        super().__init__()
        self.pooling = pooling  # None: what the model pools by itself
        self.model = model.to(device.device, memory_format=torch.channels_last)
        self.device = device
        mean, std = (torch.tensor(model.pretrained_cfg[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
        self.register_buffer("scale", (1 / (255 * std)).to(device.device), persistent=False)
        self.register_buffer("shift", (-mean / std).to(device.device), persistent=False)

    @property
    def head(self) -> nn.Module:
        return self.model.get_classifier()

    def features(self, images: Tensor) -> Tensor:
        """Pooled activations [n, d] of uint8 images [n, h, w, 3], in the dtype the body gives."""
        with self.device.autocast(images.shape[1]):
            return self.body(self.normalised(images))

    def normalised(self, images: Tensor) -> Tensor:
        """What timm's model takes, float32 [n, 3, h, w]."""
        # A [n, h, w, 3] tensor seen as [n, 3, h, w] is channels_last already: no copy.
        return images.permute(0, 3, 1, 2).float().mul_(self.scale).add_(self.shift)

    def body(self, x: Tensor) -> Tensor:
        """Pooled activations [n, d] of what timm's model takes."""
        return self.model.forward_head(self.model.forward_features(x), pre_logits=True)

    def classify(self, features: Tensor) -> Tensor:
        """Logits [n, classes], float32, of pooled activations."""
        if isinstance(self.head, nn.Conv2d):  # which some families have in the place of a linear layer
            return self.head(features.float()[..., None, None]).flatten(1)
        return self.head(features.float())

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images (uint8 [n, h, w, 3]) or of stored activations (floating [n, d])."""
        return self.classify(self.features(x) if x.dtype == torch.uint8 else x)


def create_network(backbone: Backbone, classes: int, seed: int, device: Device, head: Head = heads.LINEAR) -> Network:
    """Return the backbone with its weights and a new head of `classes` outputs.

    What is drawn (the layers of head=fastai, a body without weights) is drawn from (seed, "head"). Errors: an unknown
    name or no such file, exit 2; weights that cannot be fetched, exit 5; that do not fit, exit 6.
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
    except AssertionError as error:  # so do timm's networks refuse a pooling
        raise UserError(
            2, f"head={head.kind}: not with backbone={backbone.name} ({first_line(error)}); take head=linear"
        ) from None
    except (RuntimeError, TypeError) as error:
        raise UserError(2, f"backbone={backbone.name}: {first_line(error)}") from None
    torch.manual_seed(seed_for(seed, "head"))
    heads.replace_head(model, head, classes)
    if backbone.weights not in ("pretrained", "none"):
        load_backbone_file(model, backbone)
    return Network(model, device, heads.POOLINGS[head.kind])


def check_name(name: str) -> None:
    """Errors: a name or weights that timm does not know, exit 2, with the nearest three."""
    check_backbone(name)
    if name.startswith(ELSEWHERE):
        return
    base, _, tag = name.partition(".")
    tags = [entry.partition(".")[2] for entry in timm.list_pretrained(f"{base}.*")]
    if tag and tag not in tags:
        raise UserError(2, f"backbone={name}: no such weights; {nearest(tag, tags)}")


def build_model(name: str, pretrained: bool, args: dict) -> nn.Module:
    """Return the timm model, able to take other sizes than its own where its family can.

    A transformer so made keeps its position parameter and resamples it in the forward pass; timm's `set_input_size`
    would put a new parameter in its place, which an existing optimizer does not know. timm opens no file of weights: it
    is given what `read_weights` read. Errors: weights that are none or a pickle, exit 6; as `hub.fetch`.
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
    """Return the network that a config.json describes, without its weights; `args` come before its own."""
    return timm.create_model(saved.architecture, pretrained_cfg=saved.shown, **saved.args | args)


def check_saved(saved: SavedNetwork, weights: bool) -> None:
    """Refuse a config.json of which no network can be made, or another than the weights beside it are of: exit 6.

    On the meta device, which takes no memory however large the network would be.
    """
    try:
        with torch.device("meta"):
            trial = build_saved(saved, {})
            if saved.head:
                heads.replace_head(trial, saved.head, saved.shown["num_classes"])
    except Exception as error:  # a network may raise whatever it stumbles over in arguments that are not meant for it
        raise UserError(6, f"{saved.source}: {CONFIG} describes no network ({first_line(error)})") from None
    if weights and (why := misfit(trial.state_dict(), shapes_in(saved.weights, saved.source))):
        raise UserError(6, f"{saved.source}: {saved.weights.name} is not of the network in {CONFIG}: {why}")


def check_saveable(model: nn.Module, size: int) -> None:
    """Errors: timm will not save it for images of that size (it calls the model's size fixed), ValueError."""
    resolve_input_data_config(model, args={"input_size": (3, size, size)})


@torch.no_grad()
def check_body_and_head(trial: Network, size: int) -> None:
    """Refuse a model whose own forward pass is more than body and head: what is saved would not be what was trained.

    Its head is drawn anew. Errors: exit 2.
    """
    trial.eval()
    draw = torch.Generator(trial.device.device).manual_seed(0)
    for parameter in trial.head.parameters():  # which may be zeros, that hide what is different
        nn.init.normal_(parameter, std=0.02, generator=draw)
    x = trial.normalised(torch.full((1, size, size, 3), 128, dtype=torch.uint8, device=trial.device.device))
    own, ours = trial.model(x).float(), trial.classify(trial.body(x))
    if not torch.allclose(own, ours, rtol=0, atol=1e-3 * float(ours.abs().max()), equal_nan=True):
        name = trial.model.pretrained_cfg.get("architecture")
        raise UserError(
            2, f"backbone={name}: its forward pass is more than body and head, which is all that is trained"
        )


def open_classifier(folder: Path) -> nn.Module:
    """Return the classifier that a run left in its folder, in eval mode, whatever head it has.

    Errors: config.json or model.safetensors is missing or damaged, exit 6.
    """
    return open_saved(read_saved(folder, str(folder)))


def open_saved(saved: SavedNetwork) -> nn.Module:
    """Return the classifier that lies in a folder, in eval mode.

    Errors: as `check_saved`; weights that are not finite, images that it does not take, exit 6.
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
        why = "it gives no output a class"
    except Exception as error:  # as in `check_saved`
        fits, why = False, first_line(error)
    if not fits:
        raise UserError(6, f"{saved.source}: its network does not take images of {saved.size} px ({why})")
    return model


def multiply_adds(model: nn.Module, size: int) -> float:
    """Count the multiply-adds of one image's way through a timm model; inf where they cannot be counted.

    On a copy without values, which takes neither memory nor time.
    """
    empty = {id(t): nn.Parameter(torch.empty_like(t, device="meta"), False) for t in model.parameters()}
    empty |= {id(t): torch.empty_like(t, device="meta") for t in model.buffers()}
    trial = copy.deepcopy(model, empty).eval()
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            trial(torch.empty(1, 3, size, size, device="meta"))
    except Exception:  # a size that it does not take, which the probe refuses; or it looks at values
        return math.inf
    return counter.get_total_flops() / 2


def model_facts(model: nn.Module) -> dict[str, int]:
    """The facts a plan needs of a timm model: its own size, the multiple a size must be of, the number of layer ids."""
    size = model.pretrained_cfg["input_size"][1]
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", 1)
    multiple = max(patch) if isinstance(patch, (tuple, list)) else int(patch)
    return {"native_size": size, "multiple": multiple, "layers": len(layer_groups.layer_names(model))}
