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

from thaw.config.schema import Augment
from thaw.config.values import crop_scale
from thaw.data.resize import middle_part
from thaw.runtime.errors import UserError, nearest

# A square from anywhere in a tall picture loses what it shows: it roams no further than in one of a camera's 4:3, where
# the middle half of the picture is in every square.
ROAMED = 4 / 3

TRIED = 4  # draws: what scales at random may leave one as it was

View = Callable[[np.ndarray, int | None], np.ndarray]


def center_crop(size: int, crop_pct: float) -> list:
    """The shorter side to size / crop_pct, then the middle: how validation sees a picture."""
    return [
        albumentations.SmallestMaxSize(max_size=round(size / crop_pct), interpolation=cv2.INTER_AREA),
        albumentations.CenterCrop(size, size),
    ]


def view(size: int, crop_pct: float, augment: Augment | None = None) -> View:
    """`see(picture, seed)`, a uint8 [size, size, 3] view of a uint8 picture; without `augment` the middle of it.

    The draws depend on the seed alone: every transform shares one generator set from it before each picture.
    (`Compose(seed=...)` would give all transforms the same draws, and every loader worker the same pictures.)
    Errors: an unknown transform or argument, transforms that do not end in such a view, exit 2.
    """
    if augment is not None:
        check_view(size, augmentations(size, crop_pct, augment, always=True))
    pipeline = albumentations.Compose(
        center_crop(size, crop_pct) if augment is None else augmentations(size, crop_pct, augment)
    )

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


def check_view(size: int, steps: list) -> None:
    """Try the steps one by one, a few draws of them. Errors: one fails on a picture, or the last leaves no view of the
    size, exit 2."""
    for seed in range(TRIED):
        picture = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
        for step in steps:
            name, alone = f"augment.transforms.{type(step).__name__}", albumentations.Compose([step])
            alone.set_random_state(np.random.default_rng(seed), random.Random(seed))
            try:
                picture = alone(image=picture)["image"]
            except Exception as error:  # whatever stumbles over what it lacks
                line = " ".join(str(error).split()) or type(error).__name__
                raise UserError(2, f"{name}: fails on a picture ({line[:120]})") from None
            if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8:
                made = str(picture.dtype).removeprefix("torch.")
                raise UserError(2, f"{name}: makes {made} of a picture, which is uint8")
        if picture.shape != (size, size, 3):
            made = "x".join(map(str, picture.shape[:2]))
            raise UserError(2, f"augment.transforms: end in {made} pixels, where the plan has {size}x{size}")


def augmentations(size: int, crop_pct: float, augment: Augment, always: bool = False) -> list:
    """The crop and the transforms in the order in which they are made; `always`: each of them."""
    certain = {"p": 1.0} if always else {}
    transforms = [make_transform(name, {**args, **certain}) for name, args in augment.transforms.items()]
    match augment.crop:
        case "whole":
            return center_crop(size, crop_pct) + transforms
        case "random":
            crop = albumentations.RandomResizedCrop(
                (size, size), scale=crop_scale(augment), interpolation=cv2.INTER_AREA
            )
            return [crop, *transforms]
    # As fast.ai 0.7 does: the shorter side to a drawn length, the transforms, then a square from anywhere.
    low, high = (round(size * scale) for scale in crop_scale(augment))
    zoom = albumentations.SmallestMaxSize(max_size=list(range(low, high + 1)), interpolation=cv2.INTER_AREA)
    return [zoom, *transforms, albumentations.RandomCrop(size, size)]


def make_transform(name: str, args: Mapping) -> albumentations.BasicTransform:
    """One albumentations transform by its name and arguments; lists are taken as tuples."""
    kind = getattr(albumentations, name, None)
    if not (isinstance(kind, type) and issubclass(kind, albumentations.BasicTransform)):
        known = [
            n
            for n, k in vars(albumentations).items()
            if isinstance(k, type) and issubclass(k, albumentations.BasicTransform)
        ]
        raise UserError(2, f"augment.transforms.{name}: albumentations has no such transform; {nearest(name, known)}")
    args = {key: tuple(value) if isinstance(value, (list, tuple)) else value for key, value in args.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=r"Argument\(s\)")  # albumentations ignores what it does not know
        try:
            return kind(**args)
        except (UserWarning, TypeError, ValueError) as error:
            line = " ".join(str(error).split())
            raise UserError(2, f"augment.transforms.{name}: {line[:160]}") from None
