"""What a plan will cost, told before anything is loaded, from what earlier runs left. Standard library only.

Every find and every cycle of a plan has a name that follows from what its artifact's key follows from
(`keys.find_parts`, `keys.cycle_parts`), files by size and time in the place of what is in them. When one is made the
store remembers under its name where it lies and what it took. All of it informs; nothing correct depends on it.
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
IMAGES = "images"  # the name of what comes before the phases


@dataclass(frozen=True)
class PlannedArtifact:
    """A find, a cycle of a fit, or what comes before the phases (images, activations, loading)."""

    phase: str
    name: str  # two jobs whose artifacts have one name share it
    like: str  # artifacts of one likeness take as long a step and as much room
    steps: int | None
    planned: bool  # else a cycle beyond the budget, trained only while it helps


@dataclass(frozen=True)
class Estimate:
    """What is known of an artifact; nan is not known."""

    stored: bool
    seconds: float  # to make it
    bytes: float


def planned_artifacts(settings: Settings, plan: Plan, files: Sequence) -> list[PlannedArtifact]:
    """What a run will make, in order. files: those that the settings name, as `file_state.named_files` tells them."""
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
    data = {name: value for name, value in asdict(settings.data).items() if name not in UNREAD}
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
        lr = phase.lr if phase.lr is not None else f"{found[phase.rate_from]} × {settings.lr_factor}"
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
    sizes = sorted({(epoch.size or 0, epoch.batch) for epoch in epochs})
    return key_of({"like": [phase.do, phase.train, phase.features, settings.optimizer.name, sizes, *likeness]})


@dataclass
class ArtifactCosts:
    """What the artifacts of a run took, kept for the plans of later runs."""

    store: Store
    artifacts: list[PlannedArtifact]  # as they were named before they were made
    paid: float = 0.0  # seconds that this attempt spent on finds and cycles

    def note(self, phase: str, number: int, path: Path, seconds: float, paid: float | None) -> None:
        """Keep where the `number`th artifact of a phase lies, and what it takes to make it; `paid` are the seconds of
        this process that went into it, None where it was there."""
        self.paid += paid or 0.0
        artifact = [artifact for artifact in self.artifacts if artifact.phase == phase][number]
        remember_cost(self.store, artifact, [path], seconds, paid is not None)


def remember_cost(store: Store, artifact: PlannedArtifact, paths: Sequence[Path], seconds: float, made: bool) -> None:
    """Keep where an artifact lies and what it took; `made` now, it also stands for those that are like it."""
    if not made and store.recall(f"artifact_{artifact.name}", places=list):
        return
    size = sum(size_of(path) for path in paths)
    places = [str(path.relative_to(store.root)) for path in paths]
    store.remember(f"artifact_{artifact.name}", {"places": places, "seconds": seconds, "bytes": size})
    if made:
        store.remember(f"like_{artifact.like}", {"seconds": seconds / (artifact.steps or 1), "bytes": size})


def size_of(path: Path) -> int:
    """The bytes of an artifact, as it says itself."""
    try:
        return sum(entry["bytes"] for entry in read_json(path / DONE)["files"].values())
    except (LookupError, TypeError, AttributeError):
        return 0


def estimate(store: Store, artifact: PlannedArtifact, fresh: bool) -> Estimate:
    """What is known of an artifact: whether it lies in the store, its cost from itself or else from what is like it."""
    number = int | float
    own = store.recall(f"artifact_{artifact.name}", places=list, seconds=number, bytes=number)
    alike = store.recall(f"like_{artifact.like}", seconds=number, bytes=number)
    there = bool(own) and not fresh and all((store.root / str(place) / DONE).exists() for place in own["places"])
    steps = 1 if artifact.phase == IMAGES else artifact.steps or math.nan
    seconds = own.get("seconds", alike.get("seconds", math.nan) * steps)
    return Estimate(there, seconds, (own or alike).get("bytes", math.nan))


def stored_phases(run: Sequence[PlannedArtifact], knows: Mapping[str, Estimate]) -> list[str]:
    """The phases of a run of whose planned artifacts all lie in the store."""
    planned = {artifact.phase: [k for k in run if k.phase == artifact.phase and k.planned] for artifact in run}
    planned.pop(IMAGES, None)
    return [phase for phase, own in planned.items() if own and all(knows[artifact.name].stored for artifact in own)]
