"""Checks of the values of all settings."""

import math
from collections.abc import Sequence
from typing import Any

from thaw.config.composed import CHOSEN, Composed, OptimizerKeys, SchedulerKeys, picked
from thaw.config.optimizers import OPTIMIZERS
from thaw.config.options import Range, can_be_unset, option_names, ranges
from thaw.config.schedulers import SCHEDULES
from thaw.config.schema import Head
from thaw.config.sources import LISTED, SOURCES, root_form
from thaw.config.transforms import check_written
from thaw.config.values import crop_scale, parse_bytes, parse_count, parse_number, parse_pattern, peak_rate_and_ratios
from thaw.runtime.errors import UserError, nearest

CHOICES = {
    "scheduler.shape": tuple(SCHEDULES),
    "rates.split": ("equal", "head", "fastai", "layer_decay"),
    "head.kind": ("linear", "fastai"),
    "data.kind": tuple(SOURCES),
    "data.leak": ("warn", "error"),
    "augment.crop": ("whole", "random", "zoom"),
    "optimizer.name": tuple(OPTIMIZERS),
    "loss.balance": ("none", "weights", "sampler"),
    "find.rule": ("trials", "edge", "valley"),
    "store.code": ("check", "ignore"),
    "wandb.mode": ("auto", "online", "offline", "disabled"),
    "bn": ("auto", "train", "eval"),
    "precision": ("auto", "float32", "tf32", "bfloat16"),
    "monitor": ("valid/accuracy", "valid/loss", "valid/f1_macro"),
}

TORCHVISION_SETS = ("pets", "flowers", "cifar10", "imagenette")  # choices of data.name
MOST_BATCH = 1_000_000
RANGES = {
    "rates.decay": Range(0, 1, above=True),
    "backbone.drop": Range(0, 0.99),
    "backbone.drop_path": Range(0, 0.99),
    "head.hidden": Range(1, 65_536),
    "data.valid": Range(0, 0.9, above=True),
    "data.fold": Range(0, 4),
    "data.limit": Range(2, math.inf),
    "data.crop_pct": Range(0.1, 1),
    "data.max_bad": Range(0, 1),
    "data.max_pixels": Range(1, 1e12),
    "data.min_side": Range(1, math.inf),
    "data.detail": Range(0, 100, above=True),
    "data.test": Range(0, 1e9),
    "data.facts.images": Range(2, math.inf),
    "data.facts.test": Range(0, math.inf),
    "data.facts.classes": Range(2, math.inf),
    "backbone.facts.native_size": Range(8, 4096),
    "backbone.facts.multiple": Range(1, 4096),
    "backbone.facts.layers": Range(1, 1000),
    "augment.mixup": Range(0, 10),
    "augment.cutmix": Range(0, 10),
    "loss.smoothing": Range(0, 0.9),
    "evaluate.tta": Range(0, 1000),
    "evaluate.ensemble": Range(0, 64),
    "find.min_lr": Range(0, 1e3, above=True),
    "find.max_lr": Range(0, 1e3, above=True),
    "find.trial_steps": Range(2, 100_000),
    "find.trials": Range(2, 100),
    "find.stored_steps": Range(2, 100_000),
    "find.steps": Range(10, 100_000),
    "find.smooth": Range(0, 0.999),
    "find.diverge": Range(1, math.inf, above=True),
    "store.wait_s": Range(0, math.inf),
    "store.snapshot_s": Range(0, math.inf),
    "lr_factor": Range(0, 1e6, above=True),
    "minutes": Range(0, 1e6, above=True),
    "size": Range(8, 4096),
    "seed": Range(0, 2**32 - 1),
    "log_every": Range(1, math.inf),
    "stop_after": Range(1, math.inf),
    **ranges(Composed),
    **ranges(SchedulerKeys, "scheduler."),
    **ranges(OptimizerKeys, "optimizer."),
}

# OmegaConf would accept lists and dictionaries as items of these.
NUMBERS = (float, "a number")
LISTS = {"augment.scale": NUMBERS, "head.drop": NUMBERS, "optimizer.betas": NUMBERS, "tags": (str, "text")}


def value_at(composed: Composed, key: str):
    """Return the value at a dotted key."""
    value = composed
    for part in key.split("."):
        value = getattr(value, part)
    return value


def check_settings(composed: Composed) -> None:
    """Raise UserError (exit 2) for an impossible value, with its key and what is allowed."""
    for key, choices in CHOICES.items():
        value = value_at(composed, key)
        if value not in choices:
            raise no_choice(key, value, choices)
    for key in RANGES:
        if (value := value_at(composed, key)) is not None:
            check_range(key, value, RANGES[key])
    for key, (kind, what) in LISTS.items():
        if not all(isinstance(item, kind) for item in value_at(composed, key) or ()):
            raise UserError(2, f"{key}={value_at(composed, key)}: each item must be {what}")
    for group in CHOSEN:
        check_chosen(group, picked(group, composed))
    if composed.find.min_lr >= composed.find.max_lr:
        raise UserError(2, f"find.min_lr={composed.find.min_lr}: must be below find.max_lr={composed.find.max_lr}")
    if composed.scheduler.max_cycles is not None and composed.scheduler.max_cycles < composed.scheduler.cycles:
        raise UserError(
            2,
            f"scheduler.max_cycles={composed.scheduler.max_cycles}: must be at least scheduler.cycles="
            f"{composed.scheduler.cycles}",
        )
    for key in ("resize.sizes", "checklist", "store.dir", "wandb.dir"):
        if not value_at(composed, key):
            what = "a folder" if key.endswith("dir") else "at least one entry"
            raise UserError(2, f"{key} is empty: it needs {what}")
    check_written(composed.augment.transforms, "augment.transforms")
    steps = [parse_number(size, "resize.sizes") for size in composed.resize.sizes]
    if not all(0 < size <= 1 or (1 < size < math.inf and size == int(size)) for size in steps):
        raise UserError(2, f"resize.sizes={composed.resize.sizes}: must be fractions up to 1 or whole pixels")
    if composed.data.kind in LISTED and not composed.data.root:
        kind = composed.data.kind
        raise UserError(2, f"data.root={composed.data.root or 'null'}: data={kind} needs data.root={root_form(kind)}")
    if composed.data.kind == "torchvision" and (name := composed.data.name) not in TORCHVISION_SETS:
        raise no_choice("data.name", name, TORCHVISION_SETS)
    if composed.data.group is not None and not SOURCES[composed.data.kind].group_columns:
        parse_pattern(composed.data.group, "data.group")
    if composed.head.kind == "fastai":
        check_fastai(composed.head, composed.batch_size)
    crop_scale(composed.augment)
    parse_count(composed.threads, "threads", 1)
    parse_count(composed.batch_size, "batch_size", 1, MOST_BATCH)
    parse_count(composed.stored_batch, "stored_batch", 1, MOST_BATCH)
    parse_count(composed.data.workers, "data.workers", 0)
    parse_bytes(composed.data.pixels_budget, "data.pixels_budget")
    if composed.store.max_size is not None:
        parse_bytes(composed.store.max_size, "store.max_size")
    peak_rate_and_ratios(composed)


def no_choice(key: str, value: Any, choices: Sequence[str]) -> UserError:
    """Return the error for a value that is none of the choices."""
    close = nearest(value, choices)  # all choices if none is close
    meant = f"; {close}" if close.startswith("did you mean") else ""
    return UserError(2, f"{key}={value}: must be one of {', '.join(choices)}{meant}")


def check_range(key: str, value: float, allowed: Range) -> None:
    """Raise UserError (exit 2) if a value is not in the range."""
    if value not in allowed:
        raise UserError(2, f"{key}={value}: must be {allowed}")


def check_chosen(group: str, chosen: Any) -> None:
    """Raise UserError (exit 2) if an option of the active choice is unset or outside the range of this choice."""
    name = getattr(chosen, CHOSEN[group][0])
    own = ranges(type(chosen))
    for option in option_names(type(chosen)):
        key, value = f"{group}.{option}", getattr(chosen, option)
        if value is not None and option in own:
            check_range(key, value, own[option])
        if value is None and not can_be_unset(type(chosen), option):
            raise UserError(2, f"{key}=null: {name} needs a {'number' if option in own else 'value'}")
    chosen.check()


def check_fastai(head: Head, batch_size: int | str) -> None:
    """Raise UserError (exit 2) for options that are impossible with fast.ai's head."""
    if head.hidden is None:
        raise UserError(2, "head.hidden=null: head=fastai needs a whole number")
    if head.drop is None or len(head.drop) != 2 or not all(0 <= drop < 1 for drop in head.drop):
        raise UserError(2, f"head.drop={head.drop}: head=fastai needs two numbers from 0 to below 1")
    if batch_size == 1:
        raise UserError(2, "batch_size=1: the batch norm of head=fastai needs at least 2 images per batch")
