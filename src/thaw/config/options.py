"""Options of a choice, read from the fields of its dataclass: their names, types and ranges."""

import math
from collections.abc import Iterable
from dataclasses import Field, field, fields, make_dataclass
from typing import Any, NamedTuple, Optional, get_args, get_type_hints

NONE = type(None)


class Range(NamedTuple):
    """The range of a number, from `low` to `high`; with `above`, `low` itself is not allowed."""

    low: float
    high: float
    above: bool = False

    def __contains__(self, value: float) -> bool:
        return (self.low < value if self.above else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        low, high = number_text(self.low), number_text(self.high)
        if self.high == math.inf:
            return f"{'above' if self.above else 'at least'} {low}"
        return f"above {low} and at most {high}" if self.above else f"between {low} and {high}"


def number_text(x: float) -> str:
    """Return a number as text, with thousands separators."""
    return f"{int(x):,}" if x == round(x, 0) and abs(x) < 1e15 else f"{x:.12g}"


def number(low: float, high: float, above: bool = False) -> Any:
    """Return a dataclass field without a default, with this range as metadata."""
    return field(metadata={"range": Range(low, high, above)})


def option_names(choice: type) -> list[str]:
    """Return the names of a choice's options."""
    return [option.name for option in fields(choice)]


def ranges(choice: type, prefix: str = "") -> dict[str, Range]:
    """Return the ranges of the options that are numbers, by prefixed name."""
    return {prefix + one.name: one.metadata["range"] for one in fields(choice) if "range" in one.metadata}


def can_be_unset(choice: type, name: str) -> bool:
    """Return whether an option of a choice may be null."""
    return NONE in get_args(get_type_hints(choice)[name])


def plain_type(choice: type, name: str) -> Any:
    """Return the type of an option of a choice, without null."""
    hint = get_type_hints(choice)[name]
    return next(part for part in get_args(hint) if part is not NONE) if can_be_unset(choice, name) else hint


def all_options(choices: Iterable[type]) -> dict[str, tuple[type, Field]]:
    """Return the type and the field of every option of the choices, by name.

    The field is null by default and has the widest range of the choices. Raise TypeError if two choices give an option
    different types.
    """
    types: dict[str, Any] = {}
    widest_ranges: dict[str, Range] = {}
    for choice in choices:
        for name in option_names(choice):
            hint = plain_type(choice, name)
            if types.setdefault(name, hint) != hint:
                raise TypeError(f"{choice.__name__}.{name} is {hint}, but {types[name]} in another choice")
        for name, own in ranges(choice).items():
            widest_ranges[name] = widest(widest_ranges.get(name, own), own)
    held = {name: {"range": one} for name, one in widest_ranges.items()}
    return {name: (Optional[hint], field(default=None, metadata=held.get(name))) for name, hint in types.items()}  # noqa: UP045  OmegaConf 2.3 reads no X | None


def widest(one: Range, other: Range) -> Range:
    """Return the smallest range that contains both ranges."""
    low, above = min((one.low, one.above), (other.low, other.above))
    return Range(low, max(one.high, other.high), above)


def dataclass_of(name: str, module: str, members: Iterable[tuple]) -> type:
    """Return a dataclass with members (name, type) or (name, type, field), which pickle can find in `module`."""
    return make_dataclass(name, members, namespace={"__module__": module})
