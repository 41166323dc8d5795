"""Test-time augmentation: what the finished network says of several views of each picture, taken together."""

import torch

from thaw import progress
from thaw.job import Job, Validation, look


def figures(job: Job, name: str, rows, plain: Validation) -> dict:
    """`<name>/accuracy_tta` of the rows beside the plain figures; nothing where it is off or every view is the same."""
    views = job.settings.evaluate.tta
    if not views or same_views(job):
        return {}
    p = probabilities(job, rows, plain, views)
    accuracy = float((p.argmax(1) == plain.labels).float().mean())
    progress.say(f"{name}: accuracy {accuracy:.2%} with {views} augmented views, {plain.accuracy:.2%} without")
    return {f"{name}/accuracy_tta": accuracy}


def same_views(job: Job) -> bool:
    """Whether augmentation draws nothing."""
    return job.settings.augment.crop == "whole" and not job.settings.augment.transforms


def probabilities(job: Job, rows, plain: Validation, views: int) -> torch.Tensor:
    """The mean of the softmax of the plain view and of `views` augmented ones, [n, classes] in the order of the rows.

    Each with the same weight, as fast.ai 0.7 averages one plain and four augmented views. What is drawn depends on
    (seed, "tta", view, row) alone.
    """
    total = plain.logits.softmax(1)
    for number in range(views):
        seen = look(job, rows, job.settings.augment, (job.settings.seed, "tta"), number)
        total = total + seen.logits.softmax(1)
    return total / (views + 1)
