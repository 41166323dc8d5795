"""Batches of images or of stored activations, in an order that depends only on (seed, phase, epoch)."""

import math
import os
import random
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from thaw.config.schema import Augment
from thaw.data.augment import at_size, view
from thaw.data.pixels import Pixels
from thaw.runtime.errors import UserError, one_line_text
from thaw.runtime.machine import at_once
from thaw.runtime.seeds import seed_for

TIMEOUT_SECONDS = 600
PREFETCH = 4  # batches that each worker makes ahead
MOST_WORKERS = 8
WORKERS_FROM = 64  # image size from which loader processes pay off

Batch = tuple[torch.Tensor, torch.Tensor]  # inputs, labels


@dataclass(frozen=True)
class BatchKey:
    """The identity of a batch of images: its rows, its image size, and the epoch that seeds the augmentation."""

    epoch: int
    size: int
    rows: np.ndarray


def epoch_order(labels: np.ndarray, key: tuple, balance: bool = False) -> np.ndarray:
    """Return the order of an epoch: a permutation of the positions 0..n-1 drawn from the key.

    With `balance`, draw with replacement instead, every class with the same probability.
    """
    rng = np.random.default_rng(seed_for("order", *key))
    if not balance:
        return rng.permutation(len(labels))
    counts = np.bincount(labels)
    weight = 1 / counts[labels]
    return rng.choice(len(labels), len(labels), p=weight / weight.sum())


def cut_batches(positions: np.ndarray, batch: int) -> list[np.ndarray]:
    """Cut positions into consecutive batches.

    The last batch may be smaller, but a single leftover position joins the batch before it.
    """
    edges = list(range(0, len(positions), batch)) + [len(positions)]
    if batch > 1 and len(edges) > 2 and edges[-1] - edges[-2] == 1:
        del edges[-2]
    return [positions[a:b] for a, b in pairwise(edges)]


class Views(Dataset):
    """A dataset of batches: views of images, uint8 [n, size, size, 3], with their labels.

    `final` is the last image size of the plan.
    """

    def __init__(
        self,
        pixels: Pixels,
        labels: np.ndarray,
        crop_pct: float,
        final: int,
        augment: Augment | None = None,
        seed: tuple = (),
        places: np.ndarray | None = None,
    ):
        self.pixels, self.labels, self.crop_pct = pixels, labels, crop_pct
        self.final, self.augment, self.seed = final, augment, seed
        self.places = np.arange(len(labels)) if places is None else places  # seeds of the augmentation
        self.see = {}

    def __getitem__(self, key: BatchKey) -> Batch:
        if key.size not in self.see:
            augment = self.augment and at_size(self.augment, key.size / self.final)
            self.see[key.size] = view(key.size, self.crop_pct, augment)
        see = self.see[key.size]
        places = self.places[key.rows].tolist()
        seeds = [seed_for("augment", *self.seed, key.epoch, place) if self.augment else None for place in places]
        images = [see(self.pixels[row], seed) for row, seed in zip(key.rows, seeds, strict=True)]
        return torch.from_numpy(np.stack(images)), torch.from_numpy(self.labels[key.rows])


def workers_for(cores: int, size: int, batch: int) -> int:
    """Return the number of loader processes: one per core, at most 8, fewer if shared memory is small.

    The batches that they make ahead may fill half of the free shared memory. Images smaller than WORKERS_FROM have no
    workers, since their batches take longer to send than to make.
    """
    if size < WORKERS_FROM:
        return 0
    return int(min(cores, MOST_WORKERS, shared_memory() / 2 / at_once() / (PREFETCH * batch * size * size * 3)))


def shared_memory() -> float:
    """Return the free bytes of /dev/shm, through which processes exchange batches.

    Containers often have 64 MB there, and a process that needs more is killed.
    """
    try:
        found = os.statvfs("/dev/shm")
    except OSError:  # this system has no /dev/shm
        return math.inf
    return found.f_bavail * found.f_frsize


def init_worker(worker: int) -> None:
    """Use one thread in a loader process and ignore signals: the parent ends the process by closing `loader`."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(name, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


class ErrorsAsBatches(Dataset):
    """Views for a loader process that return a UserError as the batch, since torch would change a raised one's type."""

    def __init__(self, views: Views):
        self.views = views

    def __getitem__(self, key: BatchKey) -> Batch | UserError:
        try:
            return self.views[key]
        except UserError as error:
            return error


def loader(views: Views, keys: Sequence[BatchKey], workers: int) -> Iterator[Batch]:
    """Yield the batches of `keys` in order, made ahead by `workers` processes (0: in this process).

    The number of workers does not change the batches. A caller that may stop before the last batch must close the
    generator (`contextlib.closing`); otherwise its processes do not end.
    Raise UserError (exit 5) if a process dies or returns nothing for ten minutes, and what reading an image raises.
    """
    workers = min(workers, len(keys))
    if not workers:
        yield from map(views.__getitem__, keys)
        return
    made = iter(
        DataLoader(
            ErrorsAsBatches(views),
            batch_size=None,
            sampler=keys,
            num_workers=workers,
            # Hydra's joblib launcher sets the default start method to loky, which a DataLoader cannot use.
            multiprocessing_context="fork",
            worker_init_fn=init_worker,
            prefetch_factor=PREFETCH,
            timeout=TIMEOUT_SECONDS,
        )
    )
    try:
        for batch in made:
            if isinstance(batch, UserError):
                raise batch
            yield batch
    except RuntimeError as error:
        if str(error).startswith("Caught "):  # raised inside the process; otherwise it died or timed out
            raise
        line = one_line_text(error, 120)
        advice = f"if memory or /dev/shm is full, try data.workers={workers // 2}"
        raise UserError(5, f"a loader process failed ({line}); {advice}") from None
    finally:
        # A worker's exception is part of a reference cycle that keeps the workers alive; the exit would wait for them.
        made._shutdown_workers()


def mix_batch(
    x: torch.Tensor, other: torch.Tensor, mixup: float, cutmix: float, rng: random.Random
) -> tuple[torch.Tensor, float]:
    """Mix images [n, h, w, 3] with the same batch in the order `other`; return them and the share kept of each image.

    Mixup (arXiv:1710.09412) blends all pixels; the share is drawn from Beta(mixup, mixup). CutMix (arXiv:1905.04899)
    keeps a share of the area, drawn from Beta(cutmix, cutmix), and replaces a box. If both are above 0, each step uses
    one of the two with equal probability. Labels are to be mixed with the same share.
    """
    cut = bool(cutmix) and not (mixup and rng.random() < 0.5)
    share = rng.betavariate(cutmix, cutmix) if cut else rng.betavariate(mixup, mixup)
    if not cut:
        return (share * x + (1 - share) * x[other]).round().to(x.dtype), share
    top, bottom, left, right = cutmix_box(*x.shape[1:3], share, rng)
    x = x.clone()
    x[:, top:bottom, left:right] = x[other, top:bottom, left:right]
    return x, 1 - (bottom - top) * (right - left) / (x.shape[1] * x.shape[2])


def cutmix_box(height: int, width: int, share: float, rng: random.Random) -> tuple[int, int, int, int]:
    """Return top, bottom, left, right of a box of area 1 - `share` around a random pixel, clipped at the border."""
    high, wide = (int(side * math.sqrt(1 - share)) for side in (height, width))
    y, x = rng.randrange(height), rng.randrange(width)
    top, left = y - high // 2, x - wide // 2
    return max(top, 0), min(top + high, height), max(left, 0), min(left + wide, width)


def stored_batches(features: torch.Tensor, labels: torch.Tensor, batches: Sequence[np.ndarray]) -> Iterator[Batch]:
    """Yield batches of stored activations that are already on the device."""
    for positions in batches:
        at = torch.from_numpy(positions).to(features.device)
        yield features[at], labels[at]
