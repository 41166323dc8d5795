"""Heads on a backbone: timm's linear layer, or fast.ai 0.7's head on two poolings."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from thaw.config.schema import Head
from thaw.runtime.errors import UserError

LINEAR = Head("linear")
POOLINGS = {"linear": None, "fastai": "catavgmax"}  # timm's names; None: the model's own pooling


def replace_head(model: nn.Module, head: Head, classes: int) -> None:
    """Replace a timm model's classifier by a new head.

    A linear head starts at zero, so that the loss starts at ln(classes) and the first steps learn from the features
    alone. timm's own initial weights, drawn for ImageNet's thousand classes, cost EfficientNets several points of
    accuracy for good. Raise UserError (exit 2) if the model has no single classifier layer.
    """
    classifier = model.get_classifier()
    several = isinstance(classifier, nn.ModuleList) or hasattr(classifier, "fc")  # or a pooling before the layer
    if not isinstance(classifier, nn.Module) or isinstance(classifier, nn.Identity) or several:
        name = model.pretrained_cfg.get("architecture")
        raise UserError(2, f"backbone={name}: it has no single classifier layer to replace")
    if head.kind == "fastai" and not isinstance(classifier, nn.Linear):
        name, what = model.pretrained_cfg.get("architecture"), type(classifier).__name__
        raise UserError(2, f"head=fastai: cannot replace the {what} classifier of backbone={name}; use head=linear")
    if head.kind == "fastai":
        model.set_submodule(head_name(model), fastai_head(classifier.in_features, head.hidden, classes, head.drop))
        return
    if layer := last_layer(classifier, classes):
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)


def last_layer(classifier: nn.Module, classes: int) -> nn.Module | None:
    """Return the classifier's layer with an output per class, or None; norms do not count."""
    for layer in reversed(list(classifier.modules())):
        outputs = getattr(layer, "out_features", getattr(layer, "out_channels", None))
        if isinstance(layer, (nn.Linear, nn.Conv2d)) and outputs == classes:
            return layer
    return None


def inherit_head(
    model: nn.Module, weights: Mapping[str, Tensor], before: Sequence[str], classes: Sequence[str]
) -> tuple[dict[str, Tensor], list[str]]:
    """Return the head of other weights, fitted to these classes, and the classes whose rows come from it.

    `before` are the classes of the other head's rows, empty if unknown. A class takes the row of its name; a new class
    keeps its row of the model's own new head. Layers before the last are taken unchanged. If the other head has another
    form, return the model's own head and no classes.
    """
    own = {name: model.state_dict()[name].cpu() for name in sorted(head_parameters(model))}
    last = last_layer(model.get_classifier(), len(classes))
    at = next((name for name, module in model.named_modules() if module is last), None)
    rows = {name for name in own if name.rpartition(".")[0] == at}  # their first dimension is the classes
    n = len(before) or len(classes)
    expected = {name: (n, *value.shape[1:]) if name in rows else value.shape for name, value in own.items()}
    if not rows or {name: weights[name].shape for name in own if name in weights} != expected:
        return own, []
    row_of = {name: row for row, name in reversed(list(enumerate(before)))}
    kept = [name for name in classes if name in row_of]
    to, of = torch.tensor([(classes.index(name), row_of[name]) for name in kept], dtype=torch.long).view(-1, 2).T
    for name, value in own.items():
        own[name] = value.index_copy(0, to, weights[name][of].to(value.dtype)) if name in rows else weights[name]
    return own, kept


def fastai_head(inputs: int, hidden: int, classes: int, drop: Sequence[float]) -> nn.Sequential:
    """Return fast.ai 0.7's head: batch norm, dropout, linear, ReLU, batch norm, dropout, linear.

    `drop` holds the two dropout rates. Weights are drawn by kaiming_normal_, biases are 0, as in fastai 0.7.0's
    ConvnetBuilder.
    """
    layers = [nn.BatchNorm1d(inputs), nn.Dropout(drop[0]), nn.Linear(inputs, hidden), nn.ReLU()]
    layers += [nn.BatchNorm1d(hidden), nn.Dropout(drop[1]), nn.Linear(hidden, classes)]
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def head_name(model: nn.Module) -> str:
    """Return the dotted name of the classifier in a timm model."""
    head = model.get_classifier()
    return next(name for name, module in model.named_modules() if module is head)


def head_parameters(model: nn.Module) -> set[str]:
    """Return the names of the classifier's parameters and buffers."""
    before = head_name(model)
    return {f"{before}.{name}" for name in model.get_classifier().state_dict()}


def head_config(head: Head) -> Mapping:
    """Return the entry of config.json for a head that timm does not know; `network.open_classifier` reads it."""
    return {} if head.kind == "linear" else {"head": vars(head)}
