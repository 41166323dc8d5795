"""How good are the rates that finders suggest? Against the best rate by grid search, on the same curves.

python scripts/bench/finder.py [--cache FILE] [--only TASK ...]     an hour on one core; what is in the cache is not run again

A task is a find phase, with the fits that use its rate cut to a fixed budget. Its best rate comes from a grid, three
rates a decade, three seeds: accuracy on all pictures that were not trained on. Twenty seeds each record range tests;
every rule then reads the same curves, each with its own smoothing, skipping and stopping.
"""

import argparse
import copy
import io
import json
import math
import sys
import tempfile
import time
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "scripts")]

import cv2
import numpy as np
from hydra import compose, initialize_config_dir

import train
from thaw import cycles, fit, job, plan, shell, tend
from thaw.data import source
from thaw.errors import UserError
from thaw.find import read_trials
from thaw.plan import Phase
from thaw.settings import Settings

GRID = {  # three rates a decade from 1e-4, and two from 1e-3, to 10; for AdamW a tenth of it
    "head": [10 ** (k / 3) for k in range(-12, 4)],
    "all": [10 ** (k / 2) for k in range(-6, 3)],
}
GRID_SEEDS, SEEDS = 3, 20
ORDERS = (1, 2)  # in how many orders of the data trials are made

HEAD = ["~checklist.find_full", "~checklist.full", "checklist.head_augmented.features=precomputed"]
AFTER = [
    "~checklist.find_head", "~checklist.head_augmented", "~checklist.full.until", "+checklist.find_full.features=live",
    "checklist.head_precomputed={do: fit, train: head, features: precomputed, epochs: 3, lr: 0.1}",
]  # fmt: skip
AFTER_ADAM = ["optimizer=adamw", *AFTER, "checklist.head_precomputed.lr=0.01"]
SCRATCH = ["checklist=from_scratch", "~checklist.full.until"]
DIGITS = ["size=32"]
COARSE = ["data=shapes", "data.limit=2400", "data.valid=0.5", "data.workers=0", "size=32", "data.detail=0.25"]
FINE = [*COARSE[:-1], "data.detail=0.4"]
PHOTOS = [
    "data=folder",
    "backbone=tiny",
    "data.root=PHOTOS",
    "data.valid=0.4",
    "data.workers=0",
    "size=40",
    "augment=side_on",
]
TINY = ["backbone.weights=conf/backbone/tiny.safetensors"]
ADAM = ["optimizer=adamw"]
TASKS = {
    "digits, head": [*DIGITS, *HEAD],
    "digits, head, AdamW": [*DIGITS, *ADAM, *HEAD],
    "digits, full after head": [*DIGITS, *AFTER],
    "digits, full after head, AdamW": [*DIGITS, *AFTER_ADAM],
    "digits, scratch, AdamW": [*DIGITS, *ADAM, *SCRATCH],
    "coarse shapes, scratch": [*COARSE, *SCRATCH],
    "coarse shapes, head": [*COARSE, *HEAD],
    "fine shapes, full": [*FINE, *SCRATCH, *TINY],
    "photographs, head": [*PHOTOS, *HEAD],
    "photographs, full after head": [*PHOTOS, *AFTER],
}


def prepared(overrides: list[str], folder: Path) -> tuple[job.Job, Phase, list[Phase]]:
    """The job with everything before its find trained, the find, and the fits that use its rate."""
    folder.mkdir(parents=True, exist_ok=True)
    given = [o.replace("PHOTOS", str(folder.parent / "photos")) for o in overrides]
    typed = shell.tidy([*given, "threads=1", f"store.dir={folder.parent}/store"], train.CONF)
    train.register(typed.backbones)
    with initialize_config_dir(str(train.CONF), version_base="1.3"):
        settings = train.as_settings(compose("config", overrides=typed.argv), typed.argv)
    made = job.set_up(settings, folder, tend.open_store(settings, print))
    phases = list(made.plan.phases)
    while phases[0].do == "fit":
        fully(made, phase := phases.pop(0), phase.lr)
    return made, phases[0], phases[1:]


def fully(made: job.Job, phase: Phase, lr: float) -> None:
    """Train the planned cycles of a phase from the weights that are there."""
    fit_ = cycles.begin(made, phase, job.layer_groups(made, phase), lr, None, None)
    at = 0
    for epoch in range(phase.epochs_budget):
        for _ in cycles.steps_of(fit_, epoch, at):
            at += 1


def rates(settings: Settings, trained: str) -> list[float]:
    """The grid of a task."""
    return [rate / (10 if settings.optimizer.name == "adamw" else 1) for rate in GRID[trained]]


def tried(made: job.Job, find: Phase, orders: int) -> dict:
    """What the package's trials suggest, and what they cost."""
    steps = plan.find_length(made.settings, find)[0]
    before = time.process_time()
    rates, losses = fit.tried(made, find, steps, orders)
    seconds = time.process_time() - before
    return {
        "taken": read_trials(rates, losses, made.settings.find).taken,
        "rates": rates,
        "losses": losses,
        "seconds": seconds,
    }


def swept(made: job.Job, find: Phase) -> dict:
    """A range test that is never stopped."""
    made.settings.find = replace(made.settings.find, rule="edge", diverge=1e30)
    steps = made.settings.find.steps
    rates, losses = fit.swept(made, find, steps, 1)
    return {"rates": rates, "losses": losses}


def judged(made: job.Job, fits: list[Phase], rate: float) -> tuple[float, float]:
    """Accuracy and loss after the fits at a rate, on all pictures that were not trained on."""
    try:
        for phase in fits:
            fully(made, phase, rate)
    except UserError:  # not finite
        return 0.0, math.inf
    seen = job.look(made, np.concatenate([made.source.rows(source.VALID), made.source.rows(source.TEST)]))
    return seen.accuracy, seen.loss


def record(name: str, cache: Path, folder: Path) -> None:
    """What is missing of a task's curves and grid, into a file of its own."""
    file = cache / f"{name.replace(', ', '_').replace(' ', '-')}.json"
    known = json.loads(file.read_text()) if file.exists() else {"curves": {}, "grid": {}}
    known.setdefault("trials", {})
    trained = "head" if HEAD[0] in TASKS[name] else "all"
    for seed in map(str, range(SEEDS)):
        known["curves"].setdefault(seed, {})
        curves, trials, grid = known["curves"][seed], known["trials"].setdefault(seed, {}), known["grid"].get(seed, [])
        orders = [n for n in ORDERS if str(n) not in trials]
        gridded = int(seed) >= GRID_SEEDS or grid and len(grid) == len(known["rates"])
        if "100" in curves and not orders and gridded:
            continue
        began = time.perf_counter()
        with redirect_stdout(io.StringIO()):
            made, find, fits = prepared([*TASKS[name], f"seed={seed}"], folder / name)
            for n in orders:
                trials[str(n)] = tried(made, find, n)
                file.write_text(json.dumps(known))
            if "100" not in curves:
                curves["100"] = [swept(made, find)]
                file.write_text(json.dumps(known))
            if not gridded:
                known.setdefault("rates", rates(made.settings, trained))
                known["grid"][seed] = grid
                start = copy.deepcopy(made.network.state_dict())
                for rate in known["rates"][len(grid) :]:
                    made.network.load_state_dict(start)
                    grid.append(judged(made, fits, rate))
                    file.write_text(json.dumps(known))
        print(f"{name}, seed {seed}: {time.perf_counter() - began:.1f} s", file=sys.stderr, flush=True)


def draw_photographs(folder: Path) -> None:
    """A folder a class: jpegs of a thing before a ground and a sky, in many colours, places, sizes, lights."""
    rng = np.random.default_rng(0)
    scene = [(225, 200, 170), (80, 130, 100)]  # sky and ground, blue first
    inks = {  # of the thing and of its other part
        "house": [(150, 170, 190), (60, 60, 160)],
        "tree": [(60, 110, 50), (50, 70, 100)],
        "boat": [(140, 70, 40), (210, 220, 230)],
        "car": [(60, 60, 170), (40, 40, 40)],
        "flower": [(90, 70, 200), (60, 120, 60)],
        "kite": [(60, 150, 220), (80, 60, 120)],
    }
    for kind, own in inks.items():
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(200):
            high, wide = int(rng.integers(90, 130)), int(rng.integers(110, 160))
            picture = np.empty((high, wide, 3), np.float32)
            horizon = int(high * rng.uniform(0.45, 0.7))
            sky, ground, ink, other = np.array(scene + own) + rng.normal(0, 40, (4, 3))
            picture[:horizon] = sky * np.linspace(1, 0.7, horizon)[:, None, None]
            picture[horizon:] = ground
            unit, x, y = (
                high * rng.uniform(0.16, 0.28),
                wide * rng.uniform(0.3, 0.7),
                horizon + high * rng.uniform(0, 0.1),
            )
            turn = rng.normal(0, 0.12)
            turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])

            def shape(points, colour):
                at = np.array(points) @ turned.T * unit + (x, y)
                cv2.fillPoly(picture, [at.round().astype(np.int32)], colour.tolist())

            def disc(at, radius, colour):
                cx, cy = turned @ np.array(at) * unit + (x, y)
                cv2.circle(picture, (round(cx), round(cy)), max(1, round(radius * unit)), colour.tolist(), -1)

            match kind:
                case "house":
                    shape([(-1, 0), (1, 0), (1, -1.2), (-1, -1.2)], ink)
                    shape([(-1.2, -1.2), (1.2, -1.2), (0, -2.2)], other)
                case "tree":
                    shape([(-0.2, 0), (0.2, 0), (0.2, -1.2), (-0.2, -1.2)], other)
                    disc((0, -1.8), 0.9, ink)
                case "boat":
                    shape([(-1.3, -0.5), (1.3, -0.5), (0.8, 0), (-0.8, 0)], ink)
                    shape([(0, -0.5), (0, -2.2), (1, -0.7)], other)
                case "car":
                    shape(
                        [
                            (-1.4, 0),
                            (1.4, 0),
                            (1.4, -0.6),
                            (0.7, -0.6),
                            (0.4, -1.1),
                            (-0.6, -1.1),
                            (-0.9, -0.6),
                            (-1.4, -0.6),
                        ],
                        ink,
                    )
                    for wheel in (-0.8, 0.8):
                        disc((wheel, 0), 0.35, other)
                case "flower":
                    shape([(-0.08, 0), (0.08, 0), (0.08, -1.5), (-0.08, -1.5)], other)
                    for petal in range(6):
                        disc((0.5 * np.cos(petal * np.pi / 3), -1.7 + 0.5 * np.sin(petal * np.pi / 3)), 0.3, ink)
                case "kite":
                    shape([(0, -2.4), (0.7, -1.6), (0, -0.4), (-0.7, -1.6)], ink)
                    shape([(-0.03, -0.4), (0.03, -0.4), (0.3, 0.3)], other)
            light = rng.uniform(0.6, 1.2)
            picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.5, 2.0)) * light + rng.normal(
                0, 14, picture.shape
            )
            jpeg = (
                folder / kind / f"{number:03d}.jpg",
                np.clip(picture, 0, 255).astype(np.uint8),
                [cv2.IMWRITE_JPEG_QUALITY, 85],
            )
            cv2.imwrite(str(jpeg[0]), *jpeg[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=ROOT / "outputs/bench/finder")
    parser.add_argument("--only", nargs="*", default=list(TASKS))
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        draw_photographs(Path(folder) / "photos")
        for name in args.only:
            record(name, args.cache, Path(folder))


if __name__ == "__main__":
    main()
