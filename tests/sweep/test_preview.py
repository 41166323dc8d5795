"""plan_only=true: what a run or a sweep would do is told from settings alone, and so it comes about."""

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
    """How many artifacts from the first on two runs have in common."""
    names = [[artifact.name for artifact in run] for run in (a, b)]
    return next((i for i, (x, y) in enumerate(zip(*names, strict=False)) if x != y), min(map(len, names)))


@pytest.mark.parametrize(
    ("typed", "common"),
    [
        ((), 12),  # images, find_head, 1 cycle, 3 cycles, find_full, 5 cycles of which 2 beyond the plan
        (("seed=1",), 1),
        (("rates=uniform",), 6),
        (("scheduler=one_cycle",), 7),
        (("scheduler.cycles=4", "scheduler.max_cycles=5"), 12),
        (("lr_factor=2",), 2),
        (("checklist.full.lr=0.1",), 6),
        (("checklist.head_precomputed.epochs=3",), 2),
        (("find.rule=valley",), 1),
        (("find.stored_steps=50",), 1),
        (("augment=none",), 3),
        (("backbone.drop=0.1",), 0),
        (("data.valid=0.3",), 0),
        (("monitor=valid/loss", "wandb=disabled", "data.workers=2", "store.snapshot_s=1", "name=x"), 12),
    ],
)
def test_what_two_runs_share(compose, typed, common):
    assert shared(artifacts_of(compose()), artifacts_of(compose(*typed))) == common


@pytest.fixture
def done(compose, tmp_path):
    """A run that is in the store, and its facts."""
    carry_out(compose(*SMALL), tmp_path / "run")
    return tmp_path / "store"


def test_what_it_says_lies_in_the_store_is_what_a_run_finds_there(compose, done, tmp_path):
    for number, typed in enumerate([("rates=uniform",), ("augment=none",), ("find.rule=valley",)]):
        settings = compose(*SMALL, *typed)
        store = Store(done)
        planned = plan.make_plan(settings, known_facts(settings, store.recall))
        text = preview.preview_run(settings, planned, store)
        result = carry_out(settings, tmp_path / f"again-{number}")
        found = [name for name in (p.name for p in planned.phases) if result[f"phase/{name}/reused"]]
        assert f"in the store: {len(found)} of 4 phases" in text, text
        assert all(name in text for name in found)


def test_what_is_gone_or_to_be_made_anew_is_not_in_the_store(compose, done):
    settings = compose(*SMALL)
    planned = plan.make_plan(settings, known_facts(settings, Store(done).recall))
    assert "in the store: 4 of 4" in preview.preview_run(settings, planned, Store(done))
    assert "in the store: 0 of 4" in preview.preview_run(compose(*SMALL, "fresh=true"), planned, Store(done))
    for marker in (done / "cycles").glob("*/DONE.json"):
        marker.unlink()
    assert "in the store: 2 of 4 phases (find_head, find_full)" in preview.preview_run(settings, planned, Store(done))


def table_of(jobs, root, done=(), at_once=1, of=0):
    refused = []
    jobs = [(number, *job) for number, job in enumerate(jobs)]
    lines = preview.preview_sweep(
        jobs, Store(root), lambda i, error: refused.append((i, error.line)), done, at_once, of
    )
    return lines, refused


def test_a_row_a_setting_and_what_they_add_up_to(compose, tmp_path):
    typed = [(f"rates={rates}", f"seed={seed}") for rates in ("uniform", "thirds") for seed in (0, 1)]
    jobs = [((*one, "plan_only=True"), compose("data.limit=200", *one)) for one in typed]
    lines, refused = table_of(jobs, tmp_path, done=[typed[3]], at_once=2, of=20)
    assert not refused
    rows = [line.split() for line in lines]
    assert rows[2] == ["uniform", "2", "12–36", "10", "0", "0", "10", "?", "?"]
    assert rows[3] == ["thirds", "2", "12–36", "10", "6", "0", "4", "?", "?"]
    assert rows[5] == ["all", "4", "12–36", "20", "6", "0", "14", "?", "?"]
    assert "jobs:   4 jobs, 2 settings × 2 seeds (the first 4 of 20); 1 done before" in lines
    assert any(line.endswith("of computing; 2 at once") for line in lines)


def test_costs_are_those_of_what_is_alike(compose, tmp_path):
    """Twice the steps take twice the time; a phase that two jobs share is paid once, the start by each."""
    store, settings = Store(tmp_path), compose("data.limit=200", "find.rule=edge")
    for artifact in artifacts_of(settings):
        seconds = 7.0 if artifact.phase == estimates.IMAGES else 0.5 * artifact.steps
        (tmp_path / artifact.name).mkdir()
        estimates.remember_cost(store, artifact, [tmp_path / artifact.name], seconds, made=True)
    longer = compose("data.limit=200", "find.rule=edge", "checklist.head_precomputed.epochs=4")
    artifacts = artifacts_of(longer)
    knows = {artifact.name: estimates.estimate(store, artifact, False) for artifact in artifacts}
    assert [knows[artifact.name].seconds for artifact in artifacts][:3] == [7.0, 50.0, 0.5 * 4 * 3], (
        "160 images: 3 steps an epoch"
    )
    made = set()
    first, second = (preview.cost(artifacts, knows, made) for _ in range(2))
    assert second.seconds == 7.0 and first.seconds == 7.0 + 0.5 * sum(k.steps for k in artifacts[1:] if k.planned)
    assert first.at_most > first.seconds
    other = artifacts_of(compose("data.limit=200", "backbone=test_vit"), Facts(160, 40, 0, 10, 160, 1, 4))
    assert math.isnan(preview.cost(other, {k.name: estimates.estimate(store, k, False) for k in other}, set()).seconds)


def test_a_rung_ends_where_it_stops(compose, tmp_path):
    lines, _ = table_of([(("stop_after=1",), compose("data.limit=200", "stop_after=1"))], tmp_path)
    assert lines[2].split()[2] == "6", "2 + 3 + the first cycle of 1"


def test_a_job_without_a_plan_is_named_and_the_others_are_shown(compose, tmp_path):
    lines, refused = table_of([((one,), compose(one)) for one in ("seed=1", "checklist.full.cycles=0")], tmp_path)
    assert refused == [(1, "checklist.full.cycles=0: must be a whole number >= 1")]
    assert "jobs:   1 job, 1 setting" in lines


def test_its_folder_is_that_of_the_sweep(tmp_path):
    typed = ["rates=uniform,thirds", "seed=0,1"]
    assert run_names.sweep_hash(typed) == run_names.sweep_hash([*typed, "plan_only=true"])
    assert preview.write_preview(["a", "Ä"], tmp_path / "new") == tmp_path / "new/plan.txt"
    assert (tmp_path / "new/plan.txt").read_text(encoding="utf-8") == "a\nÄ\n"
