"""albumentations transforms and compositions built from `augment.transforms`, and tried before use."""

import os
import random
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # otherwise its import asks the network for a newer version

import albumentations
import numpy as np
from pydantic import ValidationError

from thaw.config.transforms import COMPOSITIONS, Named, inside, named_in
from thaw.runtime.console import say_error
from thaw.runtime.errors import UserError, nearest, one_line_text

TRIED = 4  # draws per transform: a random one may leave an image unchanged


class Step(NamedTuple):
    """A transform, its place in the settings, and the steps inside it if it is a composition."""

    where: str
    transform: albumentations.BasicTransform | albumentations.BaseCompose
    inner: tuple["Step", ...] = ()


def make_steps(given: Any, where: str) -> list[Step]:
    """Build the transforms of a setting, in order. Raise UserError (exit 2) if a transform or argument is unknown."""
    return [make_step(named) for named in named_in(given, where)]


def make_step(named: Named) -> Step:
    """Build one transform; lists in its arguments become tuples."""
    if named.name not in COMPOSITIONS:
        return Step(named.where, construct(named, transform_class(named), named.args))
    inner = tuple(make_step(one) for one in inside(named))
    args = {**named.args, "transforms": [step.transform for step in inner]}
    return Step(named.where, construct(named, getattr(albumentations, named.name), args), inner)


def transform_class(named: Named) -> type[albumentations.BasicTransform]:
    """Return the class of that name. Raise UserError (exit 2) if it does not exist or cannot be a step."""
    kinds = {name: kind for name, kind in vars(albumentations).items() if isinstance(kind, type)}
    known = [name for name, kind in kinds.items() if issubclass(kind, albumentations.BasicTransform)]
    if named.name in known:
        return kinds[named.name]
    if issubclass(kinds.get(named.name, object), albumentations.BaseCompose):
        raise UserError(2, f"{named.where}: cannot be used as a step; use Sequential")
    close = nearest(named.name, [*known, *COMPOSITIONS]) or "its documentation lists them"
    raise UserError(2, f"{named.where}: albumentations has no such transform; {close}")


def construct(named: Named, kind: type, args: Mapping) -> Any:
    """Build the transform and print its warnings. Raise UserError (exit 2) for the first argument that it refuses."""
    given = {
        key: tuple(value) if isinstance(value, (list, tuple)) and key != "transforms" else value
        for key, value in args.items()
    }
    with warnings.catch_warnings(record=True) as raised:
        warnings.filterwarnings("error", message=r"Argument\(s\)")  # albumentations ignores unknown arguments
        try:
            transform = kind(**given)
        except Exception as error:  # wrong arguments raise exceptions of all types
            raise UserError(2, refusal(named, error)) from None
    for warning in raised:
        warn_once(f"warning: {named.where}: {one_line_text(warning.message)}")
    return transform


@cache
def warn_once(line: str) -> None:
    """Print a warning, once per process, although the transforms are built again for each image size."""
    say_error(line)


def refusal(named: Named, error: Exception) -> str:
    """Say in a line what a transform does not accept: the first argument with its value, if pydantic names it."""
    if not isinstance(cause := error.__context__, ValidationError) or not (first := cause.errors()[0])["loc"]:
        return f"{named.where}: {one_line_text(error)}"
    key = str(first["loc"][0])
    value = f"={named.args[key]}" if key in named.args else ""
    return f"{named.where}.{key}{value}: {one_line_text(first['msg'])}"


def check_steps(steps: Sequence[Step], size: int) -> None:
    """Try every transform, also inside compositions, in a few draws on all that the transforms before it may return.

    Raise UserError (exit 2) if one fails on an image, or if the last may return anything but uint8 [size, size, 3].
    """
    for seed in range(TRIED):
        images = [np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)]
        for step in steps:
            images = outcomes(step, images, seed)
        for image in images:
            if image.shape != (size, size, 3):
                made, channels = "x".join(map(str, image.shape[:2])), image.shape[2:] or (1,)
                what = f"{made} pixels" + (f" of {channels[0]} channels" if channels != (3,) else "")
                raise UserError(2, f"augment.transforms: end in {what}, but the plan needs {size}x{size}")


def outcomes(step: Step, images: list[np.ndarray], seed: int, always: bool = False) -> list[np.ndarray]:
    """Return an image of each shape that a step may make of these; with `always`, as if its p were 1."""
    match type(step.transform).__name__:
        case "OneOf" | "OneOrOther":
            made = [one for inner in step.inner for one in outcomes(inner, images, seed, always=True)]
        case "SomeOf" | "RandomOrder":
            made = images
            for _ in range(step.transform.n):
                made = one_a_shape([one for inner in step.inner for one in outcomes(inner, made, seed)])
        case "Sequential":
            made = images
            for inner in step.inner:
                made = outcomes(inner, made, seed)
        case "SelectiveChannelTransform":
            made = [channels_kept(step, image, seed) for image in images]
        case _:
            made = [applied(step, image, seed) for image in images]
    may_pass = step.transform.p < 1 and not always and type(step.transform).__name__ != "OneOrOther"
    return one_a_shape([*made, *(images if may_pass else [])])


def one_a_shape(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    return list({image.shape: image for image in images}.values())


def channels_kept(step: Step, image: np.ndarray, seed: int) -> np.ndarray:
    """Return the image after trying a step on its channels. Raise UserError (exit 2) if that changes their shape."""
    part = np.ascontiguousarray(image[:, :, list(step.transform.channels)])
    made = [part]
    for inner in step.inner:
        made = outcomes(inner, made, seed)
    if [one.shape for one in made] != [part.shape]:
        raise UserError(2, f"{step.where}.transforms: must not change the size or the channels of the image")
    return image


def applied(step: Step, image: np.ndarray, seed: int) -> np.ndarray:
    """Apply a transform. Raise UserError (exit 2) as `drawn` does, or if every draw is a single colour."""
    made = drawn(step, image, seed)
    if is_flat(made) and not is_flat(image) and all(is_flat(drawn(step, image, seed + n)) for n in range(1, TRIED)):
        raise UserError(2, f"{step.where}: turns an image into a single colour")
    return made


def is_flat(image: np.ndarray) -> bool:
    return bool((image == image[0, 0]).all())


def drawn(step: Step, image: np.ndarray, seed: int) -> np.ndarray:
    """Apply one draw of a transform. Raise UserError (exit 2) if it fails or returns no uint8 array."""
    step.transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
    try:
        with warnings.catch_warnings(action="ignore"):  # the run itself shows them once
            made = step.transform(image=image, force_apply=True)["image"]
    except Exception as error:  # what a transform lacks raises exceptions of all types
        raise UserError(2, f"{step.where}: fails on an image ({one_line_text(error, 120)})") from None
    if not isinstance(made, np.ndarray) or made.dtype != np.uint8:
        what = made.dtype if isinstance(made, np.ndarray) else "a tensor"
        raise UserError(2, f"{step.where}: returns {what}, but an image must stay an array of uint8")
    return made
