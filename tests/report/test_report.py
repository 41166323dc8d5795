"""The figures and the page of a run, made from the files in its folder, even if some are missing or damaged."""

import csv
import json
import math
import warnings
from collections import Counter

import numpy as np
import pytest
from pages import NASTY, page_of
from PIL import Image

from thaw.report import finder, run_files, run_page, tables
from thaw.report.run_files import wilson
from thaw.report.style import group_names, image_style, lanes_of, text_inches
from thaw.report.timeline import plan_png, stretch
from thaw.runtime import console, files
from thaw.runtime.files import format_duration


def found(phase="find_head", **given) -> dict:
    rates = np.geomspace(1e-6, 1, 60)
    losses = 2 - np.log10(rates / 1e-6) / 5 + np.exp(4 * np.log10(rates / 0.1))
    defaults = {
        "phase": phase,
        "rates": rates.tolist(),
        "losses": losses.tolist(),
        "smoothed": losses.tolist(),
        "suggestions": {"edge": 0.01, "valley": 0.004, "steepest": None},
        "rule": "edge",
        "taken": 0.01,
        "reason": "the highest rate at which the loss still clearly improves",
    }
    return defaults | given


def make(folder, classes, n=60, wrong=0.2):
    """Make a run's folder with made-up content in every file."""
    folder.mkdir(exist_ok=True)
    rates = {"lr/head": 0.01, "lr/first": 0.01}
    rows = [
        {"step": 5, "epoch": 0, "phase": "head", "train/batch_loss": 2.0, **rates, "image_size": 8},
        {"step": 9, "epoch": 0, "phase": "head", "train/batch_loss": math.nan},
        {"step": 10, "epoch": 1, "phase": "head", "train/loss": 1.5, "valid/loss": 1.6, "valid/accuracy": 0.5},
        {"step": 15, "epoch": 1, "phase": "full", "train/batch_loss": 0.03, "lr/head": 0.001, "lr/first": 0.0},
        {"step": 20, "epoch": 2, "phase": "full", "valid/loss": 0.02, "valid/accuracy": 0.9, "image_size": 16},
        {"note": "no step at all"},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 21, "tr')
    result = {
        "best/accuracy": 0.9,
        "best/loss": None,
        "cost/seconds": 75.0,
        "phase/find_head/lr": 0.01,
        "phase/head/accuracy": 0.5,
        "phase/head/stopped_because": "all cycles <done>",
        "phase/full/accuracy": 0.9,
        "overrides": ["name=<i>x</i>"],
        "command": "python src/train.py 'name=<i>x</i>'",
        "versions": {"torch": "2.14.1"},
    }
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "plan.txt").write_text("phase  does\n<b>full</b>  fit\n")
    (folder / "bad_files.csv").write_text("path,why\na&b.jpg,truncated\n")
    (folder / "find_head.json").write_text(json.dumps(found()))
    finder.finder_png(found("find_full"), folder / "find_full.png")
    with (folder / "valid_predictions.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "truth", "prediction", *classes])
        for i in range(n):
            truth = i % len(classes)
            taken = (truth + 1) % len(classes) if i < wrong * n else truth
            shares = [0.1 / len(classes)] * len(classes)
            shares[taken] = 0.9 - i / 1000
            table.writerow([f"é dir/\"'&<{i}>.jpg", classes[truth], classes[taken], *shares])
    return folder


def image(path):
    """Return small, large and missing images in turn."""
    side = {"0": 8, "1": 300}.get(path[-6])
    return None if side is None else np.full((side, side, 3), 90, np.uint8)


def test_two_classes_with_names_that_need_escaping(tmp_path):
    folder = make(tmp_path / "run <1>", ["dog", NASTY])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_page.write_run_report(folder, image)
    assert (folder / "report.png").stat().st_size > 10_000
    _, page = page_of(folder)
    words = " ".join(page.words)
    for expected in (
        NASTY,
        "run <1>",
        "90.0%",
        "1 min 15 s",
        "12 of 60",
        "<b>full</b>",
        "all cycles <done>",
        "a&b.jpg",
        "\"'&<0>.jpg",
    ):
        assert expected in words
    assert "é dir/\"'&<0>.jpg" in [attrs["title"] for tag, attrs in page.tags if tag == "figure"]
    assert sum(tag == "svg" for tag, _ in page.tags) == 3  # curves, one finder, confusion
    assert "+40.00" in words  # the gain of the phase 'full'


def test_control_characters_are_escaped_in_files_that_people_open(tmp_path):
    bad = "x\x1b[31m\x07y\u202e"
    folder = make(tmp_path / "run", [bad, "\x1b]0;b\x07"])
    (folder / "plan.txt").write_text(bad)
    run_page.write_run_report(folder, image)
    files.write_document(folder / "plan.txt", bad)
    for file in ("report.html", "plan.txt"):
        text = (folder / file).read_text(encoding="utf-8")
        assert r"x\x1b[31m\x07y\u202e" in text and not console.OBEYED.search(text)


EXACT = ["=1+1", "+a", "-a", "@a", "\ta", "\ra", "a\nb", 'a"b', "a,b", "a\x1bb", " a ", "猫"]


def test_the_gain_of_a_phase_is_over_the_best_one_before_it():
    result = {f"phase/{name}/accuracy": value for name, value in (("a", 0.9), ("b", 0.8), ("c", 0.95))}
    result |= {"phase/find/lr": 0.1, "phase/a/loss": 2.1414, "phase/c/loss": 0.0007518}
    rows = {row["name"]: row for row in tables.phase_rows(result)}
    assert [rows[name]["gain"] for name in ("a", "b", "find", "c")] == ["", "-10.00", "", "+5.00"]
    assert [rows[name]["loss"] for name in "ac"] == ["2.1414", "0.0008"]


def test_only_a_single_layer_group_is_called_head():
    assert group_names(1) == ["head"] and group_names(3) == ["first layers", "group 1", "last layers"]


def test_a_csv_has_names_unchanged(tmp_path):
    """Such files are read back: disputed.csv can serve as data.labels."""
    files.write_csv(tmp_path / "x.csv", ("path", "label"), [(name, name) for name in EXACT])
    assert list(files.read_csv(tmp_path / "x.csv")) == [["path", "label"], *([name, name] for name in EXACT)]


def test_two_hundred_classes(tmp_path):
    classes = [f"class {i:03}" for i in range(200)]
    folder = make(tmp_path / "run", classes, n=400)
    run_page.write_run_report(folder, image)
    text, page = page_of(folder)
    assert "Classes, worst first (200)" in " ".join(page.words)
    confusion = text[text.index("<h2>Confusion") : text.index("<h2>Most frequent mistakes")]
    assert "class 007" not in confusion  # names would be too small to read


def test_a_thousand_classes_are_cut_to_what_can_be_read(tmp_path):
    folder = make(tmp_path / "run", [f"class {i:04}" for i in range(1000)], n=300)
    run_page.write_run_report(folder, image)
    text, page = page_of(folder)
    words = " ".join(page.words)
    assert "Classes, worst first (200 of 1000)" in words and "Most frequent mistakes" in words
    assert len(text) < 400_000 and sum(tag == "svg" for tag, _ in page.tags) == 2  # curves, one finder


def test_equal_mistakes_are_sorted_by_name():
    counts = {("a", "c"): 2, ("a", "b"): 2, ("b", "b"): 9, ("b", "a"): 1}
    assert run_files.most_confused(counts, 2) == [("a", "b", 2), ("a", "c", 2)]
    assert [row[-1] for row in run_files.per_class(counts, list("abc"))] == ["b", "a", ""]


@pytest.mark.parametrize("left", [[], ["result.json", "metrics.jsonl"], ["valid_predictions.csv"]])
def test_missing_files(tmp_path, left):
    folder = make(tmp_path / "run", ["a", "b"], n=12)
    for file in folder.iterdir():
        if file.name not in left:
            file.unlink()
    run_page.write_run_report(folder, image)
    assert (folder / "report.png").exists()
    page_of(folder)


def test_no_mistakes_and_numbers_that_are_not_finite(tmp_path):
    folder = make(tmp_path / "run", ["猫", "b", "c"], n=12, wrong=0)
    rows = [{"step": i, "epoch": i, "phase": "full", "train/loss": math.inf, "valid/loss": math.nan} for i in range(3)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "find_head.json").write_text(json.dumps(found(losses=[math.nan] * 60, taken=None, suggestions=None)))
    run_page.write_run_report(folder, image)
    assert "All validation images are classified correctly." in " ".join(page_of(folder)[1].words)


@pytest.mark.parametrize(
    ("classes", "wrong", "more"), [(3, 0.2, 6.9), (3, 0, 0), (50, 0, 0), (300, 0.2, 6.9), (300, 0, 0)]
)
def test_report_png_has_no_row_for_mistakes_if_there_are_none(tmp_path, classes, wrong, more):
    folder = make(tmp_path / "run", [f"class {i}" for i in range(classes)], wrong=wrong)
    run_page.write_run_report(folder, image)
    with Image.open(folder / "report.png") as sheet:
        assert sheet.size == (1400, pytest.approx(100 * (0.7 + 6.6 + more), abs=1))


def phase(name, do="fit", start=0, steps=84, groups=3, known=True, sizes=(112, 224), **given) -> dict:
    rates = [[0.1**g * (1 - s / steps) for s in range(steps)] for g in range(groups)]
    edges = [round(steps * i / len(sizes)) for i in range(len(sizes) + 1)]
    out = {"name": name, "do": do, "train": "all", "features": "live", "start": start, "steps": steps, "known": known}
    points = [0, steps] if do == "find" else list(range(steps))
    return (
        out | {"points": points, "rates": [] if do == "find" else rates, "sizes": list(sizes), "edges": edges} | given
    )


@pytest.mark.parametrize(
    "timeline",
    [
        [phase("find", do="find", steps=100, sizes=(None,)), phase("full", known=False)],
        [phase("head", train="head", features="precomputed", steps=1, groups=1), phase("full", groups=20, steps=5000)],
        [phase(f"a_long_name_for_phase_{i}", steps=2 + i) for i in range(40)],
    ],
)
def test_plan(tmp_path, timeline):
    plan_png(timeline, tmp_path / "plan.png")
    assert (tmp_path / "plan.png").stat().st_size > 5_000


def test_short_phases_are_widened_and_the_others_share_the_rest():
    assert stretch([1, 9], [0, 0], 10) == [1, 9]
    assert stretch([1, 99, 100], [2, 1, 1], 10) == pytest.approx([2, 8 * 99 / 199, 8 * 100 / 199])


def test_phase_names_do_not_overlap():
    inch = text_inches("name")
    assert lanes_of([("name", 0, inch), ("name", inch, 2 * inch)], 1) == [0, 0]
    assert lanes_of([("name", 0, inch / 2), ("name", inch / 2, inch)], 1) == [0, 1]
    assert lanes_of([("name", i * inch / 3, (i + 1) * inch / 3) for i in range(3)], 1) is None


TRIALS = {"rule": "trials", "rates": [1e-4, 1e-3, 1e-2], "suggestions": {"lowest": 1e-3}, "measure": "validation loss"}
CURVES = [
    {}, {"suggestions": {}, "taken": None}, {"rates": [], "losses": [], "smoothed": []},
    TRIALS | {"losses": [2.0, 1.0, 1.5], "smoothed": [2.0, 1.0, 1.5]},
    TRIALS | {"losses": [2.0, 1.0, None], "smoothed": [2.0, 1.0, None]},  # an infinite loss
    TRIALS | {"losses": [None, 1.0, None], "smoothed": [None, 1.0, None]},
    TRIALS | {"rates": [1e-3], "losses": [2.0], "smoothed": [2.0]},  # smoke=true
    TRIALS | {"losses": [1.1, 1.3, 4.0], "smoothed": [1.1, 1.3, 4.0], "levels": {"start": 1.0, "limit": 1.7}},
]  # fmt: skip


@pytest.mark.parametrize("given", CURVES)
def test_find(tmp_path, given):
    finder.finder_png(found(**given), tmp_path / "find.png")
    assert (tmp_path / "find.png").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("given", "lines", "measure"),
    [
        (CURVES[3], ["a trial"], "validation loss"),
        ({"measure": "training loss"}, ["batch", "smoothed"], "training loss"),
    ],
)
def test_the_curve_of_a_finder_is_labelled_with_what_was_measured(given, lines, measure):
    with image_style():
        (axes,) = finder.finder_figure(found(**given)).axes
    labels = [label for label in axes.get_legend_handles_labels()[1] if label in ("a trial", "batch", "smoothed")]
    assert (labels, axes.get_ylabel()) == (lines, measure)


@pytest.mark.parametrize("last", [4.0, 400.0, None])
def test_a_finder_with_levels_shows_all_trials_on_a_log_axis(last):
    (axes,) = finder.finder_figure(found(**CURVES[-1] | {"losses": [1.1, 1.3, last]})).axes
    low, high = axes.get_ylim()
    assert axes.get_yscale() == "log" and low < 1.0 and high > (last or 1.7)
    assert {"start", "limit"} <= {text.get_text() for text in axes.texts}
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0.0001", "0.001", "0.01"]


def test_a_finder_without_levels_shows_no_exploded_loss():
    curve = [2.0, 1.0, 400.0]
    (axes,) = finder.finder_figure(found(**TRIALS | {"losses": curve, "smoothed": curve})).axes
    assert axes.get_yscale() == "linear" and 2.0 < axes.get_ylim()[1] < 4.0


def test_no_figure_is_left_behind(tmp_path):
    import sys

    finder.finder_png(found(), tmp_path / "find.png")
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_rows():
    truth, predicted = list("aaabbc"), list("aabbba")
    counts = Counter(zip(truth, predicted, strict=True))
    assert run_files.confusion_matrix(counts, list("abcd")) == [
        [2, 1, 0, 0],
        [0, 2, 0, 0],
        [1, 0, 0, 0],
        [0, 0, 0, 0],
    ]
    rows = run_files.per_class(counts, list("abcd"))
    assert rows[0] == ("a", 3, pytest.approx(2 / 3), pytest.approx(2 / 3), pytest.approx(2 / 3), "b")
    assert rows[1][-1] == ""
    assert rows[2:] == [("c", 1, 0, 0, 0, "a"), ("d", 0, 0, 0, 0, "")]
    assert run_files.confusion_matrix({}, ["a"]) == [[0]]
    assert run_files.per_class({}, ["a"]) == [("a", 0, 0, 0, 0, "")]


def test_most_wrong_is_the_most_confident_mistake():
    rows = [
        {"path": str(i), "truth": "a", "prediction": prediction, "confidence": confidence, "more": 1}
        for i, (prediction, confidence) in enumerate([("b", 0.6), ("a", 0.99), ("b", math.nan), ("c", 0.9)])
    ]
    assert [row["path"] for row in run_files.most_wrong(rows, 3)] == ["3", "0", "2"]
    assert run_files.most_wrong(rows, 1) == [{"path": "3", "truth": "a", "prediction": "c", "confidence": 0.9}]


def test_a_class_may_be_called_path(tmp_path):
    file = tmp_path / "valid_predictions.csv"
    file.write_text("path,truth,prediction,path,truth\nx.jpg,truth,path,0.7,0.3\n")
    rows = [{"path": "x.jpg", "truth": "truth", "prediction": "path", "confidence": 0.7}]
    assert run_files.read_predictions(file) == (["path", "truth"], rows)


def test_wilson_and_duration():
    assert wilson(90, 100) == pytest.approx((0.8256, 0.9448), abs=1e-3)
    assert [format_duration(s) for s in (8.21, 59.99, 200, 7500)] == [
        "8.2 s",
        "1 min 0 s",
        "3 min 20 s",
        "2 h 5 min",
    ]
