"""A run with a time limit, with a speed and a clock that are given."""

import pytest
from brief import FIND, skip_plots, trained

from thaw.plan.shorten import Speed
from thaw.train import time_limit

SHORT = ("data.limit=60", "size=32", *FIND, "wandb=disabled")
EPOCH_S = 10.0  # to train an epoch at this speed; the finder takes another four


@pytest.fixture
def run(compose, tmp_path, monkeypatch, capsys):
    """Return run(times, "minutes=1", ...) -> result and lines; `times`: the seconds left, by turn, the last for all."""
    skip_plots(monkeypatch)

    def ran(times, *overrides, name="a", number=None):
        times, settings = list(times), compose(*SHORT, *overrides)

        def measured(context, inputs):
            return Speed(context.plan.facts.train * inputs.phase.epochs[0].size ** 2 / EPOCH_S, 0.0)

        monkeypatch.setattr(time_limit, "measured_speed", measured)

        def left(context, speed, share):
            return 1e6 if share == time_limit.OVERDUE else times.pop(0) if len(times) > 1 else times[0]

        monkeypatch.setattr(time_limit, "seconds_left", left)
        result = trained(settings, tmp_path / name, *overrides, number=number)
        return result, capsys.readouterr().out.splitlines()

    return ran


def epochs(result) -> dict:
    return {
        key.split("/")[1]: value for key, value in result.items() if key.startswith("phase") and key.endswith("/epochs")
    }


def test_much_time_changes_nothing(run):
    limited, lines = run([1e6], "minutes=60")
    free, _ = run([1e6], "store.code=ignore", name="b")
    assert limited["model_sha256"] == free["model_sha256"]
    assert not any("are left" in line for line in lines)


def test_phases_are_cut_to_the_time_left(run, tmp_path):
    # At the start of head_augmented, which may take a third, and after its cycle; at find_full and at full.
    result, lines = run([60, 60, 95, 55, 1e6], "minutes=1")
    assert epochs(result) == {"head_precomputed": 2, "head_augmented": 2, "full": 5}
    assert "head_augmented: 2 of 3 epochs (1+1); of minutes=1, 1 min 0 s are left, an epoch takes 10.0 s" in lines
    assert "full: 5 of 15 epochs (1+4); of minutes=1, 55.0 s are left, an epoch takes 10.0 s" in lines
    assert " 1+4 " in (tmp_path / "a" / "plan.txt").read_text()


def test_a_phase_without_time_is_left_out_with_its_finder(run, tmp_path):
    result, lines = run([5, 5], "minutes=1")
    assert epochs(result) == {"head_precomputed": 2} and "phase/find_full/lr" not in result
    said = [line for line in lines if "left out" in line]
    assert said == [
        f"{name}: left out; of minutes=1, 5.0 s are left, an epoch takes 10.0 s" for name in ("head_augmented", "full")
    ]
    assert "find_full" not in (tmp_path / "a" / "plan.txt").read_text()


def test_something_is_trained_in_any_case(run):
    result, _ = run([-5], "minutes=0.1", "checklist=from_scratch")
    assert epochs(result) == {"full": 1}


def test_a_phase_ends_if_no_time_is_left_for_another_cycle(run):
    result, lines = run([1e6, 0], "minutes=1", "checklist=fine_tune", "epochs=7", "lr=0.01")
    assert epochs(result)["full"] == 1
    assert any("no time is left of minutes=1" in line for line in lines)


def test_a_cycle_that_exceeds_the_limit_is_given_up(run, monkeypatch):
    monkeypatch.setattr(time_limit, "raise_if_time_is_up", lambda *args: (_ for _ in ()).throw(time_limit.TimeIsUp))
    result, lines = run([1e6], "minutes=1")
    assert epochs(result) == {"head_precomputed": 2}
    assert "full: left out, because minutes=1 are over" in lines


def test_the_same_run_trains_the_same_epochs_again(run):
    first, _ = run([55, 1e6], "minutes=1", "checklist=fine_tune", "lr=0.01", number=0)
    again, _ = run([1e6], "minutes=1", "checklist=fine_tune", "lr=0.01", name="b", number=1)
    assert epochs(first)["full"] == epochs(again)["full"] == 5
    assert again["phase/full/reused"] == 2
