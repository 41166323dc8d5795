"""Reader of `augment.transforms`: transforms by name with their arguments, in order, and compositions of them.

It checks the structure and the compositions. `thaw.data.transforms` checks the arguments of a transform by making it.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from thaw.config.conf_files import choices_of, part, read_yaml
from thaw.config.paths import CONF
from thaw.runtime.errors import UserError, nearest

MOST = 100  # the largest `n` of a composition


class Named(NamedTuple):
    """A transform as it is written: its dotted key, its name and its arguments."""

    where: str
    name: str
    args: Mapping[str, Any]


def is_share(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1


def is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST


def is_channels(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and all(type(one) is int and 0 <= one <= 2 for one in value)
        and 0 < len(value) == len(set(value))
    )


# Arguments of compositions, which albumentations does not check: a test and the allowed values.
ARGUMENTS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "p": (is_share, "a number from 0 to 1"),
    "n": (is_count, f"a whole number from 1 to {MOST}"),
    "replace": (lambda value: isinstance(value, bool), "true or false"),
    "channels": (is_channels, "a list of 0, 1 and 2, each at most once"),
}
# The compositions, with their arguments besides `transforms`.
COMPOSITIONS = {
    "OneOf": ("p",),
    "OneOrOther": ("p",),
    "RandomOrder": ("n", "replace", "p"),
    "SelectiveChannelTransform": ("channels", "p"),
    "Sequential": ("p",),
    "SomeOf": ("n", "replace", "p"),
}


def named_in(given: Any, where: str) -> list[Named]:
    """Return the transforms of a mapping, or of a list of mappings with one each, in order and without null ones.

    Raise UserError (exit 2) if they are written in another form.
    """
    if isinstance(given, Mapping):
        single = [(where, {name: args}) for name, args in given.items()]
    elif isinstance(given, (list, tuple)):
        single = [(f"{where}[{i}]", item) for i, item in enumerate(given)]
    else:
        raise UserError(2, f"{where}={given}: must be transforms, such as {{Blur: {{p: 0.5}}}}, or a list of them")
    found = []
    for at, item in single:
        if not isinstance(item, Mapping) or len(item) != 1:
            raise UserError(2, f"{at}={item}: must be one transform, such as {{Blur: {{p: 0.5}}}}")
        ((name, args),) = item.items()
        if args is not None and not isinstance(args, Mapping):
            such = "{transforms: {Blur: {p: 0.5}}}" if name in COMPOSITIONS else "{p: 0.5}"
            raise UserError(2, f"{at}.{name}={args}: must be arguments, such as {such}")
        found += [] if args is None else [Named(f"{at}.{name}", str(name), args)]
    return found


def inside(named: Named) -> list[Named]:
    """Return the transforms in a composition. Raise UserError (exit 2) if it has none."""
    at = f"{named.where}.transforms"
    if not (found := named_in(named.args.get("transforms") or {}, at)):
        raise UserError(2, f"{at}: {named.name} needs a transform, such as {{transforms: {{Blur: {{p: 0.5}}}}}}")
    return found


def check_written(given: Any, where: str) -> None:
    """Raise UserError (exit 2) for a wrong form, a number that is not finite or a wrong argument of a composition."""
    for named in named_in(given, where):
        for key, value in named.args.items():
            held = key == "transforms" and named.name in COMPOSITIONS
            if not held and not all(map(math.isfinite, numbers_in(value))):
                raise UserError(2, f"{named.where}.{key}={value}: must be finite")
        if named.name in COMPOSITIONS:
            check_composition(named)
            check_written(named.args["transforms"], f"{named.where}.transforms")


def numbers_in(value: Any) -> Iterator[float]:
    """Yield the numbers in an argument, also those in lists and mappings."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, (Mapping, list, tuple)):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from numbers_in(one)


def check_composition(named: Named) -> None:
    """Raise UserError (exit 2) if a composition has an unknown or impossible argument."""
    where, name, args = named
    for key, value in args.items():
        if key != "transforms" and key not in COMPOSITIONS[name]:
            known = ("transforms", *COMPOSITIONS[name])
            raise UserError(2, f"{where}.{key}: {name} has no such argument; {nearest(key, known)}")
        if key in ARGUMENTS and not ARGUMENTS[key][0](value):
            raise UserError(2, f"{where}.{key}={value}: must be {ARGUMENTS[key][1]}")
    held = inside(named)
    if name == "OneOrOther" and len(held) != 2:
        raise UserError(2, f"{where}.transforms: OneOrOther needs two, not {len(held)}; OneOf takes any number")
    if args.get("n", 1) > len(held) and not args.get("replace", False):
        raise UserError(2, f"{where}.n={args['n']}: must be <= {len(held)} (its transforms) unless replace=true")
    if name == "OneOf" and all(one.args.get("p", 0.5) == 0 for one in held):
        raise UserError(2, f"{where}.transforms: each p is a weight, and all of them are 0")


def in_order(given: Any) -> list[tuple[str, Any]]:
    """Return (name, arguments) of all transforms as nested lists: a store key ignores the order of a mapping."""
    found = named_in(given, "augment.transforms")
    held = [{"transforms": in_order(args["transforms"])} if name in COMPOSITIONS else {} for _, name, args in found]
    return [(one.name, {**one.args, **inner}) for one, inner in zip(found, held, strict=True)]


def are_shipped(transforms: Mapping[str, Any]) -> bool:
    """Return whether these are the transforms of a choice in conf/augment, which the tests have checked."""
    files = [CONF / "augment" / f"{name}.yaml" for name in choices_of("augment", CONF)]
    return as_text(transforms) in [part(read_yaml(file), "transforms") for file in files]


def as_text(value: Any) -> Any:
    """Return a value with every scalar as text, as `read_yaml` returns it."""
    if isinstance(value, Mapping):
        return {str(key): as_text(one) for key, one in value.items()}
    return [as_text(one) for one in value] if isinstance(value, (list, tuple)) else str(value)
