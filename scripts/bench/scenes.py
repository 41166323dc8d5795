"""Imported by scripts/bench/finder_curves.py: drawn scenes as JPEGs, six classes, no two images alike."""

import sys
from pathlib import Path

import cv2
import numpy as np

from thaw.config.paths import require_checkout
from thaw.runtime.entry import refuse_to_run, run

require_checkout(__file__)

SCENE = [(225, 200, 170), (80, 130, 100)]  # sky and ground, BGR
INKS = {  # BGR of the main part and of the other part
    "house": [(150, 170, 190), (60, 60, 160)],
    "tree": [(60, 110, 50), (50, 70, 100)],
    "boat": [(140, 70, 40), (210, 220, 230)],
    "car": [(60, 60, 170), (40, 40, 40)],
    "flower": [(90, 70, 200), (60, 120, 60)],
    "kite": [(60, 150, 220), (80, 60, 120)],
}
PETALS = [(0.5 * np.cos(k * np.pi / 3), -1.7 + 0.5 * np.sin(k * np.pi / 3), 0.3) for k in range(6)]
# (ink, shape) in drawing order: polygons of (x, y) and discs (x, y, radius), negative y is up.
PARTS = {
    "house": [(0, [(-1, 0), (1, 0), (1, -1.2), (-1, -1.2)]), (1, [(-1.2, -1.2), (1.2, -1.2), (0, -2.2)])],
    "tree": [(1, [(-0.2, 0), (0.2, 0), (0.2, -1.2), (-0.2, -1.2)]), (0, (0, -1.8, 0.9))],
    "boat": [(0, [(-1.3, -0.5), (1.3, -0.5), (0.8, 0), (-0.8, 0)]), (1, [(0, -0.5), (0, -2.2), (1, -0.7)])],
    "car": [
        (0, [(-1.4, 0), (1.4, 0), (1.4, -0.6), (0.7, -0.6), (0.4, -1.1), (-0.6, -1.1), (-0.9, -0.6), (-1.4, -0.6)]),
        (1, (-0.8, 0, 0.35)),
        (1, (0.8, 0, 0.35)),
    ],
    "flower": [(1, [(-0.08, 0), (0.08, 0), (0.08, -1.5), (-0.08, -1.5)]), *((0, petal) for petal in PETALS)],
    "kite": [(0, [(0, -2.4), (0.7, -1.6), (0, -0.4), (-0.7, -1.6)]), (1, [(-0.03, -0.4), (0.03, -0.4), (0.3, 0.3)])],
}


def draw(folder: Path, each: int = 200) -> None:
    """Write `each` images per class, the same on every call."""
    rng = np.random.default_rng(0)
    for kind in PARTS:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            jpeg = [cv2.IMWRITE_JPEG_QUALITY, 85]
            cv2.imwrite(str(folder / kind / f"{number:03d}.jpg"), photograph(kind, rng), jpeg)


def photograph(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Draw an image, uint8 [90–129, 110–159, 3], with random colours, place, size, slant, blur, light and noise."""
    high, wide = int(rng.integers(90, 130)), int(rng.integers(110, 160))
    image = np.empty((high, wide, 3), np.float32)
    horizon = int(high * rng.uniform(0.45, 0.7))
    sky, ground, *inks = np.array(SCENE + INKS[kind]) + rng.normal(0, 40, (4, 3))
    image[:horizon] = sky * np.linspace(1, 0.7, horizon)[:, None, None]
    image[horizon:] = ground
    unit = high * rng.uniform(0.16, 0.28)
    place = wide * rng.uniform(0.3, 0.7), horizon + high * rng.uniform(0, 0.1)
    slant = rng.normal(0, 0.12)
    turn = unit * np.array([[np.cos(slant), -np.sin(slant)], [np.sin(slant), np.cos(slant)]])
    for ink, part in PARTS[kind]:
        if isinstance(part, list):
            at = np.array(part) @ turn.T + place
            cv2.fillPoly(image, [at.round().astype(np.int32)], inks[ink].tolist())
        else:
            x, y = turn @ part[:2] + place
            cv2.circle(image, (round(x), round(y)), max(1, round(part[2] * unit)), inks[ink].tolist(), -1)
    light, blur = rng.uniform(0.6, 1.2), rng.uniform(0.5, 2.0)
    blurred = cv2.GaussianBlur(image, (0, 0), blur) * light
    return np.clip(blurred + rng.normal(0, 14, image.shape), 0, 255).astype(np.uint8)


def main() -> None:
    refuse_to_run(__doc__, "scripts/bench/finder_curves.py")


if __name__ == "__main__":
    sys.exit(run(main))
