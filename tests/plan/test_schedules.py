"""Schedules, compared with literal tables and with other libraries where these are right."""

import math

import pytest
import torch
from composed import composed_of
from timm.scheduler import CosineLRScheduler

from thaw.config import schedule, schedulers
from thaw.config.composed import pick
from thaw.config.schedulers import SCHEDULES, SGDR, OneCycle
from thaw.plan import schedules

HALF = math.sqrt(0.5)


def drawn(shape, ends) -> list[float]:
    """Return the multiplier of every step."""
    at = schedules.curve(shape, ends)
    return [at(step) for step in range(ends[-1])]


def restarts(cycle_mult: int, cycles: int, steps: int) -> list[int]:
    """Return the cycle ends if the first cycle has `steps` steps."""
    return schedules.cycle_ends(
        [steps] * sum(cycle_mult**i for i in range(cycles)), schedules.cycle_epochs(cycles, 1, cycle_mult)
    )


# (1 + cos(pi k / 4)) / 2 for k = 0..3
COSINE_4 = [1.0, (1 + HALF) / 2, 0.5, (1 - HALF) / 2]


@pytest.mark.parametrize(
    ("shape", "ends", "expected"),
    [
        (schedulers.cosine, [4], COSINE_4),
        (schedulers.cosine, [1], [1.0]),
        (schedulers.cosine, [1, 3, 7], [1.0, 1.0, 0.5, *COSINE_4]),
        (schedulers.cosine, [4, 8], COSINE_4 * 2),
        (schedulers.constant, [3], [1.0, 1.0, 1.0]),
        (schedulers.constant, [1, 3], [1.0, 1.0, 1.0]),
        (schedulers.linear, [4], [1.0, 0.75, 0.5, 0.25]),
        (schedulers.linear, [1], [1.0]),
        (schedulers.linear, [2, 6], [1.0, 0.5, 1.0, 0.75, 0.5, 0.25]),
        (schedulers.flat_cos(0.5), [8], [1, 1, 1, 1, *COSINE_4]),
        (schedulers.flat_cos(0.0), [4], COSINE_4),
        (schedulers.triangular(4), [4], [0.25, 0.625, 1.0, 0.625]),
        (schedulers.triangular(4), [4, 8], [0.25, 0.625, 1.0, 0.625] * 2),
        (schedulers.triangular(1), [4], [1.0, 1.0, 1.0, 1.0]),
        (schedulers.triangular(4, pct=0.25), [4], [0.25, 1.0, 0.75, 0.5]),
        (schedulers.piecewise_linear((0, 0.25), (0.5, 1), (1, 0)), [4], [0.25, 0.625, 1.0, 0.5]),
        (schedulers.triangular(4, decay=0.5), [2, 4, 6], [0.25, 1.0, 0.25, 0.625, 0.25, 0.4375]),
        (schedulers.triangular(4, gamma=0.5), [2, 4], [0.25, 0.625, 0.25, 0.25 + 0.75 * 0.125]),
        (schedules.exponential(1e-4), [4], [1e-4, 1e-3, 1e-2, 1e-1]),
        (schedule.warm_up(schedulers.constant, 0.5, 2), [4, 8], [0.01, 0.505, 1, 1, 1, 1, 1, 1]),
        (schedule.warm_up(schedulers.cosine, 0.5, 2), [4], [0.01, 0.505 * COSINE_4[1], *COSINE_4[2:]]),
        (schedule.warm_up(schedulers.cosine, 0.0, 2), [4], COSINE_4),
        (schedule.warm_up(schedulers.constant, 4, 2), [3, 6], [0.01, 0.2575, 0.505, 0.7525, 1, 1]),  # warm-up in steps
        (schedule.warm_up(schedulers.cosine, 2, 2), [4, 8], [0.01, 0.505 * COSINE_4[1], *COSINE_4[2:], *COSINE_4]),
        (schedule.warm_up(schedulers.constant, 100, 2), [2, 4, 6], [0.01, 0.2575, 0.505, 0.7525, 1, 1]),  # in cycles
        (schedule.warm_up(schedulers.constant, 100, 0.5), [8], [0.01, 0.2575, 0.505, 0.7525, 1, 1, 1, 1]),
    ],
)
def test_shape_at_every_step(shape, ends, expected):
    assert drawn(shape, ends) == pytest.approx(expected, abs=1e-15)


# fastai's combined_cos(0.25, lr/25, lr, lr/1e5) at lr=1, where sched_cos(start, end, pos) is
# start + (1 + cos(pi (1 - pos))) (end - start) / 2, written out at the eighths of the cycle.
ONE_CYCLE = [
    0.04,  # start
    0.52,  # half way up: 0.04 + 0.96 / 2
    1.0,  # peak at a quarter
    0.9330133717652005,  # 1 - 0.99999 (1 - cos(pi/6)) / 2
    0.7500025,  # 1 - 0.99999 (1 - cos(pi/3)) / 2
    0.500005,  # 1 - 0.99999 / 2
    0.2500075,
    0.06699662823479957,  # 0.00001 + 0.99999 (1 - cos(pi/6)) / 2
]
MOMENTUM = [
    0.95,
    0.90,
    0.85,
    0.8566987298107781,  # 0.85 + 0.1 (1 - cos(pi/6)) / 2
    0.875,
    0.90,
    0.925,
    0.9433012701892219,
]


def combined_cos(pct, start, middle, end, pos):
    """Compute fastai.callback.schedule.combined_cos, with its two sched_cos written out."""

    def sched_cos(a, b, p):
        return a + (1 + math.cos(math.pi * (1 - p))) * (b - a) / 2

    return sched_cos(start, middle, pos / pct) if pos < pct else sched_cos(middle, end, (pos - pct) / (1 - pct))


def test_one_cycle_has_fastais_numbers():
    one_cycle = OneCycle(pct=0.25, div=25.0, final_div=1e5, momentum_low=0.85, momentum_high=0.95)
    assert drawn(one_cycle.rate(1), [8]) == pytest.approx(ONE_CYCLE, abs=1e-12)
    assert drawn(one_cycle.momentum(), [8]) == pytest.approx(MOMENTUM, abs=1e-12)


@pytest.mark.parametrize(("pct", "div", "final_div"), [(0.25, 25, 1e5), (0.3, 5, 1e5), (0.5, 10, 10), (0.99, 25, 1e5)])
def test_one_cycle_follows_fastais_formula(pct, div, final_div):
    lr, steps = 3e-3, 37
    ours = drawn(schedulers.one_cycle(pct, 1 / div, 1.0, 1 / final_div), [steps])
    theirs = [combined_cos(pct, lr / div, lr, lr / final_div, step / steps) for step in range(steps)]
    assert [lr * value for value in ours] == pytest.approx(theirs, rel=1e-12)
    momentum = drawn(schedulers.one_cycle(pct, 0.95, 0.85, 0.95), [steps])
    assert momentum == pytest.approx([combined_cos(pct, 0.95, 0.85, 0.95, step / steps) for step in range(steps)])


@pytest.mark.parametrize("shape", SCHEDULES)
def test_every_shape_is_a_share_of_the_peak(shape):
    chosen = pick(composed_of(f"scheduler={shape}")).scheduler
    ends = [40, 120, 280] if chosen.restarts else [280]
    values = drawn(chosen.rate(3), ends)
    assert min(values) >= 0 and max(values) <= 1
    if momentum := chosen.momentum():
        assert all(0 <= value < 1 for value in drawn(momentum, ends))


@pytest.mark.parametrize(("cycles", "risen_at"), [(1, 12), (2, 24), (3, 100), (5, 100)])
def test_a_warm_up_takes_little_of_a_short_plan(cycles, risen_at):
    ramped, plain = SGDR(warmup=100).rate(cycles), SGDR(warmup=0).rate(cycles)
    ends = [60 * (n + 1) for n in range(cycles)]
    pairs = list(zip(drawn(ramped, ends), drawn(plain, ends), strict=True))
    assert all(a < b for a, b in pairs[: risen_at - 1]) and all(a == b for a, b in pairs[risen_at:])


# against other libraries ----------------------------------------------------------------------------------------------


def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)


@pytest.mark.parametrize("cycle_mult", [1, 2, 3, 4])
@pytest.mark.parametrize("steps", [1, 7, 10])
def test_a_restart_is_exactly_the_peak(cycle_mult, steps):
    shape = SGDR(warmup=0.0).rate(3)
    ends = restarts(cycle_mult, 8, steps)
    at = schedules.curve(shape, ends)
    assert len(ends) == 8
    assert [at(step) for step in [0, *ends[:-1]]] == [1.0] * 8


@pytest.mark.parametrize("cycle_mult", [1, 2, 3])
def test_sgdr_is_torchs_warm_restarts_step_by_step(cycle_mult):
    ends = restarts(cycle_mult, 5, 10)
    sgd = optimizer()
    reference = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(sgd, T_0=10, T_mult=cycle_mult)
    expected = []
    for _ in range(ends[-1]):
        expected.append(sgd.param_groups[0]["lr"])
        sgd.step()
        reference.step()
    assert drawn(schedulers.cosine, ends) == pytest.approx(expected, abs=1e-12)


def timms(cycle_mult: int, steps: int) -> CosineLRScheduler:
    return CosineLRScheduler(optimizer(), t_initial=steps, cycle_mul=cycle_mult, cycle_decay=1.0, cycle_limit=99)


def test_sgdr_is_timms_where_its_logarithm_is_exact():
    ends, reference = restarts(2, 6, 10), timms(2, 10)
    expected = [reference._get_lr(step)[0] for step in range(ends[-1])]
    assert drawn(schedulers.cosine, ends) == pytest.approx(expected, abs=1e-9)


def test_at_the_fifth_restart_of_cycle_mult_3_timm_is_at_zero_and_thaw_at_the_peak():
    """This is why cycle ends are integers: timm computes floor(log(243, 3)), which is 4."""
    ends = restarts(3, 8, 10)
    at, reference = schedules.curve(schedulers.cosine, ends), timms(3, 10)
    assert ends[4] == 1210
    assert reference._get_lr(1210) == [0.0]
    assert at(1210) == 1.0
    assert reference._get_lr(1211)[0] == pytest.approx(at(1211))


@pytest.mark.parametrize(
    ("mode", "options", "gamma"),
    [("triangular", {}, 1.0), ("triangular2", {"decay": 0.5}, 1.0), ("exp_range", {"gamma": 0.99}, 0.99)],
)
def test_triangular_is_torchs_cyclic_lr(mode, options, gamma):
    sgd = optimizer()
    reference = torch.optim.lr_scheduler.CyclicLR(
        sgd, base_lr=0.25, max_lr=1.0, step_size_up=5, mode=mode, gamma=gamma, cycle_momentum=False
    )
    expected = []
    for _ in range(40):
        expected.append(sgd.param_groups[0]["lr"])
        sgd.step()
        reference.step()
    assert drawn(schedulers.triangular(4, **options), [10, 20, 30, 40]) == pytest.approx(expected, abs=1e-12)


# cycles ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [((3, 1, 2), [1, 2, 4]), ((3, 1, 1), [1, 1, 1]), ((1, 5, 3), [5]), ((4, 2, 3), [2, 6, 18, 54]), ((0, 1, 2), [])],
)
def test_cycle_epochs(arguments, expected):
    assert schedules.cycle_epochs(*arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((7, 1, 2), [1, 2, 4]),
        ((9, 1, 2), [1, 2, 6]),
        ((14, 1, 2), [1, 2, 11]),
        ((15, 1, 2), [1, 2, 4, 8]),
        ((2, 3, 1), [2]),
        ((7, 3, 1), [3, 4]),
        ((3, 1, 1), [1, 1, 1]),
        ((1, 1, 2), [1]),
        ((2, 1, 2), [2]),
        ((0, 1, 2), []),
    ],
)
def test_fill(arguments, expected):
    assert schedules.fill_budget(*arguments) == expected


@pytest.mark.parametrize("cycle_len", [1, 2, 3])
@pytest.mark.parametrize("cycle_mult", [1, 2, 3, 4])
def test_fill_spends_the_budget_and_two_budgets_agree_on_all_but_the_last_cycle(cycle_len, cycle_mult):
    filled = {budget: schedules.fill_budget(budget, cycle_len, cycle_mult) for budget in range(1, 41)}
    for budget, lengths in filled.items():
        assert sum(lengths) == budget
        assert min(lengths) >= 1
        assert lengths[:-1] == schedules.cycle_epochs(len(lengths) - 1, cycle_len, cycle_mult)
        if budget >= cycle_len:
            assert lengths[-1] >= cycle_len * cycle_mult ** (len(lengths) - 1)
        for longer in range(budget, 41):
            same = len(lengths) - 1
            assert filled[longer][:same] == lengths[:same]


@pytest.mark.parametrize(
    ("epoch_steps", "epochs_of_cycle", "expected"),
    [
        ([12] * 7, [1, 2, 4], [12, 36, 84]),
        ([3, 5, 7], [1, 2], [3, 15]),
        ([3, 5, 7], [3], [15]),
        ([10], [1], [10]),
        ([4] * 4, [1, 1, 1, 1], [4, 8, 12, 16]),
    ],
)
def test_cycle_ends(epoch_steps, epochs_of_cycle, expected):
    assert schedules.cycle_ends(epoch_steps, epochs_of_cycle) == expected


def test_which_position_and_cycle_a_shape_is_given():
    at = schedules.curve(lambda position, cycle, step: (position, cycle, step), [2, 6])
    assert [at(step) for step in range(6)] == [
        (0.0, 0, 0),
        (0.5, 0, 1),
        (0.0, 1, 2),
        (0.25, 1, 3),
        (0.5, 1, 4),
        (0.75, 1, 5),
    ]


def test_a_rate_follows_the_square_root_of_a_batch_that_grew():
    at = schedules.scaled_with_batch(lambda step: 0.1 * (step + 1), [2, 3], [64, 16], 16)
    assert [at(step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.3, 0.4, 0.5])
    same = schedules.scaled_with_batch(lambda step: 0.1 * (step + 1), [2, 3], [16, 16], 16)
    assert [same(step) for step in range(5)] == [0.1 * (step + 1) for step in range(5)], "bit for bit"
