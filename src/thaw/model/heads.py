"""What is put on a body: timm's linear layer, or fast.ai 0.7's head on two poolings."""

from collections.abc import Mapping, Sequence

from torch import nn

from thaw.config.schema import Head
from thaw.runtime.errors import UserError

LINEAR = Head("linear")
POOLINGS = {"linear": None, "fastai": "catavgmax"}  # timm's names; None: what the model pools by itself


def replace_head(model: nn.Module, head: Head, classes: int) -> None:
    """Put a new head in the place of a timm model's classifier.

    A linear one begins at zero, so that the loss begins at ln(classes) and the first steps learn from the features
    alone. timm's own first weights, drawn as for ImageNet's thousand classes, cost efficientnets several points for
    good. Errors: the model has no single classifier layer, exit 2.
    """
    classifier = model.get_classifier()
    several = isinstance(classifier, nn.ModuleList) or hasattr(classifier, "fc")  # a pooling in front of it
    if not isinstance(classifier, nn.Module) or isinstance(classifier, nn.Identity) or several:
        name = model.pretrained_cfg.get("architecture")
        raise UserError(2, f"backbone={name}: it has no single classifier layer to replace")
    if head.kind == "fastai" and not isinstance(classifier, nn.Linear):
        name, what = model.pretrained_cfg.get("architecture"), type(classifier).__name__
        raise UserError(2, f"head=fastai: not in the place of the {what} of backbone={name}; take head=linear")
    if head.kind == "fastai":
        model.set_submodule(head_name(model), fastai_head(classifier.in_features, head.hidden, classes, head.drop))
        return
    for layer in classifier.modules():
        outputs = getattr(layer, "out_features", getattr(layer, "out_channels", None))
        if isinstance(layer, (nn.Linear, nn.Conv2d)) and outputs == classes:  # not a norm or a layer before the last
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)


def fastai_head(inputs: int, hidden: int, classes: int, drop: Sequence[float]) -> nn.Sequential:
    """fast.ai 0.7's head: batch norm, dropout, linear, ReLU, batch norm, dropout, linear.

    `drop` are the two dropouts. Weights are drawn by kaiming_normal_, biases are 0 (ConvnetBuilder of fastai 0.7.0).
    """
    layers = [nn.BatchNorm1d(inputs), nn.Dropout(drop[0]), nn.Linear(inputs, hidden), nn.ReLU()]
    layers += [nn.BatchNorm1d(hidden), nn.Dropout(drop[1]), nn.Linear(hidden, classes)]
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def head_name(model: nn.Module) -> str:
    """The dotted name of the classifier in a timm model."""
    head = model.get_classifier()
    return next(name for name, module in model.named_modules() if module is head)


def head_parameters(model: nn.Module) -> set[str]:
    """The names of the classifier's parameters and buffers."""
    before = head_name(model)
    return {f"{before}.{name}" for name in model.get_classifier().state_dict()}


def head_config(head: Head) -> Mapping:
    """What config.json says of a head that timm does not know, for `network.open_classifier`."""
    return {} if head.kind == "linear" else {"head": vars(head)}
