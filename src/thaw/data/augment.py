"""What an image goes through on its way to the network: albumentations, seeded for every sample."""

import random
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from thaw.config.schema import Augment
from thaw.config.values import crop_scale
from thaw.data.resize import middle_part
from thaw.data.transforms import Step, albumentations, check_steps, make_steps

# A square from anywhere in a tall image loses what it shows: it roams no further than in one of a camera's 4:3, where
# the middle half of the image is in every square.
ROAMED = 4 / 3

View = Callable[[np.ndarray, int | None], np.ndarray]


def center_crop(size: int, crop_pct: float) -> list[Step]:
    """The shorter side to size / crop_pct, then the middle: how validation sees an image."""
    return [
        crop_step(albumentations.SmallestMaxSize(max_size=round(size / crop_pct), interpolation=cv2.INTER_AREA)),
        crop_step(albumentations.CenterCrop(size, size)),
    ]


def crop_step(transform: albumentations.BasicTransform) -> Step:
    return Step("augment.crop", transform)


def view(size: int, crop_pct: float, augment: Augment | None = None) -> View:
    """`see(image, seed)`, a uint8 [size, size, 3] view of a uint8 image; without `augment` the middle of it.

    The draws depend on the seed alone: every transform, inside compositions too, shares one generator set from it
    before each image. (`Compose(seed=...)` would give all transforms the same draws, and every loader worker the same
    images.)
    Errors: an unknown transform or argument, transforms that do not end in such a view, exit 2.
    """
    steps = center_crop(size, crop_pct) if augment is None else augmentations(size, crop_pct, augment)
    if augment is not None:
        check_steps(steps, size)
    pipeline = albumentations.Compose([step.transform for step in steps])

    def see(image: np.ndarray, seed: int | None = None) -> np.ndarray:
        if augment is not None and augment.crop == "zoom":
            image = middle_part(image, ROAMED)
        if seed is not None:
            pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
        return pipeline(image=image)["image"]

    return see


def at_size(augment: Augment, share: float) -> Augment:
    """The augmentation at a size that is a `share` of the final one: a random crop keeps more of a smaller image.

    The lowest share of the area goes linearly from 1 at no size to `scale` at the final one: weaker at small sizes, as
    EfficientNetV2 trains progressively (arXiv:2104.00298). What a crop of a third shows is lost at half the pixels.
    """
    if augment.crop != "random" or share >= 1:
        return augment
    low, high = crop_scale(augment)
    return replace(augment, scale=[min(high, 1 - (1 - low) * share), high])


def augmentations(size: int, crop_pct: float, augment: Augment) -> list[Step]:
    """The crop and the transforms in the order in which they are made."""
    transforms = make_steps(augment.transforms, "augment.transforms")
    match augment.crop:
        case "whole":
            return center_crop(size, crop_pct) + transforms
        case "random":
            crop = albumentations.RandomResizedCrop(
                (size, size), scale=crop_scale(augment), interpolation=cv2.INTER_AREA
            )
            return [crop_step(crop), *transforms]
    # As fast.ai 0.7 does: the shorter side to a drawn length, the transforms, then a square from anywhere.
    low, high = (round(size * scale) for scale in crop_scale(augment))
    zoom = albumentations.SmallestMaxSize(max_size=list(range(low, high + 1)), interpolation=cv2.INTER_AREA)
    return [crop_step(zoom), *transforms, crop_step(albumentations.RandomCrop(size, size))]
