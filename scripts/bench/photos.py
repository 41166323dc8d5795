"""Draw photographs for the benchmarks: JPEGs of about 400 px, ten shapes on textured ground, the same on every call.

python scripts/bench/photos.py FOLDER [COUNT]     write them to train/, valid/ and test/, one folder per class
"""

import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from thaw.config.paths import require_checkout
from thaw.runtime.entry import Parser, count, run

require_checkout(__file__)

COUNT = 3000
SPLITS = ("train", "train", "train", "valid", "test")  # the images of a class cycle through these
CLASSES = ("triangle", "square", "pentagon", "hexagon", "star4", "star5", "star6", "disc", "ring", "cross")
SHARP = 3  # fractional bits of the coordinates of outlines


def outlines(name: str) -> list[np.ndarray]:
    """Return the outlines [n, 2] of a class within the unit circle; a second outline is a hole."""
    corners = {"triangle": 3, "square": 4, "pentagon": 5, "hexagon": 6, "disc": 64}
    if name in corners:
        return [around(corners[name])]
    if name == "ring":
        return [around(64), 0.55 * around(64)]
    if name == "cross":
        a, b = 0.95, 0.3
        return [np.array([(-b, a), (b, a), (b, b), (a, b), (a, -b), (b, -b), (b, -a), (-b, -a), (-b, -b), (-a, -b),
                          (-a, b), (-b, b)])]  # fmt: skip
    points = int(name[-1])
    return [around(2 * points) * np.where(np.arange(2 * points) % 2, 0.5, 1.0)[:, None]]


def around(corners: int) -> np.ndarray:
    """Return the corners [n, 2] of a regular polygon on the unit circle."""
    angle = 2 * np.pi * np.arange(corners) / corners
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def texture(rng: np.random.Generator, colour: np.ndarray, height: int, width: int) -> np.ndarray:
    """Draw a textured ground of a colour with noise at every scale, float32 [height, width, 3]."""
    ground = np.full((height, width, 3), colour, np.float32)
    for cells, contrast in ((3, 12), (12, 10), (50, 10), (200, 8)):
        noise = rng.normal(0, contrast, (cells, cells, 3)).astype(np.float32)
        ground += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return ground


def photo(number: int) -> tuple[np.ndarray, int]:
    """Draw the image with a given number, uint8 RGB of about 400 px; return it with its label."""
    rng, label = np.random.default_rng((7, number)), number % len(CLASSES)
    height, width = [(400, 300), (300, 400), (400, 400)][rng.integers(3)]
    radius = min(height, width) * rng.uniform(0.25, 0.45)
    centre = rng.uniform(0.8 * radius, (width - 0.8 * radius, height - 0.8 * radius))
    turn, squeeze = rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 1.0)
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * [[1], [squeeze]]
    drawn = [centre + radius * outline @ turned.T for outline in outlines(CLASSES[label])]
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.round(o * 2**SHARP).astype(np.int32) for o in drawn], 255, cv2.LINE_AA, SHARP)
    share = mask[..., None] / np.float32(255)
    dark, light = rng.uniform(30, 110, 3), rng.uniform(145, 225, 3)
    ground, ink = (dark, light) if rng.random() < 0.5 else (light, dark)
    whole = texture(rng, ground, height, width) * (1 - share) + texture(rng, ink, height, width) * share
    return np.clip(whole + rng.normal(0, 4, whole.shape), 0, 255).astype(np.uint8), label


def write(folder: Path, number: int) -> None:
    """Write the image with a given number into its split and class."""
    image, label = photo(number)
    split = SPLITS[number // len(CLASSES) % len(SPLITS)]
    path = folder / split / CLASSES[label] / f"{number:05d}.jpg"
    cv2.imwrite(str(path), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])


def draw(folder: Path, count: int = COUNT) -> Path:
    """Fill a folder with `count` images unless that was done before; return it."""
    done = folder / f".drawn_{count}"
    if not done.exists():
        for split in set(SPLITS):
            for name in CLASSES:
                (folder / split / name).mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor() as pool:
            list(pool.map(partial(write, folder), range(count), chunksize=50))
        done.touch()
    return folder


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder to write to")
    parser.add_argument(
        "count", type=count, nargs="?", default=COUNT, metavar="COUNT", help="number of images (default: %(default)s)"
    )
    args = parser.parse_args()
    draw(args.folder, args.count)


if __name__ == "__main__":
    sys.exit(run(main))
