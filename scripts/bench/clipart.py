"""Evaluate thaw with ImageNet weights on a folder of images, beside a logistic regression on the same features.

python scripts/bench/clipart.py FOLDER [KEY=VALUE ...]     takes 40 minutes on two cores with three seeds

FOLDER has train/, valid/ and test/ with one folder per class. docs/results.md used Debian's openclipart: 12 classes,
1,164, 270 and 499 images. The test images influence no choice. Each run is recorded as a line of
outputs/bench/clipart.jsonl and not repeated. --thaw runs another checkout, whose lines carry --name, to compare
commits.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from thaw.config.paths import ROOT, require_checkout
from thaw.runtime.console import say, say_text
from thaw.runtime.entry import Parser, count, run

require_checkout(__file__)

LINES = ROOT / "outputs/bench/clipart.jsonl"
EVERY = ("size=128", "threads=1", "wandb=disabled")
HEAD_ONLY = ("~checklist.head_augmented", "~checklist.find_full", "~checklist.full")
RULES = {
    f"head_precomputed, {optimizer}, {rule}": (f"optimizer={optimizer}", f"find.rule={rule}", *HEAD_ONLY)
    for optimizer in ("adamw", "sgd")
    for rule in ("trials", "edge", "valley")
}
RATES = {
    f"head for {epochs} epochs, {scheduler}, lr={lr}": (
        "checklist=head_only", "~checklist.head.until", f"scheduler={scheduler}", f"epochs={epochs}", f"lr={lr}",
    )
    for scheduler, epochs in (("constant", 2), ("cosine", 5))
    for lr in (0.02, 0.003)
}  # fmt: skip
RUNS = {"all defaults": (), "all defaults, lr_factor=0.3": ("lr_factor=0.3",), **RULES, **RATES}
PENALTIES = [10 ** (k / 2) for k in range(-8, 1)]


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder of the images")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings of thaw (default: backbone=lite0)")
    parser.add_argument("--seeds", type=count, default=3, metavar="N", help="seeds per run (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="TEXT", help="runs whose name contains it (default: all)")
    parser.add_argument("--name", default="", help="name of the checkout in the recorded lines (default: none)")
    parser.add_argument(
        "--thaw", type=Path, default=ROOT, metavar="CHECKOUT", help="checkout to run (default: this one)"
    )
    args = parser.parse_args()
    words = args.overrides or ["backbone=lite0"]
    asked = [(name, seed) for name in RUNS if args.only in name for seed in range(args.seeds)]
    LINES.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as two:
        shared = [f"data.root={args.folder.expanduser().resolve()}", f"store.dir={folder}/store", *EVERY, *words]
        if "logistic regression".startswith(args.only) and not known(args.name).get(("logistic regression", 0)):
            keep(args.name, "logistic regression", 0, regression(shared))

        def one(item: tuple[str, int]) -> None:
            name, seed = item
            place = f"{folder}/{list(RUNS).index(name)}-{seed}"
            typed = [*shared, f"seed={seed}", f"hydra.run.dir={place}", *RUNS[name]]
            command = [sys.executable, args.thaw / "src/train.py", *typed]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            result = json.loads(Path(place, "result.json").read_text())
            keep(args.name, name, seed, {key: value for key, value in result.items() if "/" in key})

        list(two.map(one, [item for item in asked if item not in known(args.name)]))
    show(known(args.name))


def known(which: str) -> dict[tuple[str, int], dict]:
    """Return the recorded lines of a checkout, by run and seed."""
    lines = LINES.read_text().splitlines() if LINES.exists() else []
    rows = [json.loads(line) for line in lines]
    return {(row["run"], row["seed"]): row for row in rows if row["thaw"] == which}


def keep(which: str, name: str, seed: int, figures: dict) -> None:
    """Record a run as a line."""
    with LINES.open("a") as file:
        file.write(json.dumps({"thaw": which, "run": name, "seed": seed, **figures}) + "\n")


def regression(shared: list[str]) -> dict:
    """Fit logistic regressions on the frozen backbone's features; return the figures of the best on validation."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    from thaw.config import compose
    from thaw.data.table import TEST, TRAIN, VALID
    from thaw.store.open import open_store
    from thaw.train.setup import set_up

    settings = compose.compose_settings(shared)
    with tempfile.TemporaryDirectory() as folder:
        job = set_up(settings, Path(folder), open_store(settings, say))
        splits = [job.inputs.activations(job.inputs.rows(split)) for split in (TRAIN, VALID, TEST)]
    (x, y), valid, test = [(features.float().numpy(), labels.numpy()) for features, labels in splits]
    tried, began = [], time.perf_counter()
    for penalty in PENALTIES:  # L2, added to the mean loss
        found = LogisticRegression(C=1 / (penalty * len(y)), max_iter=2000).fit(x, y)
        tried.append((found.score(*valid), -log_loss(valid[1], found.predict_proba(valid[0])), penalty, found))
    accuracy, loss, penalty, best = max(tried, key=lambda row: row[:2])
    return {
        "best/accuracy": accuracy, "best/loss": -loss, "penalty": penalty, "cost/seconds": time.perf_counter() - began,
        "test/accuracy": best.score(*test), "test/loss": log_loss(test[1], best.predict_proba(test[0])),
    }  # fmt: skip


def show(found: dict[tuple[str, int], dict]) -> None:
    """Print mean and standard deviation over seeds for each run, with the validation results of its phases."""
    for name in dict.fromkeys(name for name, _ in found):
        rows = [row for (other, _), row in found.items() if other == name]
        keys = ["best/accuracy", "best/loss", "test/accuracy", "test/loss", "cost/seconds", "penalty"]
        keys += [key for key in rows[0] if key.startswith("phase/") and key.endswith(("accuracy", "/loss", "/lr"))]
        say_text(f"\n{name}, n={len(rows)}")
        for key in (key for key in keys if key in rows[0]):
            values = [row[key] for row in rows if row.get(key) is not None]
            spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
            say(f"  {key:32} {statistics.mean(values):.4f}{spread}" if values else f"  {key:32} -")


if __name__ == "__main__":
    sys.exit(run(main))
