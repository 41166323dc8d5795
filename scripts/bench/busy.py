"""Training beside a busy process: seconds of steps on a quiet machine, beside it, and beside it with threads=1.

python scripts/bench/busy.py [CASE ...]     ten minutes on two cores with nothing else on them; goes on where it was

The busy process computes without end on one core. The conditions take turns, so that all of them see the machine's
drift. Each run is a line of outputs/bench/busy.jsonl.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from thaw.config.paths import ROOT, require_checkout
from thaw.runtime.console import say, say_text
from thaw.runtime.entry import Parser, count, run

require_checkout(__file__)

LINES = ROOT / "outputs/bench/busy.jsonl"
SHAPES = ("data=shapes", "checklist=from_scratch", "~checklist.full.until", "lr=1e-3", "epochs=3", "batch_size=32")
CASES = {
    "default run (tiny, 40 px)": (),
    "lite0, 128 px": (*SHAPES, "backbone=lite0", "size=128", "data.limit=320"),
    "resnet18, 224 px": (*SHAPES, "backbone=resnet18", "size=224", "data.limit=320"),
}
CONDITIONS = {  # is there a busy process, and what is typed
    "quiet": (False, ()),
    "busy": (True, ()),
    "busy, threads=1": (True, ("threads=1",)),
    "quiet, threads=1": (False, ("threads=1",)),
}


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument(
        "cases",
        nargs="*",
        default=list(CASES),
        choices=list(CASES),
        metavar="CASE",
        help=f"of {', '.join(CASES)}; all where none is given",
    )
    parser.add_argument("--rounds", type=count, default=3)
    args = parser.parse_args()
    LINES.parent.mkdir(parents=True, exist_ok=True)
    for case in args.cases:
        for round_ in range(args.rounds):
            for condition, (busy, typed) in CONDITIONS.items():
                if (case, condition, round_) not in known():
                    row = {"case": case, "condition": condition, "round": round_}
                    with LINES.open("a") as file:
                        file.write(json.dumps(row | timed([*CASES[case], *typed], busy)) + "\n")
        show(case)


def known() -> dict[tuple[str, str, int], dict]:
    """Return what was recorded, by case, condition and round."""
    lines = LINES.read_text().splitlines() if LINES.exists() else []
    rows = [json.loads(line) for line in lines]
    return {(row["case"], row["condition"], row["round"]): row for row in rows}


def timed(overrides: list[str], busy: bool) -> dict:
    """Return the seconds of a run's phases, and what it computed on."""
    beside = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    try:
        with tempfile.TemporaryDirectory() as folder:
            places = [f"hydra.run.dir={folder}/run", f"store.dir={folder}/store", "wandb=disabled"]
            command = [sys.executable, ROOT / "src/train.py", *places, *overrides]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            result = json.loads(Path(folder, "run/result.json").read_text())
    finally:
        if beside:
            beside.kill()
            beside.wait()
    seconds = sum(v for key, v in result.items() if key.startswith("phase/") and key.endswith("/seconds"))
    return {"seconds": seconds, "device": result["device"]}


def show(case: str) -> None:
    """Print the median seconds of each condition, and beside the load the ratios that matter."""
    found = known()
    of = {name: [row["seconds"] for (c, n, _), row in found.items() if (c, n) == (case, name)] for name in CONDITIONS}
    median = {name: statistics.median(values) for name, values in of.items()}
    device = next(row["device"] for (c, n, _), row in found.items() if (c, n) == (case, "quiet"))
    say_text(f"\n{case}: {device}, n={len(of['quiet'])}, median seconds (lowest to highest)")
    for name, values in of.items():
        say(f"  {name:18} {median[name]:7.1f}  ({min(values):.1f} to {max(values):.1f})")
    say(
        f"  busy over quiet {median['busy'] / median['quiet']:.2f}, over threads=1 beside the same load "
        f"{median['busy'] / median['busy, threads=1']:.2f}, two threads' gain when quiet "
        f"{median['quiet, threads=1'] / median['quiet']:.2f}"
    )


if __name__ == "__main__":
    sys.exit(run(main))
