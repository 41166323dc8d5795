"""Contact sheets: grids of images, each with a caption below it."""

import random
import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from thaw.config.schema import Settings
from thaw.data import batches
from thaw.data.batches import BatchKey, Views
from thaw.data.pixels import Pixels
from thaw.data.table import TRAIN, VALID, Table
from thaw.plan.phases import Plan
from thaw.runtime.fonts import file_for
from thaw.runtime.seeds import seed_for

IMAGES = 32
COLUMNS = 8
SMALLEST = 96  # least side in pixels of an image on the sheet; smaller ones are enlarged by a whole factor
LINE = 18  # height in pixels of a line of text
GAP = 6


def font(text: str):
    """Return a font that has all letters of the text, if one is installed; Pillow's own has no accents."""
    return opened_font(file_for(text))


@cache
def opened_font(file: str):
    return ImageFont.truetype(file, 12)


def contact_sheet(
    images: Sequence[np.ndarray], texts: Sequence[str], columns: int = COLUMNS, smallest: int = SMALLEST
) -> Image.Image:
    """Draw images (uint8 [h, w, 3]) row by row, each with its text below, cut to the width of a column.

    Pixels of images with a side below `smallest` are drawn as squares.
    """
    shown = [np.kron(p, np.ones((max(1, -(-smallest // min(p.shape[:2]))),) * 2 + (1,), np.uint8)) for p in images]
    texts = [text.split("\n") for text in texts]
    below = LINE * max(map(len, texts), default=1)
    high, wide = (max((p.shape[axis] for p in shown), default=0) for axis in (0, 1))
    columns = min(columns, len(shown))
    rows = -(-len(shown) // max(columns, 1))
    sheet = Image.new("RGB", (GAP + columns * (wide + GAP), GAP + rows * (high + below + GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (image, lines) in enumerate(zip(shown, texts, strict=True)):
        x, y = GAP + i % columns * (wide + GAP), GAP + i // columns * (high + below + GAP)
        sheet.paste(Image.fromarray(image), (x, y))
        for number, line in enumerate(lines):
            draw.text((x, y + image.shape[0] + 2 + number * LINE), shortened(line, wide), "black", font(line))
    return sheet


def shortened(text: str, wide: int) -> str:
    """Return the text, or as much of its beginning and end as fits into `wide` pixels."""
    # Some file systems store an umlaut as two characters; the second would be drawn beside the first.
    text = unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode())
    face = font(text)
    if face.getlength(text) <= wide:
        return text
    kept = len(text)
    while kept and face.getlength(both_ends(text, kept)) > wide:
        kept -= 1
    return both_ends(text, kept)


def both_ends(text: str, kept: int) -> str:
    """Return the text with `kept` of its characters, those in the middle left out."""
    return f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"


def write_sheets(folder: Path, plan: Plan, settings: Settings, table: Table, pixels: Pixels) -> list[Path]:
    """Write sheets of what the network sees, and return their files.

    batch_<size>px.png has training images, augmented and mixed, at each size at which a phase sees them;
    valid_<size>px.png has validation images.
    """
    labels, crop_pct, seed = table.labels, settings.data.crop_pct, (settings.seed, "sheet")
    train, valid = (np.flatnonzero(table.splits == split) for split in (TRAIN, VALID))
    seen = {e.size for phase in plan.phases if phase.features == "live" or phase.views for e in phase.epochs}
    wanted = [("batch", size, train, settings.augment) for size in sorted(seen)]
    files = []
    for name, size, rows, augment in [*wanted, ("valid", plan.size, valid, None)]:
        chosen = rows[batches.epoch_order(labels[rows], seed)[:IMAGES]]
        images, _ = Views(pixels, labels, crop_pct, plan.size, augment, seed)[BatchKey(0, size, chosen)]
        texts = [table.classes[label] for label in labels[chosen]]
        if augment and (augment.mixup or augment.cutmix):
            rng = random.Random(seed_for(*seed, size))
            other = rng.sample(range(len(chosen)), len(chosen))
            images, share = batches.mix_batch(images, torch.tensor(other), augment.mixup, augment.cutmix, rng)
            texts = [f"{share:.0%} {text}\n{1 - share:.0%} {texts[i]}" for text, i in zip(texts, other, strict=True)]
        files.append(folder / f"{name}_{size}px.png")
        contact_sheet(list(images.numpy()), texts).save(files[-1])
    return files
