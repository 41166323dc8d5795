"""A phase is cut to the epochs that fit into a time."""

from itertools import product

import pytest
from composed import settings_of

from thaw.plan import plan, schedules
from thaw.plan.facts import Facts
from thaw.plan.shorten import Speed, fill, shorten, shorten_to_time

FACTS = Facts(train=1000, valid=100, test=0, classes=2, native_size=100, multiple=1, layers=18)
SPEED = Speed(pixels=1e6, evaluation=0.01)  # 10 s to train an epoch at 100 px, 1 s to validate

# cycles, those done, epochs that fit, the cycles then
CUTS = [
    ((1, 2, 4, 8), 0, 0, ()),
    ((1, 2, 4, 8), 0, 1, (1,)),
    ((1, 2, 4, 8), 0, 2, (2,)),
    ((1, 2, 4, 8), 0, 5, (1, 4)),
    ((1, 2, 4, 8), 0, 9, (1, 2, 6)),
    ((1, 2, 4, 8), 0, 14, (1, 2, 11)),
    ((1, 2, 4, 8), 0, 15, (1, 2, 4, 8)),
    ((1, 2, 4, 8), 0, 99, (1, 2, 4, 8)),
    ((1, 2, 4, 8), 1, 0, (1,)),
    ((1, 2, 4, 8), 1, 1, (1, 1)),
    ((1, 2, 4, 8), 3, 7, (1, 2, 4, 7)),
    ((1, 2, 4, 8), 4, 0, (1, 2, 4, 8)),
    ((1, 1, 1), 0, 2, (1, 1)),
    ((7,), 0, 3, (3,)),
]


@pytest.mark.parametrize(("cycles", "done", "epochs", "expected"), CUTS)
def test_fill(cycles, done, epochs, expected):
    assert fill(cycles, done, epochs) == expected


def test_fill_divides_as_a_typed_number_of_epochs():
    for cycle_len, cycle_mult, epochs in product((1, 2, 3), (1, 2, 3), range(1, 30)):
        cycles = schedules.cycle_epochs(6, cycle_len, cycle_mult)
        if epochs < sum(cycles):
            assert list(fill(cycles, 0, epochs)) == schedules.fill_budget(epochs, cycle_len, cycle_mult)


def planned(*choices):
    settings = settings_of(*choices)
    found = plan.make_plan(settings, FACTS)
    return settings, found, {phase.name: phase for phase in found.phases}


@pytest.mark.parametrize(("seconds", "cycles"), [(10.9, ()), (11, (1,)), (56, (1, 4)), (165, (1, 2, 4, 8))])
def test_the_epochs_that_fit_include_their_validation(seconds, cycles):
    settings, found, phases = planned()
    phase = shorten_to_time(phases["full"], 0, seconds, SPEED, settings, found)
    assert phase.cycles == cycles and len(phase.epochs) == sum(cycles) and phase.budget == min(3, len(cycles))


def test_validation_of_a_head_takes_no_time():
    settings, found, phases = planned()
    assert shorten_to_time(phases["head_augmented"], 0, 20, SPEED, settings, found).cycles == (1, 1)


def test_only_cycles_to_come_are_cut():
    settings, found, phases = planned()
    phase = shorten_to_time(phases["full"], 2, 36, SPEED, settings, found)
    assert phase.cycles == (1, 2, 3) and phase.ends[:2] == phases["full"].ends[:2]
    assert shorten_to_time(phases["full"], 2, 10, SPEED, settings, found).cycles == (1, 2)


def test_small_images_take_less_time_and_a_cut_phase_is_resized_anew():
    settings, found, phases = planned("resize=double")
    phase = shorten_to_time(phases["full"], 0, 3.5 + 2 * 11, SPEED, settings, found)  # a quarter of the area
    assert [epoch.size for epoch in phase.epochs] == [50, 100, 100]
    assert [epoch.size for epoch in shorten(phases["full"], 0, 2, settings, found).epochs] == [50, 50]


def test_a_schedule_without_restarts_stays_one_cycle():
    settings, found, phases = planned("scheduler=one_cycle")
    phase = shorten_to_time(phases["full"], 0, 33, SPEED, settings, found)
    assert phase.cycles == (3,) and phase.budget == 1


def test_a_phase_that_fits_is_the_same_object():
    settings, found, phases = planned()
    assert all(shorten(phase, 0, 99, settings, found) is phase for phase in phases.values())
