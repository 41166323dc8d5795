"""Compare the input pipelines of thaw, fastai 2.8 and torchvision's ImageFolder, from image file to network.

pip install fastai==2.8.12                            in addition to thaw's requirements
python scripts/bench/data.py [PART ...] [--quick]     takes ten minutes on two cores

Uses 3,000 drawn JPEGs of about 400 px (photos.py), 1,800 of them for training, in batches of 64. All files are in the
page cache and every process has one thread. All pipelines end in a normalised float batch. Besides wall-clock time, CPU
time over all processes is reported: it matters on a machine that also does other work. Of repeated measurements, the
minimum is shown.
"""

import importlib
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import photos
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from thaw.config import compose
from thaw.config.paths import require_checkout
from thaw.config.schema import Settings
from thaw.config.values import parse_bytes
from thaw.data import batches, dataset, pixels
from thaw.data.batches import BatchKey, Views
from thaw.data.decode_cache import DecodeCache
from thaw.data.table import TRAIN
from thaw.model import device, freezing, layer_groups
from thaw.model.network import create_network
from thaw.runtime.console import say, say_text
from thaw.runtime.entry import Parser, run
from thaw.store.store import Store
from thaw.train import loop

require_checkout(__file__)

BATCH = 64
CROP = (0.35, 1.0)  # range of the cropped area under augment=standard
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
QUICK = "--quick" in sys.argv  # main rejects unknown words


@dataclass(frozen=True)
class Pipeline:
    """How a library reads a folder: `batches(epochs)` yields floats [n, 3, size, size], `images` of them per epoch."""

    batches: Callable[[range], Iterator[Tensor]]
    images: int


def settings_of(root: Path, size: int, *overrides: str) -> Settings:
    return compose.compose_settings([f"data.root={root}", f"size={size}", "wandb=disabled", "threads=1", *overrides])


def of_thaw(root: Path, size: int, workers: int, store: Path) -> Pipeline:
    """Return thaw's pipeline with `augment=standard`, normalised as in its network."""
    numbered = thaw_batches(settings_of(root, size), store, workers)
    std, mean = (torch.tensor(values).view(1, 3, 1, 1) for values in (STD, MEAN))
    scale, shift = 1 / (255 * std), -mean / std

    def read(epochs: range) -> Iterator[Tensor]:
        for x, _ in numbered(epochs)[1]:
            yield x.permute(0, 3, 1, 2).float().mul_(scale).add_(shift)

    return Pipeline(read, numbered(range(1))[0])


def thaw_batches(
    settings: Settings, store: Path, workers: int
) -> Callable[[range], tuple[int, Iterator[batches.Batch]]]:
    """Return `read(epochs)`, which gives the images per epoch and the uint8 batches as in a cycle of a run."""
    held, side = Store(store), round(settings.size / settings.data.crop_pct)
    budget = parse_bytes(settings.data.pixels_budget, "data.pixels_budget")
    cache = DecodeCache(store, side, budget)
    found = dataset.load_dataset(settings.data, side, store / "scan", decode_cache=cache)
    kept = pixels.load_pixels(found, side, budget, held, lambda items, n, text: items, cache)
    rows, labels = found.rows(TRAIN), found.table.labels
    views = Views(kept, labels, settings.data.crop_pct, settings.size, settings.augment, (0, "full"))

    def read(epochs: range) -> tuple[int, Iterator[batches.Batch]]:
        cut = [
            BatchKey(number, settings.size, rows[part])
            for number in epochs
            for part in batches.cut_batches(batches.epoch_order(labels[rows], (0, "full", number)), BATCH)
        ]
        return len(rows), batches.loader(views, cut, workers)

    return read


def of_torchvision(root: Path, size: int, workers: int, _: Path) -> Pipeline:
    """Return a plain ImageFolder and DataLoader with random crops and flips."""
    see = [transforms.RandomResizedCrop(size, scale=CROP), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    data = datasets.ImageFolder(root / "train", transforms.Compose([*see, transforms.Normalize(MEAN, STD)]))
    made = DataLoader(data, BATCH, shuffle=True, num_workers=workers)
    return Pipeline(lambda epochs: (x for _ in epochs for x, _ in made), len(data))


def of_fastai(root: Path, size: int, workers: int, _: Path) -> Pipeline:
    """Return fastai's usual pipeline: Resize per image, aug_transforms and Normalize per batch."""
    from fastai.vision import all as fastai

    data = fastai.ImageDataLoaders.from_folder(
        root,
        train="train",
        valid="valid",
        bs=BATCH,
        num_workers=workers,
        item_tfms=fastai.Resize(size),
        batch_tfms=[*fastai.aug_transforms(), fastai.Normalize.from_stats(MEAN, STD)],
    )
    data.train.drop_last = False
    return Pipeline(lambda epochs: (x for _ in epochs for x, _ in data.train), len(data.train_ds))


LIBRARIES = {"thaw": of_thaw, "torchvision": of_torchvision, "fastai 2.8": of_fastai}


def cost(work: Callable, *args) -> tuple[float, float]:
    """Return wall-clock and CPU seconds of a call; CPU time includes finished child processes."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    work(*args)
    return time.perf_counter() - wall, cpu_seconds() - cpu


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and its finished children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def run_through(items: Iterable) -> None:
    for _ in items:
        pass


def least(costs: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Return the minimum of wall-clock and CPU seconds, each on its own."""
    return tuple(min(values) for values in zip(*costs, strict=True))


def pipeline(root: Path) -> None:
    """Print images per second of the pipelines alone: the first epoch with its set-up, and later epochs."""
    say_text("\nPipeline alone, images per second (images per CPU second)")
    heading(*LIBRARIES, "thaw / fastai")
    for size, workers in [(128, 0)] if QUICK else product((128, 224), (0, 2)):
        made, first, later = {}, {}, {name: [] for name in LIBRARIES}

        def begin(name: str, of: Callable, store: str, made=made, size=size, workers=workers) -> None:
            made[name] = of(root, size, workers, Path(store))
            run_through(made[name].batches(range(1)))

        with tempfile.TemporaryDirectory() as store:
            for name, of in LIBRARIES.items():
                first[name] = cost(begin, name, of, store)
            for start in (1,) if QUICK else (1, 3):
                for name, one in made.items():
                    later[name].append(cost(run_through, one.batches(range(start, start + 2))))
        later = {name: least(costs) for name, costs in later.items()}
        for what, epochs, costs in (("first epoch, set-up included", 1, first), ("two later epochs", 2, later)):
            speeds = {name: [epochs * made[name].images / took for took in costs[name]] for name in LIBRARIES}
            ratios = [a / b for a, b in zip(speeds["thaw"], speeds["fastai 2.8"], strict=True)]
            cells = [f"{wall:,.0f} ({cpu:,.0f})" for wall, cpu in speeds.values()]
            row(f"{size} px, {workers} workers, {what}", *cells, "{:.1f}x ({:.1f}x)".format(*ratios))


def one_batch(of: Callable, root: Path, store: Path) -> None:
    next(of(root, 128, 0, store).batches(range(1)))


def first(root: Path) -> None:
    """Print the seconds from a folder to the first batch: with an empty store, and on a second start."""
    say_text("\nFrom the folder to the first batch at 128 px, no workers, seconds (CPU seconds)")
    heading(*LIBRARIES)
    with tempfile.TemporaryDirectory() as store:
        for what in ("first start", "second start"):
            costs = [cost(one_batch, of, root, Path(store)) for of in LIBRARIES.values()]
            row(what, *(f"{wall:.2f} ({cpu:.2f})" for wall, cpu in costs))


def step(root: Path) -> None:
    """Print the seconds of an epoch of the full network with thaw's loader, and with batches in memory."""
    say_text("\nAn epoch of the full network at 128 px, seconds (CPU seconds)")
    heading("from the loader", "in memory", "difference")
    for name, workers in product(("test_resnet",) if QUICK else ("test_resnet", "resnet18"), (0, 1)):
        settings = settings_of(root, 128, f"backbone={name}", "backbone.weights=none", "data.limit=400")
        network = create_network(settings.backbone, len(photos.CLASSES), 0, device.choose_device(settings))
        freezing.set_trainable(network, "all", "train")
        parts = layer_groups.split_into_groups(network.model, "equal", (1.0,))

        def steps(given: Iterable, network=network, parts=parts, settings=settings) -> None:
            optimizer = loop.make_optimizer(network, parts, settings.optimizer)
            run_through(loop.train(network, given, optimizer, loop.StepOptions(lr=1e-3)))

        costs = {"loader": [], "memory": []}
        with tempfile.TemporaryDirectory() as store:
            numbered = thaw_batches(settings, Path(store), workers)
            for number in range(2 if QUICK else 3):
                held = list(numbered(range(number, number + 1))[1])
                costs["memory"].append(cost(steps, held))
                costs["loader"].append(cost(steps, numbered(range(number, number + 1))[1]))
        loader, memory = least(costs["loader"]), least(costs["memory"])
        more = [a / b - 1 for a, b in zip(loader, memory, strict=True)]
        cells = ["{:.2f} ({:.2f})".format(*pair) for pair in (loader, memory)]
        row(f"{name}, {numbered(range(1))[0]} images, {workers} workers", *cells, "{:+.1%} ({:+.1%})".format(*more))


def heading(*columns: str) -> None:
    say_text(f"|  | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")


def row(*cells: str) -> None:
    say(f"| {' | '.join(cells)} |")


def main() -> None:
    parts = {"pipeline": pipeline, "first": first, "step": step}
    parser = Parser(__doc__)
    parser.add_argument(
        "parts",
        nargs="*",
        default=list(parts),
        choices=list(parts),
        metavar="PART",
        help=f"{', '.join(parts)} (default: all)",
    )
    parser.add_argument("--quick", action="store_true", help="use fewer images and rounds")
    asked = parser.parse_args().parts
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    for name in ("fastai.vision.all", "albumentations"):  # imports that take seconds
        importlib.import_module(name)
    root = photos.draw(Path(tempfile.gettempdir()) / "thaw_photos", 600 if QUICK else photos.COUNT)
    for name in asked:
        parts[name](root)


if __name__ == "__main__":
    sys.exit(run(main))
