"""The context of a run: what every phase works with."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from thaw.config.schema import Settings
from thaw.data.augment import view
from thaw.data.table import TEST
from thaw.model.device import Device
from thaw.model.network import Network
from thaw.plan.phases import Plan
from thaw.store import keys
from thaw.store.estimates import ArtifactCosts
from thaw.store.keys import Basis
from thaw.store.store import Store, key_of
from thaw.train.cycle import CycleResult
from thaw.train.cycle_state import LoadedWeights
from thaw.train.inputs import Inputs
from thaw.train.progress import Counters


@dataclass
class RunContext:
    """The settings, plan, network, images and store of one run."""

    settings: Settings
    plan: Plan
    folder: Path
    device: Device
    store: Store
    network: Network
    made: str  # hash of all weights of the network before training
    held: LoadedWeights
    inputs: Inputs
    costs: ArtifactCosts
    began: float  # when the job began, by time.perf_counter
    counters: Counters = field(default_factory=Counters)

    def basis(self, before: CycleResult | None) -> Basis:
        """Return what the next steps start from; `before` is the cycle end they follow (None: the initial network)."""
        return Basis(before.key if before else self.made, self.inputs.key, self.device.computed)

    @property
    def saved(self) -> float:
        """The seconds that the store has saved this run so far."""
        return self.costs.saved + sum(self.inputs.saved.values())

    def image(self, path: str) -> np.ndarray | None:
        """Return the plain view of an image, uint8 [size, size, 3], or None if no image has this path."""
        if (row := self.row_of.get(path)) is None:
            return None
        return view(self.inputs.size, self.inputs.crop_pct)(self.inputs.pixels[row], None)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The row in the table of each path."""
        return {path: row for row, path in enumerate(self.inputs.table.paths)}

    @cached_property
    def parts(self) -> dict:
        """Everything the result of the run depends on, as JSON values."""
        table, inputs = self.inputs.table, self.inputs
        test = inputs.rows(TEST)
        data = {
            "train": len(inputs.train_rows),
            "valid": len(inputs.valid_rows),
            "test": len(test),
            "classes": table.classes,
            "key": inputs.key,
            "test_key": key_of({"rows": inputs.contents(test)}),
        }
        return json.loads(json.dumps(keys.run_parts(self.settings, self.plan, self.made, data, self.device.computed)))

    @property
    def identity(self) -> str:
        """A hash of `parts`. Runs with the same identity have the same result; module names are left out."""
        return key_of(self.parts | {"code": sorted(self.parts["code"].values())})
