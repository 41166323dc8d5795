"""Public data sets that torchvision downloads once; the images go through our own scan and decoder."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from thaw.config.schema import Data
from thaw.data.listing import File, Listing, file_of
from thaw.data.table import SPLITS, TEST, TRAIN, VALID
from thaw.runtime.errors import UserError, one_line_text
from thaw.runtime.online import responds


class Public(NamedTuple):
    """A data set as torchvision knows it."""

    kind: str  # the class in torchvision.datasets
    folder: str  # the folder that it makes in its root
    host: str
    splits: dict[int, dict]  # the arguments that choose each split


SETS = {
    "pets": Public("OxfordIIITPet", "oxford-iiit-pet", "https://www.robots.ox.ac.uk",
                   {TRAIN: {"split": "trainval"}, TEST: {"split": "test"}}),
    "flowers": Public("Flowers102", "flowers-102", "https://www.robots.ox.ac.uk",
                      {TRAIN: {"split": "train"}, VALID: {"split": "val"}, TEST: {"split": "test"}}),
    "imagenette": Public("Imagenette", "imagenette2", "https://s3.amazonaws.com",
                         {TRAIN: {"split": "train"}, VALID: {"split": "val"}}),
    "cifar10": Public("CIFAR10", "cifar-10-batches-py", "https://www.cs.toronto.edu",
                      {TRAIN: {"train": True}, TEST: {"train": False}}),
}  # fmt: skip


def listing(data: Data, notes: list[str]) -> Listing:
    """Return the images of the dataset `data.name` in its own splits, downloaded into `data.root` if necessary.

    Raise UserError: exit 5 without a network, exit 3 if the set is incomplete.
    """
    public, root = SETS[data.name], Path(data.root).expanduser().absolute()
    if not (root / public.folder).is_dir():
        fetch(data.name, public, root)
    where, images, files = {}, {}, []
    try:
        for code, args in public.splits.items():
            opened = getattr(sets(), public.kind)(root, **args)
            for path, label, image in samples(opened, SPLITS[code], root / public.folder):
                where[path] = code, label
                if image is None:
                    files.append(file_of(path, (root / public.folder / path).stat))
                else:
                    images[path] = image
                    files.append(File(path, image.nbytes, "", ""))
    except (RuntimeError, OSError, ValueError, LookupError) as error:
        what = f"{root / public.folder} is incomplete ({one_line_text(error, 100)})"
        advice = "remove it, then run the same command again to download it"
        raise UserError(3, f"data.name={data.name}: {what}; {advice}") from None
    given = dict.fromkeys(public.splits, f"data.name={data.name}")
    return Listing(str(root / public.folder), sorted(files), where, given, notes, images=images or None)


def sets() -> SimpleNamespace:
    """Return torchvision.datasets, whose import takes a second."""
    from torchvision import datasets

    return datasets


def samples(opened, split: str, root: Path) -> Iterable[tuple[str, str, np.ndarray | None]]:
    """Yield path relative to root, class and image (None if it is a file) of every sample of an opened split.

    The attributes that hold what torchvision would decode itself are the same in all its versions so far.
    """
    match type(opened).__name__:
        case "OxfordIIITPet":
            rows = zip(opened._images, (opened.classes[label] for label in opened._labels), strict=True)
        case "Flowers102":
            rows = zip(opened._image_files, (opened.classes[label] for label in opened._labels), strict=True)
        case "Imagenette":
            rows = ((path, opened.classes[label][0]) for path, label in opened._samples)
        case "CIFAR10":
            for i, (image, label) in enumerate(zip(opened.data, opened.targets, strict=True)):
                yield f"{split}/{i:05d}", opened.classes[label], image
            return
    for path, label in rows:
        yield os.path.relpath(path, root), label, None


def fetch(name: str, public: Public, root: Path) -> None:
    """Download a set with torchvision; its folder appears whole or not at all. Raise UserError (exit 5) on failure."""
    there = f"data.name={name}: {root / public.folder} does not exist"
    if not responds(public.host):
        advice = f"run once with a network and copy the folder, or set data.root to the folder of {public.folder}"
        raise UserError(5, f"{there} and {public.host} does not answer; {advice}")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=root) as part:
            getattr(sets(), public.kind)(part, download=True)
            made = Path(part) / public.folder
            for archive in made.glob("*.t*gz"):  # already unpacked
                archive.unlink()
            if not (root / public.folder).is_dir():  # another job may have been faster
                made.rename(root / public.folder)
    except (RuntimeError, OSError) as error:
        raise UserError(
            5, f"{there} and cannot be downloaded from {public.host}: {one_line_text(error, 100)}"
        ) from None
