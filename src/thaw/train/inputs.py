"""What a network trains and validates on: batches of images, or stored activations of them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from thaw.config.schema import Augment
from thaw.data import batches
from thaw.data.batches import Batch, BatchKey, Views
from thaw.data.pixels import Pixels
from thaw.data.table import TRAIN, VALID, Table
from thaw.model.network import Network
from thaw.plan.phases import Phase
from thaw.store.store import Store, key_of
from thaw.train.features import ImageView, activations


@dataclass
class Inputs:
    """The images of a run as its network takes them."""

    table: Table
    pixels: Pixels
    network: Network  # whose frozen body gives the activations
    store: Store
    size: int  # the final one, in pixels
    crop_pct: float
    augment: Augment
    balance: str  # as loss.balance
    seed: int
    batch: int  # images that pass through the network at once where nothing is trained
    workers: int  # loader processes
    saved: dict[Path, float] = field(default_factory=dict)  # seconds, by the shards of activations that were there

    def rows(self, split: int) -> np.ndarray:
        """Return the rows of a split, in the table's order."""
        return self.table.rows(split)

    @cached_property
    def train_rows(self) -> np.ndarray:
        return self.rows(TRAIN)

    @cached_property
    def valid_rows(self) -> np.ndarray:
        return self.rows(VALID)

    @cached_property
    def places(self) -> np.ndarray:
        """Of every row its place in its split: what seeds its augmentation, so that other splits do not change it."""
        splits, places = self.table.splits, np.zeros(len(self.table), np.int64)
        for split in np.unique(splits):
            places[splits == split] = np.arange((splits == split).sum())
        return places

    @cached_property
    def key(self) -> str:
        """What training and validation see: contents and labels of both, in order, at which size they are kept."""
        rows = [self.contents(part) for part in (self.train_rows, self.valid_rows)]
        return key_of({"rows": rows, "classes": len(self.table.classes), "size": self.size})

    def contents(self, rows: np.ndarray) -> list[tuple[str, int]]:
        """Return the content hash and the label of each row."""
        return [(self.table.hashes[row], int(self.table.labels[row])) for row in rows]

    def activations(self, rows: np.ndarray, augment: Augment | None = None, seed: tuple = ()) -> Batch:
        """Activations and labels of the rows, on the device: of the plain view, or of one drawn by `augment`."""
        view = ImageView(self.size, self.crop_pct, augment, seed)
        features, saved = activations(self.network, self.pixels, rows, view, self.store)
        for shard, seconds in saved.items():  # which are read again for fewer rows
            self.saved[shard] = max(seconds, self.saved.get(shard, 0.0))
        return features, torch.from_numpy(self.table.labels[rows]).to(features.device)

    def images(self, keys: list[BatchKey], augment: Augment | None = None, seed: tuple = ()) -> Iterator[Batch]:
        """Batches of views of images: plain ones, or drawn by `augment` from the seed, the epoch and the row."""
        views = Views(self.pixels, self.table.labels, self.crop_pct, self.size, augment, seed, self.places)
        return batches.loader(views, keys, self.workers)

    def of(self, phase: Phase) -> "PhaseInputs":
        return PhaseInputs(self, phase)


@dataclass
class PhaseInputs:
    """What one phase trains and validates on; its activations are read once, when they are first asked for."""

    run: Inputs
    phase: Phase

    @cached_property
    def stored(self) -> tuple[Batch, Batch]:
        """Activations and labels of the training and of the validation images, the body as it is in this phase.

        With `views` the training images are there as often, view after view, the validation images plainly.
        """
        run, views = self.run, self.phase.views
        if views:
            drawn = [run.activations(run.train_rows, run.augment, (run.seed, "views", n)) for n in range(views)]
            return tuple(map(torch.cat, zip(*drawn, strict=True))), run.activations(run.valid_rows)
        n = len(run.train_rows)
        features, labels = run.activations(np.concatenate([run.train_rows, run.valid_rows]))
        return (features[:n], labels[:n]), (features[n:], labels[n:])

    @cached_property
    def valid(self) -> Batch:
        """Activations and labels of the validation images, the body as it is in this phase."""
        return self.stored[1] if self.phase.features == "precomputed" else self.run.activations(self.run.valid_rows)

    @property
    def valid_labels(self) -> torch.Tensor:
        return torch.from_numpy(self.run.table.labels[self.run.valid_rows])

    def batches(self, epochs: range, name: str, steps: int | None = None, skip: int = 0) -> Iterator[Batch]:
        """The training batches of some epochs, in the order drawn from (seed, `name`, epoch).

        `steps` cuts all of them off; the first `skip` are left out.
        """
        run, phase, cut = self.run, self.phase, []
        seed, labels = (run.seed, name), run.table.labels[run.train_rows]
        for epoch in epochs:
            e = phase.epochs[min(epoch, len(phase.epochs) - 1)]
            positions = batches.epoch_order(labels, (*seed, epoch), run.balance == "sampler")
            cut += [(epoch, e.size, part) for part in batches.cut_batches(positions, e.batch)[: e.steps]]
        cut = cut[skip:steps]
        if phase.features == "precomputed":
            n, views = len(labels), phase.views or 1
            return batches.stored_batches(*self.stored[0], [part + epoch % views * n for epoch, _, part in cut])
        keys = [BatchKey(epoch, size, run.train_rows[part]) for epoch, size, part in cut]
        return run.images(keys, run.augment, seed)
