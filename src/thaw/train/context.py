"""What every phase works with, and what a phase trains and sees."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from thaw.config.schema import Settings
from thaw.config.values import parse_count
from thaw.data import batches, file_state, pixels
from thaw.data.augment import view
from thaw.data.batches import Batch, BatchKey, Views
from thaw.data.dataset import Dataset
from thaw.data.table import TEST, TRAIN, VALID
from thaw.model import device as device_
from thaw.model.layer_groups import LayerGroup, head_group, split_into_groups
from thaw.model.network import Network
from thaw.plan.phases import Phase, Plan
from thaw.runtime import console
from thaw.runtime.machine import cores
from thaw.store import estimates, keys
from thaw.store.store import Store, key_of
from thaw.train.features import AugmentedView, activations, images_per_pass

Row = dict[str, float | int | str]


@dataclass
class Counters:
    """Where the run is, over all phases."""

    step: int = 0
    epoch: int = 0
    images: int = 0
    train_seconds: float = 0.0
    paid: float = 0.0  # seconds that this attempt spent on finds and cycles
    saved: dict[Path, float] = field(default_factory=dict)  # seconds, by the shards of activations that were there


@dataclass
class RunContext:
    """What every phase works with."""

    settings: Settings
    plan: Plan
    folder: Path
    device: device_.Device
    store: Store
    dataset: Dataset
    pixels: pixels.Pixels
    network: Network
    log: Callable[[Row], None]
    counters: Counters
    made: str  # the key of the network as it was made: all its weights
    holds: str  # the key of what it holds now
    activations: dict  # stored activations of the phase under way, by its name

    @cached_property
    def train_rows(self) -> np.ndarray:
        return self.dataset.rows(TRAIN)

    @cached_property
    def valid_rows(self) -> np.ndarray:
        return self.dataset.rows(VALID)

    @cached_property
    def places(self) -> np.ndarray:
        """Of every row its place in its split: what seeds its augmentation, so that other splits do not change it."""
        splits, places = self.dataset.table.splits, np.zeros(len(self.dataset.table), np.int64)
        for split in np.unique(splits):
            places[splits == split] = np.arange((splits == split).sum())
        return places

    def stored(self, rows: np.ndarray, drawn: AugmentedView | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Activations and labels of the rows, on the device: of the plain view, or of one that is drawn."""
        crop_pct = self.settings.data.crop_pct
        table = self.dataset.table
        features, saved = activations(
            self.network, self.pixels, table.hashes, rows, self.plan.size, crop_pct, self.store, console.bar, drawn
        )
        for shard, seconds in saved.items():  # which are read again for fewer rows
            self.counters.saved[shard] = max(seconds, self.counters.saved.get(shard, 0.0))
        return features, torch.from_numpy(table.labels[rows]).to(features.device)

    def stored_of(self, phase: Phase) -> tuple[Batch, Batch]:
        """Activations and labels of the training and of the validation pictures, the body as it is in this phase.

        With `views` the training pictures are there as often, view after view, the validation pictures plainly.
        """
        if phase.name not in self.activations:
            if phase.views:
                seeds = [(self.settings.seed, "views", number) for number in range(phase.views)]
                views = [self.stored(self.train_rows, AugmentedView(self.settings.augment, seed)) for seed in seeds]
                train, valid = tuple(map(torch.cat, zip(*views, strict=True))), self.stored(self.valid_rows)
            else:
                n = len(self.train_rows)
                features, labels = self.stored(np.concatenate([self.train_rows, self.valid_rows]))
                train, valid = (features[:n], labels[:n]), (features[n:], labels[n:])
            self.activations = {phase.name: (train, valid)}
        return self.activations[phase.name]

    def valid_of(self, phase: Phase) -> Batch:
        """Activations and labels of the validation pictures, the body as it is in this phase."""
        if phase.features == "precomputed":
            return self.stored_of(phase)[1]
        if phase.name not in self.activations:
            self.activations = {phase.name: (None, self.stored(self.valid_rows))}
        return self.activations[phase.name][1]

    @cached_property
    def loss(self) -> Callable:
        """The training loss."""
        loss, weight = self.settings.loss, None
        if loss.balance == "weights":
            counts = np.bincount(self.dataset.table.labels[self.train_rows], minlength=len(self.dataset.table.classes))
            weight = torch.tensor(counts.sum() / (len(counts) * np.maximum(counts, 1)), dtype=torch.float32)
            weight = weight.to(self.device.device)
        return partial(cross_entropy, weight=weight, label_smoothing=loss.smoothing)

    def picture(self, path: str) -> np.ndarray | None:
        """The picture of a path in its plain view, uint8 [size, size, 3]."""
        if path not in self.row_of:
            return None
        return view(self.plan.size, self.settings.data.crop_pct)(self.pixels[self.row_of[path]], None)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The row of every path."""
        return {path: row for row, path in enumerate(self.dataset.table.paths)}

    @cached_property
    def data_key(self) -> str:
        """What training and validation see: contents and labels of both, in order, at which size they are kept."""
        table = self.dataset.table
        rows = [
            [(table.hashes[row], int(table.labels[row])) for row in part] for part in (self.train_rows, self.valid_rows)
        ]
        return key_of({"rows": rows, "classes": len(table.classes), "size": self.plan.size})

    @cached_property
    def parts(self) -> dict:
        """What the whole run depends on, as plain values."""
        table = self.dataset.table
        test = self.dataset.rows(TEST)
        data = {
            "train": len(self.train_rows),
            "valid": len(self.valid_rows),
            "test": len(test),
            "classes": table.classes,
            "key": self.data_key,
            "test_key": key_of({"rows": [(table.hashes[row], int(table.labels[row])) for row in test]}),
        }
        return json.loads(json.dumps(keys.run_parts(self.settings, self.plan, self.made, data, self.device.computed)))

    @property
    def identity(self) -> str:
        """Two runs of one identity have the same result. No name of a module is in it."""
        return key_of(self.parts | {"code": sorted(self.parts["code"].values())})

    @cached_property
    def artifacts(self) -> list[estimates.PlannedArtifact]:
        """What the run makes, as it was named before it was made."""
        return estimates.planned_artifacts(self.settings, self.plan, file_state.named_files(self.settings))

    def note(self, phase: Phase, number: int, path: Path, seconds: float, paid: float | None) -> None:
        """Keep for the plans of later runs where the `number`th artifact of a phase lies, and what it takes to make it;
        `paid` are the seconds of this process that went into it, None where it was there."""
        self.counters.paid += paid or 0.0
        artifact = [artifact for artifact in self.artifacts if artifact.phase == phase.name][number]
        estimates.remember_cost(self.store, artifact, [path], seconds, paid is not None)

    @property
    def computes_on(self) -> str:
        """Name the device, precision, threads and loader processes in one line."""
        line = f"{self.device}, {self.workers} loader process{'es' * (self.workers != 1)}"
        idle = torch.cuda.device_count() - 1 if self.device.device.type == "cuda" else 0
        return line + (f"; {idle} more GPU{'s are' if idle > 1 else ' is'} not used" if idle > 0 else "")

    @property
    def workers(self) -> int:
        """Loader processes, as `data.workers` says; where it says auto, no more than were typed as `threads`."""
        chosen = parse_count(self.settings.data.workers, "data.workers", 0)
        if chosen is not None:
            return chosen
        allowed = parse_count(self.settings.threads, "threads", 1) or cores()
        return batches.workers_for(min(allowed, cores()), self.plan.size, prediction_batch(self))


def phase_groups(context: RunContext, phase: Phase) -> list[LayerGroup]:
    """The groups a phase trains, with their ratios."""
    if phase.train == "head":
        return head_group(context.network.model)
    return split_into_groups(context.network.model, phase.split, phase.ratios, context.settings.rates.decay)


def train_batches(context: RunContext, phase: Phase, epochs: range, name: str, steps: int | None = None, skip: int = 0):
    """The training batches of some epochs of a phase, in the order drawn from (seed, `name`, epoch).

    `steps` cuts all of them off; the first `skip` are left out.
    """
    settings, labels = context.settings, context.dataset.table.labels[context.train_rows]
    seed, cut = (settings.seed, name), []
    for epoch in epochs:
        e = phase.epochs[min(epoch, len(phase.epochs) - 1)]
        positions = batches.epoch_order(labels, (*seed, epoch), settings.loss.balance == "sampler")
        cut += [(epoch, e.size, part) for part in batches.cut_batches(positions, e.batch)[: e.steps]]
    cut = cut[skip:steps]
    if phase.features == "precomputed":
        n, views = len(labels), phase.views or 1
        return batches.stored_batches(
            *context.stored_of(phase)[0], [part + epoch % views * n for epoch, _, part in cut]
        )
    views = Views(
        context.pixels,
        context.dataset.table.labels,
        settings.data.crop_pct,
        context.plan.size,
        settings.augment,
        seed,
        context.places,
    )
    return batches.loader(
        views, [BatchKey(epoch, size, context.train_rows[part]) for epoch, size, part in cut], context.workers
    )


def prediction_batch(context: RunContext) -> int:
    """Pictures a batch where nothing is trained: what training takes fits, and is no fewer than need be."""
    return max(context.settings.batch_size, images_per_pass(context.plan.size))
