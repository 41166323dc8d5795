"""hydra/sweeper=halving against the full sweep of 16 settings, two seeds each: what it costs, and what it chooses.

python scripts/bench/halving.py [overrides ...]     three repeats with other seeds, each sweep with a store of its own:
up to an hour on two busy cores
"""

import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import fmean, stdev

from thaw.config.paths import ROOT, require_checkout
from thaw.runtime.console import grid, say, say_text
from thaw.runtime.entry import Parser, run
from thaw.sweep.board import Board, leaderboard, seconds_of_all
from thaw.sweep.words import value_text

require_checkout(__file__)


SETTINGS = ("lr_factor=0.1,0.3,1,3", "rates=uniform,tenths", "augment=none,light")
SEEDS = ((0, 1), (2, 3), (4, 5))
HEAD = ("seeds", "epochs", "seconds paid", "by the clock", "chosen", "rank in full", "valid loss", "of the best")
HEAD += ("mean of all", "test", "of the best", "")
# By the loss: on so few digits nearly every setting has all of them right, and by accuracy there is nothing to choose.
SMALL = ("data.limit=400", "size=32", "monitor=valid/loss", "threads=1", "wandb=disabled")


def sweep(folder: Path, seeds: tuple[int, ...], *more: str) -> tuple[Board, float]:
    """The leaderboard of a sweep with a store of its own, and the seconds it took by the clock."""
    typed = (*SETTINGS, f"seed={','.join(map(str, seeds))}", *SMALL, *more)
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, ROOT / "src/train.py", "-m", *typed, f"hydra.sweep.dir={folder}", f"store.dir={folder}/store"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return leaderboard(folder), time.perf_counter() - began


def epochs_of(board: Board) -> int:
    """The epochs of the last phase that all jobs trained; what a rung takes from the store counts once."""
    return sum(job.result["phase/full/epochs"] for job in board.jobs)


def main() -> None:
    parser = Parser(__doc__)
    parser.add_words()
    given = parser.parse_args().words
    rows, ratios = [], []
    for seeds in SEEDS:
        with tempfile.TemporaryDirectory() as name:
            full, full_clock = sweep(Path(name) / "full", seeds, *given)
            halved, halved_clock = sweep(Path(name) / "halved", seeds, *given, "hydra/sweeper=halving")
            paid = [seconds_of_all(board)[1] for board in (full, halved)]
            epochs = [epochs_of(board) for board in (full, halved)]
            chosen = halved.settings[0].choices
            place = [setting.choices for setting in full.settings].index(chosen)
            difference = full.differences[place]
            reached = full.settings[place]
            values = reached.mean, full.settings[0].mean, fmean(setting.mean for setting in full.settings)
        ratios.append((epochs[1] / epochs[0], paid[1] / paid[0], halved_clock / full_clock))
        rows.append((
            " ".join(map(str, seeds)), f"{epochs[1]} of {epochs[0]}", f"{paid[1]:.0f} of {paid[0]:.0f}",
            f"{halved_clock:.0f} of {full_clock:.0f}", reached.name, f"{place + 1} of {len(full.settings)}",
            *(value_text(full.monitor, value) for value in values),
            f"{reached.average('test/accuracy'):.2%}", f"{full.settings[0].average('test/accuracy'):.2%}",
            "" if math.isnan(difference.mean) or not place else "tie" if difference.tie else "worse",
        ))  # fmt: skip
        say(f"seeds {rows[-1][0]}: {rows[-1][1]} epochs, {rows[-1][4]}")
    say_text("\n".join(["", *grid(HEAD, rows), ""]))
    for what, of_repeats in zip(
        ("epochs", "seconds of training", "seconds by the clock"), zip(*ratios, strict=True), strict=True
    ):
        say(f"{what}: {fmean(of_repeats):.2f} ± {stdev(of_repeats):.2f} of the full sweep's, n = {len(ratios)}")


if __name__ == "__main__":
    sys.exit(run(main))
