"""The length of a learning rate finder: steps per trial, orders of the data, number of rates."""

from dataclasses import replace

from thaw.config.schema import Find, Settings
from thaw.plan import schedules
from thaw.plan.phases import Phase

SMOKE_STEPS = 2  # with smoke=true


def finder_length(settings: Settings, phase: Phase) -> tuple[int, int]:
    """Return the steps per trial and the number of data orders; for a range test, all its steps and 1."""
    find, stored = settings.find, phase.features == "precomputed"
    if find.rule != "trials":
        return (SMOKE_STEPS if settings.smoke else find.steps), 1
    if settings.smoke:
        return SMOKE_STEPS, 1
    return (find.stored_steps, find.stored_orders) if stored else (find.trial_steps, find.trial_orders)


def most_trials(settings: Settings) -> int:
    """Return the maximum number of rates tried: one per decade, and two more on each side of the best."""
    find = finder_range(settings)
    return len(schedules.ladder(find.min_lr, find.max_lr, 1)) + 4


def finder_range(settings: Settings) -> Find:
    """Return the finder's settings; with smoke=true, only the lowest rate is left."""
    return replace(settings.find, max_lr=2 * settings.find.min_lr) if settings.smoke else settings.find


def finder_steps(settings: Settings, phase: Phase) -> int:
    """Return the maximum number of steps of a finder; a trial ends early if the loss explodes."""
    steps, orders = finder_length(settings, phase)
    return steps * orders * (most_trials(settings) if settings.find.rule == "trials" else 1)
