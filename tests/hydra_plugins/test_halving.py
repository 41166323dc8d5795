"""hydra/sweeper=halving: which settings go on, and how the leaderboard ranks those that do not."""

import json

import pytest
from faults import in_child, run_train
from sweeps import make_job, status

from hydra_plugins.halving_sweeper import check_share, cycles_of, existing_jobs, first_number, ranked, round_line
from thaw.plan.facts import Facts
from thaw.plan.plan import make_plan
from thaw.runtime.errors import UserError
from thaw.sweep.board import leaderboard
from thaw.sweep.text import terminal


def test_seeds_are_ranked_together_and_nan_is_worst():
    jobs = [[f"lr={lr}", f"seed={seed}"] for lr in (1, 2, 3, 4) for seed in (0, 1)]
    values = [0.9, 0.5, 0.8, 0.8, None, 0.99, "failed", "failed"]  # result.json holds null for nan
    results = [{} if value == "failed" else {"best/accuracy": value, "best/loss": value} for value in values]
    assert ranked(jobs, results, "valid/accuracy") == [("lr=2",), ("lr=1",), ("lr=3",)], "lr=4 has no result"
    assert ranked(jobs, results, "valid/loss") == [("lr=1",), ("lr=2",), ("lr=3",)]


def test_a_setting_that_lacks_seeds_comes_after_complete_ones():
    jobs = [[f"lr={lr}", f"seed={seed}"] for lr in (1, 3) for seed in (0, 1, 2)]
    results = [{"best/accuracy": value, "best/loss": 1 - value} for value in (0.90, 0.91, 0.89, 0.95)] + [{}, {}]
    assert ranked(jobs, results, "valid/accuracy") == [("lr=1",), ("lr=3",)]


def test_of_equal_settings_the_one_with_the_lower_loss_goes_on():
    results = [{"best/accuracy": 0.9, "best/loss": loss} for loss in (0.3, 0.1, 0.2)]
    assert ranked([["lr=1"], ["lr=2"], ["lr=3"]], results, "valid/accuracy") == [("lr=2",), ("lr=3",), ("lr=1",)]


@pytest.mark.parametrize(
    ("overrides", "rungs"),
    [
        ((), 4),
        (("epochs=31",), 5),
        (("scheduler.max_cycles=3",), 3),
        (("checklist=fine_tune",), 3),
        (("smoke=true",), 1),
    ],
)
def test_a_rung_for_each_cycle_that_the_last_phase_may_train(overrides, rungs, compose):
    assert cycles_of(make_plan(compose(*overrides), Facts()).phases[-1]) == rungs


def test_a_last_phase_without_restarts_is_refused(compose):
    for overrides in (["scheduler=one_cycle"], ["+checklist.polish={do: fit, epochs: 1}"]):
        with pytest.raises(UserError) as refused:
            cycles_of(make_plan(compose(*overrides), Facts()).phases[-1])
        assert refused.value.code == 2 and "sgdr" in refused.value.line


@pytest.mark.parametrize(
    ("batch", "first", "number"),
    [
        ([["lr=1"], ["lr=2"]], 2, 2),  # the folders are free
        ([["lr=3"], ["lr=4"]], 4, 4),  # the folders hold the same jobs
        ([["lr=3"], ["lr=9"]], 4, 7),  # one folder holds another job
        ([["lr=4"], ["lr=5"]], 4, 5),  # the same jobs were numbered from 5
        ([["lr=5"], ["lr=6"]], 4, 6),  # the same, but the second has not started yet
    ],
)
def test_a_rung_never_takes_the_folder_of_another_job(tmp_path, batch, first, number):
    for n, lr in ((0, 1), (1, 2), (4, 3), (5, 4), (6, 5)):
        status(tmp_path / str(n), state="done", overrides=[f"lr={lr}"])
    assert first_number(existing_jobs(tmp_path), batch, first) == number


def test_settings_that_trained_longer_come_first(tmp_path):
    make_job(tmp_path / "0", "lr=1", "stop_after=1", accuracy=0.95, why="stop_after=1")
    make_job(tmp_path / "1", "lr=2", "stop_after=2", accuracy=0.8, why="stop_after=2")
    make_job(tmp_path / "2", "lr=3", accuracy=0.9)
    board = leaderboard(tmp_path)
    assert [setting.choices for setting in board.settings] == [("lr=3",), ("lr=2",), ("lr=1",)]
    assert any("then those that were stopped last" in line for line in terminal(board))


def test_the_leaderboard_shows_the_rung_and_the_seconds_of_all_rungs(tmp_path):
    make_job(tmp_path / "0", "lr=1", "stop_after=1", accuracy=0.6, paid=3.0, why="stop_after=1")
    make_job(tmp_path / "1", "lr=2", "stop_after=1", accuracy=0.7, paid=4.0, why="stop_after=1")
    make_job(tmp_path / "2", "lr=2", accuracy=0.9, paid=5.0)
    board = leaderboard(tmp_path)
    assert [setting.choices for setting in board.settings] == [("lr=2",), ("lr=1",)]
    assert [setting.average("cost/seconds_paid") for setting in board.settings] == [9.0, 3.0]
    assert board.total == 2 and any("stop_after=1" in line for line in terminal(board))


def test_a_job_that_failed_in_its_first_rung_is_reported(tmp_path):
    make_job(tmp_path / "0", "lr=1", "stop_after=1", why="stop_after=1")
    status(tmp_path / "1", state="failed", code=4, line="not finite", overrides=["lr=2", "stop_after=1"])
    assert [job.name for job in leaderboard(tmp_path).failures] == ["1"]


@pytest.mark.slow
def test_a_real_sweep_by_halving_and_the_same_command_again(tmp_path):
    typed = (
        "-m", "hydra/sweeper=halving", "hydra/launcher=joblib", "lr_factor=0.1,1", "seed=0,1", "data.limit=200",
        "size=32", "wandb=disabled", "checklist=fine_tune", f"store.dir={tmp_path}/store",
        f"hydra.sweep.dir={tmp_path}/sweep",
    )  # fmt: skip

    def results():
        files = sorted(tmp_path.glob("sweep/*/result.json"), key=lambda file: int(file.parent.name))
        return [(file.stat().st_mtime_ns, json.loads(file.read_text())) for file in files]

    assert in_child(lambda: run_train(*typed, outputs=tmp_path / "out")) == 0
    first = results()
    whys = [result["phase/full/stopped_because"] for _, result in first]
    assert whys == ["stop_after=1"] * 4 + ["all planned cycles trained"] * 2
    assert [result["phase/full/reused"] for _, result in first][4:] == [1, 1], "the last round continues the first"
    assert in_child(lambda: run_train(*typed, outputs=tmp_path / "out")) == 0
    assert results() == first


def test_users_read_of_rounds():
    assert round_line(1, 3, 8, 16, False) == "round 1 of 3: 8 settings, 16 jobs, trained to the end of cycle 1"
    assert round_line(2, 3, 1, 2, True) == "last round: 1 setting, 2 jobs, trained to the end of the plan"


@pytest.mark.parametrize("keep", ["abc", None, [0.5], True, 0, 1, float("nan")])
def test_a_share_must_be_a_number_between_0_and_1(keep):
    with pytest.raises(UserError, match=r"hydra\.sweeper\.keep=.*: must be > 0 and < 1") as refused:
        check_share(keep)
    assert refused.value.code == 2
