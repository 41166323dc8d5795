"""Batches in an order that is a function of (seed, phase, epoch): of images, or of stored activations."""

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
from thaw.runtime.errors import UserError, in_a_line
from thaw.runtime.machine import at_once
from thaw.runtime.seeds import seed_for

TIMEOUT_SECONDS = 600
PREFETCH = 4  # batches that a process makes ahead
MOST_WORKERS = 8
SENT_FROM = 64  # pixels from which on a loader process pays

Batch = tuple[torch.Tensor, torch.Tensor]  # inputs, labels


@dataclass(frozen=True)
class BatchKey:
    """What names a batch of images: which rows, at what size, and the epoch that seeds their augmentation."""

    epoch: int
    size: int
    rows: np.ndarray


def epoch_order(labels: np.ndarray, key: tuple, balance: bool = False) -> np.ndarray:
    """The positions 0..n-1 in the order of an epoch, a permutation drawn from the key.

    `balance` draws with replacement instead, every class equally often.
    """
    rng = np.random.default_rng(seed_for("order", *key))
    if not balance:
        return rng.permutation(len(labels))
    counts = np.bincount(labels)
    weight = 1 / counts[labels]
    return rng.choice(len(labels), len(labels), p=weight / weight.sum())


def cut_batches(positions: np.ndarray, batch: int) -> list[np.ndarray]:
    """Consecutive batches; the last partial one is kept, a single position left over joins the batch before."""
    edges = list(range(0, len(positions), batch)) + [len(positions)]
    if batch > 1 and len(edges) > 2 and edges[-1] - edges[-2] == 1:
        del edges[-2]
    return [positions[a:b] for a, b in pairwise(edges)]


class Views(Dataset):
    """Batches of views of images, uint8 [n, size, size, 3], with their labels; `final` is the plan's last size."""

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
        self.places = np.arange(len(labels)) if places is None else places  # what seeds a row's augmentation
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
    """Loader processes: one a core, at most 8, and as many as half of the shared memory has room for the batches of.

    None for small images, where a batch is made in less time than it takes to send it.
    """
    if size < SENT_FROM:
        return 0
    return int(min(cores, MOST_WORKERS, shared_memory() / 2 / at_once() / (PREFETCH * batch * size * size * 3)))


def shared_memory() -> float:
    """Free bytes where processes hand one another batches; a container has often 64 MB, and dies when they are gone."""
    try:
        found = os.statvfs("/dev/shm")
    except OSError:  # no such place on this system
        return math.inf
    return found.f_bavail * found.f_frsize


def init_worker(worker: int) -> None:
    """A loader process computes with one thread and leaves signals to its parent, which ends it by closing `loader`."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(name, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


class ErrorsAsBatches(Dataset):
    """The same in a loader process, where torch would turn a UserError into one of its own: there it is the batch."""

    def __init__(self, views: Views):
        self.views = views

    def __getitem__(self, key: BatchKey) -> Batch | UserError:
        try:
            return self.views[key]
        except UserError as error:
            return error


def loader(views: Views, keys: Sequence[BatchKey], workers: int) -> Iterator[Batch]:
    """The batches of `keys` in order, made ahead by `workers` processes (0: in this one), which changes no bit.

    Whoever may leave before the last one closes it (`contextlib.closing`): the processes end then, and not otherwise.
    Errors: what an image's reading raises; a process that died or made nothing for ten minutes, exit 5.
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
            # Under Hydra's joblib launcher the default start method is loky's, which a DataLoader cannot use.
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
        if str(error).startswith("Caught "):  # raised by what the process did; else it is gone, or silent
            raise
        line = in_a_line(error, 120)
        advice = f"memory or /dev/shm full? try data.workers={workers // 2}"
        raise UserError(5, f"a loader process failed ({line}); {advice}") from None
    finally:
        # The error of a process refers to itself, and so keeps all of them: at its end this one would wait for them.
        made._shutdown_workers()


def mix_batch(
    x: torch.Tensor, other: torch.Tensor, mixup: float, cutmix: float, rng: random.Random
) -> tuple[torch.Tensor, float]:
    """Images [n, h, w, 3] mixed with the batch in the order `other`, and the share that stays of each and its label.

    By mixup (arXiv:1710.09412) a share from Beta(mixup, mixup) of every pixel is kept, by CutMix (arXiv:1905.04899) a
    share from Beta(cutmix, cutmix) of the area; where both are above 0 one of them in each step, drawn evenly.
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
    """Top, bottom, left, right of a box with the other 1 - `share` of the area about any pixel, cut at the border."""
    high, wide = (int(side * math.sqrt(1 - share)) for side in (height, width))
    y, x = rng.randrange(height), rng.randrange(width)
    top, left = y - high // 2, x - wide // 2
    return max(top, 0), min(top + high, height), max(left, 0), min(left + wide, width)


def stored_batches(features: torch.Tensor, labels: torch.Tensor, batches: Sequence[np.ndarray]) -> Iterator[Batch]:
    """Batches of stored activations, already on the device."""
    for positions in batches:
        at = torch.from_numpy(positions).to(features.device)
        yield features[at], labels[at]
