"""Data sources without files: the handwritten digits of scikit-learn, and drawn shapes filled with stripes."""

import math
from hashlib import sha256

import cv2
import numpy as np

from thaw.config.schema import Data
from thaw.data.dataset import Dataset
from thaw.data.split import folds, unit_name
from thaw.data.table import TEST, TRAIN, VALID, Table
from thaw.runtime.errors import UserError
from thaw.runtime.seeds import seed_for

SHAPES = ("disc", "square")
STRIPES = 4  # orientations of the stripes, which distinguish classes of the same outline


def table_of(root: str, classes, paths, labels, splits, images) -> Table:
    """Return a table of images that are not files."""
    n = len(paths)
    return Table(
        root=root,
        classes=tuple(classes),
        paths=tuple(paths),
        labels=np.asarray(labels, np.int64),
        splits=np.asarray(splits, np.uint8),
        hashes=tuple(images),
        sizes=np.zeros(n, np.int64),
        heights=np.zeros(n, np.int32),
        widths=np.zeros(n, np.int32),
    )


def held_out(labels: np.ndarray, data: Data) -> np.ndarray:
    """Return split codes for `labels`: a fixed stratified ceil(share * n) of the rows are validation, or the fold.

    Raise UserError (exit 2) if training or validation would lack a class.
    """
    if data.fold is not None:
        names = [unit_name(str(row)) for row in range(len(labels))]
        return np.where(folds(labels, names) == data.fold, VALID, TRAIN)
    from sklearn.model_selection import train_test_split

    held, classes = math.ceil(data.valid * len(labels)), len(np.unique(labels))
    if not classes <= held <= len(labels) - classes:
        limit = "" if data.limit is None else f"data.limit={data.limit}, "
        what = f"{limit}data.valid={data.valid}: validation on {held} of {len(labels)} images for {classes} classes"
        raise UserError(2, f"{what}; validation and training both need an image of every class")
    _, valid = train_test_split(np.arange(len(labels)), test_size=held, stratify=labels, random_state=0)
    splits = np.full(len(labels), TRAIN)
    splits[valid] = VALID
    return splits


def digits(data: Data, side: int = 8) -> Dataset:
    """Return scikit-learn's handwritten digits, 8 x 8: half for training and validation, the other half as test images.

    The halves are those of scikit-learn's own example (plot_digits_classification), whose SVC reaches 96.9 %.
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    half = len(found.target) // 2
    used = half if data.limit is None else min(data.limit, half)
    rows = np.r_[0:used, half : len(found.target)]
    images = (found.images[rows] * (255 / 16)).astype(np.uint8)[..., None].repeat(3, axis=3)
    labels = found.target[rows]
    splits = np.r_[held_out(labels[:used], data), np.full(len(rows) - used, TEST)]
    table = table_of(
        "scikit-learn digits",
        [str(digit) for digit in found.target_names],
        [f"digits/{row:04d}" for row in rows],
        labels,
        splits,
        [sha256(image.tobytes()).hexdigest() for image in images],
    )
    return Dataset(table, lambda row, side: images[row])


def shapes(data: Data, side: int) -> Dataset:
    """Return drawn discs and squares filled with fine stripes, `data.limit` images and `data.test` test images.

    The outline shows at any size, the stripes only at a fine one. The classes take turns.
    """
    tested = data.test or 0
    images = data.limit + tested
    labels = np.arange(images) % (len(SHAPES) * STRIPES)
    table = table_of(
        f"drawn shapes, detail {data.detail}",
        [f"{shape} {45 * stripe}°" for shape in SHAPES for stripe in range(STRIPES)],
        [f"shapes/{row:06d}" for row in range(images)],
        labels,
        np.r_[held_out(labels[: data.limit], data), np.full(tested, TEST)],
        [sha256(f"shape {row} {data.detail} {side}".encode()).hexdigest() for row in range(images)],
    )
    return Dataset(table, lambda row, _: draw(int(labels[row]), int(row), side, data.detail))


def draw(label: int, row: int, side: int, detail: float) -> np.ndarray:
    """Draw a shape of a class on a noisy ground, uint8 [side, side, 3]; a row is the same image at any side."""
    rng = np.random.default_rng(seed_for("shape", row))
    x, y = np.meshgrid(*2 * [(np.arange(side) + 0.5) / side])
    centre, radius = rng.uniform(0.35, 0.65, 2), rng.uniform(0.2, 0.32)
    if label // STRIPES == 0:
        inside = np.hypot(x - centre[0], y - centre[1]) < radius
    else:
        inside = np.maximum(abs(x - centre[0]), abs(y - centre[1])) < radius * 0.9
    angle = (label % STRIPES) * np.pi / STRIPES + rng.normal(0, 0.1)
    waves = 24 * detail * rng.uniform(0.8, 1.2)
    stripes = np.sin(2 * np.pi * waves * (x * np.cos(angle) + y * np.sin(angle)) + rng.uniform(0, 6.3))
    ground, ink = rng.uniform(40, 215, (2, 3))
    image = np.where(inside[..., None], ink + 40 * stripes[..., None], ground)
    noise = cv2.resize(rng.normal(0, 18, (32, 32, 3)), (side, side), interpolation=cv2.INTER_LINEAR)
    return np.clip(image + noise, 0, 255).astype(np.uint8)
