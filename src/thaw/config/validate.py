"""What the values of the settings may be: refused with their key and what is allowed. Standard library only."""

import math
from collections.abc import Iterable
from contextlib import suppress

from thaw.config.schema import PHOTO_KINDS, SCHEDULER_OPTIONS, Head, Optimizer, Settings
from thaw.config.values import crop_scale, parse_bytes, parse_count, parse_number, peak_rate_and_ratios
from thaw.runtime.errors import UserError, nearest

CHOICES = {
    "scheduler.shape": tuple(SCHEDULER_OPTIONS),
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

TORCHVISION_SETS = ("pets", "flowers", "cifar10", "imagenette")  # of data=torchvision
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


def value_at(settings: Settings, key: str):
    """The value at a dotted key."""
    value = settings
    for part in key.split("."):
        value = getattr(value, part)
    return value


def check_settings(settings: Settings) -> None:
    """Refuse values that cannot be meant, each with its key and what is allowed. Errors: exit 2."""
    for key, choices in CHOICES.items():
        value = value_at(settings, key)
        if value not in choices:
            raise UserError(2, f"{key}={value}: must be one of {', '.join(choices)}; {nearest(value, choices)}")
    for key in RANGES:
        if (value := value_at(settings, key)) is not None:
            check_range(key, value)
    shape = settings.scheduler.shape
    for option in SCHEDULER_OPTIONS[shape]:
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
        if not value_at(settings, key):
            raise UserError(2, f"{key} is empty: it needs at least one entry")
    steps = [parse_number(size, "resize.sizes") for size in settings.resize.sizes]
    if not all(0 < size <= 1 or (1 < size < math.inf and size == int(size)) for size in steps):
        raise UserError(2, f"resize.sizes={settings.resize.sizes}: must be fractions up to 1 or whole pixels")
    if settings.data.kind in PHOTO_KINDS and not settings.data.root:
        raise UserError(2, f"data.root={settings.data.root}: data={settings.data.kind} needs to know where they lie")
    if settings.data.kind == "torchvision" and (name := settings.data.name) not in TORCHVISION_SETS:
        raise UserError(
            2, f"data.name={name}: must be one of {', '.join(TORCHVISION_SETS)}; {nearest(name, TORCHVISION_SETS)}"
        )
    if settings.head.kind == "fastai":
        check_fastai(settings.head, settings.batch_size)
    check_optimizer(settings.optimizer)
    crop_scale(settings.augment)
    parse_count(settings.threads, "threads", 1)
    parse_count(settings.data.workers, "data.workers", 0)
    parse_bytes(settings.data.pixels_budget, "data.pixels_budget")
    if settings.store.max_size is not None:
        parse_bytes(settings.store.max_size, "store.max_size")
    peak_rate_and_ratios(settings)


def check_range(key: str, value: float) -> None:
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
                check_range(key, float(value))


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
