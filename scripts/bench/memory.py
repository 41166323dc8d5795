"""Memory over the epochs: a run over 20,000 images, its loader processes included.

python scripts/bench/memory.py [--epochs 20] [--workers 2]

Proportional set size (/proc/PID/smaps_rollup: shared pages are divided among those who share them) of this process and
its loader processes at the end of every epoch, in MB. Paths, hashes and labels are those of 20,000 files; the images
themselves are one array, so that what grows is the loader's own. Linux only.
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
    parser.add_argument("--images", type=count, default=20_000)
    parser.add_argument("--epochs", type=count, default=20)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    sizes = memory(args.images, args.epochs, args.workers)
    say(" ".join(f"{size:.0f}" for size in sizes))
    second, last = sizes[1], sizes[-1]
    grown = f"{second:.1f} MB after epoch 2, {last:.1f} after {len(sizes)} ({last / second - 1:+.1%})"
    say(f"{args.workers} workers: {grown}")


def memory(images: int, epochs: int, workers: int) -> list[float]:
    """MB at the end of each epoch."""
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
    """The processes that this one started."""
    return [int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]


def proportional(pid: int) -> float:
    """MB of a process, shared pages by share; 0 where it has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return int(text.partition("\nPss:")[2].split()[0]) / 1024


if __name__ == "__main__":
    sys.exit(run(main))
