"""Show where the seconds of a sweep's jobs go: heads on stored activations, which train for less than a second.

python scripts/bench/job_seconds.py [KEY=VALUE ...]     one minute; settings are added to the command

A first sweep stores the activations; shown are the jobs of a second one, which differ in rate and seed. The seconds of
a part exclude those of the parts within it; medians over the jobs.
"""

import functools
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from thaw.config.paths import ROOT, require_checkout
from thaw.runtime.console import grid, say_text
from thaw.runtime.entry import Parser, count, run

require_checkout(__file__)

PARTS = {  # function -> what it does
    "thaw.train.fingerprint:fingerprint": "fingerprint of the settings",
    "thaw.train.stages:make_start": "scan and plan",
    "thaw.train.stages:show_plan": "show the plan",
    "thaw.train.setup:set_up": "set up",
    "thaw.train.setup:create_network": "create the network",
    "thaw.train.setup:within_memory": "try the image sizes",
    "thaw.train.setup:work_per_image": "count multiply-adds",
    "thaw.train.setup:backbone_hash": "hash the weights",
    "thaw.data.pixels:load_pixels": "open the stored images",
    "thaw.report.tracker:Tracker.begin": "begin the W&B run",
    "thaw.report.tracker:Tracker.log": "log rows",
    "thaw.report.tracker:Tracker.finish": "finish the W&B run",
    "thaw.train.run:run_plan": "phases, the rest",
    "thaw.train.run:write_sheets": "draw the first batch",
    "thaw.train.near_duplicates:report_duplicates": "find near duplicates",
    "thaw.train.run:find_rate": "find a rate",
    "thaw.train.fit:train_cycle": "train",
    "thaw.train.fit:fit_phase": "a phase, except training",
    "thaw.train.cycle:write_cycle": "store a cycle",
    "thaw.train.run:evaluate_test": "test",
    "thaw.train.calibration:calibrate": "calibrate",
    "thaw.train.run:export": "export",
    "thaw.train.stages:publish_result": "result.json",
    "thaw.report.publish:publish_report": "pictures and report.html",
    "thaw.report.publish:publish_tables": "W&B's tables and images",
}
HEADS = ["checklist=head_only", "backbone=lite0", "size=96", "data=digits"]
FIRST, SECOND = ["lr=2e-3,4e-3"], ["lr=1e-3,3e-3,1e-2"]
WHERE = "THAW_JOB_SECONDS"  # folder of the timings, in the sweep's own process


def main() -> None:
    if WHERE in os.environ:
        return timed_sweep(Path(os.environ[WHERE]))
    parser = Parser(__doc__)
    parser.add_words()
    parser.add_argument("--seeds", type=count, default=2, metavar="N", help="jobs of each rate (default: %(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        for turn, swept in (("first", FIRST), ("second", [*SECOND, f"seed=range(0,{args.seeds})"])):
            folder = Path(place, turn)
            (folder / "times").mkdir(parents=True)
            typed = [*HEADS, *swept, f"store.dir={place}/store", *args.words]
            began = time.perf_counter()
            own = {"PYTHONPATH": str(ROOT / "src"), WHERE: str(folder / "times"), "WANDB_MODE": "offline"}
            subprocess.run(
                [sys.executable, __file__, "-m", *typed, f"hydra.sweep.dir={folder}/jobs"],
                env=os.environ | own, stdout=subprocess.DEVNULL, check=True, cwd=ROOT,
            )  # fmt: skip
            seconds = time.perf_counter() - began
        times = [json.loads(file.read_text()) for file in sorted((folder / "times").iterdir())]
    jobs = [one for one in times if "train" in one]  # not the process that holds W&B's own
    say_text(table(jobs, seconds))


def table(jobs: list[dict], seconds: float) -> str:
    """Return the median seconds of each part; `seconds`: those of the whole command."""
    rows = {name: statistics.median(job.get(name, 0.0) for job in jobs) for name in (*PARTS.values(), "the rest")}
    total = statistics.median(sum(job.values()) for job in jobs)
    lines = [(name, f"{value:.3f}") for name, value in sorted(rows.items(), key=lambda row: -row[1]) if value > 0.0005]
    lines += [("a job", f"{total:.3f}"), ("a job without training", f"{total - rows['train']:.3f}")]
    rest = seconds - sum(sum(job.values()) for job in jobs)
    return "\n".join(grid(("part of a job", "seconds"), lines)) + f"\n\n{len(jobs)} jobs; besides them: {rest:.2f} s"


def timed_sweep(folder: Path) -> None:
    """Run the command line with a clock around each part; every job writes its seconds as it ends."""
    spent, stack = defaultdict(float), []

    def clock(call, name: str, outermost: bool):
        @functools.wraps(call)
        def timed(*args, **kwargs):
            if outermost:
                spent.clear()
                stack.clear()
            stack.append(0.0)
            began = time.perf_counter()
            try:
                found = call(*args, **kwargs)
                return list_of(found) if name == "train" else found
            finally:
                took = time.perf_counter() - began
                spent[name] += took - stack.pop()
                if stack:
                    stack[-1] += took
                if outermost:
                    (folder / f"{time.time():.3f}.json").write_text(json.dumps(spent))

        return timed

    def list_of(events):
        kept = list(events)  # within the clock: a generator does its work when it is read
        return (event for event in kept)

    import train
    from thaw.runtime import processes

    def clocked_start(work, place, start=processes.start):
        return start(clock(work, "the rest", True), place)

    for place, name in PARTS.items():
        module, _, path = place.partition(":")
        *owner, attribute = path.split(".")
        holder = functools.reduce(getattr, owner, importlib.import_module(module))
        setattr(holder, attribute, clock(getattr(holder, attribute), name, False))
    processes.start = clocked_start
    sys.exit(run(train.main))


if __name__ == "__main__":
    sys.exit(run(main))
