"""Parsers of values that can be typed in several forms: fractions, sizes in bytes, auto, lists of learning rates."""

import math
import re

from thaw.config.schema import Augment, Settings
from thaw.runtime.errors import UserError

MOST = 1024  # largest number of threads or processes
UNITS = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


def parse_number(value, key: str) -> float:
    """Return a number, or a fraction such as 1/9, as a float. Raise UserError (exit 2) for anything else."""
    try:
        if isinstance(value, bool):
            raise ValueError
        if isinstance(value, str) and value.count("/") == 1:
            over, under = value.split("/")
            return float(over) / float(under)
        return float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        raise UserError(2, f"{key}={value}: must be a number or a fraction such as 1/9") from None


def parse_rate(value, key: str) -> float:
    """Return a learning rate. Raise UserError (exit 2) unless it is above 0 and at most 1,000."""
    x = parse_number(value, key)
    if not (math.isfinite(x) and 0 < x <= 1000):
        raise UserError(2, f"{key}={value}: must be above 0 and at most 1,000")
    return x


def parse_count(value, key: str, lowest: int, highest: int = MOST) -> int | None:
    """Return a whole number, or None for auto. Raise UserError (exit 2) unless it is from `lowest` to `highest`."""
    if value == "auto":
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise UserError(2, f"{key}={value}: must be auto or a whole number between {lowest} and {highest:,}")
    return value


def parse_pattern(value: str, key: str) -> re.Pattern:
    """Compile a regular expression. Raise UserError (exit 2) if it is not valid."""
    try:
        return re.compile(value)
    except re.error as error:
        raise UserError(2, f"{key}={value}: not a regular expression: {error}") from None


def parse_bytes(value, key: str) -> float:
    """Return the bytes of a size such as 20GB, 500M or 1e9. Raise UserError (exit 2) for anything else."""
    found = re.fullmatch(r"([0-9.]+(?:e[0-9]+)?)\s*([KMGT]?)B?", str(value).strip(), re.IGNORECASE)
    try:
        return float(found[1]) * UNITS[found[2].upper()]
    except (TypeError, ValueError):
        raise UserError(2, f"{key}={value}: must be a size such as 20GB or 500MB") from None


def crop_scale(augment: Augment) -> tuple[float, float] | None:
    """Return the bounds of a random crop's scale, or None for augment.crop=whole.

    Raise UserError (exit 2) if `augment.scale` does not fit `augment.crop`.
    """
    if augment.crop == "whole":
        return None
    lowest, highest = {"random": (0, 1), "zoom": (1, 4)}[augment.crop]
    scale = augment.scale or {"random": (0.35, 1.0), "zoom": (1.0, 1.1)}[augment.crop]
    if len(scale) != 2 or not (lowest <= scale[0] <= scale[1] <= highest and scale[1] > 0):
        allowed = f"two numbers from {lowest} to {highest}, the lower first"
        raise UserError(2, f"augment.scale={augment.scale}: augment.crop={augment.crop} needs {allowed}")
    return tuple(scale)


def peak_rate_and_ratios(settings: Settings) -> tuple[float | None, list[float] | None]:
    """Return the rate of the last layer group (None: to be found) and each group's ratio to it (None: `rates.decay`).

    `lr=[a, b, c]` is a rate of c with the ratios [a/c, b/c, 1] and overrides `rates.ratios`. Raise UserError (exit 2)
    for something other than numbers, an empty list, or ratios that do not end in 1.
    """
    lr = settings.lr
    if isinstance(lr, (list, tuple)):
        if not lr:
            raise UserError(2, "lr=[]: needs at least one rate")
        values = [parse_rate(value, "lr") for value in lr]
        return values[-1], [value / values[-1] for value in values]
    last = None if lr is None else parse_rate(lr, "lr")
    if settings.rates.split == "layer_decay":
        if settings.rates.decay is None:
            raise UserError(2, "rates.decay=null: rates.split=layer_decay needs a number such as 0.75")
        return last, None
    if not settings.rates.ratios:
        raise UserError(2, f"rates.ratios={settings.rates.ratios}: needs at least one ratio, and the last must be 1")
    ratios = [parse_rate(value, "rates.ratios") for value in settings.rates.ratios]
    if ratios[-1] != 1:
        raise UserError(2, f"rates.ratios={settings.rates.ratios}: the last ratio must be 1 (earliest layers first)")
    return last, ratios
