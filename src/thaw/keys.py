"""What a result depends on, and nothing else: the parts of the key of every artifact. Standard library only."""

import ast
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from textwrap import shorten

from thaw.checks import crop_scale
from thaw.plan import Phase, Plan, find_length, find_range
from thaw.schedules import OPTIONS, longest_ramp
from thaw.settings import Augment, Settings

HERE = Path(__file__).parent
LIBRARIES = ("torch", "timm", "numpy", "albumentations", "opencv-python-headless", "pillow")

# The modules whose code an artifact is made by. Tracking, reports, progress and what people type are in none.
WEIGHTS = ("packaged.py",)
PIXELS = ("data/decode.py", "data/sides.py", "data/spool.py", "data/pixels.py", "data/source.py")
DATA = (*PIXELS, "data/augment.py", "device.py")
FEATURES = (*DATA, "heads.py", "model.py", "features.py")
CYCLE = (*FEATURES, "groups.py", "data/batches.py", "schedules.py", "loop.py", "job.py", "cycles.py")
FINDS = (*CYCLE, "suggest.py", "find.py", "search.py")
# Kept in a run's result only.
RESULTS = (*WEIGHTS, *FINDS, "stop.py", "fit.py", "tta.py", "ensemble.py", "twins.py", "run.py")
CODE = {
    "weights": WEIGHTS,
    "pixels": PIXELS,
    "activations": FEATURES,
    "finds": FINDS,
    "cycles": CYCLE,
    "results": RESULTS,
}
OF_ALL = ("name", "weight_decay", "clip")
OPTIMIZERS = {"sgd": (*OF_ALL, "momentum", "nesterov"), "adamw": (*OF_ALL, "betas")}
HEADS = {"linear": ("kind",), "fastai": ("kind", "hidden", "drop")}
MIXED = ("crop", "transforms", "mixup", "cutmix")
ALL_CODE = "results"  # the kind that runs every module which any kind runs


def code_of(kind: str) -> dict[str, str]:
    """Of each module that makes a kind, the hash of its syntax tree without comments and docstrings."""
    return {name: hash_of(name) for name in CODE[kind]}


@cache
def hash_of(module: str) -> str:
    """Read once in a process: what runs is what was there when it started."""
    text = (HERE / module).read_text(encoding="utf-8")
    return hashlib.sha256(meaning(text).encode()).hexdigest()[:16]


def code_checked(check: str) -> Callable[[str], Mapping[str, str]]:
    """`code_of`, or for `store.code=ignore` what says nothing of the code."""
    return code_of if check == "check" else lambda kind: {}


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


def computed(device: str, dtype: str, **rest) -> dict:
    """What computes: results are promised the same bits only where all of it is the same."""
    return {"device": device, "dtype": dtype, **rest, "versions": versions()}


def training(settings: Settings, phase: Phase) -> dict:
    """The settings that a phase's steps read."""
    augmented = phase.features == "live" or phase.views
    body = {"bn": settings.bn, "drop": settings.backbone.drop, "drop_path": settings.backbone.drop_path}
    return {
        "seed": settings.seed,
        "phase": phase.name,
        "train": phase.train,
        "features": phase.features,
        "views": phase.views,
        "split": phase.split,
        "ratios": phase.ratios,
        "decay": settings.rates.decay if phase.split == "layer_decay" else None,
        "optimizer": read_by(settings.optimizer, OPTIMIZERS[settings.optimizer.name]),
        "loss": asdict(settings.loss),
        "augment": drawn_by(settings.augment) if augmented else None,
        "crop_pct": settings.data.crop_pct,
        "head": read_by(settings.head, HEADS[settings.head.kind]),
        # of a frozen body the batch norm and the dropout stand still whatever they are set to
        "body": body if phase.train == "all" else None,
    }


def drawn_by(augment: Augment) -> dict:
    """What a view is drawn by: the scale in numbers, the transforms in order, which a mapping loses in a key."""
    read = read_by(augment, MIXED)
    return read | {"transforms": list(read["transforms"].items()), "scale": crop_scale(augment)}


def read_by(choice, names: Sequence[str]) -> dict:
    """The options that a choice of a group reads, of all that the group's choices have."""
    return {name: getattr(choice, name) for name in names}


def find_parts(
    settings: Settings, phase: Phase, steps: int, orders: int, before: str, data: str, computed: dict
) -> dict:
    """The key of a finder's curve; of a range test the rule that reads it is not in it."""
    f = find_range(settings)
    return {
        "kind": "find",
        "before": before,
        "data": data,
        "computed": computed,
        "training": training(settings, phase),
        "epoch": asdict(phase.epochs[0]),
        "test": [f.min_lr, f.max_lr, f.diverge, steps, *(["trials", orders] if f.rule == "trials" else [f.smooth])],
    }


def cycle_parts(
    settings: Settings, phase: Phase, cycle: int, lr: float, size: int, before: str, data: str, computed: dict
) -> dict:
    """The key of a cycle's end: the key before it and what this cycle does; never how many cycles are to follow."""
    first = sum(phase.cycles[:cycle])
    return {
        "kind": "cycle",
        "before": before,
        "data": data,
        "computed": computed,
        "training": training(settings, phase),
        "lr": lr,
        "rate_batch": phase.rate_batch,
        "schedule": read_by(phase.schedule, ("shape", *OPTIONS[phase.schedule.shape])),
        "longest_ramp": longest_ramp(phase.budget) if (phase.schedule.warmup or 0) >= 1 else None,
        "cycle": cycle,
        "epochs": epochs_text(phase.epochs[first : first + phase.cycles[cycle]]),
        "size": size,
    }


def epochs_text(epochs: Sequence) -> list[list]:
    """Size, batch and steps of each epoch."""
    return [[epoch.size, epoch.batch, epoch.steps] for epoch in epochs]


def run_parts(settings: Settings, plan: Plan, made: str, data: dict, computed: dict) -> dict:
    """What a whole run depends on: two runs of the same parts have the same result."""
    views = drawn_by(settings.augment) if settings.evaluate.tta else None
    phases = {
        phase.name: training(settings, phase)
        | {
            "do": phase.do,
            "find": find_length(settings, phase) if phase.do == "find" else None,
            "lr": phase.lr,
            "rate_from": phase.rate_from,
            "until": phase.until,
            "schedule": read_by(phase.schedule, ("shape", *OPTIONS[phase.schedule.shape])),
            "rate_batch": phase.rate_batch,
            "budget": phase.budget,
            "cycles": phase.cycles,
            "epochs": epochs_text(phase.epochs),
        }
        for phase in plan.phases
    }
    return {
        "size": plan.size,  # first: the key of the data differs with it
        "data": data,
        "order": list(phases),
        "phases": phases,
        "find": asdict(find_range(settings)),
        "evaluate": asdict(settings.evaluate) | {"augment": views},
        "lr_factor": settings.lr_factor,
        "made": made,
        "computed": computed,
        "code": dict(code_checked(settings.store.code)(ALL_CODE)),
    }


def first_difference(a: Mapping, b: Mapping, path: str = "") -> tuple[str, object, object] | None:
    """The first part in which two keys differ, by its path (training.optimizer.momentum), with both values, or None."""
    for name in [*a, *(name for name in b if name not in a)]:
        x, y = a.get(name), b.get(name)
        here = f"{path}.{name}" if path else name
        if isinstance(x, Mapping) and isinstance(y, Mapping):
            if found := first_difference(x, y, here):
                return found
        elif x != y:
            return here, x, y
    return None


def changed(before: Mapping, now: Mapping) -> str | None:
    """What parts a run from the work that lies there for the same command, in words; None: nothing does."""
    code = before.get("code", {}), now.get("code", {})
    modules = sorted(name for name in {*code[0], *code[1]} if code[0].get(name) != code[1].get(name))
    if code[0] and code[1] and modules:
        return f"code changed ({', '.join(name.rpartition('/')[2] for name in modules)})"
    if not (found := first_difference(before, now)):
        return None
    path, was, is_ = found
    path = path.removeprefix("phases.")
    match path.split("."):
        case ["data", "train" | "valid" | "test" as split]:
            return f"the pictures changed ({was:,} to {split}, now {is_:,})"
        case ["data", *_]:
            return "the pictures or their labels changed"
        case ["made"]:
            return "the weights to start from changed"
        case ["code", *_]:
            return "store.code changed (with ignore only what was made with ignore is found)"
        case ["computed", *rest]:
            return f"{rest[-1]} changed ({was}, now {is_})"
    return f"{path} changed ({shorten(str(was), 60)}, now {shorten(str(is_), 60)})"
