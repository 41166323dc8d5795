"""What the values of the settings may be: refused with their key and what is allowed. Standard library only."""

import math
import re
from collections.abc import Iterable
from contextlib import suppress

from thaw.errors import UserError, nearest
from thaw.schedules import OPTIONS
from thaw.settings import Augment, Head, Optimizer, Settings

CHOICES = {
    "scheduler.shape": tuple(OPTIONS),
    "rates.split": ("equal", "head", "fastai", "layer_decay"),
    "head.kind": ("linear", "fastai"),
    "data.kind": ("digits", "shapes", "folder", "csv", "torchvision"),
    "data.leak": ("warn", "error"),
    "augment.crop": ("whole", "random", "zoom"),
    "optimizer.name": ("sgd", "adamw"),
    "loss.balance": ("none", "weights", "sampler"),
    "find.rule": ("trials", "edge", "valley"),
    "store.code": ("check", "ignore"),
    "wandb.mode": ("auto", "online", "offline", "disabled"),
    "bn": ("train", "eval"),
    "precision": ("auto", "float32", "tf32", "bfloat16"),
    "monitor": ("valid/accuracy", "valid/loss", "valid/f1_macro"),
}

OWN = ("folder", "csv", "torchvision")  # kinds of data that are photographs
SETS = ("pets", "flowers", "cifar10", "imagenette")  # of data=torchvision

UNITS = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}

# key: (lowest, highest, is the lowest itself allowed)
RANGES = {
    "scheduler.cycles": (1, 64, True),
    "scheduler.cycle_len": (1, 10_000, True),
    "scheduler.cycle_mult": (1, 16, True),
    "scheduler.max_cycles": (1, 64, True),
    "scheduler.warmup": (0, 1e9, True),
    "scheduler.pct": (0, 0.99, True),
    "scheduler.div": (1, math.inf, True),
    "scheduler.final_div": (1, math.inf, True),
    "scheduler.momentum_low": (0, 0.9999, True),
    "scheduler.momentum_high": (0, 0.9999, True),
    "scheduler.gamma": (0, 1, False),
    "rates.decay": (0, 1, False),
    "backbone.drop": (0, 0.99, True),
    "backbone.drop_path": (0, 0.99, True),
    "head.hidden": (1, 65_536, True),
    "data.valid": (0, 0.9, False),
    "data.fold": (0, 4, True),
    "data.limit": (2, math.inf, True),
    "data.crop_pct": (0.1, 1, True),
    "data.max_bad": (0, 1, True),
    "data.max_pixels": (1, 1e12, True),
    "data.min_side": (1, math.inf, True),
    "data.detail": (0, 100, False),
    "data.test": (0, 1e9, True),
    "augment.mixup": (0, 10, True),
    "augment.cutmix": (0, 10, True),
    "optimizer.weight_decay": (0, 10, True),
    "optimizer.momentum": (0, 0.9999, True),
    "optimizer.clip": (0, math.inf, False),
    "loss.smoothing": (0, 0.9, True),
    "evaluate.tta": (0, 1000, True),
    "evaluate.ensemble": (0, 64, True),
    "find.min_lr": (0, 1e3, False),
    "find.max_lr": (0, 1e3, False),
    "find.trial_steps": (2, 100_000, True),
    "find.trial_orders": (1, 100, True),
    "find.stored_steps": (2, 100_000, True),
    "find.stored_orders": (1, 100, True),
    "find.steps": (10, 100_000, True),
    "find.smooth": (0, 0.999, True),
    "find.diverge": (1, math.inf, False),
    "store.wait_s": (0, math.inf, True),
    "store.snapshot_s": (0, math.inf, True),
    "lr_factor": (0, 1e6, False),
    "epochs": (1, 10_000, True),
    "size": (8, 4096, True),
    "batch_size": (1, 1_000_000, True),
    "seed": (0, 2**32 - 1, True),
    "log_every": (1, math.inf, True),
    "stop_after": (1, math.inf, True),
}


def look_up(settings: Settings, key: str):
    """The value at a dotted key."""
    value = settings
    for part in key.split("."):
        value = getattr(value, part)
    return value


def number(value, key: str) -> float:
    """A number, or a fraction such as 1/9, as a float. Errors: anything else, exit 2."""
    try:
        if isinstance(value, bool):
            raise ValueError
        if isinstance(value, str) and value.count("/") == 1:
            over, under = value.split("/")
            return float(over) / float(under)
        return float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        raise UserError(2, f"{key}={value}: must be a number or a fraction such as 1/9") from None


def rate(value, key: str) -> float:
    """A learning rate: finite, above 0, at most 1000. Errors: exit 2."""
    x = number(value, key)
    if not (math.isfinite(x) and 0 < x <= 1000):
        raise UserError(2, f"{key}={value}: must be finite and > 0 (and at most 1000)")
    return x


def whole_or_auto(value, key: str, lowest: int) -> int | None:
    """An integer of at least `lowest`, or None for 'auto'. Errors: exit 2."""
    if value == "auto":
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
        raise UserError(2, f"{key}={value}: must be auto or a whole number >= {lowest}")
    return value


def size_in_bytes(value, key: str) -> float:
    """Bytes of 20GB, 500M or 1e9. Errors: anything else, exit 2."""
    found = re.fullmatch(r"([0-9.]+(?:e[0-9]+)?)\s*([KMGT]?)B?", str(value).strip(), re.IGNORECASE)
    try:
        return float(found[1]) * UNITS[found[2].upper()]
    except (TypeError, ValueError):
        raise UserError(2, f"{key}={value}: must be a size such as 20GB or 500MB") from None


def check(settings: Settings) -> None:
    """Refuse values that cannot be meant, each with its key and what is allowed. Errors: exit 2."""
    for key, choices in CHOICES.items():
        value = look_up(settings, key)
        if value not in choices:
            raise UserError(2, f"{key}={value}: must be one of {', '.join(choices)}; {nearest(value, choices)}")
    for key in RANGES:
        if (value := look_up(settings, key)) is not None:
            in_range(key, value)
    shape = settings.scheduler.shape
    for option in OPTIONS[shape]:
        if getattr(settings.scheduler, option) is None:
            raise UserError(2, f"scheduler.{option}=null: {shape} needs a number")
    if shape == "one_cycle_linear" and settings.scheduler.pct > 0.5:
        raise UserError(2, f"scheduler.pct={settings.scheduler.pct}: {shape} falls as long as it rises, at most 0.5")
    if settings.find.min_lr >= settings.find.max_lr:
        raise UserError(2, f"find.min_lr={settings.find.min_lr}: must be below find.max_lr={settings.find.max_lr}")
    if settings.scheduler.max_cycles is not None and settings.scheduler.max_cycles < settings.scheduler.cycles:
        raise UserError(
            2,
            f"scheduler.max_cycles={settings.scheduler.max_cycles}: must be >= scheduler.cycles="
            f"{settings.scheduler.cycles}",
        )
    for key in ("resize.sizes", "checklist"):
        if not look_up(settings, key):
            raise UserError(2, f"{key} is empty: it needs at least one entry")
    steps = [number(size, "resize.sizes") for size in settings.resize.sizes]
    if not all(0 < size <= 1 or (1 < size < math.inf and size == int(size)) for size in steps):
        raise UserError(2, f"resize.sizes={settings.resize.sizes}: must be fractions up to 1 or whole pixels")
    if settings.data.kind in OWN and not settings.data.root:
        raise UserError(2, f"data.root={settings.data.root}: data={settings.data.kind} needs to know where they lie")
    if settings.data.kind == "torchvision" and (name := settings.data.name) not in SETS:
        raise UserError(2, f"data.name={name}: must be one of {', '.join(SETS)}; {nearest(name, SETS)}")
    if settings.head.kind == "fastai":
        check_fastai(settings.head, settings.batch_size)
    check_optimizer(settings.optimizer)
    crop_scale(settings.augment)
    whole_or_auto(settings.threads, "threads", 1)
    whole_or_auto(settings.data.workers, "data.workers", 0)
    size_in_bytes(settings.data.pixels_budget, "data.pixels_budget")
    if settings.store.max_size is not None:
        size_in_bytes(settings.store.max_size, "store.max_size")
    rates_of(settings)


def in_range(key: str, value: float) -> None:
    """Errors: a value that `RANGES` does not have, exit 2."""
    low, high, inclusive = RANGES[key]
    if not ((low <= value if inclusive else low < value) and value <= high):
        upper = "" if high == math.inf else f" and <= {high}"
        raise UserError(2, f"{key}={value}: must be {'>=' if inclusive else '>'} {low}{upper}")


def check_swept(words: Iterable[str]) -> None:
    """Refuse a sweep for a value of it that its job would be refused for, hours later. Errors: exit 2."""
    for word in words:
        key, _, values = word.partition("=")
        for value in values.split(",") if key in RANGES and "," in values else ():
            with suppress(ValueError):  # no plain number: Hydra's to read
                in_range(key, float(value))


def check_optimizer(optimizer: Optimizer) -> None:
    """Errors: options that the optimizer cannot have, exit 2."""
    if optimizer.name == "sgd":
        if optimizer.momentum is None:
            raise UserError(2, "optimizer.momentum=null: optimizer=sgd needs a number, 0 for none")
        if optimizer.nesterov and not optimizer.momentum:
            raise UserError(2, f"optimizer.nesterov=true: needs optimizer.momentum above 0, not {optimizer.momentum}")
    elif optimizer.betas is None or len(optimizer.betas) != 2 or not all(0 <= beta < 1 for beta in optimizer.betas):
        raise UserError(2, f"optimizer.betas={optimizer.betas}: optimizer=adamw needs two numbers from 0 to below 1")


def check_fastai(head: Head, batch_size: int) -> None:
    """Errors: options that fast.ai's head cannot have, exit 2."""
    if head.hidden is None:
        raise UserError(2, "head.hidden=null: head=fastai needs a whole number")
    if head.drop is None or len(head.drop) != 2 or not all(0 <= drop < 1 for drop in head.drop):
        raise UserError(2, f"head.drop={head.drop}: head=fastai needs two numbers from 0 to below 1")
    if batch_size == 1:
        raise UserError(2, "batch_size=1: the batch norm of head=fastai needs at least 2 pictures a step")


def crop_scale(augment: Augment) -> tuple[float, float] | None:
    """The bounds between which a crop draws its scale; None where the whole picture is taken. Errors: exit 2."""
    if augment.crop == "whole":
        return None
    lowest, highest = {"random": (0, 1), "zoom": (1, 4)}[augment.crop]
    scale = augment.scale or {"random": (0.35, 1.0), "zoom": (1.0, 1.1)}[augment.crop]
    if len(scale) != 2 or not (lowest <= scale[0] <= scale[1] <= highest and scale[1] > 0):
        allowed = f"two rising numbers from {lowest} to {highest}"
        raise UserError(2, f"augment.scale={augment.scale}: augment.crop={augment.crop} needs {allowed}")
    return tuple(scale)


def rates_of(settings: Settings) -> tuple[float | None, list[float] | None]:
    """The rate of the last group (None: to be found) and the ratio of every group (None: one a layer, see `decay`).

    `lr=[a, b, c]` is a rate of c with ratios [a/c, b/c, 1] and overrides `rates.ratios`. Errors: a list that does not
    end in 1, an empty one, or no number, exit 2.
    """
    lr = settings.lr
    if isinstance(lr, (list, tuple)):
        if not lr:
            raise UserError(2, "lr=[]: needs at least one rate")
        values = [rate(value, "lr") for value in lr]
        return values[-1], [value / values[-1] for value in values]
    last = None if lr is None else rate(lr, "lr")
    if settings.rates.split == "layer_decay":
        if settings.rates.decay is None:
            raise UserError(2, "rates.decay=null: rates.split=layer_decay needs a number such as 0.75")
        return last, None
    if not settings.rates.ratios:
        raise UserError(2, f"rates.ratios={settings.rates.ratios}: needs at least one ratio, the last one 1")
    ratios = [rate(value, "rates.ratios") for value in settings.rates.ratios]
    if ratios[-1] != 1:
        raise UserError(2, f"rates.ratios={settings.rates.ratios}: the last ratio must be 1 (earliest layers first)")
    return last, ratios
