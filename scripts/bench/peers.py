"""Compare the whole recipe with fastai 2.8: same weights, images, size, batch, epochs and machine, one thread each.

pip install fastai==2.8.12                                            in addition to thaw's requirements
python scripts/bench/peers.py [TASK ...] [--only RECIPE] [KEY=VALUE ...]

thaw runs with its defaults and stops by its own rule; fastai trains as many epochs as thaw did with that seed. fastai
follows its documentation, with vision_learner's own head and Adam, in three recipes. fine_tune: one epoch of the head,
then all layers. by hand: freeze, lr_find, fit_one_cycle, unfreeze, lr_find, fit_sgdr with a slice of rates. one cycle:
one cycle of the full network at fine_tune's rate, 0.002, in all layers. Each run is a process of its own; wall-clock
and CPU seconds include everything but imports.
"""

import contextlib
import importlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path

from thaw.config.paths import ROOT, require_checkout
from thaw.runtime.console import say, say_error, say_text
from thaw.runtime.entry import Parser, run

require_checkout(__file__)

WEIGHTS = ROOT / "conf/backbone/tiny.safetensors"
BATCH = 64
QUICK = "--quick" in sys.argv  # main rejects unknown words
SEEDS, IMAGES = (1, 500) if QUICK else (3, 1500)  # images drawn per task
RECIPES = ("thaw", "fine_tune", "by hand", "one cycle")
TASKS = {  # thaw's settings, arguments of fastai's aug_transforms, image size
    "digits": (["augment=light", "data.crop_pct=1"], {"do_flip": False}, 40),
    "shapes": (["augment=light", "data.crop_pct=1"], {"do_flip": False}, 64),
    "photos": (["augment=standard"], {}, 64),
}


def folder_of(task: str, root: Path) -> Path:
    """Write the task's images to train/, valid/ and test/, one folder per class; return their folder."""
    import cv2
    import photos

    from thaw.data import drawn

    folder = root / task
    if task == "photos":
        return photos.draw(folder, IMAGES)
    if task == "digits":
        table, image = digits()
    else:
        labels = [row % 8 for row in range(IMAGES)]
        table = [(label, photos.SPLITS[row // 8 % len(photos.SPLITS)]) for row, label in enumerate(labels)]
        image = lambda row: drawn.draw(labels[row], row, TASKS[task][2], 1.0)  # noqa: E731
    for row, (label, split) in enumerate(table):
        path = folder / split / str(label) / f"{row:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image(row)[..., ::-1])
    return folder


def digits():
    """Return label and split of each of scikit-learn's digits, as in data=digits, and a function from row to image."""
    from thaw.config import compose
    from thaw.data import drawn
    from thaw.data.table import SPLITS

    found = drawn.digits(compose.compose_settings([]).data)
    table = found.table
    places = [(int(y), SPLITS[s]) for y, s in zip(table.labels, table.splits, strict=True)]
    return places, partial(found.image, side=8)


def with_thaw(task: str, folder: Path, out: Path, seed: int, given: list[str]) -> dict:
    """Run thaw as a user does; also record the test accuracy and time of every epoch, without timing the tests."""
    for name in ("report.publish", "report.tracker", "sweep.page", "train.run"):
        importlib.import_module(f"thaw.{name}")
    import hydra  # noqa: F401

    import train
    from thaw.data.table import TEST
    from thaw.train import cycle, fit
    from thaw.train.predictions import predict

    overrides, _, size = TASKS[task]
    sys.argv = [
        "train.py", f"data.root={folder}", f"size={size}", f"batch_size={BATCH}", f"seed={seed}", "threads=1",
        "data.workers=0", "backbone=tiny", f"backbone.weights={WEIGHTS}", "wandb=disabled", f"store.dir={out}/store",
        f"hydra.run.dir={out}/run", *overrides, *given,
    ]  # fmt: skip
    own, moments, testing = fit.train_cycle, [], [0.0, 0.0]

    def train_cycle(phase_fit, *args):
        for event in own(phase_fit, *args):
            yield event
            if isinstance(event, cycle.EpochEnd):
                moment = [now - spent for now, spent in zip(clock(), testing, strict=True)]
                inputs = phase_fit.inputs.run
                moments.append((predict(inputs, inputs.rows(TEST)).accuracy, *moment))
                testing[:] = [now - then for now, then in zip(clock(), moment, strict=True)]

    fit.train_cycle = train_cycle
    clock = watch()
    if code := train.main():
        raise SystemExit(code)
    took = [total - aside for total, aside in zip(clock(), testing, strict=True)]
    result = json.loads((out / "run" / "result.json").read_text())
    epochs = [result[key] for key in result if key.startswith("phase/") and key.endswith("/epochs")]
    return {
        "valid": result["best/accuracy"],
        "test": result["test/accuracy"],
        "seconds": took,
        "head": sum(epochs[:-1]),
        "full": epochs[-1],
        "lr": result["phase/full/lr"],
        "moments": moments,
    }


def with_fastai(task: str, folder: Path, recipe: str, seed: int, head: int, full: int) -> dict:
    """Run a recipe with fastai's own functions and defaults."""
    import timm
    import torch
    from fastai.vision import all as fastai
    from safetensors.torch import load_file

    torch.set_num_threads(1)
    _, args, size = TASKS[task]
    clock = watch()
    fastai.set_seed(seed, reproducible=True)
    about = timm.get_pretrained_cfg("test_resnet")
    dls = fastai.ImageDataLoaders.from_folder(
        folder,
        train="train",
        valid="valid",
        bs=BATCH,
        num_workers=0,
        seed=seed,
        item_tfms=fastai.Resize(size),
        batch_tfms=[*fastai.aug_transforms(**args), fastai.Normalize.from_stats(about.mean, about.std)],
    )
    learn = fastai.vision_learner(dls, "test_resnet", pretrained=False, metrics=fastai.accuracy, path=folder)
    backbone = learn.model[0].model
    own, weights = backbone.state_dict(), load_file(WEIGHTS)
    backbone.load_state_dict({name: weights[name] for name in own})
    with learn.no_bar(), learn.no_logging():
        if recipe == "fine_tune":
            learn.fine_tune(head + full - 1)
        elif recipe == "one cycle":
            learn.unfreeze()
            learn.fit_one_cycle(head + full, 2e-3)
        else:
            learn.freeze()
            learn.fit_one_cycle(head, learn.lr_find(show_plot=False).valley)
            learn.unfreeze()
            rate = learn.lr_find(show_plot=False).valley
            learn.fit_sgdr((full + 1).bit_length() - 1, 1, slice(rate / 10, rate))
        valid = float(learn.validate()[1])
        test = dls.test_dl(fastai.get_image_files(folder / "test"), with_labels=True)
        return {"valid": valid, "test": float(learn.validate(dl=test)[1]), "seconds": clock()}


def watch():
    """Return a clock of the wall-clock and CPU seconds since now."""
    began, used = time.perf_counter(), time.process_time()
    return lambda: (time.perf_counter() - began, time.process_time() - used)


def child(recipe: str, task: str, folder: str, seed: str, rest: list[str]) -> None:
    """Run once in this process and print the figures as the last line."""
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(io.StringIO()):
        if recipe == "thaw":
            figures = with_thaw(task, Path(folder), Path(out), int(seed), rest)
        else:
            figures = with_fastai(task, Path(folder), recipe, int(seed), *map(int, rest))
    say(json.dumps(figures))


def once(recipe: str, task: str, folder: Path, seed: int, *rest) -> dict:
    """Run once in a new process; return the figures and the seconds of the whole process."""
    command = [sys.executable, __file__, "--one", recipe, task, folder, seed, *rest]
    began, env = time.perf_counter(), os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True, check=True, env=env)
    figures = json.loads(done.stdout.splitlines()[-1]) | {"process": time.perf_counter() - began}
    shown = {key: value for key, value in figures.items() if key != "moments"}
    say_error(f"{task} {recipe} seed {seed} {shown}")
    return figures


def show(values: list[float], digits: int = 1) -> str:
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def reached(run: dict, accuracy: float, which: int) -> float:
    """Return the seconds after which a run's test accuracy stayed at least that high, or infinity if it never did."""
    moments = run["moments"]
    start = 1 + max((i for i, m in enumerate(moments) if m[0] < accuracy - 1e-9), default=-1)
    return moments[start][1 + which] if start < len(moments) else float("inf")


def compare(task: str, folder: Path, recipes: list[str], given: list[str]) -> None:
    """Run all recipes on a task; print a table row for each."""
    ran = {recipe: [] for recipe in recipes}
    for seed in range(SEEDS):
        own = once("thaw", task, folder, seed, *given)
        ran["thaw"].append(own)
        for recipe in list(ran)[1:]:
            ran[recipe].append(once(recipe, task, folder, seed, own["head"], own["full"]))
    epochs = "/".join(str(run["head"] + run["full"]) for run in ran["thaw"])
    for recipe, runs in ran.items():
        valid, test = (show([100 * run[key] for run in runs], 2) for key in ("valid", "test"))
        wall, cpu = (show([run["seconds"][i] for run in runs]) for i in (0, 1))
        row = [task, recipe, epochs, valid, test, wall, cpu, show([run["process"] for run in runs])]
        if recipe != "thaw":
            pairs = list(zip(ran["thaw"], runs, strict=True))
            times = [reached(own, run["test"], 1) for own, run in pairs]
            shares = [time / run["seconds"][1] for time, (_, run) in zip(times, pairs, strict=True)]
            row += [", ".join(f"{time:.1f} ({share:.0%})" for time, share in zip(times, shares, strict=True))]
        say(f"| {' | '.join(row)} |{'' if recipe != 'thaw' else ' |'}")


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        return child(*sys.argv[2:6], sys.argv[6:])
    parser = Parser(__doc__)
    parser.add_words(*TASKS)
    parser.add_argument("--quick", action="store_true", help="use one seed and fewer images")
    parser.add_argument("--only", choices=RECIPES, help="run thaw and this recipe only (default: all)")
    args = parser.parse_args()
    given, tasks = ([word for word in args.words if (word in TASKS) == of] for of in (False, True))
    recipes = [recipe for recipe in RECIPES if args.only in (None, recipe) or recipe == "thaw"]
    say(f"n={SEEDS}, batch {BATCH}, test_resnet from {WEIGHTS.name}; thaw with {' '.join(given) or 'its defaults'}")
    columns = ("task", "recipe", "epochs", "valid (%)", "test (%)", "seconds", "CPU s", "process s",
               "CPU s until thaw reached this test accuracy")  # fmt: skip
    say_text(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    with tempfile.TemporaryDirectory() as root:
        for task in tasks or TASKS:
            compare(task, folder_of(task, Path(root)), recipes, given)


if __name__ == "__main__":
    sys.exit(run(main))
