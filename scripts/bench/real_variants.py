"""Measure on real images what each step of the checklist contributes, and what else might improve the default.

python scripts/bench/real_variants.py [VARIANT ...] [KEY=VALUE ...]     default: all variants; prints the table

Two tasks of scripts/bench/tasks.py, furniture and signs, with the network and size of real.py. Each run is a process
with one thread, two at a time, and a line of scripts/bench/real_variants.jsonl, which is not repeated; it takes about
three minutes. The variants of a task and seed share a store and see the same images in the same order. Settings that
are typed change all variants. --thaw runs another checkout.
"""

import statistics
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import real
import real_table
import task_sources
import tasks

from thaw.config.paths import ROOT, require_checkout
from thaw.runtime.console import say_text
from thaw.runtime.entry import Parser, count, run

require_checkout(__file__)

LINES = ROOT / "scripts/bench/real_variants.jsonl"
TASKS = ("furniture", "signs")
DEFAULT = "default"
VARIANTS = {
    DEFAULT: (),
    # one step of the checklist left out
    "without precompute": ("without=precompute",),
    "without augmented_head": ("without=augmented_head",),
    "without finder": ("without=finder",),
    "without differential_rates": ("without=differential_rates",),
    "without restarts": ("without=restarts", "epochs=15"),
    "without multiplier": ("without=multiplier", "epochs=15"),
    "without everything": ("without=everything", "epochs=15"),
    # other settings
    "with resizing": ("resize.sizes=[0.75,1.0]",),
    "layer decay": ("rates=layer_decay",),
    "tenths": ("rates=tenths",),
    "strong augmentation": ("augment=strong",),
    "mixup": ("augment.mixup=0.2",),
    "no label smoothing": ("loss.smoothing=0",),
    "drop path": ("backbone.drop_path=0.1",),
    "batch norm trained": ("bn=train",),
    # evaluation of the same weights
    "views and cycle ends": ("evaluate.tta=8", "evaluate.ensemble=4"),
}


def main() -> None:
    parser = Parser(__doc__)
    parser.add_words(*VARIANTS)
    tasks.add_folder(parser)
    parser.add_argument("--seeds", type=count, default=5, metavar="N", help="seeds per variant (default: %(default)s)")
    parser.add_argument("--thaw", type=Path, default=ROOT, metavar="CHECKOUT", help="checkout (default: this one)")
    args = parser.parse_args()
    names = dict.fromkeys([DEFAULT, *([word for word in args.words if word in VARIANTS] or VARIANTS)])
    typed = [word for word in args.words if word not in VARIANTS]
    for task in TASKS:
        tasks.make(args.folder, task)
    weights = {"lite0": task_sources.weights(args.folder, "lite0")}

    def one(unit: real.Unit) -> None:
        with tempfile.TemporaryDirectory() as place:
            for name in names:
                if (*unit, name, " ".join(typed)) not in real.known(LINES):
                    words = [*VARIANTS[name], *typed]
                    found = real.thaw(args.thaw, args.folder / unit.task, unit, weights, Path(place), words)
                    real.keep(LINES, {**unit._asdict(), "recipe": name, "name": " ".join(typed), **found})

    with ThreadPoolExecutor(2) as two:
        list(two.map(one, [real.Unit(task, "lite0", seed) for seed in range(args.seeds) for task in TASKS]))
    lines = [row for row in real.known(LINES).values() if row["name"] == " ".join(typed)]
    say_text(f"{table(lines)}\n\n{seconds(lines)}")


def table(lines: Sequence[dict]) -> str:
    """Return a row per variant: for each task, test accuracy and loss, and their differences from the default."""
    out = []
    for name in VARIANTS:
        cells = [name]
        for task in TASKS:
            own, default = (
                [row for row in lines if (row["task"], row["recipe"]) == (task, r)] for r in (name, DEFAULT)
            )
            seeds = {row["seed"] for row in own} & {row["seed"] for row in default}
            own = [row for row in own if row["seed"] in seeds]
            if not own:
                cells += [""] * 3
                continue
            cells.append(f"{real_table.accuracy_and_loss(own)} ({len(own)})")
            for key, scale, digits in (("hits", 100, 1), ("losses", 1, 2)):
                mean, error = real_table.paired(own, default, key)
                cells.append("" if name == DEFAULT else real_table.with_error(scale * mean, scale * error, digits))
        out.append(cells)
    head = ["", *(f"{task}: {what}" for task in TASKS for what in ("test, % / loss (n)", "points", "loss"))]
    return "differences from the default ± standard error over test images and seeds\n\n" + real_table.grid(head, out)


def seconds(lines: Sequence[dict]) -> str:
    """Return for each task the seconds of the default, and the share of each phase: medians over runs."""
    out = []
    for task in TASKS:
        own = [row for row in lines if (row["task"], row["recipe"]) == (task, DEFAULT)]
        phases = [key.removesuffix("/seconds") for key in own[0]["phases"] if key.endswith("/seconds")] if own else []
        shares = [statistics.median(row["phases"][f"{phase}/seconds"] / row["cost"] for row in own) for phase in phases]
        total = f"{statistics.median(row['cost'] for row in own):.0f}" if own else ""
        out.append(
            [
                f"{task} ({len(own)})",
                total,
                *(f"{phase}: {share:.1%}" for phase, share in zip(phases, shares, strict=True)),
            ]
        )
    most = max(map(len, out))
    rows = [row + [""] * (most - len(row)) for row in out]
    return "the default's seconds, and the share of each phase\n\n" + real_table.grid(
        ["", "seconds", *[""] * (most - 2)], rows
    )


if __name__ == "__main__":
    sys.exit(run(main))
