"""What a result depends on, and nothing else: the parts of the key of every artifact. Standard library only."""

import ast
import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path

from thaw.plan import Phase
from thaw.settings import Settings

HERE = Path(__file__).parent
LIBRARIES = ("torch", "timm", "numpy", "albumentations", "opencv-python-headless", "pillow")

# The modules whose code an artifact is made by. Tracking, reports, progress and what people type are in none.
DATA = ("data/decode.py", "data/pixels.py", "data/source.py", "data/augment.py", "device.py")
FEATURES = (*DATA, "model.py", "features.py")
CYCLE = (*FEATURES, "data/batches.py", "schedules.py", "loop.py", "cycles.py")
CODE = {"pixels": DATA, "activations": FEATURES, "find": (*CYCLE, "find.py"), "cycle": CYCLE}


@cache
def code_of(kind: str) -> str:
    """Hash of the syntax trees of a kind's modules, without comments and docstrings; read once in a process."""
    digest = hashlib.sha256()
    for name in CODE[kind]:
        digest.update(meaning((HERE / name).read_text()).encode())
    return digest.hexdigest()[:16]


def meaning(source: str) -> str:
    """The syntax tree of a module as text, docstrings left out."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                del body[0]
    return ast.dump(tree)


@cache
def versions() -> dict[str, str]:
    return {name: version(name) for name in LIBRARIES}


def machine(device: str, dtype: str, threads: int) -> dict:
    """What computes: results are promised the same bits only where all of it is the same."""
    return {"device": device, "dtype": dtype, "threads": threads, "versions": versions()}


def training(settings: Settings, phase: Phase) -> dict:
    """The settings that a phase's steps read."""
    live = phase.features == "live"
    return {
        "seed": settings.seed,
        "phase": phase.name,
        "train": phase.train,
        "features": phase.features,
        "split": phase.split,
        "ratios": phase.ratios,
        "decay": settings.rates.decay if phase.split == "layer_decay" else None,
        "optimizer": asdict(settings.optimizer),
        "loss": asdict(settings.loss),
        "augment": asdict(settings.augment) if live else None,
        "bn": settings.bn,
        "crop_pct": settings.data.crop_pct,
        "drop": [settings.backbone.drop, settings.backbone.drop_path],
    }


def find_parts(settings: Settings, phase: Phase, steps: int, before: str, data: str, computed: dict) -> dict:
    """The key of a finder's curve; the rule that reads it is not in it."""
    f = settings.find
    return {
        "kind": "find",
        "before": before,
        "data": data,
        "computed": computed,
        "code": code_of("find"),
        "training": training(settings, phase),
        "epoch": asdict(phase.epochs[0]),
        "test": [f.min_lr, f.max_lr, steps, f.smooth, f.diverge],
    }


def cycle_parts(
    settings: Settings, phase: Phase, cycle: int, lr: float, size: int, before: str, data: str, computed: dict
) -> dict:
    """The key of a cycle's end: the key before it and what this cycle does; never how many cycles are to follow."""
    first = sum(phase.cycles[:cycle])
    schedule = {
        k: v for k, v in asdict(phase.schedule).items() if k not in ("cycles", "cycle_len", "cycle_mult", "max_cycles")
    }
    return {
        "kind": "cycle",
        "before": before,
        "data": data,
        "computed": computed,
        "code": code_of("cycle"),
        "training": training(settings, phase),
        "lr": lr,
        "schedule": schedule,
        "cycle": cycle,
        "epochs": epochs_text(phase.epochs[first : first + phase.cycles[cycle]]),
        "size": size,
    }


def epochs_text(epochs: Sequence) -> list[list]:
    """Size, batch and steps of each epoch."""
    return [[epoch.size, epoch.batch, epoch.steps] for epoch in epochs]


def first_difference(a: dict, b: dict, path: str = "") -> str | None:
    """The first part in which two keys differ, as `training.optimizer.momentum: 0.9, 0.95`, or None."""
    for name in [*a, *(name for name in b if name not in a)]:
        x, y = a.get(name), b.get(name)
        here = f"{path}.{name}" if path else name
        if isinstance(x, dict) and isinstance(y, dict):
            if found := first_difference(x, y, here):
                return found
        elif x != y:
            return f"{here}: {x}, {y}"
    return None
