"""Estimate the cost of a plan before anything is loaded, from the records of earlier runs.

Every finder's curve and every cycle of a plan has a name, built from the same parts as its artifact's key
(`keys.find_parts`, `keys.cycle_parts`) but with the size and time of files instead of their contents. When an artifact
is made, the store records its path and cost under that name. The records only inform; correctness never depends on
them.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from thaw.config.schema import Settings
from thaw.plan.finder_steps import finder_length, finder_steps
from thaw.plan.phases import Phase, Plan
from thaw.runtime import machine
from thaw.runtime.files import read_json
from thaw.runtime.machine import cores
from thaw.store import keys
from thaw.store.code_hash import ALL_CODE, code_part
from thaw.store.keys import Basis
from thaw.store.lock import DONE
from thaw.store.store import Store, key_of

UNREAD = ("facts", "workers", "pixels_budget")  # options of data that are in no key
IMAGES = "images"  # the name of the work before the phases


@dataclass(frozen=True)
class PlannedArtifact:
    """A finder's curve, a cycle of a fit, or the work before the phases (images, activations, loading)."""

    phase: str
    name: str  # two jobs share an artifact if its name is equal
    like: str  # artifacts with the same value take the same time per step and the same space
    steps: int | None
    planned: bool  # False for a cycle beyond the budget, trained only while it helps


@dataclass(frozen=True)
class Estimate:
    """The known cost of an artifact; nan if unknown."""

    stored: bool
    seconds: float  # to make it
    bytes: float


def planned_artifacts(settings: Settings, plan: Plan, files: Sequence) -> list[PlannedArtifact]:
    """Return what a run will make, in order; `files` is the result of `file_state.named_files` for the settings."""
    computed = {
        "device": [
            settings.device,
            settings.precision,
            settings.threads,
            cores(),
            machine.visible_gpus(settings.deterministic),
        ],
        "deterministic": settings.deterministic and settings.device != "cpu",
        "environment": [os.environ.get(name) for name in machine.ENVIRONMENT],
        "versions": machine.library_versions(),
        "code": code_part(ALL_CODE, settings.store.code),
    }
    data = {name: value for name, value in asdict(settings.data).items() if name not in UNREAD and value is not None}
    seen = {"data": data, "files": files, "size": plan.size, "backbone": asdict(settings.backbone)} | computed
    likeness = [settings.backbone.name, settings.data.kind, settings.data.root, computed["device"]]
    out = [PlannedArtifact(IMAGES, key_of(seen), key_of({"like": [IMAGES, *likeness, plan.size]}), None, True)]
    before = key_of(seen | {"head": asdict(settings.head), "init": settings.init, "seed": settings.seed})
    found = {}
    for phase in plan.phases:
        if phase.do == "find":
            name = key_of(keys.find_parts(settings, phase, *finder_length(settings, phase), Basis(before, "", {})))
            steps = finder_steps(settings, phase)
            found[phase.name] = f"{name} {settings.find.rule}"
            out.append(
                PlannedArtifact(phase.name, name, likeness_of(phase, phase.epochs[:1], settings, likeness), steps, True)
            )
            continue
        lr = phase.lr if phase.lr is not None else f"{found[phase.rate_from]} × {phase.lr_factor}"
        chain = [before]
        for cycle in range(len(phase.cycles)):
            epochs = phase.epochs_of(cycle)
            steps = None if None in (counts := [epoch.steps for epoch in epochs]) else sum(counts)
            chain.append(key_of(keys.cycle_parts(settings, phase, cycle, lr, plan.size, Basis(chain[-1], "", {}))))
            alike = likeness_of(phase, epochs, settings, likeness)
            out.append(PlannedArtifact(phase.name, chain[-1], alike, steps, cycle < phase.budget))
        before = key_of({"handed on": chain, "until": phase.until, "budget": phase.budget})
    return out


def likeness_of(phase: Phase, epochs: Sequence, settings: Settings, likeness: Sequence) -> str:
    """Return a hash that is equal for artifacts of equal time per step and size."""
    sizes = sorted({(epoch.size or 0, epoch.batch) for epoch in epochs})
    return key_of({"like": [phase.do, phase.train, phase.features, settings.optimizer.name, sizes, *likeness]})


@dataclass
class ArtifactCosts:
    """The costs of a run's finders and cycles, recorded for the plans of later runs."""

    store: Store
    artifacts: list[PlannedArtifact]  # with the names they had in the plan
    files: Sequence  # as in `planned_artifacts`
    paid: float = 0.0  # seconds that this attempt spent on them
    saved: float = 0.0  # seconds that the store saved

    def replan(self, settings: Settings, plan: Plan) -> None:
        """Take the artifacts of another plan."""
        self.artifacts = planned_artifacts(settings, plan, self.files)

    def note(self, phase: str, number: int, path: Path, seconds: float, paid: float | None) -> None:
        """Record the path of the `number`th artifact of a phase and the seconds that making it takes.

        `paid` is the part of them that this process spent, None if the artifact was in the store.
        """
        self.paid += paid or 0.0
        self.saved += seconds - (paid or 0.0)
        artifact = [artifact for artifact in self.artifacts if artifact.phase == phase][number]
        remember_cost(self.store, artifact, [path], seconds, paid is not None)


def remember_cost(store: Store, artifact: PlannedArtifact, paths: Sequence[Path], seconds: float, made: bool) -> None:
    """Record the paths of an artifact and its cost; if it was `made` now, also as the cost of artifacts like it."""
    if not made and store.recall(f"artifact_{artifact.name}", places=list):
        return
    size = sum(size_of(path) for path in paths)
    places = [str(path.relative_to(store.root)) for path in paths]
    store.remember(f"artifact_{artifact.name}", {"places": places, "seconds": seconds, "bytes": size})
    if made:
        store.remember(f"like_{artifact.like}", {"seconds": seconds / (artifact.steps or 1), "bytes": size})


def size_of(path: Path) -> int:
    """Return the size of an artifact in bytes, as its DONE.json states it."""
    try:
        return sum(entry["bytes"] for entry in read_json(path / DONE)["files"].values())
    except (LookupError, TypeError, AttributeError):
        return 0


def estimate(store: Store, artifact: PlannedArtifact, fresh: bool) -> Estimate:
    """Return whether an artifact is stored, and its cost from its own record or from that of one like it."""
    number = int | float
    own = store.recall(f"artifact_{artifact.name}", places=list, seconds=number, bytes=number)
    alike = store.recall(f"like_{artifact.like}", seconds=number, bytes=number)
    there = bool(own) and not fresh and all((store.root / str(place) / DONE).exists() for place in own["places"])
    steps = 1 if artifact.phase == IMAGES else artifact.steps or math.nan
    seconds = own.get("seconds", alike.get("seconds", math.nan) * steps)
    return Estimate(there, seconds, (own or alike).get("bytes", math.nan))


def stored_phases(run: Sequence[PlannedArtifact], knows: Mapping[str, Estimate]) -> list[str]:
    """Return the phases of a run whose planned artifacts are all in the store."""
    planned = {artifact.phase: [k for k in run if k.phase == artifact.phase and k.planned] for artifact in run}
    planned.pop(IMAGES, None)
    return [phase for phase, own in planned.items() if own and all(knows[artifact.name].stored for artifact in own)]
