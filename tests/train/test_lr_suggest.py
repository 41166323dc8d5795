"""The pure rules that choose a rate from the finder's curves, on curves with a known answer."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from thaw.config.schema import Find
from thaw.plan.schedules import ladder
from thaw.runtime.errors import UserError
from thaw.train import lr_suggest

TRIALS = {"trial_steps": 6, "trial_orders": 2, "stored_steps": 40, "stored_orders": 3}
FIND = Find(rule="edge", min_lr=1e-5, max_lr=10.0, steps=100, smooth=0.8, diverge=4.0, **TRIALS)
RATES = [10.0 * 1e-6 ** (1 - k / 100) for k in range(100)]
VALLEY = replace(FIND, rule="valley")


def double_sum(losses, beta):
    """Compute `smooth` by its definition: sum_i beta^|i-k| l_i / sum_i beta^|i-k|."""
    k = np.arange(len(losses))
    weights = float(beta) ** np.abs(k[:, None] - k[None, :])
    return weights @ np.asarray(losses) / weights.sum(1)


def edge_by_hand(rates, smoothed, start):
    """Compute `edge` as its docstring says: the rate before the one with 1/20 of the fall or less left."""
    left = 0.05 * (start - min(smoothed))
    taken = rates[0]
    for rate, loss in zip(rates, smoothed, strict=True):
        if loss - min(smoothed) <= left:
            return taken
        taken = rate


def falls(n=78):
    """Return losses of 2.3 up to step 40, falling linearly to 0.3 at step 70, then growing by half at each step."""
    return [2.3 if k < 40 else 2.3 - 2.0 * (k - 40) / 30 if k <= 70 else 0.3 * 1.5 ** (k - 70) for k in range(n)]


def noise_of(seed, n=100, sigma=0.1, mean=1.0):
    return list(mean + sigma * np.random.default_rng(seed).standard_normal(n))


# smooth, noise, edge, valley ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.8, 0.98])
@pytest.mark.parametrize("n", [1, 2, 3, 50])
def test_smooth_is_its_definition(beta, n):
    losses = noise_of(n, n)
    assert lr_suggest.smooth(losses, beta) == pytest.approx(double_sum(losses, beta), rel=1e-12)


def test_smooth_keeps_a_constant_and_does_not_lag():
    assert lr_suggest.smooth([2.0] * 9, 0.8) == pytest.approx([2.0] * 9)
    peak = [0.0] * 20 + [1.0] + [0.0] * 20
    smoothed = lr_suggest.smooth(peak, 0.8)
    assert smoothed == pytest.approx(smoothed[::-1])
    assert int(np.argmax(smoothed)) == 20


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.8])
def test_noise_is_the_deviation_of_smoothed_white_noise(beta):
    claimed, middles = [], []
    for seed in range(600):
        losses = noise_of(seed)
        claimed.append(lr_suggest.noise(losses, beta))
        middles.append(lr_suggest.smooth(losses, beta)[50])
    assert np.mean(claimed) == pytest.approx(np.std(middles), rel=0.1)


def test_noise_takes_no_notice_of_a_slope_or_of_one_outlier():
    losses = noise_of(1)
    level = lr_suggest.noise(losses, 0.8)
    assert lr_suggest.noise([loss + 0.01 * k for k, loss in enumerate(losses)], 0.8) == pytest.approx(level, rel=0.1)
    assert lr_suggest.noise([*losses[:50], 100.0, *losses[51:]], 0.8) == pytest.approx(level, rel=0.2)
    assert lr_suggest.noise([1.0], 0.8) == 0.0
    assert lr_suggest.noise([1.0] * 20, 0.8) == 0.0


@pytest.mark.parametrize(
    ("smoothed", "start", "index"),
    [
        ([10.0, 8.0, 4.0, 0.5, 0.0, 20.0, 20.0], 10.0, 2),  # 1/20 of 10 is 0.5, reached at index 3
        ([10.0, 8.0, 4.0, 0.6, 0.0, 20.0, 20.0], 10.0, 3),
        ([4.0, 4.0, 4.0, 4.0, 0.0, 1.0, 1.0], 4.0, 3),
        ([4.0, 0.2, 3.0, 0.0, 5.0, 5.0, 5.0], 4.0, 0),  # the first crossing counts
        ([10.0, 8.0, 4.0, 0.45, 0.4, 0.3, 0.0], 10.0, 2),  # a long flat bottom has no effect
        ([10.0, 8.0, 6.0, 5.0, 5.0, 5.9, 20.0], 10.0, 2),
        ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 0.0, 0),  # only rises
        ([1.0, 1.0, 1.0, 0.9, 1.0, 1.0, 1.0], 5.0, 0),  # the start is so high that no point has 1/20 of the fall ahead
    ],
)
def test_edge(smoothed, start, index):
    rates = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4]
    assert lr_suggest.edge(rates, smoothed, start) == rates[index]


def test_edge_follows_its_docstring_on_noisy_curves():
    for seed in range(100):
        losses = [a + b for a, b in zip(falls(), noise_of(seed, 78, 0.05, 0.0), strict=True)]
        smoothed, start = lr_suggest.smooth(losses, 0.8), float(np.mean(losses[:8]))
        by_hand = edge_by_hand(RATES[:78], smoothed, start)
        assert lr_suggest.edge(RATES[:78], smoothed, start) == by_hand


@pytest.mark.parametrize(
    ("smoothed", "index"),
    [
        ([5, 4, 6, 3, 2, 1, 7], 1),  # 5 4 3 2 1, length 5, ends at 5: 5 - 5 + int(5/3) + int(5/6)
        ([1, 2, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 5], 5),  # length 10, ends at 11: 1 + 3 + 1
        ([12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0], 5),  # length 13, ends at 12: -1 + 4 + 2
        ([1, 2, 3], 0),  # no descent
        ([3, 2, 4], 0),  # length 2: fastai's own index would be -1, the last rate
        ([3, 2, 1, 6, 5, 4], 0),  # two of equal length: the first, -1 + 1 + 0
        ([3, 2, 1, 6, 5, 4, 3.5], 3),  # 6 5 4 3.5, length 4, ends at 6: 2 + 1 + 0
    ],
)
def test_valley(smoothed, index):
    rates = [10.0**k for k in range(len(smoothed))]
    assert lr_suggest.valley(rates, smoothed) == rates[index]


# read_range -----------------------------------------------------------------------------------------------------------


def test_falls_then_explodes():
    losses = falls()
    found = lr_suggest.read_range(RATES[:78], losses, FIND)
    assert not found.doubtful
    assert found.reason.startswith("edge: ")
    assert found.taken == found.suggestions["edge"] == edge_by_hand(RATES[:78], found.smoothed, 2.3)
    # Without smoothing, 1/10 of the fall would still be ahead up to step 67.
    assert RATES[55] < found.taken < RATES[70]
    assert found.rule == "edge"
    assert found.rates == RATES[:78] and found.losses == losses


def test_falls_then_explodes_with_the_valley_rule():
    found = lr_suggest.read_range(RATES[:78], falls(), VALLEY)
    assert not found.doubtful
    assert found.reason.startswith("valley: ")
    assert found.taken == found.suggestions["valley"] == lr_suggest.valley(RATES[:78], found.smoothed)
    assert RATES[10] < found.taken < RATES[60]


def test_a_fall_that_is_cut_off_is_read_by_the_rule():
    """The loss is not finite after step 60, during its fall, so the highest rate tried must not be chosen."""
    found = lr_suggest.read_range(RATES[:61], falls(61), FIND)
    assert not found.doubtful
    assert found.reason.startswith("edge: ")
    assert found.taken < RATES[60]


@pytest.mark.parametrize(("growth", "n"), [(1.05, 93), (1.2, 72), (1.5, 67), (2.0, 65), (3.0, 64)])
def test_flat_then_explodes(growth, n):
    """The loss is 0.05 up to step 60, then grows by a factor per step until the finder stops.

    However steep the rise, it must be found at step 61: smoothing must not move it to earlier steps.
    """
    losses = [0.05 * growth ** max(0, k - 60) for k in range(n)]
    found = lr_suggest.read_range(RATES[:n], losses, FIND)
    assert found.doubtful
    assert "never clearly falls" in found.reason
    assert found.suggestions == {"edge": None, "valley": None}
    assert RATES[57] / 10 < found.taken < RATES[64] / 10


def test_rising_only():
    losses = [1.0 + 0.01 * k for k in range(100)]
    found = lr_suggest.read_range(RATES, losses, FIND)
    assert found.doubtful
    assert RATES[9] / 10 < found.taken < RATES[15] / 10


def test_flat_throughout():
    found = lr_suggest.read_range(RATES, [0.7] * 100, FIND)
    assert found.doubtful
    assert found.taken == RATES[-1] / 10


@pytest.mark.parametrize("rule", ["edge", "valley"])
def test_never_stops_falling(rule):
    found = lr_suggest.read_range(RATES, [3.0 - 0.02 * k for k in range(100)], replace(FIND, rule=rule))
    assert not found.doubtful
    assert found.taken == RATES[-1]
    assert "find.max_lr=10" in found.reason


@pytest.mark.parametrize("losses", [[], [2.3]])
def test_not_finite_at_once(losses):
    with pytest.raises(UserError) as raised:
        lr_suggest.read_range(RATES[: len(losses)], losses, FIND)
    assert raised.value.code == 4
    assert "not finite at lr 1e-05" in raised.value.line


def test_two_points_are_enough():
    assert lr_suggest.read_range(RATES[:2], [2.3, 2.2], FIND).taken > 0


def test_noise_does_not_move_the_answer_far():
    clean = lr_suggest.read_range(RATES[:78], falls(), FIND).taken
    for seed in range(50):
        losses = [a + b for a, b in zip(falls(), noise_of(seed, 78, 0.1, 0.0), strict=True)]
        found = lr_suggest.read_range(RATES[:78], losses, FIND)
        assert not found.doubtful
        assert 0.4 < found.taken / clean < 2.5


def test_noise_alone_is_no_fall():
    """The curves are flat with noise: at most one in twenty may be mistaken for a fall."""
    mistaken = [seed for seed in range(300) if not lr_suggest.read_range(RATES, noise_of(seed), FIND).doubtful]
    assert len(mistaken) <= 15


def test_a_range_test_always_yields_a_rate_that_was_tried():
    for seed in range(100):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(3, 101))
        losses = list(np.abs(np.cumsum(rng.standard_normal(n))) + 0.01)
        found = lr_suggest.read_range(RATES[:n], losses, FIND)
        assert found.taken in RATES[:n] or found.taken in [rate / 10 for rate in RATES[:n]]
        assert found.reason and "\n" not in found.reason
        assert math.isfinite(json.loads(json.dumps(found.as_json()))["taken"])


# trials ---------------------------------------------------------------------------------------------------------------

LADDER = ladder(1e-5, 10.0, 3)


def bowl(best, start=2.3, fall=1.0):
    """Return a parabola over log rate with its vertex at `best`, capped at the loss of the start."""
    return [min(start, start - fall + 0.5 * math.log10(rate / best) ** 2) for rate in LADDER]


@pytest.mark.parametrize("best", [1e-3, 0.02, 0.035, 0.31])
def test_the_cheapest_rate_is_the_vertex_of_a_parabola(best):
    assert lr_suggest.cheapest_rate(LADDER, bowl(best)) == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize(
    ("losses", "rate"),
    [
        ([3.0, 2.0, 1.0, 2.0, 3.0], 100.0),  # equal neighbours: the rate itself
        ([3.0, 2.0, 1.0, 1.0, 3.0], 100.0 * math.sqrt(10)),  # two equal losses: between them
        ([3.0, 2.0, 1.0, 1e9, 1e9], 100.0 / math.sqrt(10)),  # at most half a step away from an explosion
        ([3.0, 2.0, 1.0, 0.5, 0.4], 1e4),  # still falling at the end: the last rate
        ([1.0, 2.0, 3.0, 4.0, 5.0], 1.0),
        ([3.0, 2.5, 4.0, 1.0, 2.0], 10.0 ** (1 + 0.5 * (0.5 - 1.5) / (0.5 + 1.5))),  # the first valley
        ([3.0, 2.0, 2.2, 1.0, 2.0], 10.0 ** (3 + 0.5 * (1.2 - 1.0) / (1.2 + 1.0))),  # a small ripple is no valley
        ([1.0, 1.0, 1.0, 1.0, 1.0], 1.0),
    ],
)
def test_cheapest_rate(losses, rate):
    assert lr_suggest.cheapest_rate([10.0**k for k in range(5)], losses) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("peaks", "rate"),
    [
        ([1.0, 1.0, 4.0, 5.0, 9.0], 10.0**1.5),  # half way from 1 to 4 in log scale
        ([1.0, 1.0, 2.0, 5.0, 9.0], 10.0**2),  # reached exactly
        ([1.0, 1.1, 1.2, 1.2, 1.2], 1e4),
        ([3.0, 4.0, 5.0, 6.0, 7.0], 1.0),
        ([1.0, 5.0, 1.0, 1.0, 9.0], 10.0 ** (math.log(2) / math.log(5))),  # the first crossing counts
    ],
)
def test_breaking_rate(peaks, rate):
    assert lr_suggest.breaking_rate([10.0**k for k in range(5)], peaks) == pytest.approx(rate)


def steady(means, n=6):
    """Return trials in one order, each with the same loss at every step."""
    return [[[loss] * n] for loss in means]


def test_trials_are_averaged_over_their_orders():
    """Two orders whose best rates are a decade apart: the result is between them, and the band spans both."""
    first, second = bowl(0.01), bowl(0.1)
    pairs = list(zip(first, second, strict=True))
    found = lr_suggest.read_trials(LADDER, [[[a] * 6, [b] * 6] for a, b in pairs], FIND)
    assert not found.doubtful and found.reason.startswith("trials: ")
    assert found.suggestions["cheapest"] == pytest.approx(math.sqrt(0.01 * 0.1), rel=0.1)
    assert found.low == pytest.approx([min(pair) for pair in pairs])
    assert found.high == pytest.approx([max(pair) for pair in pairs])


def test_the_rate_chosen_is_two_thirds_of_the_way_from_cheapest_to_breaking():
    """Between the last two rates the peak goes from 1 to 4 times the lowest loss, so it is 2 half way."""
    losses = [[[2.0, 2.0, 2.0]], [[2.0, 1.7, 1.7]], [[2.0, 1.5, 1.5]], [[2.0, 6.0, 1.5]]]
    found = lr_suggest.read_trials([0.001, 0.01, 0.1, 1.0], losses, FIND)
    assert found.suggestions["breaking"] == pytest.approx(math.sqrt(0.1 * 1.0))
    assert found.suggestions["cheapest"] == pytest.approx(0.1, rel=0.7)
    cheapest = found.suggestions["cheapest"]
    assert found.taken == pytest.approx(cheapest * (math.sqrt(0.1) / cheapest) ** (2 / 3))


def test_the_reference_for_breaking_is_the_lowest_loss_of_each_step_but_a_tenth_of_the_start_at_least():
    assert lr_suggest.lowest_losses([[2.0, 4.0, 9.0], [1.0, 5.0, 0.3], [0.6]]) == [0.6, 4.0, 0.5]


def test_nothing_breaks_below_the_cheapest():
    """Only the lowest rates do well on one batch, by chance; breaking must not be found below the cheapest rate."""
    losses = [
        [[2.3, 0.2 if rate < 0.001 else 0.5, 2.3 - 6 * (2.3 - m)]] for rate, m in zip(LADDER, bowl(0.01), strict=True)
    ]
    found = lr_suggest.read_trials(LADDER, losses, FIND)
    assert found.suggestions["breaking"] == found.suggestions["cheapest"] == found.taken
    assert 0.005 < found.taken < 0.02


def test_a_start_worse_than_chance_is_no_reference_for_breaking():
    """Every rate improves on the start, but the highest one's loss is 2.5 times that of the best."""
    losses = [[[14.0, 14.0, 14.0]], [[14.0, 9.0, 8.0]], [[14.0, 7.0, 4.0]], [[14.0, 11.0, 10.0]]]
    found = lr_suggest.read_trials([0.001, 0.01, 0.1, 1.0], losses, FIND)
    assert 0.1 < found.suggestions["breaking"] < 1.0


def test_a_trial_that_was_cut_short_breaks():
    losses = steady(bowl(0.01)[:12]) + [[[2.3]]]
    found = lr_suggest.read_trials(LADDER[:13], losses, FIND)
    assert LADDER[11] < found.suggestions["breaking"] < LADDER[12]
    assert found.losses[-1] == pytest.approx(4 * min(found.losses))


def test_trials_that_never_fall():
    flat = [0.05 if rate < 0.2 else 1.0 for rate in LADDER]
    found = lr_suggest.read_trials(LADDER, steady(flat), FIND)
    assert found.doubtful and "never clearly falls" in found.reason
    assert 0.1 / 3 < found.taken < 0.3 / 3


def test_trials_that_never_stop_falling():
    found = lr_suggest.read_trials(LADDER, steady([3.0 - 0.1 * k for k in range(len(LADDER))]), FIND)
    assert not found.doubtful and "find.max_lr=10" in found.reason
    assert found.taken == LADDER[-1]


@pytest.mark.parametrize("losses", [[], [[[]]], [[[2.3]]]])
def test_trials_not_finite_at_once(losses):
    with pytest.raises(UserError) as raised:
        lr_suggest.read_trials(LADDER[: len(losses)], losses, FIND)
    assert raised.value.code == 4


def test_trials_always_yield_a_rate():
    for seed in range(100):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(2, len(LADDER) + 1))
        losses = (np.abs(np.cumsum(rng.standard_normal((n, 2, 6)), 0)) + 0.01).tolist()
        losses[-1][0] = losses[-1][0][: int(rng.integers(0, 7))] if n > 2 else losses[-1][0]
        found = lr_suggest.read_trials(LADDER[:n], losses, FIND)
        assert LADDER[0] / 3 <= found.taken <= LADDER[n - 1]
        assert json.loads(json.dumps(found.as_json()))["taken"] == found.taken


def test_losses_of_zero_still_yield_a_rate():
    found = lr_suggest.read_trials([0.001, 0.01, 0.1], [[[0.0] * 6]] * 3, FIND)
    assert found.taken > 0 and found.doubtful
