"""The inputs of training and validation: batches of images, or their stored activations."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
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
    """The images of a run, and how its network sees them."""

    table: Table
    pixels: Pixels
    network: Network  # its frozen backbone computes the activations
    store: Store
    size: int  # final image size in pixels
    crop_pct: float
    augment: Augment
    balance: str  # the setting loss.balance
    seed: int
    batch: int  # batch size of inference
    workers: int  # number of loader processes
    saved: dict[Path, float] = field(default_factory=dict)  # seconds saved, per stored shard of activations

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
        """The index of each row within its split. It seeds augmentation, so that other splits do not affect it."""
        splits, places = self.table.splits, np.zeros(len(self.table), np.int64)
        for split in np.unique(splits):
            places[splits == split] = np.arange((splits == split).sum())
        return places

    @cached_property
    def key(self) -> str:
        """A key of the training and validation data: contents and labels in order, number of classes, image size."""
        rows = [self.contents(part) for part in (self.train_rows, self.valid_rows)]
        return key_of({"rows": rows, "classes": len(self.table.classes), "size": self.size})

    def contents(self, rows: np.ndarray) -> list[tuple[str, int]]:
        """Return the content hash and the label of each row."""
        return [(self.table.hashes[row], int(self.table.labels[row])) for row in rows]

    def activations(self, rows: np.ndarray, augment: Augment | None = None, seed: tuple = ()) -> Batch:
        """Return activations and labels of the rows on the device, for the plain view or one drawn by `augment`."""
        view = ImageView(self.size, self.crop_pct, augment, seed)
        features, saved = activations(self.network, self.pixels, rows, view, self.store)
        for shard, seconds in saved.items():  # a shard may be read again for fewer rows
            self.saved[shard] = max(seconds, self.saved.get(shard, 0.0))
        return features, torch.from_numpy(self.table.labels[rows]).to(features.device)

    def images(self, keys: list[BatchKey], augment: Augment | None = None, seed: tuple = ()) -> Iterator[Batch]:
        """Return batches of image views, plain or drawn by `augment` from (seed, epoch, row)."""
        views = Views(self.pixels, self.table.labels, self.crop_pct, self.size, augment, seed, self.places)
        return batches.loader(views, keys, self.workers)

    def of(self, phase: Phase) -> "PhaseInputs":
        return PhaseInputs(self, phase)


@dataclass
class PhaseInputs:
    """The inputs of one phase. Activations are read once, on first use."""

    run: Inputs
    phase: Phase

    def with_phase(self, phase: Phase) -> "PhaseInputs":
        """Return the inputs of a phase with other cycles; if it is the same, these, with what they have read."""
        return self if phase == self.phase else replace(self, phase=phase)

    @cached_property
    def stored(self) -> tuple[Batch, Batch]:
        """Activations and labels of the training and of the validation images, with the backbone of this phase.

        With `views`, the training images come once per view, view after view; validation images are always plain.
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
        """Activations and labels of the validation images, with the backbone of this phase."""
        return self.stored[1] if self.phase.features == "precomputed" else self.run.activations(self.run.valid_rows)

    @property
    def valid_labels(self) -> torch.Tensor:
        return torch.from_numpy(self.run.table.labels[self.run.valid_rows])

    def batches(self, epochs: range, name: str, steps: int | None = None, skip: int = 0) -> Iterator[Batch]:
        """Return the training batches of these epochs, each epoch in an order drawn from (seed, `name`, epoch).

        Leave out the first `skip` batches, and all from batch `steps` on.
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
