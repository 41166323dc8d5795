"""Parse values that may be typed in several forms: fractions, sizes in bytes, auto, lists of rates."""

import math
import re

from thaw.config.schema import Augment, Settings
from thaw.runtime.errors import UserError

MOST = 1024  # threads or processes
UNITS = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


def parse_number(value, key: str) -> float:
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


def parse_rate(value, key: str) -> float:
    """A learning rate: finite, above 0, at most 1000. Errors: exit 2."""
    x = parse_number(value, key)
    if not (math.isfinite(x) and 0 < x <= 1000):
        raise UserError(2, f"{key}={value}: must be finite and > 0 (and at most 1000)")
    return x


def parse_count(value, key: str, lowest: int) -> int | None:
    """An integer from `lowest` to MOST, or None for 'auto'. Errors: exit 2."""
    if value == "auto":
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= MOST:
        raise UserError(2, f"{key}={value}: must be auto or a whole number >= {lowest} and <= {MOST}")
    return value


def parse_pattern(value: str, key: str) -> re.Pattern:
    """A regular expression. Errors: it is none, exit 2."""
    try:
        return re.compile(value)
    except re.error as error:
        raise UserError(2, f"{key}={value}: no regular expression: {error}") from None


def parse_bytes(value, key: str) -> float:
    """Bytes of 20GB, 500M or 1e9. Errors: anything else, exit 2."""
    found = re.fullmatch(r"([0-9.]+(?:e[0-9]+)?)\s*([KMGT]?)B?", str(value).strip(), re.IGNORECASE)
    try:
        return float(found[1]) * UNITS[found[2].upper()]
    except (TypeError, ValueError):
        raise UserError(2, f"{key}={value}: must be a size such as 20GB or 500MB") from None


def crop_scale(augment: Augment) -> tuple[float, float] | None:
    """The bounds between which a crop draws its scale; None where the whole image is taken. Errors: exit 2."""
    if augment.crop == "whole":
        return None
    lowest, highest = {"random": (0, 1), "zoom": (1, 4)}[augment.crop]
    scale = augment.scale or {"random": (0.35, 1.0), "zoom": (1.0, 1.1)}[augment.crop]
    if len(scale) != 2 or not (lowest <= scale[0] <= scale[1] <= highest and scale[1] > 0):
        allowed = f"two rising numbers from {lowest} to {highest}"
        raise UserError(2, f"augment.scale={augment.scale}: augment.crop={augment.crop} needs {allowed}")
    return tuple(scale)


def peak_rate_and_ratios(settings: Settings) -> tuple[float | None, list[float] | None]:
    """The rate of the last group (None: to be found) and the ratio of every group (None: one a layer, see `decay`).

    `lr=[a, b, c]` is a rate of c with ratios [a/c, b/c, 1] and overrides `rates.ratios`. Errors: a list that does not
    end in 1, an empty one, or no number, exit 2.
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
        raise UserError(2, f"rates.ratios={settings.rates.ratios}: needs at least one ratio, the last one 1")
    ratios = [parse_rate(value, "rates.ratios") for value in settings.rates.ratios]
    if ratios[-1] != 1:
        raise UserError(2, f"rates.ratios={settings.rates.ratios}: the last ratio must be 1 (earliest layers first)")
    return last, ratios
