"""Measure how a busy process slows training: on a quiet machine, beside the process, and beside it with threads=1.

python scripts/bench/busy.py [CASE ...]     takes ten minutes on two otherwise idle cores

The busy process computes endlessly on one core. The conditions take turns, so that a drift of the machine affects all
of them. Each run is recorded as a line of outputs/bench/busy.jsonl and not repeated.
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
CONDITIONS = {  # whether there is a busy process, and the settings
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
        help=f"{', '.join(map(repr, CASES))} (default: all)",
    )
    parser.add_argument(
        "--rounds", type=count, default=3, metavar="N", help="runs per case and condition (default: %(default)s)"
    )
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
    """Return the recorded runs by case, condition and round."""
    lines = LINES.read_text().splitlines() if LINES.exists() else []
    rows = [json.loads(line) for line in lines]
    return {(row["case"], row["condition"], row["round"]): row for row in rows}


def timed(overrides: list[str], busy: bool) -> dict:
    """Train once, perhaps beside a busy process; return the seconds of all phases and the device."""
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
    """Print the median seconds of each condition, and the ratios between them."""
    found = known()
    of = {name: [row["seconds"] for (c, n, _), row in found.items() if (c, n) == (case, name)] for name in CONDITIONS}
    median = {name: statistics.median(values) for name, values in of.items()}
    device = next(row["device"] for (c, n, _), row in found.items() if (c, n) == (case, "quiet"))
    say_text(f"\n{case}: {device}, n={len(of['quiet'])}, median seconds (minimum to maximum)")
    for name, values in of.items():
        say(f"  {name:18} {median[name]:7.1f}  ({min(values):.1f} to {max(values):.1f})")
    say(
        f"  ratios of seconds: busy / quiet {median['busy'] / median['quiet']:.2f}, "
        f"busy / busy with threads=1 {median['busy'] / median['busy, threads=1']:.2f}, "
        f"quiet with threads=1 / quiet {median['quiet, threads=1'] / median['quiet']:.2f}"
    )


if __name__ == "__main__":
    sys.exit(run(main))
