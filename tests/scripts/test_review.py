"""A sweep's report and figures, and the scripts for finished runs, as a user runs them."""

import csv
import json
import math
import shlex
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from unittest.mock import patch
from urllib.parse import unquote

import images
import pytest
import rerun
import sweeps
from commands import script
from pages import NASTY, Page

import train
from thaw.runtime.errors import UserError
from thaw.sweep.board import leaderboard
from thaw.sweep.figure import join_marks
from thaw.sweep.jobs import JobRecord, read_job
from thaw.sweep.reports import Images, draw_reports
from thaw.train.run_folders import keep_plan_alone, remove_unrun

ROOT = Path(__file__).resolve().parents[2]


def page_of(folder) -> Page:
    """Return the parsed page; check that it runs no script and links only to the reports of its jobs."""
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(text.replace("<wbr>", ""))  # only a place to break a line
    assert "<script" not in text
    for tag, attrs in page.tags:
        assert tag not in ("link", "iframe", "object", "base")
        assert attrs.get("src", "data:").startswith("data:")
        href = attrs.get("href") or attrs.get("xlink:href") or "#"
        assert href.startswith("#") or (folder / unquote(href)).exists()
    return page


def closed(folder, best: int = 0) -> str:
    """Close a sweep, drawing the reports of so many jobs; return what it prints."""
    with redirect_stdout(StringIO()) as printed, patch.object(train, "BEST", best):
        train.close_sweep(folder)
    return printed.getvalue()


def test_the_report_of_a_sweep_with_odd_names_and_a_failed_job(tmp_path):
    root = sweeps.make_sweep(tmp_path / "my <sweep>", images=60, seeds=2)
    job = "<9> & \"'"
    (root / "0").rename(root / job)
    sweeps.status(root / "8", state="failed", code=4, line=NASTY, overrides=["scheduler=flat", "seed=0"])
    (root / job / "report.html").write_text("<p>the job's own")
    printed = closed(root)
    assert "sweep: 8/9 jobs done" in printed
    assert (root / "leaderboard.png").stat().st_size > 10_000
    page = page_of(root)
    words = " ".join(page.words)
    for expected in (
        "my <sweep>",
        job,
        NASTY,
        "8 of 9",
        "one_cycle · thirds",
        "averaged over the other keys",
        "over-fitting",
    ):
        assert expected in words
    assert sum(tag == "svg" for tag, _ in page.tags) == 2
    assert [unquote(attrs["href"]) for tag, attrs in page.tags if tag == "a"] == [f"{job}/report.html"]
    assert (root / "leaderboard.md").read_text(encoding="utf-8").startswith(r"# my \<sweep\>")
    assert len(list(csv.reader((root / "leaderboard.csv").open(encoding="utf-8")))) == 5


@pytest.mark.parametrize(
    "typed",
    [
        [("seed=0", 0.9)],
        [("lr=1", math.nan), ("lr=2", math.nan)],
        [("backbone=" + "a_very_long_name" * 12, 0.9), (f"data.root='/猫/{NASTY}'", 0.9), ("scheduler=$x_1^2$", 1.0)],
        [(f"lr_factor=0.{i}", i / 40) for i in range(30)],
    ],
)
def test_sweeps_of_any_shape_are_drawn(tmp_path, typed):
    for number, (override, accuracy) in enumerate(typed):
        metrics = [] if accuracy == 1.0 else None
        sweeps.make_job(tmp_path / str(number), override, accuracy=accuracy, seconds=number + 1.0, metrics=metrics)
    assert f"{len(typed)}/{len(typed)} jobs done" in closed(tmp_path)
    page_of(tmp_path)


def test_a_sweep_draws_the_reports_of_the_best_jobs_that_lack_one(tmp_path):
    for number, accuracy in enumerate((0.7, 0.9, 0.8, 0.95)):
        sweeps.make_job(tmp_path / str(number), f"lr={number + 1}", accuracy=accuracy)
    (tmp_path / "3/report.html").write_text("<p>the job's own")
    closed(tmp_path, best=2)
    assert sorted(file.parent.name for file in tmp_path.glob("*/report.html")) == ["1", "3"]
    assert (tmp_path / "3/report.html").read_text() == "<p>the job's own"
    page_of(tmp_path)


@pytest.mark.parametrize("damage", ['{"phases": 5}', '{"phases": [1]}', '{"phases": [{}]}', "[", "{"])
def test_a_damaged_file_costs_only_the_report_of_its_job(tmp_path, capsys, damage):
    jobs = []
    for number in range(2):
        sweeps.make_job(tmp_path / str(number), f"lr={number + 1}")
        jobs.append(read_job(tmp_path / str(number)))
    (tmp_path / "0/timeline.json").write_text(damage)
    drawn = draw_reports(jobs)
    lines = [line for line in capsys.readouterr().out.splitlines() if "no report could be drawn" in line]
    assert drawn + len(lines) == 2 and (tmp_path / "1/report.html").exists()
    assert all(line.startswith("note: job 0: no report could be drawn; is one of its") for line in lines)
    assert lines or damage in "[{", "without a timeline there is no plan.png"


def test_the_job_of_an_experiment_that_starts_a_sweep_has_images(tmp_path):
    typed = ("experiment=schedulers", "scheduler=sgdr", "seed=0", "data=digits")
    job = JobRecord(tmp_path, "done", typed, 0, "", {"size": 32})
    assert Images().of(job)("digits/0000").shape == (32, 32, 3)


def test_no_result_writes_nothing_and_a_full_disk_is_one_line(tmp_path, monkeypatch):
    sweeps.status(tmp_path / "none/0", state="failed", code=5, line="no CUDA device", overrides=[])
    assert "0/1 jobs done" in closed(tmp_path / "none")
    assert not (tmp_path / "none/report.html").exists()
    sweeps.make_job(tmp_path / "full/0", "seed=0")
    monkeypatch.setattr(Path, "write_text", lambda *args, **more: (_ for _ in ()).throw(OSError(28, "No space left")))
    assert closed(tmp_path / "full").splitlines()[-1].startswith("warning: no leaderboard written")


def test_ranks_of_overlapping_marks_are_joined():
    import numpy as np

    marks = [(1, (0.0, 0.0)), (2, (5.0, 5.0)), (3, (0.1, 0.1))]
    assert join_marks(marks, np.array) == [((0.0, 0.0), [1, 3]), ((5.0, 5.0), [2])]


# scripts --------------------------------------------------------------------------------------------------------------


def test_status_is_quick_and_writes_the_leaderboard_if_asked(tmp_path):
    root = sweeps.make_sweep(tmp_path / "sweep", seeds=1)
    sweeps.status(root / "4", state="running", pid=2**22 + 1, overrides=["size=32", "scheduler=flat"])
    done = script("status.py", root, PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0
    assert "\n1  one_cycle · " in done.stdout and "4 done, 1 dead of 5" in done.stdout
    loaded = {line.split("|")[-1].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "thaw" in loaded and not loaded & {"torch", "matplotlib", "numpy", "hydra", "scipy"}
    written = script("status.py", root, "--write", "--monitor", "valid/loss")
    assert written.returncode == 0, written.stderr
    assert "ranked by valid/loss" in (root / "leaderboard.md").read_text(encoding="utf-8")
    plain = script("status.py", root, PYTHONIOENCODING="ascii")
    assert plain.returncode == 0 and "\\xb7" in plain.stdout
    nothing = script("status.py", tmp_path / "nowhere")
    assert nothing.returncode == 6 and nothing.stderr.startswith("error: ") and nothing.stderr.count("\n") == 1


def test_two_runs_side_by_side(tmp_path):
    a = sweeps.make_job(tmp_path / "a", "scheduler=sgdr", "seed=0", wrong=set(range(12)))
    b = sweeps.make_job(tmp_path / "b", "scheduler=flat", "seed=0", accuracy=0.95, wrong={0, 1, 39})
    about = json.loads((b / "run.json").read_text())
    about["parts"]["phases"]["full"]["schedule"] = {"shape": "flat_cos"}
    about["parts"]["phases"]["head"]["seed"] = about["parts"]["phases"]["full"]["seed"] = 7
    about["parts"]["made"] = "0123456789abcdef0123"
    (b / "run.json").write_text(json.dumps(about))
    done = script("compare.py", a, b)
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "scheduler sgdr flat" in lines
    assert "schedule.shape (full) – flat_cos" in lines and "seed (head, full) – 7" in lines
    assert "initial weights – 01234567" in lines
    assert "phase run accuracy loss learning rate epochs seconds cycles reused" in lines
    assert "full B 95.00% 0.1000 0.002 7 5.0 1" in lines
    assert "B 27 10 1 2 0.012 better than A" in lines
    assert "correct only in B (10)" in lines and "Ä b/2.jpg cat dog cat" in lines
    assert "correct only in A (1)" in lines and "Ä b/39.jpg dog dog cat" in lines


def test_runs_with_the_same_predictions_have_no_lists_of_images(tmp_path):
    for number in (0, 1):
        sweeps.make_job(tmp_path / str(number), f"seed={number}", wrong={1, 2})
    done = script("compare.py", tmp_path / "0", tmp_path / "1")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "run both correct only this run correct only A correct both wrong p (McNemar) verdict" in lines
    assert lines[-1] == "B 38 0 0 2 1 no significant difference", "no empty lists after it"


def test_the_jobs_of_a_sweep_are_compared_with_the_best(tmp_path):
    sweeps.make_sweep(tmp_path, seeds=1, images=100)
    sweeps.status(tmp_path / "4", state="failed", code=4, line="x", overrides=["scheduler=flat"])
    done = script("compare.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert leaderboard(tmp_path).best_job.folder.name == done.stdout.splitlines()[0].rpartition("/")[2]
    assert "worse than A" in done.stdout and "correct only in" not in done.stdout


def test_time_to_accuracy_of_each_setting(tmp_path):
    def rows(*accuracies):
        return [{"train_seconds": 10.0 * (i + 1), "valid/accuracy": value} for i, value in enumerate(accuracies)]

    for name, curves in (
        ("none", [(0.5, 0.7, 0.75, 0.7), (0.5, 0.6, 0.7, 1.0)]),  # goal 0.875
        ("double", [(0.6, 0.9), (0.6, 0.7, 0.9)]),
        ("staircase", [(0.9, 0.9), (0.6, 0.8, 0.8, 0.8)]),
    ):
        for seed, curve in enumerate(curves):
            job = tmp_path / f"{name}{seed}"
            sweeps.make_job(job, f"resize={name}", f"seed={seed}", accuracy=max(curve), metrics=rows(*curve))
    done = script("bench/time_to_accuracy.py", tmp_path, "resize=none", "--within", "0")
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.splitlines()[2:]) == {
        "| none | never, 40.0 |",
        "| double | 20.0, 30.0 |",
        "| staircase | 10.0, never |",
    }
    refused = script("bench/time_to_accuracy.py", tmp_path, "resize=non")
    assert refused.returncode == 2 and "did you mean resize=none" in refused.stderr


def test_runs_are_compared_on_the_images_and_labels_they_share(tmp_path):
    a = sweeps.make_job(tmp_path / "a", "seed=0", wrong={0, 38})
    b = sweeps.make_job(tmp_path / "b", "seed=0", images=37, wrong={1})
    table = b / "valid_predictions.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("b/2.jpg,cat", "b/2.jpg,dog"), encoding="utf-8")
    done = script("compare.py", a, b)
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "B 34 1 1 0 1 no significant difference" in lines
    assert "note: images left out: 3 only in A, 0 only in B, 1 with another label" in lines
    table.write_text(table.read_text(encoding="utf-8").replace(" b/", " c/"), encoding="utf-8")
    done = script("compare.py", a, b)
    assert done.returncode == 3 and done.stdout == ""
    assert "have no validation image in common: nothing to compare" in done.stderr
    sweeps.status(tmp_path / "c", state="failed", code=4, line="x", overrides=[])
    assert script("compare.py", a, tmp_path / "c").returncode == 6
    assert "the same run was given more than once" in script("compare.py", a, a).stderr


POLISH = "++checklist.polish={do: fit, epochs: 1}"
AGAIN = [  # the words of a run, the words typed after it, the resulting words
    (["lr=1", "~checklist.full", "data.root='/a b'"], "lr=2 -m", ["~checklist.full", "data.root='/a b'", "-m", "lr=2"]),
    (["lr=1"], "lr = 2", ["lr=2"]),
    ([POLISH, "lr=1"], "~checklist.polish", ["lr=1"]),
    (["++checklist.full.lr=1"], "~checklist.full", ["~checklist.full"]),
    (["++checklist.full.lr=1"], "+checklist.full.lr=2", ["+checklist.full.lr=2"]),
    (["~checklist.full"], "~checklist.full", ["~checklist.full"]),
    (["~checklist.full"], "checklist.full.lr=1", ["checklist.full.lr=1"]),
    ([POLISH, "++checklist.polish.lr=1"], POLISH, [POLISH]),
    ([], "~checklist.nope", ["~checklist.nope"]),
    (["--config-dir=/"], "-cd /tmp", ["--config-dir=/tmp"]),
    (["experiment=lesson1"], "seed=1", ["experiment=lesson1", "hydra.mode=RUN", "seed=1"]),
    (["experiment=lesson1"], "-m seed=0,1", ["experiment=lesson1", "-m", "seed=0,1"]),
    (["experiment=lesson1"], "hydra.mode=MULTIRUN", ["experiment=lesson1", "hydra.mode=MULTIRUN"]),
    (["experiment=lesson1"], "experiment=fastai07", ["experiment=fastai07"]),
]


@pytest.mark.parametrize(("before", "more", "words"), AGAIN)
def test_new_words_replace_those_of_the_run(before, more, words):
    assert rerun.merge_words(before, [more] if more == POLISH else more.split()) == words


DAMAGED = [  # status.json and .hydra/overrides.yaml of a run
    ("{", None), ("{", "- {a: b}"), ("{", "no list"), ("[]", "- ["), ('{"overrides": [1]}', None),
]  # fmt: skip


@pytest.mark.parametrize(("status", "overrides"), DAMAGED)
def test_a_run_with_a_damaged_record_is_refused(tmp_path, status, overrides):
    (tmp_path / "status.json").write_text(status)
    (tmp_path / ".hydra").mkdir()
    if overrides:
        (tmp_path / ".hydra/overrides.yaml").write_text(overrides)
    with pytest.raises(UserError, match=r"damaged, so its settings are lost$") as refused:
        rerun.overrides_of(tmp_path)
    assert refused.value.code == 6


@pytest.mark.parametrize("override", ["name=a\0", "notes=" + "x" * 3_000_000])
def test_settings_that_no_command_can_hold_are_refused(tmp_path, monkeypatch, override):
    sweeps.status(tmp_path, state="done", overrides=[override])
    monkeypatch.setattr("sys.argv", ["rerun.py", str(tmp_path)])
    with pytest.raises(UserError, match="its command line cannot be used again") as refused:
        rerun.main()
    assert refused.value.code == 6


def test_a_folder_without_a_run_is_removed(tmp_path):
    for name, more in (
        ("refused", ()),
        ("listed", ("bad_files.csv",)),
        ("begun", ("run.json",)),
        ("ours", ("train.log",)),
    ):
        sweeps.status(tmp_path / name, state="failed", code=2, line="x", overrides=[])
        for file in (".hydra/config.yaml", "plan.txt", *more):
            (tmp_path / name / file).parent.mkdir(exist_ok=True)
            (tmp_path / name / file).touch()
        remove_unrun(tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {"listed", "begun", "ours"}
    keep_plan_alone(tmp_path / "listed")
    assert {path.name for path in (tmp_path / "listed").iterdir()} == {"plan.txt", "bad_files.csv"}


@pytest.mark.slow
def test_a_recorded_command_can_be_repeated_from_anywhere(tmp_path):
    """The run has relative paths, its own yaml files, and text with characters that are special to shells."""
    images.tree(tmp_path / "photos", cat=12, dog=12)
    (tmp_path / "mine/experiment").mkdir(parents=True)
    (tmp_path / "mine/experiment/double.yaml").write_text("# @package _global_\nlr_factor: 2\n")
    typed = ["-cd", "mine", "experiment=double", "data.root=photos", "store.dir=store", "hydra.run.dir=run"]
    typed += ["backbone=tiny", "size=32", "smoke=true", "threads=1", "wandb=disabled", 'notes=it\'s \n a=b, "c"']
    command = [sys.executable, str(ROOT / "src/train.py"), *typed]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=240)
    assert done.returncode == 0, done.stderr
    command = json.loads((tmp_path / "run/result.json").read_text())["command"]
    words = shlex.split(command)[1:]
    assert rerun.merge_words(rerun.overrides_of(tmp_path / "run"), []) == [*words[1:], "hydra.mode=RUN"]
    again = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=ROOT, timeout=240)
    assert again.returncode == 0 and "already done" in again.stdout, again.stderr


def test_rerun_with_other_settings(tmp_path):
    typed = ("size=32", "scheduler=flat_cos", f"store.dir={tmp_path}/store", "name='a b'")
    run = sweeps.make_job(tmp_path / "runs" / "0", *typed)
    done = script("rerun.py", run, "plan_only=true", "size=40", f"hydra.run.dir={tmp_path}/new")
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    assert first.startswith("python src/train.py scheduler=flat_cos") and "size=40" in first and "size=32" not in first
    assert any("flat_cos 7" in line and "40" in line for line in rest)
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"plan.txt", "plan.png"}, "only a plan"
    assert script("rerun.py", run, "lrr=1").returncode == 2, "the exit code of the run"
    assert "name one of its jobs" in script("rerun.py", tmp_path / "runs").stderr


@pytest.mark.slow
def test_a_real_sweep_of_two_jobs(tmp_path):
    small = ("smoke=true", "data.limit=100", "size=32", "threads=1", "wandb=disabled", "seed=0,1")
    places = (f"store.dir={tmp_path}/store", f"hydra.sweep.dir={tmp_path}/sweep")
    command = [sys.executable, str(ROOT / "src/train.py"), "-m", *small, *places]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    board = leaderboard(tmp_path / "sweep")
    assert (board.done, board.total, [len(setting.jobs) for setting in board.settings]) == (2, 2, [2])
    assert "sweep: 2/2 jobs done" in done.stdout
    page_of(tmp_path / "sweep")
    done = script("status.py", tmp_path / "sweep")
    assert "2 done of 2" in done.stdout
    assert script("compare.py", tmp_path / "sweep").returncode == 0
