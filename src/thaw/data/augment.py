"""What a picture goes through on its way to the network: albumentations, seeded for every sample."""

import os
import random
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # or its import asks the network for a newer version

import albumentations
import cv2
import numpy as np

from thaw.checks import crop_scale
from thaw.data.sides import middle_part
from thaw.errors import UserError, nearest
from thaw.settings import Augment

# A square from anywhere in a tall picture loses what it shows: it roams no further than in one of a camera's 4:3, where
# the middle half of the picture is in every square.
ROAMED = 4 / 3

TRIED = 67  # pixels, a square, of what transforms are tried on: a size that nobody asks for

View = Callable[[np.ndarray, int | None], np.ndarray]


def middle(size: int, crop_pct: float) -> list:
    """The shorter side to size / crop_pct, then the middle: how validation sees a picture."""
    return [
        albumentations.SmallestMaxSize(max_size=round(size / crop_pct), interpolation=cv2.INTER_AREA),
        albumentations.CenterCrop(size, size),
    ]


def view(size: int, crop_pct: float, augment: Augment | None = None) -> View:
    """`see(picture, seed)`, a uint8 [size, size, 3] view of a uint8 picture; without `augment` the middle of it.

    The draws depend on the seed alone: every transform shares one generator set from it before each picture.
    (`Compose(seed=...)` would give all transforms the same draws, and every loader worker the same pictures.)
    Errors: an unknown transform or argument, exit 2.
    """
    pipeline = albumentations.Compose(middle(size, crop_pct) if augment is None else drawn(size, crop_pct, augment))

    def see(picture: np.ndarray, seed: int | None = None) -> np.ndarray:
        if augment is not None and augment.crop == "zoom":
            picture = middle_part(picture, ROAMED)
        if seed is not None:
            pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
        return pipeline(image=picture)["image"]

    return see


def at_size(augment: Augment, share: float) -> Augment:
    """The augmentation at a size that is a `share` of the final one: a random crop keeps more of a smaller picture.

    The lowest share of the area goes linearly from 1 at no size to `scale` at the final one: weaker at small sizes, as
    EfficientNetV2 trains progressively (arXiv:2104.00298). What a crop of a third shows is lost at half the pixels.
    """
    if augment.crop != "random" or share >= 1:
        return augment
    low, high = crop_scale(augment)
    return replace(augment, scale=[min(high, 1 - (1 - low) * share), high])


def drawn(size: int, crop_pct: float, augment: Augment) -> list:
    """The crop and the transforms in the order in which they are made."""
    transforms = [transform(name, args) for name, args in augment.transforms.items()]
    match augment.crop:
        case "whole":
            return middle(size, crop_pct) + transforms
        case "random":
            crop = albumentations.RandomResizedCrop(
                (size, size), scale=crop_scale(augment), interpolation=cv2.INTER_AREA
            )
            return [crop, *transforms]
    # As fast.ai 0.7 does: the shorter side to a drawn length, the transforms, then a square from anywhere.
    low, high = (round(size * scale) for scale in crop_scale(augment))
    zoom = albumentations.SmallestMaxSize(max_size=list(range(low, high + 1)), interpolation=cv2.INTER_AREA)
    return [zoom, *transforms, albumentations.RandomCrop(size, size)]


def transform(name: str, args: Mapping | None) -> albumentations.BasicTransform:
    """One albumentations transform by its name and arguments; lists are taken as tuples.

    Errors: none of that name, other arguments, one that gives no picture of the size it was given, exit 2.
    """
    kind = getattr(albumentations, name, None)
    if not (isinstance(kind, type) and issubclass(kind, albumentations.BasicTransform)):
        known = [
            n
            for n, k in vars(albumentations).items()
            if isinstance(k, type) and issubclass(k, albumentations.BasicTransform)
        ]
        raise UserError(2, f"augment.transforms.{name}: albumentations has no such transform; {nearest(name, known)}")
    args = {key: tuple(value) if isinstance(value, (list, tuple)) else value for key, value in (args or {}).items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=r"Argument\(s\)")  # albumentations ignores what it does not know
        try:
            made, always = kind(**args), kind(**{**args, "p": 1.0})
        except (UserWarning, TypeError, ValueError) as error:
            line = " ".join(str(error).split())
            raise UserError(2, f"augment.transforms.{name}: {line[:160]}") from None
    before = np.random.default_rng(0).integers(0, 256, (TRIED, TRIED, 3), np.uint8)
    try:
        after = albumentations.Compose([always])(image=before)["image"]
    except Exception as error:  # what it needs besides a picture, or of one
        line = " ".join(str(error).split()) or type(error).__name__
        raise UserError(2, f"augment.transforms.{name}: cannot be drawn on a picture alone ({line[:120]})") from None
    if not isinstance(after, np.ndarray) or (after.shape, after.dtype) != (before.shape, before.dtype):
        what = f"{list(after.shape)} {str(after.dtype).removeprefix('torch.')}"
        raise UserError(2, f"augment.transforms.{name}: makes {what} of a uint8 {list(before.shape)}; it must stay one")
    return made
