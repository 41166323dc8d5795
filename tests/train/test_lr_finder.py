"""The learning rate finder of a run: how its trials are set up from the plan."""

import math

import pytest

from thaw.plan.finder_steps import finder_length
from thaw.store.open import open_store
from thaw.train import lr_finder
from thaw.train.setup import set_up

SMALL = ("data.limit=80", "size=32", "data.workers=0")  # 64 training and 16 validation images


@pytest.fixture
def context(compose, tmp_path):
    """Return context("lr=0.1", ...) -> the context of a run."""

    def made(*typed):
        settings = compose(*SMALL, *typed)
        return set_up(settings, tmp_path, open_store(settings, print))

    return made


def inputs_of_finds(run) -> list:
    return [run.inputs.of(phase) for phase in run.plan.phases if phase.do == "find"]


@pytest.mark.parametrize(
    ("typed", "batches", "scales"),
    [
        # 32 steps of 4 images; 48 / 6 steps of 32
        (["batch_size=32"], ([4] * 32, [32] * 8), (math.sqrt(4 / 32), 1.0)),
        (["batch_size=64"], ([4] * 32, [64] * 8), (math.sqrt(4 / 64), 1.0)),
        (["batch_size=500"], ([4] * 32, [64] * 8), (math.sqrt(4 / 64), 1.0)),  # no more than the training images
        (["stored_batch=32", "batch_size=32"], ([32] * 4, [32] * 8), (1.0, 1.0)),
        # At half the size 64 / 20 = 3 images; an epoch of 22 steps is less than 48
        (["batch_size=2", "resize=double"], ([2] * 64, [3] * 8), (1.0, math.sqrt(3 / 2))),
        (["batch_size=32", "find.rule=edge"], (None, None), (math.sqrt(4 / 32), 1.0)),
    ],
)
def test_a_finder_scales_rates_for_batch_size_to_its_own_batches(context, monkeypatch, typed, batches, scales):
    given = []
    monkeypatch.setattr(lr_finder, "rate_trials", lambda net, cut, trial, *how, **more: given.append((cut, trial)))
    monkeypatch.setattr(lr_finder, "range_test", lambda network, cut, trial, *how: given.append((None, trial)))
    run = context(*typed)
    for inputs in inputs_of_finds(run):
        lr_finder.measured(run.settings, run.network, inputs, *finder_length(run.settings, inputs.phase), False)
    assert [trial.scale for _, trial in given] == pytest.approx(scales)
    assert tuple(cut and [len(y) for _, y in cut] for cut, _ in given) == batches


def test_trials_of_a_head_are_judged_on_the_validation_images_and_others_on_their_training_loss(context, monkeypatch):
    judged = []

    def rate_trials(network, batches, trial, find, most, held_out=None, fitted=False):
        judged.append(held_out)

    monkeypatch.setattr(lr_finder, "rate_trials", rate_trials)
    run = context()
    for inputs in inputs_of_finds(run):
        lr_finder.measured(run.settings, run.network, inputs, *finder_length(run.settings, inputs.phase), False)
    (_, labels), none = judged
    assert labels.tolist() == run.inputs.table.labels[run.inputs.valid_rows].tolist() and none is None
