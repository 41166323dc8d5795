"""Progressive resizing: the image size and batch size of each epoch of the full network."""

from collections.abc import Sequence

MOST_BATCH_GROWTH = 4
FEWEST_STEPS = 20  # an epoch of fewer optimizer steps learns too little for its cost


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


def steps_per_epoch(images: int, batch: int) -> int:
    """Return the steps of an epoch: a last partial batch is kept, but a single image joins the batch before."""
    steps = -(-images // batch)
    return steps - 1 if steps > 1 and images % batch == 1 else steps
