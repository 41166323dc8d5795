"""Check the curves of a schedule before training: their values must be shares of the highest, from 0 to 1."""

from collections.abc import Iterable

from thaw.config.schedule import Shape
from thaw.plan.phases import Phase
from thaw.plan.schedules import curve, cycle_ends
from thaw.runtime.errors import UserError, first_line

TRIED = 300  # about how many steps of a phase are checked
UNKNOWN_STEPS = 50  # assumed per epoch if the number of images is not known
ROUNDING = 1e-9


def check_shapes(phase: Phase) -> None:
    """Raise UserError (exit 2) if a rate or momentum is not a number from 0 to 1, or its shape fails."""
    ends = cycle_ends([epoch.steps or UNKNOWN_STEPS for epoch in phase.epochs], phase.cycles)
    curves = {"rate": phase.schedule.rate(phase.budget), "momentum": phase.schedule.momentum()}
    for name, shape in curves.items():
        if shape is not None:
            check_shape(f"scheduler.shape={phase.schedule.shape}: its {name}", shape, ends)


def check_shape(what: str, shape: Shape, ends: list[int]) -> None:
    """Raise UserError as `check_shapes`."""
    at = curve(shape, ends)
    for step in tried(ends):
        try:
            value = at(step)
            is_share = -ROUNDING <= value <= 1 + ROUNDING
        except Exception as error:  # a new shape may raise anything
            raise UserError(2, f"{what} fails at step {step} ({first_line(error)})") from None
        if not is_share:
            raise UserError(2, f"{what} is {value:.4g} at step {step}; it must be a share of the highest, from 0 to 1")


def tried(ends: list[int]) -> Iterable[int]:
    """Return the steps to check: the first and last of each cycle, and some between."""
    edges = {step for end in (0, *ends) for step in (end - 1, end) if 0 <= step < ends[-1]}
    return sorted({*edges, *range(0, ends[-1], -(-ends[-1] // TRIED))})
