"""Variable input size: which size, and which batch, each epoch of the full network has."""

from collections.abc import Sequence

MOST_BATCH_GROWTH = 4
FEWEST_STEPS = 20  # an epoch of fewer optimizer steps learns too little for its cost


def snap(pixels: float, multiple: int) -> int:
    """The nearest size the model takes: a multiple of `multiple`."""
    return max(1, round(pixels / multiple)) * multiple


def pixel_sizes(steps: Sequence[float], final: int, multiple: int) -> list[int]:
    """Pixels of each step of a resize schedule; a number up to 1 is a fraction of the final size, above it pixels."""
    return [snap(final * s if s <= 1 else s, multiple) for s in steps]


def epoch_sizes(pixels: Sequence[int], epochs_of_cycle: Sequence[int], restarts: bool) -> list[int]:
    """The size of every epoch.

    With restarts a size belongs to an absolute cycle index, so a warm restart and a new size come together and one
    more cycle changes nothing before it. Without, the epochs are shared out evenly, the last one always at the last
    size.
    """
    if restarts:
        return [pixels[min(cycle, len(pixels) - 1)] for cycle, n in enumerate(epochs_of_cycle) for _ in range(n)]
    total = sum(epochs_of_cycle)
    return [pixels[-(-(epoch + 1) * len(pixels) // total) - 1] for epoch in range(total)]


def batch_size_at(size: int, final: int, batch: int, images: int | None) -> int:
    """The batch for a size: grown by the area saved, at most four times, and never under twenty steps an epoch."""
    grown = min(batch * final**2 // size**2, MOST_BATCH_GROWTH * batch)
    if images is not None:
        grown = min(grown, images // FEWEST_STEPS)
    return max(batch, grown)


def steps_per_epoch(images: int, batch: int) -> int:
    """Optimizer steps of an epoch: the last partial batch is kept, one image left over joins the batch before."""
    steps = -(-images // batch)
    return steps - 1 if steps > 1 and images % batch == 1 else steps
