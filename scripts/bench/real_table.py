"""The tables of scripts/bench/real.py, from the lines it recorded.

python scripts/bench/real_table.py [--name NAME]     print them
"""

import json
import math
import operator
import statistics
import sys
from collections.abc import Iterable, Sequence

import numpy as np

from thaw.config.paths import ROOT, require_checkout
from thaw.runtime.console import say_text
from thaw.runtime.entry import Parser, run

require_checkout(__file__)

THAW = "thaw"
CLEARLY = 2.0  # standard errors


def mean_error(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and its standard error, nan for one value."""
    values = list(values)
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return statistics.mean(values), error


def with_error(mean: float, error: float, digits: int) -> str:
    """Return a mean with its standard error, without one if it comes from one value."""
    return f"{mean:+.{digits}f}" + ("" if math.isnan(error) else f" ± {error:.{digits}f}")


def paired(ours: Sequence[dict], theirs: Sequence[dict], key: str) -> tuple[float, float]:
    """Return the mean difference of a value per test image, ours - theirs, and its standard error.

    The error has two parts: the sampling of the test images, from the differences per image, and the seeds, from the
    differences per seed.
    """
    by_seed = {row["seed"]: row for row in theirs}
    every = np.array([np.subtract(row[key], by_seed[row["seed"]][key]) for row in ours if row["seed"] in by_seed])
    n = every.shape[1]
    of_images = every.mean(0).std(ddof=1) / math.sqrt(n)
    of_seeds = every.mean(1).std(ddof=1) / math.sqrt(len(every)) if len(every) > 1 else 0.0
    return float(every.mean()), math.hypot(of_images, of_seeds)


def typed_rates(rows: Iterable[dict]) -> dict[float, dict]:
    """Return the runs with a typed rate of the full network, by this rate."""
    return {float(row["recipe"].removeprefix("rate ")): row for row in rows if row["recipe"].startswith("rate ")}


def best_rate(rows: Iterable[dict]) -> dict | None:
    """Return the oracle's run: the typed rate with the highest validation accuracy, among equals the lowest loss."""
    return max(typed_rates(rows).values(), key=lambda row: (row["valid"], -row["valid_loss"]), default=None)


def grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def by_place(lines: Sequence[dict], name: str) -> dict[tuple[str, str], list[dict]]:
    """Return the lines of one checkout by task and network, the oracle's run under its own name.

    A line without a name depends on no checkout; one named "N epochs" counts if thaw took as many with that seed.
    """
    unit = operator.itemgetter("task", "network", "seed")
    epochs = {unit(row): row["epochs"] for row in lines if (row["recipe"], row["name"]) == (THAW, name)}
    places = {}
    for row in lines:
        if row["name"] in (name, "", f"{epochs.get(unit(row))} epochs"):
            places.setdefault((row["task"], row["network"]), []).append(row)
    for rows in places.values():
        if (oracle := best_rate(rows)) is not None:
            rows.append(oracle | {"recipe": "oracle"})
    return places


def of(rows: Iterable[dict], recipe: str) -> list[dict]:
    return [row for row in rows if row["recipe"] == recipe]


def accuracy_and_loss(rows: Sequence[dict]) -> str:
    """Return the mean test accuracy in % and the mean test loss of runs."""
    accuracy, loss = (statistics.mean(row[key] for row in rows) for key in ("test", "test_loss"))
    return f"{100 * accuracy:.1f} / {loss:.2f}"


def results(places: dict) -> str:
    """Return a row per task: the test accuracy and loss of each recipe, means over seeds."""
    recipes = list(dict.fromkeys(row["recipe"] for rows in places.values() for row in rows))
    recipes = [recipe for recipe in recipes if not recipe.startswith("rate ")]
    out = []
    for (task, network), rows in places.items():
        cells = []
        for recipe in recipes:
            own = of(rows, recipe)
            cells.append(f"{accuracy_and_loss(own)} ({len(own)})" if own else "")
        out.append([task, network, *cells])
    return "test accuracy in % / test loss (number of seeds)\n\n" + grid(["task", "network", *recipes], out)


def differences(places: dict) -> str:
    """Return a row per other recipe: the mean difference over tasks, and the tasks on which thaw is clearly worse."""
    recipes = list(dict.fromkeys(row["recipe"] for rows in places.values() for row in rows))
    out = []
    for other in (recipe for recipe in recipes if recipe != THAW and not recipe.startswith("rate ")):
        cells = [other]
        for key, scale, sign in (("hits", 100, 1), ("losses", 1, -1)):
            found = {}
            for place, rows in places.items():
                ours, theirs = of(rows, THAW), of(rows, other)
                seeds = {row["seed"] for row in ours} & {row["seed"] for row in theirs}
                if seeds:
                    found[place] = paired([row for row in ours if row["seed"] in seeds], theirs, key)
            if not found:
                continue
            mean, error = mean_error([value for value, _ in found.values()])
            worse = [f"{task} {network}" for (task, network), (d, e) in found.items() if sign * d < -CLEARLY * e]
            cells += [with_error(scale * mean, scale * error, 2), ", ".join(worse) or "none", len(found)]
        out.append(cells)
    head = ["thaw minus", "accuracy, points", "clearly worse on", "n", "loss", "clearly worse on", "n"]
    return "mean over tasks ± standard error; clearly: two paired standard errors\n\n" + grid(head, out)


def heads(places: dict) -> str:
    """Return a row per head phase: validation accuracy and loss relative to logistic regression."""
    out = []
    for phase in ("head_precomputed", "head_augmented"):
        accuracy, loss = {}, {}
        for place, rows in places.items():
            ours, theirs = of(rows, THAW), of(rows, "logistic regression")
            seen = [row["phases"] for row in ours if f"{phase}/accuracy" in row["phases"]]
            if seen and theirs:
                valid, valid_loss = (statistics.mean(row[key] for row in theirs) for key in ("valid", "valid_loss"))
                accuracy[place] = 100 * (statistics.mean(one[f"{phase}/accuracy"] for one in seen) - valid)
                loss[place] = 100 * (statistics.mean(one[f"{phase}/loss"] for one in seen) / valid_loss - 1)
        if accuracy:
            cells = [with_error(*mean_error(values), 1) for values in (accuracy.values(), loss.values())]
            worst = min(accuracy, key=accuracy.get), max(loss, key=loss.get)
            told = [f"{way[place]:+.1f} ({place[0]})" for place, way in zip(worst, (accuracy, loss), strict=True)]
            out.append([phase, cells[0], told[0], cells[1], told[1], len(accuracy)])
    head = ["after", "accuracy, points", "worst", "loss, %", "worst", "n"]
    return "validation, relative to logistic regression\n\n" + grid(head, out)


def times(places: dict) -> str:
    """Return a row per task: thaw's time to fastai's final validation accuracy, as a share of fastai's time."""
    out = []
    for (task, network), rows in places.items():
        theirs = {row["seed"]: row for row in of(rows, "fastai")}
        shares, whole = [], []
        for row in of(rows, THAW):
            if other := theirs.get(row["seed"]):
                at = [seconds for seconds, accuracy in row["ends"] if accuracy >= other["valid"] - 5e-5]
                shares.append(at[0] / other["seconds"] if at else math.inf)
                whole.append(row["seconds"] / other["seconds"])
        if shares:
            out.append([task, network, ", ".join(f"{s:.2f}" for s in shares), f"{statistics.mean(whole):.2f}"])
    head = ["task", "network", "time to fastai's final validation accuracy / fastai's", "whole run / fastai's"]
    return grid(head, out)


def regrets(places: dict) -> str:
    """Return a row per task: test accuracy and loss with the found rate and with each typed rate."""
    tried = {place: typed_rates(rows) for place, rows in places.items()}
    rates, out = sorted({rate for typed in tried.values() for rate in typed}), []
    for (task, network), typed in tried.items():
        own = next((row for row in of(places[task, network], THAW) if row["seed"] == 0), None)
        if typed and own:
            oracle = best_rate(typed.values())
            cells = [f"{own['phases']['full/lr']:.2g}", accuracy_and_loss([own])]
            for rate in rates:
                row = typed.get(rate)
                cells.append("" if row is None else accuracy_and_loss([row]) + " *" * (row is oracle))
            out.append([task, network, *cells, f"{100 * (oracle['test'] - own['test']):+.1f}"])
    head = ["task", "network", "found rate", "found", *(f"{rate:g}" for rate in rates), "oracle minus found, points"]
    return "test accuracy in % / test loss, seed 0; *: the oracle, the best on validation images\n\n" + grid(head, out)


def tables(lines: Sequence[dict], name: str) -> str:
    """Return all tables of one checkout."""
    places = by_place(lines, name)
    return "\n\n".join(part(places) for part in (results, differences, heads, times, regrets))


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--name", default="now", help="name of thaw's lines (default: %(default)s)")
    args = parser.parse_args()
    file = ROOT / "scripts/bench/real.jsonl"
    say_text(tables([json.loads(line) for line in file.read_text().splitlines()], args.name))


if __name__ == "__main__":
    sys.exit(run(main))
