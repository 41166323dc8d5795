"""Images brought to a shorter side of so many pixels, as they are kept and as they are looked at."""

import cv2
import numpy as np

LONGEST = 4  # an image is cut to at most this many times its shorter side


def middle_part(image: np.ndarray, times: float = LONGEST) -> np.ndarray:
    """The image without the ends of a longer side that is more than so many times the shorter."""
    height, width = image.shape[:2]
    longest = round(times * min(height, width))
    top, left = max(0, (height - longest) // 2), max(0, (width - longest) // 2)
    return image[top : top + min(height, longest), left : left + min(width, longest)]


def fit_side(image: np.ndarray, side: int) -> np.ndarray:
    """The image with a shorter side of `side` pixels: area averaging when it shrinks, cubic when it grows."""
    image = middle_part(image)
    height, width = image.shape[:2]
    scale = side / min(height, width)
    if scale == 1:
        return np.ascontiguousarray(image)
    return cv2.resize(
        image, resized(height, width, side)[::-1], interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    )


def resized(height: int, width: int, side: int) -> tuple[int, int]:
    """Height and width with a shorter side of `side` pixels."""
    scale = side / min(height, width)
    return max(side, round(height * scale)), max(side, round(width * scale))


def shrink(image: np.ndarray, side: int) -> np.ndarray:
    """What is kept of an image: a larger one shrunk, else its middle part; `fit_side` makes the same of both."""
    return fit_side(image, min(side, *image.shape[:2]))
