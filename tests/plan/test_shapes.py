"""A schedule whose curve is not a share of the highest rate is refused before training."""

import math

import pytest

from thaw.plan.facts import Facts
from thaw.plan.plan import make_plan
from thaw.plan.shapes import check_shape, tried
from thaw.runtime.errors import UserError


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (lambda position, cycle, step: 1.0, None),
        (lambda position, cycle, step: 1 - position, None),
        (lambda position, cycle, step: 1 + 1e-12, None),
        (lambda position, cycle, step: 2.0, "is 2 at step 0; it must be a share of the highest, from 0 to 1"),
        (lambda position, cycle, step: 1.0 + cycle, "is 2 at step 10; "),
        (lambda position, cycle, step: 0.5 - position, "is -0.1 at step 6; "),
        (lambda position, cycle, step: math.nan if step == 9 else 1.0, "is nan at step 9; "),
        (lambda position, cycle, step: math.inf, "is inf at step 0; "),
        (lambda position, cycle, step: 1 / position, r"fails at step 0 \(float division by zero\)"),
        (lambda position, cycle, step: None, "fails at step 0 "),
        (lambda position, cycle, step: 1j, "fails at step 0 "),
    ],
)
def test_a_shape_is_a_share(shape, words):
    if words is None:
        return check_shape("it", shape, [10, 30])
    with pytest.raises(UserError, match=f"^it {words}") as refused:
        check_shape("it", shape, [10, 30])
    assert refused.value.code == 2


def test_the_ends_of_every_cycle_are_checked_and_few_steps_between():
    assert tried([3]) == [0, 1, 2]
    steps = tried([10, 1_000_000])
    assert {0, 9, 10, 999_999} <= {*steps} and len(steps) < 310


@pytest.mark.parametrize("name", ["rate", "momentum"])
def test_a_plan_checks_its_schedules(compose, monkeypatch, name):
    settings = compose("scheduler=one_cycle")
    monkeypatch.setattr(
        type(settings.scheduler), {"rate": "curve"}.get(name, name), lambda self: lambda position, cycle, step: 1.5
    )
    with pytest.raises(UserError, match=rf"^scheduler\.shape=one_cycle: its {name} is 1\.5 at step 0"):
        make_plan(settings, Facts())
