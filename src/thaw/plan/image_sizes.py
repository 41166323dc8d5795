"""The image size and batch size of each epoch: smaller batches of few images, and larger ones of small images."""

import math
from collections.abc import Sequence

from thaw.config.schema import Settings
from thaw.plan.facts import Facts

MOST_BATCH_GROWTH = 4
FEWEST_STEPS = 20  # an epoch of fewer optimizer steps learns too little for its cost
ENOUGH_STEPS = 50  # steps of an epoch, for which few images are cut into smaller batches (scripts/bench/real.py)
BATCH = 64  # of a training set that is large enough
LEAST_BATCH = 16
LEAST_STORED = {"linear": 4, "fastai": 16}
MULTIPLE = 8  # a batch size that fits the hardware


def snap(pixels: float, multiple: int) -> int:
    """Return the nearest size that the model takes: a multiple of `multiple`."""
    return max(1, round(pixels / multiple)) * multiple


def pixel_sizes(steps: Sequence[float], final: int, multiple: int) -> list[int]:
    """Return the pixels of each entry of resize.sizes: entries up to 1 are fractions of the final size."""
    return [snap(final * s if s <= 1 else s, multiple) for s in steps]


def epoch_sizes(pixels: Sequence[int], epochs_of_cycle: Sequence[int], restarts: bool) -> list[int]:
    """Return the size of every epoch.

    With restarts, each cycle has its size, so that a restart and a new size coincide and one more cycle changes nothing
    before it. Without restarts, the sizes share the epochs evenly, and the last epoch always has the last size.
    """
    if restarts:
        return [pixels[min(cycle, len(pixels) - 1)] for cycle, n in enumerate(epochs_of_cycle) for _ in range(n)]
    total = sum(epochs_of_cycle)
    return [pixels[-(-(epoch + 1) * len(pixels) // total) - 1] for epoch in range(total)]


def batch_size_at(size: int, final: int, batch: int, images: int | None) -> int:
    """Return the batch size for an image size: grown as the area shrinks, at most fourfold, and leaving 20 steps."""
    grown = min(batch * final**2 // size**2, MOST_BATCH_GROWTH * batch)
    if images is not None:
        grown = min(grown, images // FEWEST_STEPS)
    return max(batch, grown)


def batch_size(given: int | str, facts: Facts) -> int:
    """Return the batch size that is typed, or for auto 64, less for few images, so that an epoch has enough steps.

    It is never more than the number of images, and auto never more than what fits into memory.
    """
    images = math.inf if facts.train is None else facts.train
    if given != "auto":
        return min(given, images)
    enough = BATCH if facts.train is None else max(LEAST_BATCH, images // ENOUGH_STEPS // MULTIPLE * MULTIPLE)
    return min(BATCH, enough, images, facts.most_batch or BATCH)


def stored_batch(settings: Settings, facts: Facts) -> int:
    """Return the batch size on stored activations: `stored_batch`, or by default enough steps in an epoch.

    A step on stored activations costs next to nothing, so a small training set is cut into smaller batches: two epochs
    of a few large batches leave a head far from its best. A head with batch norm takes no very small batches.
    """
    auto, images = settings.stored_batch == "auto", facts.train
    batch = batch_size(settings.batch_size, facts) if auto else settings.stored_batch
    if images is None:
        return batch
    if auto:
        batch = max(min(batch, LEAST_STORED[settings.head.kind]), min(batch, images // ENOUGH_STEPS))
    return min(batch, images)


def steps_per_epoch(images: int, batch: int) -> int:
    """Return the steps of an epoch: a last partial batch is kept, but a single image joins the batch before."""
    steps = -(-images // batch)
    return steps - 1 if steps > 1 and images % batch == 1 else steps
