"""Test-time augmentation: what the finished network says of several views of each image, taken together."""

import torch

from thaw.runtime import console
from thaw.train.context import RunContext
from thaw.train.predictions import Predictions, predict


def tta_figures(context: RunContext, name: str, rows, plain: Predictions) -> dict:
    """`<name>/accuracy_tta` of the rows beside the plain figures; nothing where it is off or every view is the same."""
    views = context.settings.evaluate.tta
    if not views or draws_nothing(context):
        return {}
    p = probabilities(context, rows, plain, views)
    accuracy = float((p.argmax(1) == plain.labels).float().mean())
    console.say(f"{name}: accuracy {accuracy:.2%} with {views} augmented views, {plain.accuracy:.2%} without")
    return {f"{name}/accuracy_tta": accuracy}


def draws_nothing(context: RunContext) -> bool:
    """Whether augmentation draws nothing."""
    return context.settings.augment.crop == "whole" and not context.settings.augment.transforms


def probabilities(context: RunContext, rows, plain: Predictions, views: int) -> torch.Tensor:
    """The mean of the softmax of the plain view and of `views` augmented ones, [n, classes] in the order of the rows.

    Each with the same weight, as fast.ai 0.7 averages one plain and four augmented views. What is drawn depends on
    (seed, "tta", view, row) alone.
    """
    total = plain.logits.softmax(1)
    for number in range(views):
        seen = predict(context.inputs, rows, context.settings.augment, (context.settings.seed, "tta"), number)
        total = total + seen.logits.softmax(1)
    return total / (views + 1)
