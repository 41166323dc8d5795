"""Temperature scaling: the finished network's logits are divided by one number, so that its probabilities are right.

Cross-entropy without label smoothing leaves a network too sure of itself, label smoothing not sure enough.
"""

import math

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from thaw.model.heads import last_layer
from thaw.runtime import console
from thaw.train.context import RunContext
from thaw.train.predictions import Predictions

TEMPERATURES = 0.05, 20.0  # lowest and highest


def calibrate(context: RunContext, validation: Predictions) -> tuple[Predictions, dict]:
    """Calibrate the network in place on the validation images; return its predictions of them, and the temperature.

    The last layer takes in the temperature, so that the exported network needs nothing more. No prediction changes,
    only its probability. Without evaluate.calibrate, or a last layer, nothing is done, and the mapping is empty.
    """
    model = context.network.model
    layer = last_layer(model.get_classifier(), validation.logits.shape[1])
    if layer is None or not context.settings.evaluate.calibrate:
        return validation, {}
    found = temperature(validation)
    soften(layer, found)
    console.say(f"calibration: probabilities {'sharper' if found < 1 else 'softer'}, temperature {found:.2f}")
    return Predictions(validation.logits / found, validation.labels), {"best/temperature": found}


def temperature(seen: Predictions) -> float:
    """Return the temperature that minimises the mean loss of n images (arXiv:1706.04599, section 4.2).

    One further image that belongs to all classes equally is added, as in Platt scaling: without it, a network that
    makes no mistake on a few images would become infinitely sure.
    """
    from scipy.optimize import minimize_scalar

    logits, n = seen.logits.double(), len(seen.labels)

    def loss(log_t: float) -> float:
        return float(cross_entropy(logits / math.exp(log_t), seen.labels, label_smoothing=1 / (n + 1)))

    return math.exp(minimize_scalar(loss, bounds=[math.log(t) for t in TEMPERATURES], method="bounded").x)


@torch.no_grad()
def soften(layer: nn.Module, by: float) -> None:
    """Divide the outputs of a linear layer by a temperature, in place."""
    for parameter in layer.parameters():
        parameter.div_(by)
