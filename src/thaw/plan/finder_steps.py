"""How long the rate finder runs: steps of a trial, orders of the data, rates."""

from dataclasses import replace

from thaw.config.schema import Find, Settings
from thaw.plan import schedules
from thaw.plan.phases import Phase

SMOKE_STEPS = 2


def finder_length(settings: Settings, phase: Phase) -> tuple[int, int]:
    """Steps of a trial and the number of orders; of a range test the steps in all, in one order."""
    find, stored = settings.find, phase.features == "precomputed"
    if find.rule != "trials":
        return (SMOKE_STEPS if settings.smoke else find.steps), 1
    if settings.smoke:
        return SMOKE_STEPS, 1
    return (find.stored_steps, find.stored_orders) if stored else (find.trial_steps, find.trial_orders)


def most_trials(settings: Settings) -> int:
    """How many rates are tried, at most: one a decade, and two more to either side of the best."""
    find = finder_range(settings)
    return len(schedules.ladder(find.min_lr, find.max_lr, 1)) + 4


def finder_range(settings: Settings) -> Find:
    """The finder's settings; to try things out, of the rates only the lowest."""
    return replace(settings.find, max_lr=2 * settings.find.min_lr) if settings.smoke else settings.find


def finder_steps(settings: Settings, phase: Phase) -> int:
    """The steps of a find in all, at most: trials end where the loss explodes."""
    steps, orders = finder_length(settings, phase)
    return steps * orders * (most_trials(settings) if settings.find.rule == "trials" else 1)
