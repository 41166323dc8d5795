"""Temperature scaling of the finished network."""

import csv
import math

import pytest
import torch
from brief import FIND, skip_plots, trained
from safetensors.torch import load_file
from torch import nn

from thaw.config import paths
from thaw.train import calibration
from thaw.train.predictions import Predictions

SHORT = ("data.limit=200", "size=32", *FIND, "wandb=disabled", "checklist=head_only", "epochs=2")


def predictions(odds, right, wrong):
    """Return predictions of two classes, all with the same odds for the first, which is `right` times the true one."""
    logits = torch.tensor([[math.log(odds), 0.0]] * (right + wrong))
    return Predictions(logits, torch.tensor([0] * right + [1] * wrong))


@pytest.mark.parametrize(
    ("odds", "right", "wrong", "probability"),
    [
        (99.0, 75, 25, 75.5 / 101),  # too sure: the mean of 100 images and one that is half of each class
        (1.1, 75, 25, 75.5 / 101),  # not sure enough
        (3.0, 100, 0, 100.5 / 101),  # no mistake: never quite certain
        (3.0, 4, 0, 4.5 / 5),
    ],
)
def test_the_probability_becomes_the_share_of_right_predictions(odds, right, wrong, probability):
    found = calibration.temperature(predictions(odds, right, wrong))
    assert 1 / (1 + odds ** (-1 / found)) == pytest.approx(probability, abs=1e-3)


def test_a_calibrated_network_has_temperature_one():
    logits = torch.randn(20_000, 5, generator=torch.Generator().manual_seed(0)) * 2
    labels = torch.distributions.Categorical(logits=logits).sample()
    assert calibration.temperature(Predictions(logits, labels)) == pytest.approx(1, abs=0.05)
    assert calibration.temperature(Predictions(logits * 3, labels)) == pytest.approx(3, abs=0.15)


@pytest.mark.parametrize(("odds", "found"), [(1.0001, 0.05), (1e30, 20.0)])
def test_temperatures_have_bounds(odds, found):
    assert calibration.temperature(predictions(odds, 3, 2)) == pytest.approx(found, rel=1e-3)


@pytest.mark.parametrize("layer", [nn.Linear(4, 3), nn.Linear(4, 3, bias=False), nn.Conv2d(4, 3, 1)])
def test_a_softened_layer_divides_its_outputs(layer):
    x = torch.randn(2, 4, *(() if isinstance(layer, nn.Linear) else (1, 1)))
    before = layer(x)
    calibration.soften(layer, 2.5)
    torch.testing.assert_close(layer(x), before / 2.5)


@pytest.fixture
def run(compose, tmp_path, monkeypatch):
    """Return run("seed=1", ...) -> (folder, result), which runs a short job in a folder of its own."""
    monkeypatch.setattr(paths, "OUTPUTS", tmp_path)
    skip_plots(monkeypatch)

    def ran(*words):
        folder = tmp_path / "runs" / "_".join(words)
        return folder, trained(compose(*SHORT, *words), folder, *SHORT, *words)

    return ran


def predicted(folder, split):
    with (folder / f"{split}_predictions.csv").open() as file:
        return [(row["path"], row["truth"], row["prediction"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("head", ["linear", "fastai"])
def test_only_the_last_layer_of_the_exported_network_changes(run, head):
    plain, before = run(f"head={head}", "evaluate.calibrate=false")
    folder, result = run(f"head={head}")
    t = result["best/temperature"]
    assert "best/temperature" not in before and abs(math.log(t)) > 0.01
    same = ("best/accuracy", "best/f1_macro", "test/accuracy", "test/f1_macro", "phase/head/loss")
    assert [result[key] for key in same] == [before[key] for key in same]
    assert before["best/loss"] == before["phase/head/loss"] != result["best/loss"]
    assert [predicted(folder, split) for split in ("valid", "test")] == [
        predicted(plain, split) for split in ("valid", "test")
    ]
    a, b = (load_file(place / "model.safetensors") for place in (plain, folder))
    changed = {name for name in a if not torch.equal(a[name], b[name])}
    assert {name.rpartition(".")[2] for name in changed} == {"weight", "bias"} and len(changed) == 2
    for name in changed:
        torch.testing.assert_close(b[name] * t, a[name])
