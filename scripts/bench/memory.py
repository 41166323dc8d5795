"""Measure memory over the epochs of a run on 20,000 images, including its loader processes.

python scripts/bench/memory.py [--epochs 20] [--workers 2]     Linux only

Prints the proportional set size (PSS, from /proc/PID/smaps_rollup) of this process and its loader processes in MB at
the end of every epoch. Paths, hashes and labels are those of 20,000 files. All images share one array, so any growth
comes from the loader.
"""

import os
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np

from thaw.config.paths import require_checkout
from thaw.config.schema import Augment
from thaw.data import batches
from thaw.data.batches import BatchKey, Views
from thaw.data.pixels import Pixels
from thaw.runtime.console import say
from thaw.runtime.entry import Parser, count, run

require_checkout(__file__)

MIRRORED = Augment("whole", None, {"HorizontalFlip": {"p": 0.5}}, 0.0, 0.0)
BATCH = 200


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--images", type=count, default=20_000, help="number of images (default: %(default)s)")
    parser.add_argument("--epochs", type=count, default=20, help="number of epochs (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="loader processes (default: %(default)s)")
    args = parser.parse_args()
    sizes = memory(args.images, args.epochs, args.workers)
    say(" ".join(f"{size:.0f}" for size in sizes))
    second, last = sizes[1], sizes[-1]
    grown = f"{second:.1f} MB after epoch 2, {last:.1f} after {len(sizes)} ({last / second - 1:+.1%})"
    say(f"{args.workers} workers: {grown}")


def memory(images: int, epochs: int, workers: int) -> list[float]:
    """Return the MB at the end of each epoch."""
    names = [sha256(f"image {row}".encode()).hexdigest() for row in range(images)]
    image = np.zeros((24, 32, 3), np.uint8)
    labels = np.arange(images) % 10
    views = Views(Pixels(names, {}, 24, lambda row, side: image), labels, 1.0, 24, MIRRORED, (0, "full"))
    keys = [
        BatchKey(epoch, 24, part)
        for epoch in range(epochs)
        for part in batches.cut_batches(batches.epoch_order(labels, (0, "full", epoch)), BATCH)
    ]
    steps, out = len(keys) // epochs, []
    for step, _ in enumerate(batches.loader(views, keys, workers), 1):
        if step % steps == 0:
            out.append(sum(map(proportional, [os.getpid(), *children()])))
    return out


def children() -> list[int]:
    """Return the ids of this process's children."""
    return [int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]


def proportional(pid: int) -> float:
    """Return the PSS of a process in MB, or 0 if it has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return int(text.partition("\nPss:")[2].split()[0]) / 1024


if __name__ == "__main__":
    sys.exit(run(main))
