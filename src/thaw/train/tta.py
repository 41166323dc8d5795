"""Test-time augmentation: predictions of the finished network, averaged over several views of each image."""

import torch

from thaw.runtime import console
from thaw.train.context import RunContext
from thaw.train.predictions import Predictions, predict


def tta_figures(context: RunContext, name: str, rows, plain: Predictions) -> dict:
    """Return {`<name>/accuracy_tta`: accuracy} of the rows; {} if TTA is off or all views would be the same."""
    views = context.settings.evaluate.tta
    if not views or draws_nothing(context):
        return {}
    p = probabilities(context, rows, plain, views)
    accuracy = float((p.argmax(1) == plain.labels).float().mean())
    console.say(f"{name}: accuracy {accuracy:.2%} with {views} augmented views, {plain.accuracy:.2%} without")
    return {f"{name}/accuracy_tta": accuracy}


def draws_nothing(context: RunContext) -> bool:
    """Return whether augmentation leaves every image as it is."""
    return context.settings.augment.crop == "whole" and not context.settings.augment.transforms


def probabilities(context: RunContext, rows, plain: Predictions, views: int) -> torch.Tensor:
    """Return the mean softmax [n, classes] over the plain view and `views` augmented ones, in the order of the rows.

    All views have equal weight, as in fast.ai 0.7, which averages one plain and four augmented views. The random draws
    depend only on (seed, "tta", view, row).
    """
    total = plain.logits.softmax(1)
    for number in range(views):
        seen = predict(context.inputs, rows, context.settings.augment, (context.settings.seed, "tta"), number)
        total = total + seen.logits.softmax(1)
    return total / (views + 1)
