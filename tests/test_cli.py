"""The commands as a user types them, in new processes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import offline
import predict
import pytest
import sweeps

from thaw.runtime import entry
from thaw.runtime.errors import UserError
from thaw.train.run_folders import refuse_sweep_folder

ROOT = Path(__file__).resolve().parents[1]
SMOKE = ("smoke=true", "size=32", "threads=1", "data.limit=100", "wandb=offline")


@pytest.fixture
def thaw(tmp_path):
    """Return a function thaw("src/train.py", ...) -> finished process, whose outputs are in tmp_path."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "HYDRA", "THAW"))}
    environment |= {"HF_HUB_OFFLINE": "1", "HOME": str(tmp_path), "PYTHONIOENCODING": "utf-8"}

    def ran(script, *args, **more):
        command = [sys.executable, str(ROOT / script), *args]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env=environment | more, timeout=240
        )

    return ran


@pytest.fixture
def places(tmp_path):
    return (f"store.dir={tmp_path}/store", f"wandb.dir={tmp_path}/wandb")


@pytest.fixture
def photos(tmp_path):
    """Return a folder of small JPEGs in two classes, with a name of characters special to shells and parsers."""
    root = tmp_path / "My Birds (2024), é=1"
    for label, colour in (("great tit", 60), ("wren", 190)):
        (root / label).mkdir(parents=True)
        for i in range(12):
            image = np.full((50, 60, 3), colour, np.uint8) + np.random.default_rng(i).integers(
                0, 40, (50, 60, 3), np.uint8
            )
            cv2.imwrite(str(root / label / f"{i}.jpg"), image)
    return root


@pytest.mark.parametrize(
    ("typed", "code", "words"),
    [
        ("lrr=0.1", 2, "did you mean lr"),
        ("epochs=1.5", 2, "whole number"),
        ("scheduler=sgd", 2, "did you mean sgdr"),
        ("data.root=/nowhere/at all", 3, "/nowhere/at all"),
        ("backbone=resnet19", 2, "resnet18"),
        ("device=cuda", 5, "device=cpu"),
        ("name=${oc.env:NO_SUCH}", 2, "error: name=${oc.env:NO_SUCH}: "),
    ],
)
def test_an_error_is_one_line(thaw, places, tmp_path, typed, code, words):
    done = thaw("src/train.py", typed, *places, f"hydra.run.dir={tmp_path}/run", CUDA_VISIBLE_DEVICES="")
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == code, done.stderr
    assert last.startswith("error: ") and words in last and len(last) < 330
    assert done.stderr.count("error:") == 1 and "Traceback" not in done.stderr + done.stdout


def test_a_sweep_is_one_group_of_runs_and_survives_a_failed_job(thaw, places, tmp_path):
    done = thaw(
        "src/train.py", "backbone=tiny,resnet18", "-m", *SMOKE, *places,
        f"hydra.sweep.dir={tmp_path}/sweep", "name=a sweep",
    )  # fmt: skip
    states = [json.loads((tmp_path / f"sweep/{n}/status.json").read_text()) for n in (0, 1)]
    assert [(state["state"], state.get("code", 0)) for state in states] == [("done", 0), ("failed", 5)]
    assert done.returncode == 5
    assert "sweep: 1/2 jobs done" in done.stdout and done.stderr.count("error: ") == 1
    runs = [offline.read_ended(file) for file in (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")]
    assert len({run["id"] for run in runs}) == 2
    assert {run["group"] for run in runs} == {"a sweep"}
    assert sorted(run["exit"] for run in runs) == [0, 5]
    for run in runs:
        assert run["config"]["choice"]["scheduler"] == "sgdr" and run["config"]["cfg"]["seed"] == 0
    good = next(run for run in runs if run["exit"] == 0)
    metrics = [json.loads(line) for line in (tmp_path / "sweep/0/metrics.jsonl").read_text().splitlines()]
    history = [{k: v for k, v in row.items() if not k.startswith("_")} for row in good["history"]]
    assert history[: len(metrics)] == metrics
    result = json.loads((tmp_path / "sweep/0/result.json").read_text())
    assert good["summary"]["best/accuracy"] == pytest.approx(result["best/accuracy"])
    assert {"confusion", "per_class", "most_wrong"} <= good["summary"].keys()
    assert any("images/batch_32px._type" in row for row in history)
    other = thaw("src/train.py", "lr_factor=1,2", "-m", *SMOKE, *places, f"hydra.sweep.dir={tmp_path}/sweep")
    assert other.returncode == 6 and "contains another sweep (tiny,resnet18" in other.stderr
    assert json.loads((tmp_path / "sweep/0/result.json").read_text()) == result
    more = ["-m", "backbone=tiny,resnet34", *SMOKE, *places, "hydra/launcher=joblib", "fresh=true"]
    assert refuse_sweep_folder(tmp_path / "sweep", more) is None, "more values of its keys continue it"


def test_training_on_a_folder_with_any_timm_model_and_predicting_it(thaw, places, photos, tmp_path):
    out = tmp_path / "run"
    (photos / "wren" / "broken.jpg").write_text("<html>not found</html>")
    done = thaw(
        "src/train.py", f"data.root={photos}", "backbone=test_efficientnet", "backbone.weights=none", "size=32",
        "smoke=true", "threads=1", "wandb=disabled", f"hydra.run.dir={out}", *places,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "test_efficientnet (no weights) on folder" in done.stdout
    assert (out / "bad_files.csv").read_text().splitlines()[1].startswith("wren/broken.jpg,")
    assert json.loads((out / "config.json").read_text())["label_names"] == ["great tit", "wren"]
    assert json.loads((out / "status.json").read_text())["state"] == "done"

    again = thaw(
        "src/train.py", f"data.root={photos}", "backbone=test_efficientnet", "plan_only=true", *places,
        f"hydra.run.dir={tmp_path}/plan",
    )  # fmt: skip
    assert "training, ?" not in again.stdout and "2 classes, 160 px" in again.stdout, "known from the last scan"

    seen = thaw("scripts/predict.py", str(out), str(photos / "wren" / "3.jpg"), str(photos / "great tit"))
    assert seen.returncode == 0, seen.stderr
    head, _, *lines, total = seen.stdout.splitlines()
    assert head.split() == ["image", "prediction", "probability", "other", "labels"] and re.match(
        r"13 images: (wren|great tit): \d", total
    )
    assert len(lines) == 13 and all("wren" in line and "great tit" in line and "%" in line for line in lines)
    table = tmp_path / "out.csv"
    seen = thaw("scripts/predict.py", str(out), str(photos / "wren"), "--csv", str(table))
    assert seen.returncode == 3 and "broken.jpg" in seen.stderr
    rows = [line.split(",") for line in table.read_text().splitlines()]
    assert rows[0] == ["path", "prediction", "great tit", "wren"] and len(rows) == 13
    assert all(float(row[-1]) + float(row[-2]) == pytest.approx(1, abs=2e-6) for row in rows[1:])
    assert all(row[-3] == ("great tit" if float(row[-2]) > 0.5 else "wren") for row in rows[1:])


def test_predict_lists_what_it_leaves_out(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "empty").mkdir()
    for name in ("a.png", "b.DNG"):
        (tmp_path / "p" / name).write_bytes(b"x")
    os.mkfifo(tmp_path / "p/c.jpg")
    files, bad = predict.files_of([tmp_path / "p", tmp_path / "p/a.png"])
    assert files == [tmp_path / "p/a.png"], "once"
    words = {path.name: why for path, why in bad}
    assert words["c.jpg"] == "not a regular file" and "ignored 1 raw image (.dng)" in words["p"]
    with pytest.raises(UserError, match=r"^\S+empty is empty$"):
        predict.files_of([tmp_path / "empty"])
    with pytest.raises(UserError, match=r"no\.png: no such file or folder$"):
        predict.files_of([tmp_path / "no.png"])
    (tmp_path / "none").mkdir()
    (tmp_path / "none/a.txt").touch()
    gone = [tmp_path / name for name in ("no.png", "empty", "none", "x" * 300, "p/a.png")]
    files, bad = predict.files_of(gone)
    assert files == [tmp_path / "p/a.png"] and [path for path, _ in bad] == gone[:-1]


def test_predict_refuses_a_folder_of_runs(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / ".hydra").mkdir(parents=True)
        (tmp_path / name / "config.json").touch()
        (tmp_path / name / ".hydra/hydra.yaml").write_text("hydra: {mode: RUN}")
    os.utime(tmp_path / "a/config.json", (0, 0))
    with pytest.raises(UserError, match=r"a folder of runs; name one of them, e\.g\. the newest: .*/b$") as refused:
        predict.folders_of(tmp_path, False)
    assert refused.value.code == 6
    assert predict.folders_of(tmp_path / "b", False) == [tmp_path / "b"]


def test_predict_takes_the_best_job_of_a_sweep_or_all_of_its_best_setting(tmp_path, monkeypatch):
    for number, (lr, accuracy) in enumerate(((1, 0.5), (2, 0.7), (2, 0.9))):
        sweeps.make_job(tmp_path / str(number), f"lr={lr}", f"seed={number}", accuracy=accuracy)
        (tmp_path / str(number) / "config.json").touch()
    assert predict.folders_of(tmp_path, False) == [tmp_path / "2"]
    assert predict.folders_of(tmp_path, True) == [tmp_path / "1", tmp_path / "2"]
    shares = {"1": [0.2, 0.8], "2": [0.6, 0.4]}
    monkeypatch.setattr(
        predict, "predict", lambda run, files: (["a", "b"], [(file, shares[run.name]) for file in files], [])
    )
    classes, rows, _ = predict.predict_all(predict.folders_of(tmp_path, True), [Path("x.png")])
    assert classes == ["a", "b"] and rows == [(Path("x.png"), pytest.approx([0.4, 0.6]))]


@pytest.mark.parametrize(
    ("typed", "code", "words"),
    [
        ([], 2, "no run is given"),
        (["RUN"], 2, "no images are given"),
        (["cat.jpg"], 2, "cat.jpg is not the folder of a run; usage: predict.py RUN IMAGE..."),
        (["RUN", "x.jpg", "--tpo", "3"], 2, "unrecognized arguments: --tpo"),
        (["RUN", "x.jpg"], 6, "not a finished run or sweep"),
    ],
)
def test_predict_refuses_in_one_line(tmp_path, monkeypatch, capsys, typed, code, words):
    monkeypatch.setattr("sys.argv", ["predict.py", *(str(tmp_path) if word == "RUN" else word for word in typed)])
    assert entry.run(predict.main) == code
    errors = capsys.readouterr().err
    assert errors.startswith("error: ") and words in errors and errors.count("\n") == 1


def test_predict_reports_each_bad_file_in_one_line(tmp_path, monkeypatch, capsys):
    files = [tmp_path / "a\nb.png", tmp_path / "c.png"]
    for file in files:
        file.write_bytes(b"x")
    monkeypatch.setattr(predict, "folders_of", lambda run, every: [run])
    monkeypatch.setattr(predict, "predict", lambda run, files: (["x"], [], [(file, "cut off") for file in files]))
    errors = {}
    for typed in (files[:1], files):
        monkeypatch.setattr("sys.argv", ["predict.py", str(tmp_path), *map(str, typed)])
        assert entry.run(predict.main) == 3
        errors[len(typed)] = capsys.readouterr().err.splitlines()
    first, second = rf"{tmp_path}/a\nb.png", f"{tmp_path}/c.png"
    assert errors[1] == [f"error: {first}: cut off"]
    assert errors[2] == [
        f"warning: {first} is left out: cut off",
        f"warning: {second} is left out: cut off",
        "error: no image is left to predict: all 2 are left out",
    ]


def test_predict_refuses_other_files_before_it_opens_the_run(tmp_path):
    file = tmp_path / "notes.jpg"
    file.write_text("not an image")
    assert predict.predict(tmp_path / "no run", [file]) == ([], [], [(file, "not an image but text")])


def test_a_python_without_the_environment_is_one_line():
    done = subprocess.run([sys.executable, "-S", ROOT / "src/train.py"], capture_output=True, text=True)
    assert done.returncode == 5 and "source .venv/bin/activate" in done.stderr
    assert done.stdout == "" and done.stderr.count("\n") == 1


def test_help_lists_settings_and_choices(thaw):
    done = thaw("src/train.py", "--help")
    assert done.returncode == 0
    assert (
        "augment.cutmix=0.0" in done.stdout
        and "staircase" in done.stdout
        and "'rates.ratios=[0.01,0.1,1]'" in done.stdout
    )


def test_an_ascii_terminal_works(thaw, places, tmp_path):
    typed = ("plan_only=true", *places, f"hydra.run.dir={tmp_path}/plan")
    done = thaw("src/train.py", *typed, LANG="C", PYTHONIOENCODING="ascii", TERM="dumb")
    assert done.returncode == 0, done.stderr
