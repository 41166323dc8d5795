"""Crops and augmentation of images: albumentations pipelines, seeded for every image."""

import random
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from thaw.config.schema import Augment
from thaw.config.values import crop_scale
from thaw.data.resize import middle_part
from thaw.data.transforms import Step, albumentations, check_steps, make_steps

# A square from anywhere in a long image can miss its subject. A zoom stays within the middle part of this aspect ratio,
# a camera's 4:3, where every square holds the middle half of the image.
ZOOM_ASPECT = 4 / 3

View = Callable[[np.ndarray, int | None], np.ndarray]


def center_crop(size: int, crop_pct: float) -> list[Step]:
    """Return the steps of validation: resize the shorter side to size / crop_pct, then crop the centre."""
    return [
        crop_step(albumentations.SmallestMaxSize(max_size=round(size / crop_pct), interpolation=cv2.INTER_AREA)),
        crop_step(albumentations.CenterCrop(size, size)),
    ]


def crop_step(transform: albumentations.BasicTransform) -> Step:
    return Step("augment.crop", transform)


def view(size: int, crop_pct: float, augment: Augment | None = None) -> View:
    """Return `see(image, seed)`, which turns a uint8 image into a uint8 view of shape [size, size, 3].

    Without `augment` the view is the centre crop. Random draws depend on the seed alone: before each image, one
    generator is seeded for all transforms, including those inside compositions. (`Compose(seed=...)` would give all
    transforms the same draws, and every loader worker the same images.)
    Raise UserError (exit 2) if a transform or argument is unknown, or if the transforms do not return such a view.
    """
    steps = center_crop(size, crop_pct) if augment is None else augmentations(size, crop_pct, augment)
    if augment is not None:
        check_steps(steps, size)
    pipeline = albumentations.Compose([step.transform for step in steps])

    def see(image: np.ndarray, seed: int | None = None) -> np.ndarray:
        if augment is not None and augment.crop == "zoom":
            image = middle_part(image, ZOOM_ASPECT)
        if seed is not None:
            pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
        return pipeline(image=image)["image"]

    return see


def at_size(augment: Augment, share: float) -> Augment:
    """Return the augmentation for a size that is `share` of the final one: a random crop keeps more of a smaller image.

    The smallest crop area falls linearly from 1 at size zero to `scale` at the final size: augmentation is weaker at
    small sizes, as in the progressive learning of EfficientNetV2 (arXiv:2104.00298). At half the size, a crop of a
    third of the area loses too much detail.
    """
    if augment.crop != "random" or share >= 1:
        return augment
    low, high = crop_scale(augment)
    return replace(augment, scale=[min(high, 1 - (1 - low) * share), high])


def augmentations(size: int, crop_pct: float, augment: Augment) -> list[Step]:
    """Return the crop and the transforms in the order in which they are applied."""
    transforms = make_steps(augment.transforms, "augment.transforms")
    match augment.crop:
        case "whole":
            return center_crop(size, crop_pct) + transforms
        case "random":
            crop = albumentations.RandomResizedCrop(
                (size, size), scale=crop_scale(augment), interpolation=cv2.INTER_AREA
            )
            return [crop_step(crop), *transforms]
    # As in fast.ai 0.7: resize the shorter side to a random length, apply the transforms, crop a random square.
    low, high = (round(size * scale) for scale in crop_scale(augment))
    zoom = albumentations.SmallestMaxSize(max_size=list(range(low, high + 1)), interpolation=cv2.INTER_AREA)
    return [crop_step(zoom), *transforms, crop_step(albumentations.RandomCrop(size, size))]
