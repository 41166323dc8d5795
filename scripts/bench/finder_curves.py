"""Record curves and grids for scripts/bench/finder.py: what finders see, and which rate is best.

python scripts/bench/finder_curves.py [TASK ...]     takes one to twenty minutes per task on one thread

A task is a find phase and the fits that use its rate, cut to a fixed budget. Its best rate comes from a grid with three
rates per decade and three seeds, by accuracy on all images not used for training. Twenty seeds each record a range test
that never stops, and thaw's trials. Each task has a file, and recorded seeds are not repeated.
"""

import copy
import io
import json
import sys
import tempfile
import time
from contextlib import closing, redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import scenes

from thaw.config import compose, paths
from thaw.config.paths import require_checkout
from thaw.config.schema import Settings
from thaw.data.table import TEST
from thaw.model.freezing import set_trainable
from thaw.model.network import Network
from thaw.plan import finder_steps
from thaw.runtime.console import say
from thaw.runtime.entry import Parser, run
from thaw.runtime.errors import UserError
from thaw.store.open import open_store
from thaw.train import lr_finder, predictions
from thaw.train.context import RunContext
from thaw.train.inputs import PhaseInputs
from thaw.train.loop import raise_if_not_finite, train
from thaw.train.phase_fit import begin_phase
from thaw.train.setup import set_up

require_checkout(__file__)

GRID = {  # three rates per decade up to 10, from 1e-4 (head) or 1e-3 (full network); a tenth of them for AdamW
    "head": [10 ** (k / 3) for k in range(-12, 4)],
    "all": [10 ** (k / 3) for k in range(-9, 4)],
}
GRID_SEEDS, SEEDS = 3, 20
FOLDER = paths.OUTPUTS / "bench/finder"

HEAD = ["~checklist.find_full", "~checklist.full", "checklist.head_augmented.features=precomputed"]
AFTER = [
    "~checklist.find_head", "~checklist.head_augmented", "~checklist.full.until", "+checklist.find_full.features=live",
    "checklist.head_precomputed={do: fit, train: head, features: precomputed, epochs: 3, lr: 0.1}",
]  # fmt: skip
AFTER_ADAM = ["optimizer=adamw", *AFTER, "checklist.head_precomputed.lr=0.01"]
SCRATCH = ["checklist=from_scratch", "~checklist.full.until"]
DIGITS = ["size=32"]
COARSE = ["data=shapes", "data.limit=2400", "data.valid=0.5", "data.workers=0", "size=32", "data.detail=0.25"]
FINE = [*COARSE[:-1], "data.detail=0.4"]
SCENES = [
    "data=folder",
    "backbone=tiny",
    "data.root=DRAWN/scenes",
    "data.valid=0.4",
    "data.workers=0",
    "size=40",
    "augment=side_on",
]
TINY = ["backbone.weights=conf/backbone/tiny.safetensors"]
ADAM = ["optimizer=adamw"]
TASKS = {
    "digits, head": [*DIGITS, *HEAD],
    "digits, head, AdamW": [*DIGITS, *ADAM, *HEAD],
    "digits, full after head": [*DIGITS, *AFTER],
    "digits, full after head, AdamW": [*DIGITS, *AFTER_ADAM],
    "digits, scratch, AdamW": [*DIGITS, *ADAM, *SCRATCH],
    "coarse shapes, scratch": [*COARSE, *SCRATCH],
    "coarse shapes, head": [*COARSE, *HEAD],
    "fine shapes, full": [*FINE, *SCRATCH, *TINY],
    "scenes, head": [*SCENES, *HEAD],
    "scenes, full after head": [*SCENES, *AFTER],
    "scenes, full after head, AdamW": [*SCENES, *AFTER_ADAM],
    "coarse shapes, scratch, AdamW": [*COARSE, *ADAM, *SCRATCH],
    **(
        HELD_OUT := {  # first recorded after the last change of the trials rule
            "coarse shapes, head, AdamW": [*COARSE, *ADAM, *HEAD],
            "fine shapes, head, AdamW": [*FINE, *ADAM, *HEAD],
            "scenes, head, AdamW": [*SCENES, *ADAM, *HEAD],
            "fine shapes, full after head, AdamW": [*FINE, *AFTER_ADAM],
            "scenes, scratch, AdamW": [*SCENES, *ADAM, *SCRATCH],
        }
    ),
}


def prepared(overrides: list[str], folder: Path) -> tuple[RunContext, PhaseInputs, list[PhaseInputs]]:
    """Return a job trained up to its find phase, that phase, and the fits that use its rate."""
    folder.mkdir(parents=True, exist_ok=True)
    given = [o.replace("=DRAWN/", f"={folder.parent}/") for o in overrides]
    if ADAM[0] not in given:
        given.append("optimizer=sgd")
    settings = compose.compose_settings([*given, "threads=1", f"store.dir={folder.parent}/store"])
    made = set_up(settings, folder, open_store(settings, say))
    phases = [made.inputs.of(phase) for phase in made.plan.phases]
    while phases[0].phase.do == "fit":
        train_fully(made, own := phases.pop(0), own.phase.lr)
    return made, phases[0], phases[1:]


def train_fully(made: RunContext, inputs: PhaseInputs, lr: float) -> None:
    """Train the planned cycles of a phase from the current weights. Raise UserError (exit 4) if not finite."""
    phase, fit = inputs.phase, begin_phase(made.settings, made.network, inputs, lr)
    set_trainable(made.network, phase.train, fit.bn)
    with closing(inputs.batches(range(phase.epochs_budget), phase.name)) as batches:
        for step in train(made.network, batches, fit.optimizer, fit.options):
            raise_if_not_finite(step, fit.options, phase.name)


def rates(settings: Settings, trained: str) -> list[float]:
    """Return the grid of a task."""
    return [rate / (10 if settings.optimizer.name == "adamw" else 1) for rate in GRID[trained]]


def tried(made: RunContext, find: PhaseInputs) -> dict:
    """Return thaw's trials."""
    return measured(made.settings, made.network, find)


def swept(made: RunContext, find: PhaseInputs) -> dict:
    """Return a range test that never stops."""
    never = replace(made.settings.find, rule="edge", diverge=1e30)
    return measured(replace(made.settings, find=never), made.network, find)


def measured(settings: Settings, network: Network, find: PhaseInputs) -> dict:
    """Return the rates that a finder tries, in rising order, and the losses of each."""
    length = finder_steps.finder_length(settings, find.phase)
    rates, losses = zip(*sorted(lr_finder.measured(settings, network, find, *length)), strict=True)
    return {"rates": rates, "losses": losses}


def judged(made: RunContext, fits: list[PhaseInputs], rate: float) -> float:
    """Return the accuracy after the fits at a rate, on all images not trained on; 0 if a loss is not finite."""
    try:
        for inputs in fits:
            train_fully(made, inputs, rate)
    except UserError:  # a loss that is not finite
        return 0.0
    rows = np.concatenate([made.inputs.valid_rows, made.inputs.rows(TEST)])
    return predictions.predict(made.inputs, rows).accuracy


def file_of(name: str) -> Path:
    return FOLDER / f"{name.replace(', ', '_').replace(' ', '-')}.json"


def trained_by(name: str) -> str:
    """Return what the fits of a task train: head or all."""
    return "head" if HEAD[0] in TASKS[name] else "all"


def record(name: str, folder: Path) -> None:
    """Record what is missing of a task's trials, curves and grid in its file."""
    file = file_of(name)
    known = json.loads(file.read_text()) if file.exists() else {"trials": {}, "curves": {}, "grid": {}}
    for seed in map(str, range(SEEDS)):
        gridded = int(seed) >= GRID_SEEDS or seed in known["grid"]
        if seed in known["trials"] and seed in known["curves"] and gridded:
            continue
        began = time.perf_counter()
        with redirect_stdout(io.StringIO()):
            made, find, fits = prepared([*TASKS[name], f"seed={seed}"], folder / name)
            known["trials"][seed] = tried(made, find)
            known["curves"][seed] = swept(made, find)
            if not gridded:
                known["rates"] = rates(made.settings, trained_by(name))
                start = copy.deepcopy(made.network.state_dict())
                known["grid"][seed] = []
                for rate in known["rates"]:
                    made.network.load_state_dict(start)
                    known["grid"][seed].append(judged(made, fits, rate))
        file.write_text(json.dumps(known))
        say(f"{name}, seed {seed}: {time.perf_counter() - began:.1f} s")


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument(
        "tasks",
        nargs="*",
        default=list(TASKS),
        choices=list(TASKS),
        metavar="TASK",
        help=f"{', '.join(map(repr, TASKS))} (default: all)",
    )
    asked = parser.parse_args().tasks
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        scenes.draw(Path(folder) / "scenes")
        for name in asked:
            record(name, Path(folder))


if __name__ == "__main__":
    sys.exit(run(main))
