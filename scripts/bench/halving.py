"""Compare hydra/sweeper=halving with the full sweep of 16 settings and two seeds: its cost and the setting it chooses.

python scripts/bench/halving.py [KEY=VALUE ...]     takes up to an hour on two busy cores

There are three repeats with different seeds. Each sweep has its own store.
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
HEAD = ("seeds", "epochs", "seconds paid", "wall-clock s", "chosen", "rank in full", "valid loss", "loss of best")
HEAD += ("mean loss", "test accuracy", "accuracy of best", "")
# Ranked by loss: on so few digits, nearly every setting reaches the highest accuracy.
SMALL = ("data.limit=400", "size=32", "monitor=valid/loss", "threads=1", "wandb=disabled")


def sweep(folder: Path, seeds: tuple[int, ...], *more: str) -> tuple[Board, float]:
    """Run a sweep with its own store; return its leaderboard and the wall-clock seconds."""
    typed = (*SETTINGS, f"seed={','.join(map(str, seeds))}", *SMALL, *more)
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, ROOT / "src/train.py", "-m", *typed, f"hydra.sweep.dir={folder}", f"store.dir={folder}/store"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return leaderboard(folder), time.perf_counter() - began


def epochs_of(board: Board) -> int:
    """Return the epochs that all jobs trained in the last phase; epochs taken from the store count once."""
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
        ("epochs", "seconds of training", "wall-clock seconds"), zip(*ratios, strict=True), strict=True
    ):
        say(f"{what}: halving / full sweep {fmean(of_repeats):.2f} ± {stdev(of_repeats):.2f}, n = {len(ratios)}")


if __name__ == "__main__":
    sys.exit(run(main))
