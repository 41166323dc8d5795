"""What every phase works with."""

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
from thaw.train.cycle_state import HeldWeights
from thaw.train.inputs import Inputs
from thaw.train.progress import Counters


@dataclass
class RunContext:
    """What every phase works with."""

    settings: Settings
    plan: Plan
    folder: Path
    device: Device
    store: Store
    network: Network
    made: str  # the key of the network as it was made: all its weights
    held: HeldWeights
    inputs: Inputs
    costs: ArtifactCosts
    counters: Counters = field(default_factory=Counters)

    def basis(self, before: CycleResult | None) -> Basis:
        """What steps start from and run on, after a cycle end or from the network as it was made."""
        return Basis(before.key if before else self.made, self.inputs.key, self.device.computed)

    def image(self, path: str) -> np.ndarray | None:
        """The plain view of a path, uint8 [size, size, 3]; None where no image has it."""
        if (row := self.row_of.get(path)) is None:
            return None
        return view(self.inputs.size, self.inputs.crop_pct)(self.inputs.pixels[row], None)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The row of every path."""
        return {path: row for row, path in enumerate(self.inputs.table.paths)}

    @cached_property
    def parts(self) -> dict:
        """What the whole run depends on, as plain values."""
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
        """Two runs of one identity have the same result. No name of a module is in it."""
        return key_of(self.parts | {"code": sorted(self.parts["code"].values())})
