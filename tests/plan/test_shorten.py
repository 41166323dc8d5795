"""A phase is shortened to the epochs that fit into a time."""

from itertools import product

import pytest
from composed import settings_of

from thaw.plan import plan, schedules
from thaw.plan.facts import Facts
from thaw.plan.phases import Phase
from thaw.plan.shorten import Speed, epochs_in, fill, shorten

FACTS = Facts(train=1000, valid=100, test=0, classes=2, native_size=100, multiple=1, layers=18)
SPEED = Speed(pixels=1e6, evaluation=0.01)  # 10 s to train an epoch at 100 px, 1 s to validate

# cycles, those planned, those done, epochs that fit, the cycles then
CUTS = [
    ((1, 2, 4, 8), 3, 0, 0, ()),
    ((1, 2, 4, 8), 3, 0, 1, (1,)),
    ((1, 2, 4, 8), 3, 0, 2, (2,)),
    ((1, 2, 4, 8), 3, 0, 5, (1, 4)),
    ((1, 2, 4, 8), 3, 0, 6, (1, 5)),
    ((1, 2, 4, 8), 3, 0, 7, (1, 2, 4)),
    ((1, 2, 4, 8), 3, 0, 10, (1, 2, 4)),  # less than half of the further cycle
    ((1, 2, 4, 8), 3, 0, 11, (1, 2, 4, 4)),
    ((1, 2, 4, 8), 3, 0, 14, (1, 2, 4, 7)),
    ((1, 2, 4, 8), 3, 0, 99, (1, 2, 4, 8)),
    ((1, 2, 4, 8), 4, 0, 14, (1, 2, 11)),
    ((1, 2, 4, 8), 3, 1, 0, (1,)),
    ((1, 2, 4, 8), 3, 1, 1, (1, 1)),
    ((1, 2, 4, 8), 3, 3, 7, (1, 2, 4, 7)),
    ((1, 2, 4, 8), 3, 4, 0, (1, 2, 4, 8)),
    ((1, 1, 1), 3, 0, 2, (1, 1)),
    ((7,), 1, 0, 3, (3,)),
]


@pytest.mark.parametrize(("cycles", "budget", "done", "epochs", "expected"), CUTS)
def test_fill(cycles, budget, done, epochs, expected):
    assert fill(cycles, budget, done, epochs) == expected


def test_planned_cycles_are_divided_as_a_typed_number_of_epochs():
    for cycle_len, cycle_mult, epochs in product((1, 2, 3), (1, 2, 3), range(1, 30)):
        cycles = schedules.cycle_epochs(6, cycle_len, cycle_mult)
        if epochs < sum(cycles):
            assert list(fill(cycles, 6, 0, epochs)) == schedules.fill_budget(epochs, cycle_len, cycle_mult)


def phases(*choices: str) -> dict[str, Phase]:
    return {phase.name: phase for phase in plan.make_plan(settings_of(*choices), FACTS).phases}


@pytest.mark.parametrize(
    ("done", "seconds", "epochs"), [(0, 10.9, 0), (0, 11, 1), (0, 56, 5), (0, 1e6, 15), (2, 10.9, 0), (2, 36, 3)]
)
def test_the_epochs_that_fit_include_their_validation(done, seconds, epochs):
    assert epochs_in(phases()["full"], done, seconds, SPEED, FACTS) == epochs


def test_validation_of_a_head_takes_no_time():
    assert epochs_in(phases()["head_augmented"], 0, 20, SPEED, FACTS) == 2


def test_a_shortened_phase_keeps_the_cycles_that_are_done():
    whole = phases()["full"]
    phase = shorten(whole, 2, 3)
    assert (phase.cycles, phase.budget, len(phase.epochs)) == ((1, 2, 3), 3, 6)
    assert phase.ends[:2] == whole.ends[:2]
    assert shorten(whole, 0, 99) is whole


def test_small_images_take_less_time():
    assert epochs_in(phases("resize=double")["full"], 0, 3.5 + 2 * 11, SPEED, FACTS) == 3  # a quarter of the area


@pytest.mark.parametrize(("epochs", "sizes"), [(1, [100]), (2, [100] * 2), (3, [50, 100, 100]), (5, [50, *[100] * 4])])
def test_a_shortened_phase_ends_at_the_final_size(epochs, sizes):
    assert [epoch.size for epoch in shorten(phases("resize=double")["full"], 0, epochs).epochs] == sizes


def test_cycles_that_are_done_keep_their_size():
    whole = phases("resize=double")["full"]
    assert [epoch.size for epoch in shorten(whole, 1, 0).epochs] == [50]
    assert [epoch.size for epoch in shorten(whole, 1, 1).epochs] == [50, 100]


def test_a_schedule_without_restarts_stays_one_cycle_with_its_share_of_sizes():
    # Of seven epochs, three have the small size.
    phase = shorten(phases("scheduler=one_cycle", "resize=double")["full"], 0, 4)
    assert (phase.cycles, phase.budget, [epoch.size for epoch in phase.epochs]) == ((4,), 1, [50, 100, 100, 100])
