"""Sweep folders as jobs leave them, made without training."""

import csv
import json
import math
import random


def make_job(
    folder, *overrides, accuracy=0.9, seconds=10.0, wrong=(), images=40, paid=None, why="over-fitting: +0.1 ± 0.02",
    result=None, metrics=None,
):  # fmt: skip
    """Write the folder of a finished job; `wrong` are the numbers of its misclassified images."""
    about = {"overrides": list(overrides), "command": f"python src/train.py {' '.join(overrides)}", "commit": "abc"}
    folder.mkdir(parents=True)
    status(folder, state="done", **about)
    numbers = {
        "best/accuracy": accuracy,
        "best/loss": 1 - accuracy if isinstance(accuracy, float) else None,
        "best/f1_macro": accuracy,
        "best/phase": "full",
        "phase/find/lr": 0.01,
        "phase/find/seconds": 1.0,
        "phase/head/accuracy": 0.5,
        "phase/head/loss": 0.7,
        "phase/head/lr": 0.01,
        "phase/head/epochs": 2,
        "phase/head/seconds": 1.0,
        "phase/head/reused": 0,
        "phase/head/stopped_because": "all planned cycles trained",
        "phase/full/accuracy": accuracy,
        "phase/full/loss": 0.1,
        "phase/full/lr": 0.002,
        "phase/full/epochs": 7,
        "phase/full/seconds": 5.0,
        "phase/full/reused": 1,
        "phase/full/stopped_because": why,
        "cost/seconds": seconds,
        "cost/seconds_paid": seconds if paid is None else paid,
        "store/code": "check",
        "wandb_offline": None,
    }
    (folder / "result.json").write_text(json.dumps(numbers | about | (result or {})))
    parts = {"order": ["find", "head", "full"], "phases": {
        "find": {"do": "find"},
        "head": {"do": "fit", "budget": 1, "cycles": [2], "epochs": [[32, 64, 10], [32, 64, 10]]},
        "full": {"do": "fit", "budget": 2, "cycles": [1, 2, 4], "epochs": [[32, 64, 20]] * 7},
    }}  # fmt: skip
    (folder / "run.json").write_text(json.dumps(about | {"parts": parts}))
    if metrics is None:
        start, end = random.Random(str(overrides)).random() * 0.2, accuracy if accuracy == accuracy else 0.3
        metrics = [
            {"step": 20 * e, "epoch": e, "phase": "head" if e < 3 else "full",
             "valid/accuracy": end - (end - 0.3 - start) * math.exp(-e / 2), "valid/loss": 2.3 * math.exp(-e / 3)}
            for e in range(1, 10)
        ]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
    predictions(folder / "valid_predictions.csv", wrong, images)
    return folder


def predictions(file, wrong, images=40):
    """Write a table of predictions in which the images with the numbers `wrong` are misclassified."""
    with file.open("w", newline="", encoding="utf-8") as opened:
        table = csv.writer(opened)
        table.writerow(["path", "truth", "prediction", "cat", "dog"])
        for i in range(images):
            truth = i % 2
            taken = 1 - truth if i in wrong else truth
            shares = ["0.200000", "0.800000"] if taken else ["0.800000", "0.200000"]
            table.writerow([f"Ä b/{i}.jpg", ("cat", "dog")[truth], ("cat", "dog")[taken], *shares])


def status(folder, **fields):
    """Write status.json with the given fields."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "status.json").write_text(json.dumps(fields))


def make_sweep(root, schedulers=("sgdr", "one_cycle"), rates=("uniform", "thirds"), seeds=3, images=200):
    """Write a finished job for every combination; later schedulers are better, rates have no effect."""
    number, draw = 0, random.Random(1)
    for i, scheduler in enumerate(schedulers):
        for rate in rates:
            for seed in range(seeds):
                wrong = {draw.randrange(images) for _ in range(images // 10)} | set(range(0, 30 - 25 * i))
                make_job(
                    root / str(number), "size=32", f"scheduler={scheduler}", f"rates={rate}", f"seed={seed}",
                    accuracy=1 - len(wrong) / images, seconds=20 + 15 * i + seed, wrong=wrong, images=images,
                    paid=5 + seed,
                )  # fmt: skip
                number += 1
    return root
