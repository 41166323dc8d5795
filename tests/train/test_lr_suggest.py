"""The pure rules that choose a rate from the finder's curves, on curves with a known answer."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from thaw.config.schema import Find
from thaw.runtime.errors import UserError
from thaw.train import lr_suggest

TRIALS = {"trials": 6, "trial_steps": 48, "stored_steps": 400}
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

RUNGS = lr_suggest.ladder(FIND, "adamw")
RISE = math.log(1.5)


def search(loss_of, find=FIND, most=99, start=None):
    """Return rungs and losses in the order in which the search tries them."""
    rungs, tried = lr_suggest.ladder(find, "adamw"), {}
    while len(tried) < most and (rung := lr_suggest.next_rung(tried, min(rungs), max(rungs), start)) is not None:
        tried[rung] = loss_of(rungs[rung])
    return tried


def bowl(best):
    """Return the loss over the rate: a parabola in log rate with its vertex at `best`."""
    return lambda rate: 1.0 + math.log10(rate / best) ** 2


def read(tried, start=None):
    rates, losses = [RUNGS[k] for k in sorted(tried)], [tried[k] for k in sorted(tried)]
    return lr_suggest.read_trials(rates, losses, "loss", start)


def test_the_ladder_has_two_rates_per_decade_from_the_usual_one():
    assert [RUNGS[k] for k in (-2, -1, 0, 1, 2)] == pytest.approx([1e-4, 10**-3.5, 1e-3, 10**-2.5, 1e-2])
    assert min(RUNGS) == -4 and max(RUNGS) == 8  # from 1e-5 to 10
    assert lr_suggest.ladder(FIND, "sgd")[0] == 1e-2
    assert list(lr_suggest.ladder(replace(FIND, min_lr=0.05, max_lr=0.1), "adamw").values()) == [0.05]
    assert min(lr_suggest.ladder(replace(FIND, max_lr=1e-4), "adamw").values()) == pytest.approx(1e-5)


@pytest.mark.parametrize(
    ("losses", "following"),
    [
        ({}, 0),
        ({0: 1.0}, 1),  # first the one above
        ({0: 1.0, 1: 0.9}, 2),
        ({0: 1.0, 1: 1.1}, -1),
        ({0: 1.0, 1: math.inf, -1: 0.9}, -2),
        ({0: 1.0, 1: 1.1, -1: 1.2}, None),  # between two worse ones
        ({0: 1.0, 1: 0.9, 2: 0.8, 3: 0.7}, None),  # at the upper end
        ({0: 1.0, 1: 1.0, -1: 0.9, -2: 0.8, -3: 0.7}, None),  # at the lower end
        ({0: 1.0, 1: 1.0}, -1),  # equal losses: the lower rate counts
        ({0: math.inf}, 1),
    ],
)
def test_next_rung(losses, following):
    assert lr_suggest.next_rung(losses, -3, 3, None) == following


@pytest.mark.parametrize(
    ("losses", "following"),
    [
        ({}, -1),
        ({0: 1.1}, 1),  # bears it: up to the edge
        ({0: 1.1, 1: 1.2}, 2),
        ({0: 1.1, 1: 1.2, 2: 1.5}, None),  # the edge, 1 + log 3/2, is between two rungs
        ({0: 1.5}, -1),
        ({0: math.inf, -1: 1.8, -2: 0.95}, None),
        ({0: 1.1, 1: 0.8}, 2),  # the lowest loss does not count
        ({0: 1.1, 1: 1.0, 2: 1.0, 3: 1.0}, None),  # at the upper end
        ({0: 4.0, -1: 4.0, -2: 4.0, -3: 4.0}, None),  # at the lower end
    ],
)
def test_next_rung_of_a_fitted_network(losses, following):
    assert lr_suggest.next_rung(losses, -3, 3, 1.0) == following


@pytest.mark.parametrize("edge", [3e-5, 1e-3, 4e-4, 0.02, 0.31])
def test_a_trained_head_takes_the_highest_rate_that_it_bears(edge):
    """The loss rises from 0.5 by log 3/2, the probability of the right class falls by a third, at the edge."""
    found = read(search(lambda rate: 0.5 + RISE * max(0.0, 1 + math.log10(rate / edge)), start=0.5), 0.5)
    assert found.taken == pytest.approx(edge) and not found.doubtful
    assert found.reason == "trials: the highest rate that keeps the loss below 0.905 (without training 0.5)"
    assert found.suggestions == {}
    assert found.levels == {"without training": 0.5, "right class 2/3 as probable": pytest.approx(0.5 + RISE)}


@pytest.mark.parametrize(
    ("loss", "taken", "end"), [(0.6, 10.0, "highest"), (5.0, 1e-5, "lowest")], ids=["never", "always"]
)
def test_an_edge_that_is_not_reached_is_doubtful(loss, taken, end):
    found = read(search(lambda rate: loss, start=0.5), 0.5)
    assert found.doubtful and found.taken == pytest.approx(taken)
    assert found.reason.endswith(f"; the {end} rate tried")


def test_a_rate_that_ends_in_infinity_leaves_the_edge_at_the_one_below():
    found = lr_suggest.read_trials([1e-3, 1e-2], [1.0, math.inf], "loss", 1.0)
    assert found.taken == pytest.approx(1e-3, rel=1e-6) and math.isinf(found.losses[-1])


@pytest.mark.parametrize("best", [3e-5, 1e-3, 4e-4, 0.02, 0.31, 3.0])
def test_the_search_finds_the_vertex_of_a_parabola(best):
    found = read(search(bowl(best)))
    assert found.taken == pytest.approx(best, rel=1e-6) and not found.doubtful
    assert found.reason.startswith("trials: the lowest loss, ")


def test_the_search_is_short_near_its_start():
    assert list(search(bowl(1e-3))) == [0, 1, -1]
    assert list(search(bowl(2.5e-4))) == [0, 1, -1, -2]
    assert list(search(bowl(1e-2))) == [0, 1, 2, 3]
    assert list(search(lambda rate: 500 * rate, start=1.0)) == [-1, 0, 1]  # a fitted network: from one rung lower
    assert list(search(bowl(0.05), replace(FIND, min_lr=0.05, max_lr=0.1), start=1.0)) == [0]  # the only rung


def test_a_search_that_runs_out_takes_its_best_rate_and_doubts_it():
    found = read(search(bowl(10.0), most=3))
    assert found.doubtful and found.taken == pytest.approx(1e-2)
    assert "the highest rate tried" in found.reason
    found = read(search(lambda rate: rate))
    assert found.doubtful and found.taken == pytest.approx(1e-5)
    assert "the lowest rate tried" in found.reason


def test_an_infinite_loss_pulls_the_rate_half_a_step_away_at_most():
    found = lr_suggest.read_trials([1e-3, 1e-2, 1e-1], [2.0, 1.0, math.inf], "loss")
    assert found.taken == pytest.approx(1e-2 / math.sqrt(10)) and not found.doubtful
    assert math.isinf(found.losses[-1])


@pytest.mark.parametrize("losses", [[], [math.inf], [math.inf, math.inf]])
def test_trials_without_a_finite_loss(losses):
    with pytest.raises(UserError) as raised:
        lr_suggest.read_trials([1e-3, 1e-2][: len(losses)], losses, "loss")
    assert raised.value.code == 4


def test_trials_always_yield_a_rate():
    for seed in range(100):
        rng = np.random.default_rng(seed)
        tried = search(lambda rate, rng=rng: math.inf if rng.random() < 0.2 else float(rng.random()))
        if not any(map(math.isfinite, tried.values())):
            continue
        rates = [RUNGS[k] for k in tried]
        assert min(rates) <= read(tried).taken <= max(rates)


def test_equal_losses_still_yield_a_rate():
    assert lr_suggest.read_trials([0.001, 0.01, 0.1], [0.0] * 3, "loss").taken == 0.001
