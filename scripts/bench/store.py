"""Measure what the store saves and what it costs, as ratios of times taken in one process.

python scripts/bench/store.py [PART ...] [KEY=VALUE ...]     takes ten minutes on two cores
"""

import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import product
from pathlib import Path

from thaw.config import compose
from thaw.config.paths import require_checkout
from thaw.report.tracker import Tracker
from thaw.runtime import entry
from thaw.runtime.console import say
from thaw.store import code_hash, kinds, publish, store
from thaw.store.open import open_store
from thaw.train import context, features, inputs, run, setup
from thaw.train.cycle_state import Snapshots
from thaw.train.setup import set_up

require_checkout(__file__)


PHOTOS = ("data=shapes", "data.limit=300", "backbone=resnet18", "backbone.weights=none", "size=96", "batch_size=32")
LAST_PHASE = list(
    product(
        ("rates=uniform", "rates=thirds", "rates=tenths"),
        ("scheduler=sgdr", "scheduler=cosine", "scheduler=one_cycle", "scheduler=flat_cos"),
    )
)
HEAD = list(
    product(
        ("lr_factor=0.5", "lr_factor=1", "lr_factor=2"),
        ("optimizer.weight_decay=0", "optimizer.weight_decay=0.001"),
        ("loss.smoothing=0", "loss.smoothing=0.1"),
    )
)


def carry_out(folder: Path, *overrides: str) -> tuple[dict, float]:
    """Run once with a store in `folder`; return the result and the seconds, including set-up and export."""
    given = [arg for arg in sys.argv[1:] if "=" in arg or arg.startswith("~")]
    settings = compose.compose_settings(["wandb=disabled", f"store.dir={folder}/store", *overrides, *given])
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(io.StringIO()):
        made = set_up(settings, Path(out), open_store(settings, say))
        result = run.run_plan(made, Tracker(Path(out), settings.wandb))
    return result, time.perf_counter() - began


class Clock:
    """A clock of the seconds spent in the given functions, which it wraps in place."""

    def __init__(self, watched: Iterable[tuple[object, str]]):
        self.seconds, self.inside = 0.0, False
        for holder, name in watched:
            setattr(holder, name, self.around(getattr(holder, name)))

    def around(self, whole: Callable) -> Callable:
        def timed(*args, **kwargs):
            if self.inside:
                return whole(*args, **kwargs)
            self.inside, began = True, time.perf_counter()
            try:
                return whole(*args, **kwargs)
            finally:
                self.inside = False
                self.seconds += time.perf_counter() - began

        return timed


def head_epoch(folder: Path) -> None:
    """Time an epoch of the head from stored activations, and live through the frozen backbone with augmentation."""
    only_heads = ("~checklist.find_full", "~checklist.full", "checklist.head_precomputed.epochs=20")
    for name, overrides in (("digits, test_resnet, 40 px", ()), ("300 shapes, resnet18, 96 px", PHOTOS)):
        result, _ = carry_out(folder / name[:3], *overrides, *only_heads)
        stored = result["phase/head_precomputed/seconds"] / result["phase/head_precomputed/epochs"]
        live = result["phase/head_augmented/seconds"] / result["phase/head_augmented/epochs"]
        say(f"head epoch, {name}: stored {1e3 * stored:.0f} ms, live {1e3 * live:.0f} ms: {live / stored:.0f}x")


def sweep(folder: Path, name: str, settings: list[tuple], overrides: tuple) -> None:
    """Time jobs that share one store, and jobs with a store each; check that their losses agree."""
    shared, alone = [], []
    for number, setting in enumerate(settings):
        shared.append(carry_out(folder / "shared", *overrides, *setting))
        alone.append(carry_out(folder / f"alone{number}", *overrides, *setting))
    assert [result["best/loss"] for result, _ in shared] == [result["best/loss"] for result, _ in alone]
    sums = [sum(seconds for _, seconds in jobs) for jobs in (shared, alone)]
    seconds = f"{sums[0]:.1f} s with one store, {sums[1]:.1f} s with separate stores"
    say(f"{len(settings)} jobs over {name}: {seconds}: {sums[1] / sums[0]:.2f}x, with equal losses")


def again(folder: Path, hashing: Clock) -> None:
    """Time a first run, its hashing, and the same run again."""
    before = hashing.seconds
    _, first = carry_out(folder)
    say(f"hashing: {100 * (hashing.seconds - before) / first:.2f} % of a first run of {first:.1f} s")
    _, second = carry_out(folder)
    say(f"a finished run again, all from the store: {second:.1f} s instead of {first:.1f} s: {first / second:.1f}x")


def snapshots(folder: Path, writing: Clock) -> None:
    """Measure the fraction of training time that snapshots take at the default interval."""
    before = writing.seconds
    overrides = (*PHOTOS, "checklist=from_scratch", "epochs=6", "lr=0.01", "scheduler=constant")
    result, _ = carry_out(folder, *overrides)
    trained = result["phase/full/seconds"]
    say(f"snapshots: {100 * (writing.seconds - before) / trained:.2f} % of {trained:.0f} s of training (resnet18)")


def main() -> None:
    hashed = (
        (kinds, "sha256_of"),
        (publish, "sha256_of"),
        (store, "key_of"),
        (context, "key_of"),
        (inputs, "key_of"),
        (setup, "backbone_hash"),
        (features, "backbone_hash"),
    )
    hashing, writing = Clock((*hashed, (code_hash, "code_by_module"))), Clock([(Snapshots, "write")])
    parts = {
        "head": head_epoch,
        "again": partial(again, hashing=hashing),
        "snapshots": partial(snapshots, writing=writing),
        "last": partial(sweep, name="the last phase, digits", settings=LAST_PHASE, overrides=("epochs=3",)),
        "heads": partial(
            sweep,
            name="the head, 300 shapes, resnet18",
            settings=HEAD,
            overrides=(*PHOTOS, "checklist=head_only", "epochs=3"),
        ),
    }
    parser = entry.Parser(__doc__)
    parser.add_words(*parts)
    asked = [word for word in parser.parse_args().words if word in parts] or list(parts)
    with tempfile.TemporaryDirectory() as folder:
        carry_out(Path(folder) / "warm", "smoke=true")  # imports, first calls
        for name in asked:
            parts[name](Path(folder) / name)


if __name__ == "__main__":
    sys.exit(entry.run(main))
