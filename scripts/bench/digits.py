"""Run the default settings over five seeds: test accuracy as mean and standard deviation, and seconds per phase.

python scripts/bench/digits.py [KEY=VALUE ...]     takes two minutes on two cores

The test images are scikit-learn's own test half (plot_digits_classification), on which its SVC reaches 96.9 %.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from thaw.config.paths import ROOT, require_checkout
from thaw.runtime.console import say, say_text
from thaw.runtime.entry import Parser, run
from thaw.runtime.errors import UserError

require_checkout(__file__)

SEEDS = 5


def main() -> None:
    parser = Parser(__doc__)
    parser.add_words()
    given = parser.parse_args().words
    with tempfile.TemporaryDirectory() as folder:
        places = [f"hydra.sweep.dir={folder}", f"store.dir={folder}/store", "wandb=disabled"]
        seeds = f"seed={','.join(map(str, range(SEEDS)))}"
        subprocess.run([sys.executable, ROOT / "src/train.py", "-m", *places, seeds, *given], check=True)
        results = [json.loads(file.read_text()) for file in sorted(Path(folder).glob("*/result.json"))]
    if len(results) < 2:
        raise UserError(2, "fewer than two runs have a result: remove plan_only and seed from the command")
    say_text(f"\n{' '.join(given) or 'default'}, n={len(results)}: mean ± standard deviation")
    for key in ("best/accuracy", "test/accuracy"):
        say(f"{key:32} {show([100 * result[key] for result in results], 2)} %")
    for key in results[0]:
        if key.endswith(("/seconds", "/epochs", "/lr")):
            say(f"{key:32} {show([result[key] for result in results], 3)}")


def show(values: list[float], digits: int) -> str:
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


if __name__ == "__main__":
    sys.exit(run(main))
