"""The preview of a run or a sweep (plan_only=true) agrees with what the run then does."""

import math

import pytest
from faults import SMALL, carry_out

from thaw.config import run_names
from thaw.plan import plan
from thaw.plan.facts import Facts, known_facts
from thaw.store import estimates
from thaw.store.store import Store
from thaw.sweep import preview


def artifacts_of(settings, facts=None) -> list[estimates.PlannedArtifact]:
    facts = facts or known_facts(settings, lambda name: {})
    return estimates.planned_artifacts(settings, plan.make_plan(settings, facts), [])


def shared(a, b) -> int:
    """Return how many artifacts two runs have in common, counted from the first."""
    names = [[artifact.name for artifact in run] for run in (a, b)]
    return next((i for i, (x, y) in enumerate(zip(*names, strict=False)) if x != y), min(map(len, names)))


@pytest.mark.parametrize(
    ("typed", "common"),
    [
        ((), 11),  # images, find_head, 1 cycle, 3 cycles, find_full, 4 cycles: 3 planned, 1 that may be added
        (("seed=1",), 1),
        (("rates=uniform",), 6),
        (("scheduler=one_cycle",), 7),
        (("scheduler.cycles=4", "scheduler.max_cycles=4"), 11),
        (("lr_factor=2",), 2),
        (("checklist.full.lr=0.1",), 6),
        (("checklist.head_precomputed.epochs=3",), 1),  # the trials of find_head are as long
        (("checklist.head_augmented.lr_factor=1",), 3),
        (("stored_batch=8",), 1),
        (("find.rule=valley",), 1),
        (("find.stored_steps=50",), 1),
        (("find.trials=3",), 6),
        (("find.trial_steps=60",), 6),
        (("loss.smoothing=0",), 7),  # a finder has none
        (("augment=none",), 3),
        (("backbone.drop=0.1",), 0),
        (("data.valid=0.3",), 0),
        (("monitor=valid/loss", "wandb=disabled", "data.workers=2", "store.snapshot_s=1", "name=x"), 11),
        (("evaluate.calibrate=false",), 11),
    ],
)
def test_number_of_artifacts_that_two_runs_share(compose, typed, common):
    assert shared(artifacts_of(compose()), artifacts_of(compose(*typed))) == common


@pytest.fixture
def done(compose, tmp_path):
    """Return a store with the results of a run."""
    carry_out(compose(*SMALL), tmp_path / "run")
    return tmp_path / "store"


def test_a_run_reuses_exactly_the_phases_that_the_preview_names(compose, done, tmp_path):
    for number, typed in enumerate([("rates=uniform",), ("augment=none",), ("find.rule=valley",)]):
        settings = compose(*SMALL, *typed)
        store = Store(done)
        planned = plan.make_plan(settings, known_facts(settings, store.recall))
        text = preview.preview_run(settings, planned, store)
        result = carry_out(settings, tmp_path / f"again-{number}")
        found = [name for name in (p.name for p in planned.phases) if result[f"phase/{name}/reused"]]
        assert f"in the store: {len(found)} of 4 phases" in text, text
        assert all(name in text for name in found)


def test_deleted_phases_and_those_of_a_fresh_run_do_not_count_as_stored(compose, done):
    settings = compose(*SMALL)
    planned = plan.make_plan(settings, known_facts(settings, Store(done).recall))
    assert preview.preview_run(settings, planned, Store(done)) == "in the store: all 4 phases"
    assert "in the store: 0 of 4" in preview.preview_run(compose(*SMALL, "fresh=true"), planned, Store(done))
    for marker in (done / "cycles").glob("*/DONE.json"):
        marker.unlink()
    assert "in the store: 2 of 4 phases (find_head, find_full)" in preview.preview_run(settings, planned, Store(done))


def table_of(jobs, root, done=(), at_once=1, trials=0):
    """Return the lines of a preview, and (number, line) of the refused jobs. `jobs`: (overrides, settings)."""
    refused = []
    jobs = [(number, *job) for number, job in enumerate(jobs)]
    lines = preview.preview_sweep(
        jobs, Store(root), lambda i, error: refused.append((i, error.line)), done, at_once, trials
    )
    return lines, refused


def test_a_row_for_each_setting_and_the_totals(compose, tmp_path):
    typed = [(f"rates={rates}", f"seed={seed}") for rates in ("uniform", "thirds") for seed in (0, 1)]
    jobs = [((*one, "plan_only=True"), compose("data.limit=200", *one)) for one in typed]
    lines, refused = table_of(jobs, tmp_path, done=[typed[3]], at_once=2, trials=20)
    assert not refused
    rows = [line.split() for line in lines]
    assert rows[2] == ["uniform", "2", "12–20", "10", "0", "0", "10", "?", "?"]
    assert rows[3] == ["thirds", "2", "12–20", "10", "6", "0", "4", "?", "?"]
    assert rows[5] == ["all", "4", "12–20", "20", "6", "0", "14", "?", "?"]
    assert "jobs:   4 jobs, 2 settings × 2 seeds (the first 4 of 20); 1 already done" in lines
    assert "phases: 20 in all: 14 to do, 6 shared with an earlier job, 0 in the store" in lines
    assert "time:   first job ?, all jobs ? of compute time, 2 jobs at a time" in lines


def test_a_note_names_the_settings_it_is_about(compose, tmp_path):
    typed = ("lr=0.01", "lr=null", "lr=0.02")
    lines, _ = table_of([((one,), compose("data.limit=200", one)) for one in typed], tmp_path)
    note = "find_head is left out of the plan: no phase uses the rate it would find"
    assert f"note: {note} (in lr 0.01, lr 0.02)" in lines
    lines, _ = table_of([(("lr=0.01",), compose("data.limit=200", "lr=0.01"))], tmp_path)
    assert f"note: {note}" in lines, "in all jobs"


def test_costs_are_estimated_from_similar_work(compose, tmp_path):
    """Twice the steps take twice the time; a phase that two jobs share is paid once, the start by each job."""
    store, settings = Store(tmp_path), compose("data.limit=200", "find.rule=edge")
    for artifact in artifacts_of(settings):
        seconds = 7.0 if artifact.phase == estimates.IMAGES else 0.5 * artifact.steps
        (tmp_path / artifact.name).mkdir()
        estimates.remember_cost(store, artifact, [tmp_path / artifact.name], seconds, made=True)
    longer = compose("data.limit=200", "find.rule=edge", "checklist.head_precomputed.epochs=4")
    artifacts = artifacts_of(longer)
    known = {artifact.name: estimates.estimate(store, artifact, False) for artifact in artifacts}
    seconds = [known[artifact.name].seconds for artifact in artifacts]
    assert seconds[:3] == [7.0, 50.0, 0.5 * 4 * 40], "160 images: 40 steps of 4 images per epoch"
    made = set()
    first, second = (preview.cost(artifacts, known, made) for _ in range(2))
    assert second.seconds == 7.0 and first.seconds == 7.0 + 0.5 * sum(a.steps for a in artifacts[1:] if a.planned)
    assert first.at_most > first.seconds
    other = artifacts_of(compose("data.limit=200", "backbone=test_vit"), Facts(160, 40, 0, 10, 160, 1, 4))
    assert math.isnan(preview.cost(other, {a.name: estimates.estimate(store, a, False) for a in other}, set()).seconds)


def test_a_rung_of_halving_counts_only_its_cycles(compose, tmp_path):
    lines, _ = table_of([(("stop_after=1",), compose("data.limit=200", "stop_after=1"))], tmp_path)
    assert lines[2].split()[2] == "6", "2 + 3 epochs, and 1 of the first cycle"


def test_a_job_without_a_plan_is_refused_and_the_others_are_shown(compose, tmp_path):
    lines, refused = table_of([((one,), compose(one)) for one in ("seed=1", "checklist.full.cycles=0")], tmp_path)
    assert refused == [(1, "checklist.full.cycles=0: must be a whole number >= 1")]
    assert "jobs:   1 job, 1 setting" in lines


def test_the_preview_is_written_into_the_folder_of_the_sweep(tmp_path):
    typed = ["rates=uniform,thirds", "seed=0,1"]
    assert run_names.sweep_hash(typed) == run_names.sweep_hash([*typed, "plan_only=true"])
    assert preview.write_preview(["a", "Ä"], tmp_path / "new") == tmp_path / "new/plan.txt"
    assert (tmp_path / "new/plan.txt").read_text(encoding="utf-8") == "a\nÄ\n"
