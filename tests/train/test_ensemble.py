"""Ensembles of cycle ends, and heads trained on stored augmented views."""

import hashlib

import numpy as np
import pytest
import torch
from brief import FIND, skip_plots, trained
from torch import nn

from thaw.config import paths
from thaw.plan.facts import Facts
from thaw.plan.plan import make_plan
from thaw.runtime.errors import UserError
from thaw.store.open import open_store
from thaw.train import ensemble
from thaw.train.predictions import Predictions
from thaw.train.setup import set_up

SHORT = ("data.limit=300", "size=32", *FIND, "wandb=disabled")
FULL = (
    "checklist=fine_tune",
    "checklist.head.lr=0.001",
    "checklist.full.lr=0.003",
    "scheduler.cycles=3",
    "scheduler.cycle_mult=1",
    "checklist.head.epochs=1",
)
VIEWS = ("checklist=head_only", "+checklist.head.features=precomputed", "+checklist.head.views=3", "epochs=3")


@pytest.fixture
def run(compose, tmp_path, monkeypatch):
    """Return run("lr=0.1", ...) -> (folder, result), which runs a job as train.py does, in its own folder."""
    monkeypatch.setattr(paths, "OUTPUTS", tmp_path)
    skip_plots(monkeypatch)

    def ran(*overrides, name="a"):
        folder = tmp_path / "runs" / name
        return folder, trained(compose(*overrides), folder, *overrides)

    return ran


def sha(folder):
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_mean_weights_keep_the_last_counters():
    a = {"w": torch.tensor([1.0, 2.0]), "n": torch.tensor(3)}
    b = {"w": torch.tensor([3.0, 6.0]), "n": torch.tensor(5)}
    found = ensemble.mean_weights([a, b])
    assert found["w"].tolist() == [2.0, 4.0] and found["w"].dtype == torch.float32 and found["n"] == 5


def test_an_ensemble_is_the_mean_of_the_probabilities():
    a, b = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    seen = ensemble.mean_prediction([Predictions(a, torch.tensor([0])), Predictions(b, torch.tensor([0]))])
    torch.testing.assert_close(seen.logits.softmax(1), (a.softmax(1) + b.softmax(1)) / 2)
    sure = Predictions(torch.tensor([[500.0, 0.0]]), torch.tensor([1]))
    assert ensemble.mean_prediction([sure, sure]).loss == pytest.approx(500), (
        "finite even if a probability underflows float32"
    )


def test_an_ensemble_changes_no_other_result(run, capsys):
    folder, plain = run(*SHORT, *FULL, name="a")
    assert not [key for key in plain if key.endswith(("_ensemble", "_average"))]
    capsys.readouterr()
    other, result = run(*SHORT, *FULL, "evaluate.ensemble=2", name="b")
    said = capsys.readouterr().out
    assert "cycles from the store)" in said and "for an ensemble of 2 cycle ends" in said
    assert sha(other) == sha(folder)
    assert (other / "valid_predictions.csv").read_text() == (folder / "valid_predictions.csv").read_text()
    shared = [key for key in plain if key.startswith(("best/", "test/"))]
    assert {key: result[key] for key in shared} == {key: plain[key] for key in shared}
    for split in ("best", "test"):
        for kind in ("ensemble", "average"):
            assert result[f"{split}/accuracy_{kind}"] > 0.5 and result[f"{split}/loss_{kind}"] > 0
    _, again = run(*SHORT, *FULL, "evaluate.ensemble=2", "fresh=true", name="c")
    figures = [key for key in result if key.endswith(("_ensemble", "_average"))]
    assert {key: again[key] for key in figures} == {key: result[key] for key in figures}, "to the bit"


def test_refreshed_statistics_are_those_of_the_batches(compose, tmp_path):
    settings = compose(*SHORT, "augment=none", "checklist=from_scratch", "batch_size=1000", "precision=float32")
    job = set_up(settings, tmp_path, open_store(settings, print))
    first = next(m for m in job.network.modules() if isinstance(m, nn.BatchNorm2d))
    seen = []
    handle = first.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    ensemble.refresh_batch_norms(job, job.plan.phases[-1])
    handle.remove()
    torch.testing.assert_close(first.running_mean, seen[0].mean((0, 2, 3)), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(first.running_var, seen[0].var((0, 2, 3)), atol=1e-4, rtol=1e-3)
    assert first.momentum == 0.1
    before = first.running_mean.clone()
    ensemble.refresh_batch_norms(job, job.plan.phases[-1].__class__(**{**vars(job.plan.phases[-1]), "train": "head"}))
    assert torch.equal(first.running_mean, before), "a frozen backbone keeps its statistics"


# stored views ---------------------------------------------------------------------------------------------------------


def test_stored_views_come_in_turn_and_are_seeded_by_content(compose, tmp_path):
    settings = compose(*SHORT, *VIEWS)
    job = set_up(settings, tmp_path, open_store(settings, print))
    phase = job.plan.phases[-1]
    inputs = job.inputs
    n = len(inputs.train_rows)
    (features, labels), (valid, _) = inputs.of(phase).stored
    assert (phase.views, len(features), len(labels), len(valid)) == (3, 3 * n, 3 * n, len(inputs.valid_rows))
    first, second = features[:n], features[n : 2 * n]
    assert not torch.equal(first, second) and torch.equal(labels[:n], labels[2 * n :])
    plain, _ = inputs.activations(inputs.train_rows)
    assert not torch.equal(first, plain)
    assert torch.equal(valid, inputs.activations(inputs.valid_rows)[0])
    few = np.array([inputs.train_rows[5], inputs.train_rows[2]])
    alone, _ = inputs.activations(few, settings.augment, (0, "views", 1))
    assert torch.equal(alone, second[[5, 2]]), "a stored view does not depend on the other images of the request"


def test_a_head_trains_on_stored_views_to_the_same_bits(run):
    folder, result = run(*SHORT, *VIEWS, name="a")
    again, _ = run(*SHORT, *VIEWS, "fresh=true", name="b")
    plain, _ = run(*SHORT, *VIEWS, "~checklist.head.views", name="c")
    assert sha(folder) == sha(again) != sha(plain)
    assert result["best/accuracy"] > 0.5


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["+checklist.head_augmented.views=2"],
            "checklist.head_augmented: views=2 needs stored activations: also set",
        ),
        (["+checklist.head_precomputed.views=0"], "checklist.head_precomputed.views=0: must be a whole number >= 1"),
    ],
)
def test_views_that_cannot_be(compose, overrides, line):
    with pytest.raises(UserError) as caught:
        make_plan(compose(*overrides), Facts())
    assert caught.value.line.startswith(line)
