"""The tables of the bench on real images, on lines with known answers."""

import math

import pytest
import real_table


def line(recipe, seed=0, hits=(1, 0, 1, 0), losses=(0.5, 1.0, 0.5, 1.0), **more):
    """Return a recorded line of one run on four test images."""
    about = {"task": "a", "network": "lite0", "seed": seed, "recipe": recipe, "name": "now", "valid": 0.5, "epochs": 7}
    means = {"test": sum(hits) / 4, "test_loss": sum(losses) / 4, "valid_loss": 1.0, "seconds": 10.0}
    return about | means | {"hits": list(hits), "losses": list(losses), "phases": {}, "ends": []} | more


def test_mean_error():
    assert real_table.mean_error([1.0, 3.0]) == (2.0, pytest.approx(1.0))
    mean, error = real_table.mean_error([5.0])
    assert mean == 5.0 and math.isnan(error)


def test_paired_has_the_error_of_images_and_of_seeds():
    ours = [line("thaw", 0, hits=(1, 1, 1, 1)), line("thaw", 1, hits=(1, 1, 1, 1))]
    theirs = [line("fastai", 0, hits=(1, 0, 1, 0)), line("fastai", 1, hits=(1, 0, 1, 0))]
    mean, error = real_table.paired(ours, theirs, "hits")
    assert mean == 0.5 and error == pytest.approx(math.sqrt(1 / 3) / 2)  # differences 0, 1, 0, 1; seeds are equal
    theirs[1]["hits"] = [1, 1, 1, 1]
    mean, error = real_table.paired(ours, theirs, "hits")
    assert mean == 0.25 and error == pytest.approx(math.hypot(math.sqrt(1 / 12) / 2, 0.25))


def test_paired_compares_equal_seeds_only():
    assert real_table.paired([line("thaw", 0), line("thaw", 7)], [line("fastai", 0)], "hits")[0] == 0.0


def test_the_oracle_has_the_best_validation_accuracy_then_the_lowest_loss():
    rows = [line("rate 0.001", valid=0.8, valid_loss=0.9), line("rate 0.01", valid=0.8, valid_loss=0.7)]
    assert real_table.best_rate([line("thaw", valid=0.9), *rows])["recipe"] == "rate 0.01"
    assert real_table.best_rate([line("thaw")]) is None


def test_tables_tell_means_differences_and_times():
    ours = line("thaw", hits=(1, 1, 1, 0), ends=[[2.0, 0.4], [4.0, 0.5]], seconds=5.0,
                phases={"head_precomputed/accuracy": 0.6, "head_precomputed/loss": 1.1, "full/lr": 0.002})  # fmt: skip
    others = [line("logistic regression", name=""), line("fastai", name="7 epochs")]
    shown = real_table.tables([ours, *others, line("rate 0.003", hits=(1, 1, 1, 1))], "now")
    assert "| a | lite0 | 75.0 / 0.75 (1) | 50.0 / 0.75 (1) | 50.0 / 0.75 (1) | 100.0 / 0.75 (1) |" in shown
    assert "| fastai | +25.00 | none | 1 | +0.00 | none | 1 |" in shown
    assert "| head_precomputed | +10.0 | +10.0 (a) | +10.0 | +10.0 (a) | 1 |" in shown
    assert "| a | lite0 | 0.40 | 0.50 |" in shown
    assert "| a | lite0 | 0.002 | 75.0 / 0.75 | 100.0 / 0.75 * | +25.0 |" in shown


def test_rates_that_were_tried_on_one_task_only_are_blank_on_others():
    found = {"phases": {"full/lr": 0.002}}
    tried = [line("rate 0.001", valid=0.6), line("rate 0.01", hits=(1, 1, 1, 1))]
    lines = [line("thaw", **found), *tried, line("thaw", task="b", **found), line("rate 0.003", task="b")]
    shown = real_table.tables(lines, "now").splitlines()
    assert "| a | lite0 | 0.002 | 50.0 / 0.75 | 50.0 / 0.75 * |  | 100.0 / 0.75 | +0.0 |" in shown
    assert "| b | lite0 | 0.002 | 50.0 / 0.75 |  | 50.0 / 0.75 * |  | +0.0 |" in shown


def test_other_checkouts_are_left_out():
    assert "old" not in real_table.tables([line("thaw"), line("thaw", name="old", task="old")], "now")


def test_fastai_is_compared_with_as_many_epochs():
    lines = [line("thaw"), line("thaw", seed=1, epochs=5)]
    lines += [line("fastai", name="7 epochs"), line("fastai", seed=1, name="7 epochs")]
    rows = real_table.by_place(lines, "now")["a", "lite0"]
    assert [(row["recipe"], row["seed"]) for row in rows] == [("thaw", 0), ("thaw", 1), ("fastai", 0)]
