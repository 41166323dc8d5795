"""A run with a time limit, with a speed and a clock that are given."""

import json
from types import SimpleNamespace

import pytest
from brief import FIND, skip_plots, trained

from thaw.plan import plan
from thaw.plan.facts import Facts
from thaw.plan.shorten import Speed
from thaw.train import stages, time_limit
from thaw.train.cycle import EpochEnd, StepEnd
from thaw.train.time_limit import OVERDUE, PLANNED, TimeIsUp, TimeLimit

SHORT = ("data.limit=60", "size=32", "wandb=disabled", *FIND)  # an epoch has 3 steps, the finder 6 of 2 trials
LATER, TWO = "lr=0.01", "checklist=fine_tune"


@pytest.fixture
def run(compose, tmp_path, monkeypatch, capsys):
    """Return run(left, "minutes=1", ...) -> result and lines of a run whose epochs take 10 s.

    `left`: the seconds left at each decision, the last for all that follow. `fast`: its cycles take their own time.
    """
    skip_plots(monkeypatch)

    def speed(inputs, context, most):
        return Speed(context.plan.facts.train * inputs.phase.epochs[0].size ** 2 / 10, 0.0)

    def ran(left, *overrides, name="a", number=None, fast=False):
        given, settings, clock = list(left), compose(*SHORT, *overrides), [0]

        def seconds_left(limit, speed, share):
            if share != PLANNED:
                return 1e6
            clock[0] += 10  # a cycle of one epoch takes 10 s
            return given.pop(0) if len(given) > 1 else given[0]

        monkeypatch.setattr(time_limit, "measured_speed", speed)
        monkeypatch.setattr(TimeLimit, "spent", property(lambda limit: clock[0]))
        if not fast:
            monkeypatch.setattr(TimeLimit, "speed_of_last", lambda limit, phase, results: limit.speeds[phase.name])
        monkeypatch.setattr(TimeLimit, "seconds_left", seconds_left)
        result = trained(settings, tmp_path / name, *overrides, number=number)
        return result, capsys.readouterr().out.splitlines()

    return ran


def epochs(result) -> dict:
    return {
        key.split("/")[1]: value for key, value in result.items() if key.startswith("phase") and key.endswith("/epochs")
    }


def test_much_time_changes_nothing(run):
    limited, lines = run([1e6], "minutes=60", TWO, LATER)
    free, _ = run([1e6], TWO, LATER, name="b")
    assert limited["model_sha256"] == free["model_sha256"]
    assert not any("minutes=" in line and "note" not in line for line in lines)


def test_phases_are_cut_to_the_time_left(run, tmp_path):
    # At head_augmented, which may take a third, and after its cycles; at find_full; at full, and after its cycle.
    result, lines = run([60, 50, 40, 95, 55, 45], "minutes=1")
    assert epochs(result) == {"head_precomputed": 2, "head_augmented": 2, "full": 5}
    because = "left for training and an epoch takes 10.0 s (minutes=1)"
    assert f"head_augmented: 2 epochs (1+1), because 20.0 s are {because}" in lines
    assert f"full: 5 epochs (1+4), because 55.0 s are {because}" in lines
    assert " 1+4 " in (tmp_path / "a" / "plan.txt").read_text()


def test_a_phase_without_time_is_left_out_with_its_finder(run, tmp_path):
    result, lines = run([5], "minutes=1")
    assert epochs(result) == {"head_precomputed": 2} and "phase/find_full/lr" not in result
    assert [line.split(":")[0] for line in lines if "left out, because" in line] == ["head_augmented", "full"]
    assert "find_full" not in (tmp_path / "a" / "plan.txt").read_text()


def test_phases_that_share_a_finder_are_left_out_together(run):
    polish = "+checklist.polish={do: fit, epochs: 1}"
    result, _ = run([5], "minutes=1", TWO, polish)
    assert list(epochs(result)) == ["head"]
    result, _ = run([45, 5, 15], "minutes=2", TWO, polish, name="b")  # the finder took longer than it was given
    assert epochs(result) == {"head": 1, "polish": 1}


def test_a_finder_that_takes_too_long_is_left_out_and_its_first_rate_is_used(run):
    result, lines = run([45, 45, 0], "minutes=2", TWO)  # it takes 20 s, more than a third
    assert "phase/find_full/lr" not in result and result["phase/full/lr"] == pytest.approx(10**-3.5)
    said = "find_full: left out, because it takes up to 20.0 s and 45.0 s are left; the learning rate is 0.000316"
    assert f"{said} (minutes=2)" in lines


def test_something_is_trained_in_any_case(run, monkeypatch):
    monkeypatch.setattr(stages, "say_exceeded", lambda settings, seconds, real=stages.say_exceeded: real(settings, 9.0))
    result, lines = run([-5], "minutes=0.1", "checklist=from_scratch")
    assert epochs(result) == {"full": 1} and result["phase/full/lr"] == 0.001
    assert lines[-1].startswith("warning: minutes=0.1 was exceeded: the job took 9.0 s; ")


def test_a_phase_ends_if_no_time_is_left_for_another_cycle(run):
    result, lines = run([1e6, 0], "minutes=1", TWO, "epochs=7", LATER)
    assert epochs(result)["full"] == 1
    assert any("no time is left for another cycle (minutes=1)" in line for line in lines)


def test_a_phase_grows_back_if_it_is_faster_than_measured(run):
    result, _ = run([10, 65, 1e6], "minutes=1", TWO, "epochs=7", LATER, fast=True)
    assert epochs(result)["full"] == 7


def test_the_same_run_trains_the_same_epochs_again(run):
    first, _ = run([55, 45], "minutes=1", TWO, LATER, number=0)
    again, _ = run([1e6], "minutes=1", TWO, LATER, name="b", number=1)
    assert epochs(first)["full"] == epochs(again)["full"] == 5
    assert again["phase/full/reused"] == 2 and first["model_sha256"] == again["model_sha256"]


def test_a_run_that_was_stopped_in_the_head_goes_on(run, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(TimeLimit, "check", lambda self, phase, *args, spare: 1 / (phase.name != "head_augmented"))
        with pytest.raises(ZeroDivisionError):
            run([60], "minutes=1", number=0)
    result, _ = run([50, 40, 95, 55, 45], "minutes=1", name="b", number=1)
    assert epochs(result) == {"head_precomputed": 2, "head_augmented": 2, "full": 5}


def rows(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_cycle_ends_early_after_an_epoch_if_the_next_does_not_fit(run, monkeypatch, tmp_path):
    def check(self, phase, cycle, event, resumed, spare):
        if phase.name == "full" and isinstance(event, EpochEnd) and event.epoch == 3:
            raise TimeIsUp(1)

    monkeypatch.setattr(TimeLimit, "check", check)
    result, lines = run([1e6], "minutes=1", TWO, LATER)
    assert epochs(result)["full"] == 4  # 1 + 2 + 1 of 4
    assert "  full: cycle 3 ends after 1 of 4 epochs (minutes=1)" in lines
    steps = [row["step"] for row in rows(tmp_path / "a") if "step" in row]
    assert steps == sorted(steps)


def test_a_cycle_that_is_overdue_is_given_up(run, monkeypatch, tmp_path):
    def check(self, phase, cycle, event, resumed, spare):
        if phase.name == "full":
            raise TimeIsUp(0)

    monkeypatch.setattr(TimeLimit, "check", check)
    stored = "+checklist.last={do: fit, train: head, features: precomputed, epochs: 1, lr: 1e-5}"
    result, lines = run([1e6], "minutes=1", TWO, LATER, stored)
    assert list(epochs(result)) == ["head", "last"]
    assert "full: left out: no time is left, and cycle 1 is given up (minutes=1)" in lines
    steps = [row["step"] for row in rows(tmp_path / "a") if "step" in row]
    assert steps == sorted(steps)


@pytest.mark.parametrize(
    ("left", "event", "spare", "raised"),
    [
        ({1.0: 21, OVERDUE: 99}, "epoch", True, None),
        ({1.0: 19, OVERDUE: 99}, "epoch", True, 1),  # the next epoch takes 10 s, and 10 s were spent before
        ({1.0: -9, OVERDUE: 99}, "last epoch", True, None),
        ({1.0: -9, OVERDUE: 11}, "step", True, None),
        ({1.0: -9, OVERDUE: 9}, "step", True, 0),
        ({1.0: -9, OVERDUE: 9}, "step", False, None),  # nothing else to keep
    ],
)
def test_when_a_cycle_is_ended(compose, monkeypatch, left, event, spare, raised):
    settings, facts = compose("minutes=1"), Facts(1000, 100, 0, 2, 100, 1, 6)
    planned = plan.make_plan(settings, facts)
    limit, full = TimeLimit(SimpleNamespace(settings=settings, plan=planned)), planned.phases[-1]
    limit.speeds["full"] = Speed(1e6, 0.0)
    monkeypatch.setattr(TimeLimit, "seconds_left", lambda self, speed, share: left[share])
    seen = {"step": StepEnd(70, 0.1, None), "epoch": EpochEnd(1, {}, True), "last epoch": EpochEnd(2, {}, True)}
    if raised is None:
        limit.check(full, 1, seen[event], 10.0, spare)
    else:
        with pytest.raises(TimeIsUp) as caught:
            limit.check(full, 1, seen[event], 10.0, spare)
        assert caught.value.epochs == raised
