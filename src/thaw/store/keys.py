"""The parts of every artifact's key: what the result depends on, and nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from thaw.config.optimizers import Optimizer
from thaw.config.schedule import Schedule, longest_warmup
from thaw.config.schema import HEAD_OPTIONS, Augment, Settings
from thaw.config.transforms import in_order
from thaw.config.values import crop_scale
from thaw.plan.finder_steps import finder_length
from thaw.plan.phases import Phase, Plan
from thaw.store.code_hash import ALL_CODE, code_by_module, definition

IMAGES_OF = {"train": "training", "valid": "validation", "test": "test"}  # a split's images, in words


@dataclass(frozen=True)
class Basis:
    """The initial weights, the data and the device of a phase, for the keys of its results."""

    before: str  # key of the weights
    data: str  # key of the images and their labels
    computed: dict  # what the bits of a result depend on: device, precision, threads, versions


def training_parts(settings: Settings, phase: Phase) -> dict:
    """Return the settings that a phase's steps read."""
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
        "optimizer": optimizer_parts(settings.optimizer, phase.schedule),
        "loss": {"smoothing": phase.smoothing, "balance": settings.loss.balance},
        "augment": view_parts(settings.augment) if augmented else None,
        "mixed": [settings.augment.mixup, settings.augment.cutmix] if phase.features == "live" else None,
        "crop_pct": settings.data.crop_pct,
        "head": read_by(settings.head, HEAD_OPTIONS[settings.head.kind]),
        # no effect on a frozen backbone, whose batch norm and dropout are in eval mode
        "body": body if phase.train == "all" else None,
    }


def optimizer_parts(optimizer: Optimizer, schedule: Schedule) -> dict:
    """Return the options of an optimizer, without the momentum if the schedule sets it."""
    options = {"name": optimizer.name, **asdict(optimizer)}
    if schedule.momentum() is not None:
        options |= {"betas": options["betas"][1:]} if "betas" in options else {"momentum": None}
    return options


def view_parts(augment: Augment) -> dict:
    """Return the settings that draw an augmented view; transforms are a list, as a key ignores a mapping's order."""
    return {
        "crop": augment.crop,
        "scale": crop_scale(augment),
        "transforms": in_order(augment.transforms),
    }


def read_by(choice, names: Sequence[str]) -> dict:
    """Return the options that a choice of a group reads, out of those that all its choices have."""
    return {name: getattr(choice, name) for name in names}


def find_parts(settings: Settings, phase: Phase, steps: int | None, trials: int, basis: Basis) -> dict:
    """Return the parts of the key of a finder's curve, without the rule that reads the curve of a range test."""
    f = settings.find
    return {
        "kind": "find",
        **asdict(basis),
        "training": training_parts(settings, phase),
        "epoch": asdict(phase.epochs[0]),
        "rate_batch": phase.rate_batch,
        "test": [f.min_lr, f.max_lr, steps, *(["trials", trials] if f.rule == "trials" else [f.smooth, f.diverge])],
    }


def cycle_parts(settings: Settings, phase: Phase, cycle: int, lr: float, size: int, basis: Basis) -> dict:
    """Return the parts of the key of a cycle's end: the key before it and its own steps, not how many cycles follow."""
    return {
        "kind": "cycle",
        **asdict(basis),
        "training": training_parts(settings, phase),
        "lr": lr,
        "rate_batch": phase.rate_batch,
        "schedule": schedule_parts(settings, phase.schedule),
        "longest_ramp": longest_warmup(phase.budget) if phase.schedule.warmup >= 1 else None,
        "cycle": cycle,
        "epochs": epoch_list(phase.epochs_of(cycle)),
        "size": size,
    }


def schedule_parts(settings: Settings, schedule: Schedule) -> dict:
    """Return the options of a schedule and the hash of its own code, so that other schedules may be added."""
    code = definition(type(schedule)) if settings.store.code == "check" else None
    return {"shape": schedule.shape, **asdict(schedule), "code": code}


def epoch_list(epochs: Sequence) -> list[list]:
    """Return the size, batch size and steps of each epoch."""
    return [[epoch.size, epoch.batch, epoch.steps] for epoch in epochs]


def run_parts(settings: Settings, plan: Plan, made: str, data: dict, computed: dict) -> dict:
    """Return what a whole run depends on: two runs with the same parts have the same result."""
    views = view_parts(settings.augment) if settings.evaluate.tta else None
    phases = {
        phase.name: training_parts(settings, phase)
        | {
            "do": phase.do,
            "find": finder_length(settings, phase) if phase.do == "find" else None,
            "lr": phase.lr,
            "rate_from": phase.rate_from,
            "lr_factor": phase.lr_factor,
            "until": phase.until,
            "schedule": schedule_parts(settings, phase.schedule),
            "rate_batch": phase.rate_batch,
            "budget": phase.budget,
            "cycles": phase.cycles,
            "epochs": epoch_list(phase.epochs),
        }
        for phase in plan.phases
    }
    return {
        "size": plan.size,  # first, because the key of the data depends on it
        "minutes": settings.minutes,
        "data": data,
        "order": list(phases),
        "phases": phases,
        "find": asdict(settings.find),
        "evaluate": asdict(settings.evaluate) | {"augment": views},
        "made": made,
        "computed": computed,
        "code": code_by_module(ALL_CODE) if settings.store.code == "check" else {},
    }


def first_difference(a: Mapping, b: Mapping, path: str = "") -> tuple[str, object, object] | None:
    """Return the path of the first part in which two keys differ (a.b.c) and both values, or None if they are equal."""
    for name in [*a, *(name for name in b if name not in a)]:
        x, y = a.get(name), b.get(name)
        here = f"{path}.{name}" if path else name
        if isinstance(x, Mapping) and isinstance(y, Mapping):
            if found := first_difference(x, y, here):
                return found
        elif x != y:
            return here, x, y
    return None


CHANGED = "changed ({}, now {})"


def changed(before: Mapping, now: Mapping, two_runs: bool = False) -> str | None:
    """Say why a run cannot reuse the earlier work of the same command, or return None if it can.

    `two_runs`: say how two runs differ; neither is the earlier one.
    """
    verb, verbs, values = ("differs", "differ", "differs: {} and {}") if two_runs else ("changed",) * 2 + (CHANGED,)
    code = tuple(one if isinstance(one, Mapping) else {} for one in (before.get("code"), now.get("code")))
    modules = sorted(name for name in {*code[0], *code[1]} if code[0].get(name) != code[1].get(name))
    if code[0] and code[1] and modules:
        return f"code {verb} ({', '.join(name.rpartition('/')[2] for name in modules)})"
    if not (found := first_difference(before, now)):
        return None
    path, was, is_ = found
    path = path.removeprefix("phases.")
    match path.split("."):
        case ["data", "train" | "valid" | "test" as split] if isinstance(was, int):
            return f"the number of {IMAGES_OF[split]} images " + values.format(f"{was:,}", f"{is_:,}")
        case ["data", *_]:
            return f"the images or their labels {verbs}"
        case ["made"]:
            return f"the initial weights {verbs}"
        case ["code", *_]:
            return f"store.code {verb} (results made with check and with ignore are kept apart)"
        case ["computed", *_, last]:
            return f"{last} " + values.format(value_text(was), value_text(is_))
    start = 0
    if isinstance(was, list | tuple) and isinstance(is_, list | tuple):  # a long list is shown from where it differs
        start = next((i for i, (a, b) in enumerate(zip(was, is_, strict=False)) if a != b), min(len(was), len(is_)))
    return f"{path} " + values.format(value_text(was, start), value_text(is_, start))


def value_text(value: object, start: int = 0, room: int = 60) -> str:
    """Return a value as a user would type it, in about `room` characters and with all brackets closed.

    What does not fit is replaced by "...". A list that does not fit is shown from its item `start` on.
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        items, ends = [(f"{name}: ", one) for name, one in value.items()], "{}"
    elif isinstance(value, list | tuple):
        items, ends = [("", one) for one in value], "[]"
    else:
        return text if len(text := str(value)) <= room else f"{text[: max(room - 3, 0)]}..."
    fits = sum(len(label) + len(value_text(one, room=room)) + 2 for label, one in items) <= room
    shown = [] if fits or not start else ["..."]
    for label, one in items if fits else items[start:]:
        text = label + value_text(one, room=room - len(label))
        if not fits and len(text) > room:
            shown.append("...")
            break
        shown.append(text)
        room -= len(text) + 2
    return ends[0] + ", ".join(shown) + ends[1]
