"""Measure progressive resizing on drawn shapes that need their resolution: accuracy and CPU seconds over six seeds.

python scripts/bench/resize.py                 compare resize schedules and how the rate follows the batch size
python scripts/bench/resize.py crop            compare rules for the lower bound of the random crop by image size
python scripts/bench/resize.py [crop] KEY=VALUE ...     with other settings; under ten minutes on one thread

thaw uses the square root and the weaker crop. The rejected rules are defined here and patched in place of thaw's.
"""

import bisect
import itertools
import statistics
import sys
import tempfile
import time
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from unittest.mock import patch

from thaw.config.paths import require_checkout
from thaw.runtime.console import say
from thaw.runtime.entry import Parser, run

require_checkout(__file__)

SEEDS = 6
FINAL = 64
SETTINGS = [
    "data=shapes", "data.limit=1500", "data.detail=0.75", "data.workers=0", f"size={FINAL}", "batch_size=16", "lr=0.03",
    "checklist=from_scratch", "~checklist.full.until", "backbone.weights=conf/backbone/tiny.safetensors",
    "rates=uniform", "augment=none", "scheduler=one_cycle", "epochs=7", "threads=1", "wandb=disabled",
]  # fmt: skip
FOLLOW = {
    "no growth": lambda grown: 1.0,
    "none": lambda grown: 1.0,
    "sqrt": lambda grown: grown**0.5,
    "linear": lambda grown: grown,
}
CROP = {  # from the lower bound at the final size and the fraction of the final size
    "fixed": lambda low, share: low,
    "weaker": lambda low, share: 1 - (1 - low) * share,  # as EfficientNetV2's augmentation (arXiv:2104.00298)
    "stronger": lambda low, share: low * share,
}
RESIZE = [("none", "none"), *itertools.product(("double", "staircase"), FOLLOW)]


def main() -> None:
    parser = Parser(__doc__)
    parser.add_words("crop")
    words = parser.parse_args().words
    crop, given = "crop" in words, [word for word in words if word != "crop"]
    if crop:
        cases = [("none", "none", "fixed"), *(("staircase", "none", rule) for rule in CROP)]
        given = ["augment.crop=random", "augment.scale=[0.35,1.0]", *given]
    else:
        cases = [(*case, "weaker") for case in RESIZE]
    say(f"{' '.join(given) or 'default settings'}, n={SEEDS}: mean ± standard deviation")
    say(f"{'resize':10} {'rate follows batch':19} {'crop':9} {'accuracy (%)':>15} {'CPU seconds':>15}")
    for resize, follow, rule in cases:
        ran = [once([*SETTINGS, *given, f"resize={resize}", f"seed={n}"], follow, rule) for n in range(SEEDS)]
        accuracy, seconds = ([values[i] for values in ran] for i in (0, 1))
        figures = f"{show([100 * a for a in accuracy], 2):>15} {show(seconds, 1):>15}"
        say(f"{resize:10} {follow:19} {rule:9} {figures}")


def once(overrides: list[str], follow: str, rule: str) -> tuple[float, float]:
    """Train once; return the best validation accuracy and the CPU seconds from set-up to export."""
    from thaw.config import compose
    from thaw.data import batches
    from thaw.plan import image_sizes, schedules
    from thaw.report.tracker import Tracker
    from thaw.store.store import Store
    from thaw.train.run import run_plan
    from thaw.train.setup import set_up

    def scaled(at, steps, sizes, own):
        ends = list(itertools.accumulate(steps))
        return lambda step: at(step) * FOLLOW[follow](sizes[bisect.bisect_right(ends, step)] / own)

    def at_size(augment, share):
        if augment.crop != "random":
            return augment
        low, high = augment.scale
        return replace(augment, scale=[CROP[rule](low, share), high])

    growth = 1 if follow == "no growth" else image_sizes.MOST_BATCH_GROWTH
    with (
        tempfile.TemporaryDirectory() as folder,
        redirect_stdout(StringIO()),
        patch.object(schedules, "scaled_with_batch", scaled),
        patch.object(batches, "at_size", at_size),
        patch.object(image_sizes, "MOST_BATCH_GROWTH", growth),
    ):
        settings = compose.compose_settings([*overrides, f"store.dir={folder}/store"])
        started = time.process_time()
        job = set_up(settings, Path(folder), Store(Path(folder) / "store"))
        result = run_plan(job, Tracker(Path(folder), settings.wandb))
        return result["best/accuracy"], time.process_time() - started


def show(values: list[float], digits: int) -> str:
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


if __name__ == "__main__":
    sys.exit(run(main))
