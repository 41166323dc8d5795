"""'Until over-fitting' on histories whose verdict is known."""

import math

import pytest

from thaw.train import early_stopping
from thaw.train.early_stopping import CycleEnd, judge, paired_difference

# 100 images whose losses differ from one another, and a change an image of +-0.05 around what a cycle is given.
IMAGES = [0.2 + 0.01 * i for i in range(100)]


def end(train: float, change: float, final: bool = True, spread: float = 0.05, accuracy=None) -> CycleEnd:
    """A cycle end: its training loss, and the mean by which validation differs from the start.

    Accuracy rises as the loss falls, unless it is given.
    """
    accuracy = 0.5 - change / 10 if accuracy is None else accuracy
    return CycleEnd(train, [loss + change + (-1) ** i * spread for i, loss in enumerate(IMAGES)], accuracy, final)


def nan(train: float = 0.5) -> CycleEnd:
    return CycleEnd(train, [math.nan, *IMAGES[1:]], 1.0, True)


BEFORE = CycleEnd(math.inf, IMAGES, 0.5, True)
UNKNOWN = CycleEnd(math.inf, [math.inf] * 100, 0.0, True)  # nothing was validated yet


@pytest.mark.parametrize(
    ("a", "b", "mean", "error"),
    [
        ([3.0, 4.0], [1.0, 2.0], 2.0, 0.0),
        ([1.0, 3.0], [0.0, 0.0], 2.0, 1.0),  # differences 1 and 3: deviation sqrt 2, over sqrt 2
        ([1.0, 2.0, 3.0], [0.0, 0.0, 0.0], 2.0, 1 / math.sqrt(3)),
        ([1.0], [0.5], 0.5, math.inf),  # one image says nothing
        ([1.0, 1.0], [math.inf, math.inf], -math.inf, 0.0),
    ],
)
def test_paired(a, b, mean, error):
    assert paired_difference(a, b) == (pytest.approx(mean), pytest.approx(error))


def test_paired_needs_the_same_images():
    with pytest.raises(ValueError):
        paired_difference([1.0, 2.0], [1.0])


def test_paired_is_sharper_than_the_spread_of_the_images():
    a = [loss + 0.01 + (-1) ** i * 0.02 for i, loss in enumerate(IMAGES)]
    mean, error = paired_difference(a, IMAGES)
    assert mean == pytest.approx(0.01)
    assert error == pytest.approx(0.02 / math.sqrt(99))


@pytest.mark.parametrize(
    ("cycles", "budget", "most", "go_on", "best", "because"),
    [
        # Over-fitting: worse than the best by far more than two errors (0.005), and the training loss fell.
        ([end(1.0, -0.5), end(0.5, -0.4)], 2, 5, False, 0, "over-fitting: "),
        ([end(1.0, -0.5), end(0.7, -0.6), end(0.5, -0.55, spread=0.0)], 3, 5, False, 1, "over-fitting: "),
        # It is seen against the best cycle, not the one before.
        ([end(1.0, -0.6), end(1.1, -0.3), end(0.5, -0.4)], 3, 5, False, 0, "over-fitting: "),
        # Against what the phase began with, too.
        ([end(1.0, 0.6), end(0.9, 0.5)], 2, 5, False, 1, "over-fitting: "),
        # Worse, but the training loss did not fall: that is something else, go on.
        ([end(0.5, -0.5), end(0.6, -0.4)], 3, 5, True, 0, "going on"),
        ([end(0.5, -0.5), end(0.5, -0.4)], 3, 5, True, 0, "going on"),
        # Worse by less than two errors.
        ([end(1.0, -0.5, spread=-0.05), end(0.5, -0.485, spread=0.05)], 3, 5, True, 0, "going on"),
        # Not judged before a cycle was trained at the final size.
        ([end(1.0, -0.5, False), end(0.7, -0.4, False), end(0.5, -0.35)], 4, 5, True, 0, "going on"),
        ([end(1.0, -0.5, False), end(0.5, -0.4, False)], 3, 5, True, 0, "going on"),
        ([end(1.0, -0.5, False), end(0.5, -0.4, True)], 2, 5, False, 0, "over-fitting: "),
        ([end(1.0, -0.5, False), end(0.5, -0.6, True)], 3, 5, True, 1, "going on"),
        # Within the budget it has to be seen twice running.
        ([end(1.0, -0.5), end(0.7, -0.4)], 3, 5, True, 0, "going on"),
        ([end(1.0, -0.5), end(0.7, -0.4), end(0.5, -0.35)], 4, 5, False, 0, "over-fitting: "),
        ([end(1.0, -0.5), end(0.7, -0.4), end(0.6, -0.6), end(0.5, -0.5)], 5, 5, True, 2, "going on"),
        # Without it the budget, and more while the last one is the best.
        ([end(1.0, -0.5)], 3, 5, True, 0, "going on"),
        ([end(1.0, -0.5), end(0.8, -0.5)], 3, 5, True, 0, "going on"),
        ([end(1.0, -0.5), end(0.8, -0.6), end(0.7, -0.7)], 3, 5, True, 2, "going on"),
        ([end(1.0, -0.5), end(0.8, -0.6), end(0.7, -0.6)], 3, 5, False, 1, "brought nothing"),
        ([end(1.0, -0.5), end(0.8, -0.6), end(0.7, -0.7), end(0.6, -0.65)], 3, 5, False, 2, "over-fitting: "),
        ([end(1 - i / 10, -i / 10) for i in range(1, 6)], 3, 5, False, 4, "all of the plan trained (5 cycles)"),
        ([end(1.0, -0.5), end(0.8, -0.6), end(0.7, -0.7)], 3, 3, False, 2, "all of the plan trained (3 cycles)"),
        # One cycle: never over-fitting, as there is nothing it could have unlearned.
        ([end(0.5, 0.5)], 3, 3, True, 0, "going on"),
        ([end(0.5, 0.5)], 3, 1, False, 0, "all of the plan trained (1 cycle)"),
        # A loss that rises with accuracy is no over-fitting; accuracy says what is kept, of equals the loss.
        ([end(1.0, -0.5), end(0.5, -0.4, accuracy=0.7)], 3, 5, True, 1, "going on"),
        ([end(1.0, -0.5), end(0.5, -0.4, accuracy=0.55)], 2, 5, False, 0, "over-fitting: "),  # as high as before
        (
            [end(1.0, -0.5), end(0.5, -0.4, accuracy=0.7), end(0.4, -0.3, accuracy=0.6)],
            4,
            5,
            True,
            1,
            "going on",
        ),
        ([end(1.0, -0.5), end(0.7, -0.55, accuracy=0.7), end(0.6, -0.5)], 3, 5, False, 1, "over-fitting: "),
        ([end(1.0, 0.1, accuracy=0.6), end(0.7, -0.5, accuracy=0.6)], 3, 5, True, 1, "going on"),
        # Beyond the budget while the loss is lower, or accuracy is higher than where it is lowest.
        ([end(1.0, -0.5), end(0.7, -0.6, accuracy=0.5)], 2, 5, True, 0, "going on"),
        ([end(1.0, -0.5), end(1.0, -0.4, accuracy=0.7)], 2, 5, True, 1, "going on"),
        ([end(1.0, -0.5), end(1.0, -0.4, accuracy=0.55)], 2, 5, False, 0, "brought nothing"),
        # A loss that is not finite is the worst there is, and the end.
        ([end(1.0, -0.5), nan()], 3, 5, False, 0, "not finite"),
        ([end(1.0, 9.0), end(0.5, -0.5), nan()], 3, 5, False, 1, "not finite"),
        # Of equals the earliest.
        ([end(1.0, -0.5), end(1.0, -0.5)], 3, 5, True, 0, "going on"),
    ],
)
def test_judge(cycles, budget, most, go_on, best, because):
    verdict = judge(BEFORE, cycles, budget, most)
    assert (verdict.go_on, early_stopping.best_cycle(cycles)) == (go_on, best)
    assert because in verdict.because
    assert "\n" not in verdict.because


def test_a_first_cycle_after_no_validation_goes_on():
    assert judge(UNKNOWN, [end(0.5, 0.0)], 1, 3).go_on
    assert not judge(UNKNOWN, [end(0.5, 0.0)], 1, 1).go_on


@pytest.mark.parametrize("losses", [[math.nan, 1.0], [math.inf, 1.0]])
def test_a_loss_that_is_not_finite_is_infinite(losses):
    assert CycleEnd(0.5, losses, 1.0, True).valid_loss == math.inf


def test_never_more_than_most_and_the_best_is_the_lowest():
    """Over every history of five cycles that go up, down or stay."""
    for code in range(3**5):
        changes, total = [], 0.0
        for cycle in range(5):
            total += (code // 3**cycle % 3 - 1) * 0.2
            changes.append(total)
        cycles = [end(1 - i / 10, change) for i, change in enumerate(changes)]
        trained = next((n for n in range(1, 6) if not judge(BEFORE, cycles[:n], 3, 5).go_on), None)
        assert trained is not None
        verdict = judge(BEFORE, cycles[:trained], 3, 5)
        assert cycles[early_stopping.best_cycle(cycles[:trained])].valid_loss == min(
            cycle.valid_loss for cycle in cycles[:trained]
        )
        assert trained >= 3 or verdict.because.startswith("over-fitting: ")


def test_the_first_cycle_of_all_is_compared_with_nothing():
    assert judge(UNKNOWN, [end(1.0, -0.5)], 1, 1).because.endswith("(1 cycle): validation loss 0.1950")
