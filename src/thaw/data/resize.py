"""Resizing of images to a shorter side of a given length, for storage and for reading."""

import cv2
import numpy as np

LONGEST = 4  # largest aspect ratio; longer images are cut


def middle_part(image: np.ndarray, times: float = LONGEST) -> np.ndarray:
    """Cut an image at both ends so that its longer side is at most `times` its shorter side."""
    height, width = image.shape[:2]
    longest = round(times * min(height, width))
    top, left = max(0, (height - longest) // 2), max(0, (width - longest) // 2)
    return image[top : top + min(height, longest), left : left + min(width, longest)]


def fit_side(image: np.ndarray, side: int) -> np.ndarray:
    """Resize an image to a shorter side of `side` pixels: area averaging to shrink, cubic to enlarge."""
    image = middle_part(image)
    height, width = image.shape[:2]
    scale = side / min(height, width)
    if scale == 1:
        return np.ascontiguousarray(image)
    return cv2.resize(
        image, resized(height, width, side)[::-1], interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    )


def resized(height: int, width: int, side: int) -> tuple[int, int]:
    """Return the height and width that give a shorter side of `side` pixels."""
    scale = side / min(height, width)
    return max(side, round(height * scale)), max(side, round(width * scale))


def shrink(image: np.ndarray, side: int) -> np.ndarray:
    """Return what is kept of an image: shrunk if it is larger than `side`, else its middle part.

    `fit_side` makes the same of it as of the whole image.
    """
    return fit_side(image, min(side, *image.shape[:2]))
