"""The stopping rule, on histories whose verdict is known."""

import math

import pytest

from thaw.train import early_stopping
from thaw.train.early_stopping import CycleEnd, judge, paired_difference

# The losses of 100 images; `end` changes each of them by +-0.05 around the change it is given.
IMAGES = [0.2 + 0.01 * i for i in range(100)]


def end(train: float, change: float, final: bool = True, spread: float = 0.05, accuracy=None) -> CycleEnd:
    """Return a cycle end with this training loss and mean change of the validation loss from the start.

    Accuracy rises as the loss falls, unless it is given.
    """
    accuracy = 0.5 - change / 10 if accuracy is None else accuracy
    return CycleEnd(train, [loss + change + (-1) ** i * spread for i, loss in enumerate(IMAGES)], accuracy, final)


def nan(train: float = 0.5) -> CycleEnd:
    return CycleEnd(train, [math.nan, *IMAGES[1:]], 1.0, True)


BEFORE = CycleEnd(math.inf, IMAGES, 0.5, True)
UNKNOWN = CycleEnd(math.inf, [math.inf] * 100, 0.0, True)  # before any validation


@pytest.mark.parametrize(
    ("a", "b", "mean", "error"),
    [
        ([3.0, 4.0], [1.0, 2.0], 2.0, 0.0),
        ([1.0, 3.0], [0.0, 0.0], 2.0, 1.0),  # differences 1 and 3: deviation sqrt 2, over sqrt 2
        ([1.0, 2.0, 3.0], [0.0, 0.0, 0.0], 2.0, 1 / math.sqrt(3)),
        ([1.0], [0.5], 0.5, math.inf),  # one image has no standard error
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
        # The comparison is with the lowest loss, not with the previous cycle.
        ([end(1.0, -0.6), end(1.1, -0.3), end(0.5, -0.4)], 3, 5, False, 0, "over-fitting: "),
        # The validation at the start of the phase counts too.
        ([end(1.0, 0.6), end(0.9, 0.5)], 2, 5, False, 1, "over-fitting: "),
        # Worse, but the training loss did not fall: this is no over-fitting.
        ([end(0.5, -0.5), end(0.6, -0.4)], 3, 5, True, 0, "going on"),
        ([end(0.5, -0.5), end(0.5, -0.4)], 3, 5, True, 0, "going on"),
        # Worse by less than two errors.
        ([end(1.0, -0.5, spread=-0.05), end(0.5, -0.485, spread=0.05)], 3, 5, True, 0, "going on"),
        # Over-fitting is not judged before a cycle at the final size.
        ([end(1.0, -0.5, False), end(0.7, -0.4, False), end(0.5, -0.35)], 4, 5, True, 0, "going on"),
        ([end(1.0, -0.5, False), end(0.5, -0.4, False)], 3, 5, True, 0, "going on"),
        ([end(1.0, -0.5, False), end(0.5, -0.4, True)], 2, 5, False, 0, "over-fitting: "),
        ([end(1.0, -0.5, False), end(0.5, -0.6, True)], 3, 5, True, 1, "going on"),
        # Within the budget, over-fitting must occur twice in a row.
        ([end(1.0, -0.5), end(0.7, -0.4)], 3, 5, True, 0, "going on"),
        ([end(1.0, -0.5), end(0.7, -0.4), end(0.5, -0.35)], 4, 5, False, 0, "over-fitting: "),
        ([end(1.0, -0.5), end(0.7, -0.4), end(0.6, -0.6), end(0.5, -0.5)], 5, 5, True, 2, "going on"),
        # Without over-fitting: the budget, and more while the last cycle improves.
        ([end(1.0, -0.5)], 3, 5, True, 0, "going on"),
        ([end(1.0, -0.5), end(0.8, -0.5)], 3, 5, True, 0, "going on"),
        ([end(1.0, -0.5), end(0.8, -0.6), end(0.7, -0.7)], 3, 5, True, 2, "going on"),
        ([end(1.0, -0.5), end(0.8, -0.6), end(0.7, -0.6)], 3, 5, False, 1, "no improvement in the last cycle ("),
        ([end(1.0, -0.5), end(0.8, -0.6), end(0.7, -0.7), end(0.6, -0.65)], 3, 5, False, 2, "over-fitting: "),
        ([end(1 - i / 10, -i / 10) for i in range(1, 6)], 3, 5, False, 4, "maximum of 5 cycles reached: "),
        ([end(1.0, -0.5), end(0.8, -0.6), end(0.7, -0.7)], 3, 3, False, 2, "all planned cycles trained: "),
        # The first cycle never over-fits: no cycle is before it.
        ([end(0.5, 0.5)], 3, 3, True, 0, "going on"),
        ([end(0.5, 0.5)], 3, 1, False, 0, "all planned cycles trained: "),
        # A loss that rises with accuracy is no over-fitting. The best is the highest accuracy, then the lowest loss.
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
        # Beyond the budget: while the loss is the lowest, or accuracy exceeds that at the lowest loss.
        ([end(1.0, -0.5), end(0.7, -0.6, accuracy=0.5)], 2, 5, True, 0, "going on"),
        ([end(1.0, -0.5), end(1.0, -0.4, accuracy=0.7)], 2, 5, True, 1, "going on"),
        ([end(1.0, -0.5), end(1.0, -0.4, accuracy=0.55)], 2, 5, False, 0, "no improvement in the last cycle ("),
        # A loss that is not finite is the worst, and ends the phase.
        ([end(1.0, -0.5), nan()], 3, 5, False, 0, "not finite"),
        ([end(1.0, 9.0), end(0.5, -0.5), nan()], 3, 5, False, 1, "not finite"),
        # Of equal cycle ends, the earliest is the best.
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
    """Try every history of five cycles whose losses each rise, fall or stay."""
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
    assert judge(UNKNOWN, [end(1.0, -0.5)], 1, 1).because == "all planned cycles trained: validation loss 0.1950"


ODD = end(1.0, -0.5, accuracy=0.7)  # high accuracy, so that later cycles do not exceed it
REASONS = [  # cycles, budget, most, and the whole reason
    (
        [ODD, end(0.5, -0.4877, spread=0.01)], 2, 5,
        "over-fitting: validation loss 0.0123 ± 0.0040 above the previous lowest, training loss still falling",
    ),
    (
        [ODD, end(1.1, -0.4877, spread=0.01)], 2, 5,
        "no improvement in the last cycle (2 cycles trained, 2 planned): "
        "validation loss 0.0123 ± 0.0040 above the previous lowest",
    ),
    (
        [end(0.5, 0.01, accuracy=0.5)], 1, 2,
        "no improvement in the last cycle (1 cycle trained, 1 planned): "
        "validation loss 0.0100 ± 0.0050 above the previous lowest (not significant)",
    ),
    (
        [ODD, end(1.1, -0.52)], 2, 2,
        "all planned cycles trained: validation loss 0.0200 ± 0.0000 below the previous lowest",
    ),
    ([ODD, ODD], 2, 2, "all planned cycles trained: validation loss equal to the previous lowest (± 0.0000)"),
    (
        [ODD, end(1.1, -0.50001)], 2, 2,
        "all planned cycles trained: validation loss less than 0.0001 (± 0.0000) below the previous lowest",
    ),
    ([ODD, nan()], 2, 2, "the validation loss is not finite"),
]  # fmt: skip


@pytest.mark.parametrize(("cycles", "budget", "most", "because"), REASONS)
def test_the_reason_says_what_was_compared(cycles, budget, most, because):
    verdict = judge(BEFORE, cycles, budget, most)
    assert (verdict.go_on, verdict.because) == (False, because)
